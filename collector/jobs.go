package collector

import (
	"cmp"
	"context"
	"maps"
	"math"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cohere-exporter/cohere_exporter/client"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
	"github.com/cohere-exporter/cohere_exporter/collector/jobfile"
	"github.com/cohere-exporter/cohere_exporter/collector/schedule"
	"github.com/cohere-exporter/cohere_exporter/collector/series"
)

// watch is the jobs of one kind in one account: where their IDs come from, what
// is due, what an answer changes. It is the source that its scheduler works for.
type watch[T any] struct {
	families   *families[T]
	labels     series.Labels // that all series of the account begin with
	about      []any         // fields of every line of the log
	logger     log.Logger
	registered counters // of all watches
	scheduler  *schedule.Scheduler
	saidTrial  atomic.Bool // that the key is probably a trial one

	// The scheduler's lock guards the rest.
	setup    setup
	policy   policy
	counters counters
	ids      ids
	jobs     map[string]*job[T] // by ID
	sorted   []*job[T]          // by ID
	known    []*known           // of sorted
	probed   map[string]*job[T] // that are not watched
	list     *list[T]
	warned   map[string]bool // the API's warnings that were logged
	empty    bool            // the log says that there is no job
	timedOut bool            // a request did, since the last pass began
	scraped  time.Time       // when the last scrape ended
	lastPass schedule.Pass   // of that scrape
	probedAt time.Time       // when the last probe ended
	closed   bool
}

// ids are the IDs of jobs that the configuration does not hold itself.
type ids struct {
	fromFiles  []string
	discovered []string
	dropped    int // by discovery, which found more than it may
}

// setup is what a watch is configured with.
type setup struct {
	account   *config.Account
	jobs      *config.Jobs
	transport http.RoundTripper
	client    *client.Client
	files     *jobfile.Follower // nil without any
	newAPI    bool              // or another key
}

// found returns what is known of the job files.
func (s *setup) found() (r jobfile.Result) {
	if s.files != nil {
		r = s.files.Result()
	}
	return r
}

// maxWarned is how many different warnings of the API are logged.
const maxWarned = 100

// watch returns one of an account, without any configuration yet.
func (f *families[T]) watch(a *account, s *common) watcher {
	w := &watch[T]{
		families:   f,
		labels:     a.labels,
		about:      append(slices.Clone(a.about), "resource", f.resource),
		logger:     s.options.Logger,
		registered: s.counters,
		warned:     map[string]bool{},
		probed:     map[string]*job[T]{},
		list:       &list[T]{},
	}
	w.scheduler = schedule.New(w, schedule.Limits{Concurrent: 1})
	return w
}

// curried are the labels that the counters of the watch share.
func (w *watch[T]) curried() prometheus.Labels {
	labels := prometheus.Labels{"resource": w.families.resource}
	for _, pair := range w.labels {
		labels[pair.GetName()] = pair.GetValue()
	}
	return labels
}

// apply replaces the configuration. Of another API, or with another key, nothing
// is known.
func (w *watch[T]) apply(next setup) {
	var es events
	var replaced *client.Client
	if next.newAPI {
		w.scheduler.Forget()
	}
	w.scheduler.SetLimits(limitsOf(next.jobs, next.account.Timeout))
	w.scheduler.Do(func() {
		before := w.setup
		if before.transport != next.transport {
			replaced = before.client
		}
		w.setup, w.policy = next, policyOf(next.jobs)
		if next.newAPI {
			w.jobs, w.probed, w.ids, w.list = nil, map[string]*job[T]{}, ids{}, &list[T]{}
		}
		if before.jobs != nil && !before.jobs.Discover.Equal(next.jobs.Discover) {
			w.list.restart()
			w.list.changed = true
		}
		if next.jobs.Discover == nil {
			w.ids.discovered, w.ids.dropped = nil, 0
		}
		w.counters = w.registered.of(w.curried())
		w.counters.start(getEndpoint)
		if w.policy.usesList() {
			w.counters.start(listEndpoint)
		}
		times := make(map[string]int, len(next.jobs.IDs))
		for _, id := range next.jobs.IDs {
			if times[id]++; times[id] == 2 {
				es.warn("job ID is given more than once", nil, w.families.id, id)
			}
		}
		w.readFiles()
		w.rewatch()
	})
	if replaced != nil {
		replaced.CloseIdleConnections()
	}
	newCost(next.account, w.families.resource, next.jobs, next.found()).announce(&es)
	es.write(w.logger, w.about...)
}

func (w *watch[T]) cancel() { w.scheduler.Close() }

// close ends the watch. Scrapes that wait still get their answers.
func (w *watch[T]) close() {
	var unused *client.Client
	w.scheduler.Do(func() {
		w.closed, unused = true, w.setup.client
		w.counters = newCounters(nil).of(prometheus.Labels{"resource": w.families.resource}) // late answers bring no series back
		w.registered.forget(w.curried())
	})
	unused.CloseIdleConnections()
}

// readFiles takes over the IDs that are known from files, and reports whether
// there are others than before.
func (w *watch[T]) readFiles() (changed bool) {
	found := w.setup.found().IDs
	changed = !slices.Equal(found, w.ids.fromFiles)
	w.ids.fromFiles = found
	return changed
}

// rewatch follows which jobs there are to watch. Those that stay keep what is
// known of them.
func (w *watch[T]) rewatch() {
	ids := slices.Concat(w.setup.jobs.IDs, w.ids.fromFiles, w.ids.discovered)
	jobs := make(map[string]*job[T], len(ids))
	for _, id := range ids {
		if jobs[id] = w.find(id); jobs[id] == nil {
			jobs[id] = newJob(id, w.labels, w.families)
		}
		jobs[id].probed = time.Time{}
	}
	w.jobs = jobs
	maps.DeleteFunc(w.probed, func(id string, _ *job[T]) bool { return jobs[id] != nil })
	w.sorted = slices.SortedFunc(maps.Values(jobs), func(x, y *job[T]) int { return cmp.Compare(x.task.ID, y.task.ID) })
	w.known = make([]*known, len(w.sorted))
	for i, j := range w.sorted {
		w.known[i] = &j.known
	}
	w.scheduler.Drop(func(t *schedule.Task) bool {
		j := w.find(t.ID)
		return t == &w.list.task || j != nil && t == &j.task
	})
}

// collect fetches what is due and allowed, until the deadline of ctx, and
// returns what is known then. With patience it also fetches what is allowed only
// later.
func (w *watch[T]) collect(ctx context.Context, patient bool) (v view) {
	var suspect *client.Client
	w.scheduler.Do(func() {
		if w.setup.files != nil {
			w.setup.files.Check()
		}
		if w.readFiles() {
			w.rewatch()
		}
		if w.timedOut {
			w.timedOut, suspect = false, w.setup.client
		}
	})
	if suspect != nil { // a connection may have become a black hole
		suspect.CloseIdleConnections()
	}
	look := func(p schedule.Pass) {
		v = w.look(p)
		w.scraped, w.lastPass = time.Now(), p
	}
	if patient {
		w.scheduler.WaitOut(ctx, w.progress(), look)
	} else {
		w.scheduler.Wait(ctx, look)
	}
	return v
}

const progressEvery = 10 * time.Second

// progress says in the log how far a patient pass is.
func (w *watch[T]) progress() func(tasks int, wait time.Duration) {
	var last time.Time
	return func(tasks int, wait time.Duration) {
		if time.Since(last) >= progressEvery {
			last = time.Now()
			var es events
			es.info("waiting until more may be asked", "requests_left", tasks, "wait", wait.Round(time.Millisecond))
			es.write(w.logger, w.about...)
		}
	}
}

// find returns a job that is watched or probed.
func (w *watch[T]) find(id string) *job[T] { return cmp.Or(w.jobs[id], w.probed[id]) }

// Due implements schedule.Source.
func (w *watch[T]) Due(p schedule.Pass) []schedule.Wish {
	policy := w.policy
	if p.Patient() { // leaves nothing for later scrapes
		policy.tokens = math.MaxInt
	}
	return plan(&w.list.listKnown, w.known, time.Now(), p, policy)
}

// Prepare implements schedule.Source.
func (w *watch[T]) Prepare(t *schedule.Task) schedule.Request {
	began, now := time.Now(), w.setup
	if t == &w.list.task {
		l, token, page := w.list, w.list.token, w.newPage(began)
		l.asked = began
		return func(ctx context.Context) schedule.Answer {
			var err error
			page.next, err = w.families.list(now.client, ctx, token, page.add)
			return &listAnswer[T]{w.outcome(now, began, err), l, page, token}
		}
	}
	j := w.find(t.ID)
	j.asked = began
	return func(ctx context.Context) schedule.Answer {
		got, err := w.families.get(now.client, ctx, j.task.ID)
		return &jobAnswer[T]{w.outcome(now, began, err), j, got}
	}
}

// Skipped implements schedule.Source.
func (w *watch[T]) Skipped(why schedule.Why, n int) {
	w.counters.skipped.WithLabelValues(skipReasons[why]).Add(float64(n))
}

// Resent implements schedule.Source.
func (w *watch[T]) Resent(t *schedule.Task) { // the request before got no answer
	endpoint := getEndpoint
	if t == &w.list.task {
		endpoint = listEndpoint
	}
	w.counters.requests.WithLabelValues(endpoint, "error").Inc()
}

// warn is called by the client with the API's warnings.
func (w *watch[T]) warn(text string) {
	var es events
	w.scheduler.Do(func() {
		w.counters.warnings.WithLabelValues().Inc()
		if !w.warned[text] && len(w.warned) < maxWarned {
			w.warned[text] = true
			es.warn("API warns", nil, "warning", text)
		}
	})
	es.write(w.logger, w.about...)
}
