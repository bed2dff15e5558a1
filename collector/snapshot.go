package collector

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cohere-exporter/cohere_exporter/client"
	"github.com/cohere-exporter/cohere_exporter/collector/schedule"
	"github.com/cohere-exporter/cohere_exporter/collector/series"
)

// view is what is known at one moment, of the jobs of one kind or of an account
// as a whole. It does not change.
type view struct {
	up     bool // every job is, and the list where it is used
	jobs   []jobView
	others []series.Gauge
}

// jobView is what a scrape sends of a job. What is nil is not sent: a job that is
// up has no failure.
type jobView struct {
	values                        []series.Gauge
	up, success, changed, failure *series.Gauge
}

// collect sends in the order of labels: the registry sorts, and that costs half
// the time where all is sorted already.
func (v *view) collect(ch chan<- prometheus.Metric) {
	for i := range v.jobs {
		v.jobs[i].collect(ch)
	}
	for i := range v.others {
		ch <- &v.others[i]
	}
}

func (v *jobView) collect(ch chan<- prometheus.Metric) {
	for i := range v.values {
		ch <- &v.values[i]
	}
	for _, g := range [...]*series.Gauge{v.up, v.success, v.changed, v.failure} {
		if g != nil {
			ch <- g
		}
	}
}

// look returns what is known at the end of a pass.
func (w *watch[T]) look(p schedule.Pass) view {
	now, f := time.Now(), w.families
	v := view{up: true, jobs: make([]jobView, len(w.sorted))}
	add := func(family *series.Family, value float64, labels ...string) {
		v.others = append(v.others, family.Gauge(w.labels, value, labels...))
	}
	for i, j := range w.sorted {
		v.jobs[i] = w.view(j, now, p, w.policy)
		v.up = v.up && v.jobs[i].failure == nil
	}
	if w.policy.usesList() {
		reason := w.listProblem(now, p)
		add(f.account.listUp, series.Bool(reason == ""), f.resource)
		if reason != "" {
			add(f.account.listFetchError, 1, f.resource, string(reason))
			v.up = false
		}
	}
	if w.policy.discover && !w.list.fetched.IsZero() {
		add(f.dropped, float64(w.ids.dropped))
	}
	add(f.watched, float64(len(w.sorted)))
	add(f.account.refresh, w.policy.refresh.Seconds(), f.resource)
	if budget := w.scheduler.PerMinute(); budget > 0 {
		add(f.account.limit, budget, f.resource)
	}
	w.addFiles(add)
	return v
}

// addFiles adds a series for each job file. Those whose paths meet in one label
// value share it.
func (w *watch[T]) addFiles(add func(f *series.Family, value float64, labels ...string)) {
	found := w.setup.found()
	unused := map[string]bool{}
	for _, file := range found.Files {
		path := series.Label(file.Path)
		unused[path] = unused[path] || file.Err != nil
	}
	for _, pattern := range found.Patterns {
		if pattern.Err != nil {
			unused[series.Label(pattern.Path)] = true
		}
	}
	for path, bad := range unused {
		add(w.families.account.fileSuccess, series.Bool(!bad), w.families.resource, path)
	}
}

func (w *watch[T]) view(j *job[T], now time.Time, p schedule.Pass, policy policy) jobView {
	v := jobView{up: &j.upGauge[1], success: j.success}
	if reason := w.problem(j, now, p, policy); reason != "" {
		v.up, v.failure = &j.upGauge[0], j.failureGauge(reason)
	}
	if w.servable(j, now, p, policy) {
		v.values, v.changed = j.values, j.changed
	}
	return v
}

// problem says why a job is not up for a scrape: its last attempt failed, or what
// is known is too old. Of one that is up it is "".
func (w *watch[T]) problem(j *job[T], now time.Time, p schedule.Pass, policy policy) client.Reason {
	listFails := policy.list && w.list.reason != "" // for all, but what ranks last anyway
	switch {
	case j.reason != "" && (!listFails || j.reason == client.NotFound):
		return j.reason
	case listFails:
		return w.list.reason
	case w.servable(j, now, p, policy):
		return ""
	case j.task.Pending():
		return client.Timeout
	}
	why := j.task.Why()
	if policy.list && (j.listed || why == schedule.NotSkipped) { // the list answers for it
		why = w.list.task.Why()
	}
	return reasonOf(why)
}

// servable reports whether a job's values may be served. What the scrape fetched
// is never stale.
func (w *watch[T]) servable(j *job[T], now time.Time, p schedule.Pass, policy policy) bool {
	if j.fetched.IsZero() {
		return false
	}
	fresh := j.reason == "" && p.Answered(&j.task) ||
		policy.list && j.listed && w.list.reason == "" && p.Answered(&w.list.task)
	return fresh || policy.servable(&j.known, now)
}

// listProblem says why the list is not up, "" if it is.
func (w *watch[T]) listProblem(now time.Time, p schedule.Pass) client.Reason {
	l := w.list
	switch {
	case l.reason != "":
		return l.reason
	case !l.fetched.IsZero() && (p.Answered(&l.task) || w.policy.servable(&l.known, now)),
		!l.due(w.known, now, w.policy): // however old: it is not to be asked for
		return ""
	}
	return reasonOf(l.task.Why())
}
