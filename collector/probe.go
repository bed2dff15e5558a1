package collector

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cohere-exporter/cohere_exporter/client"
	"github.com/cohere-exporter/cohere_exporter/collector/schedule"
	"github.com/cohere-exporter/cohere_exporter/collector/series"
)

// What is remembered of jobs that are probed and not watched.
const (
	probedFor  = time.Hour // after their last probe
	mostProbed = 1000      // of a kind in an account
)

// sharedFor is how long ago something may have been asked for a probe to make
// do with it.
const sharedFor = time.Minute

// ProbeIDs returns the parameters that name a job: job_id, batch_id.
func (s *Set) ProbeIDs() []string {
	var names []string
	for _, kind := range s.kinds {
		names = append(names, kind.idLabel())
	}
	return names
}

// Probe returns the collector of one job of an account, which fetches that until
// the deadline of ctx. parameter is one of ProbeIDs. The name of the account may be
// "" where there is only one. What cannot be probed is an error that says why.
func (s *Set) Probe(ctx context.Context, name, parameter, id string) (prometheus.Collector, error) {
	if err := client.CheckID(id); err != nil {
		return nil, fmt.Errorf("%s: %w", parameter, err)
	}
	accounts := s.watched()
	i := slices.IndexFunc(accounts, func(a *account) bool { return a.config.Name == name })
	switch {
	case name == "" && len(accounts) == 1:
		i = 0
	case name == "":
		return nil, errors.New("account: there are several; name one")
	case i < 0:
		return nil, fmt.Errorf("account: there is no %q", name)
	}
	for k, kind := range s.kinds {
		if kind.idLabel() == parameter {
			if accounts[i].watches[k] == nil {
				return nil, fmt.Errorf("%s: the account watches no jobs of that kind", parameter)
			}
			return &probe{scrape{s, ctx, false}, accounts[i], k, id}, nil
		}
	}
	return nil, fmt.Errorf("%s: name a job by one of %s", parameter, strings.Join(s.ProbeIDs(), ", "))
}

// probe is a scrape of one job.
type probe struct {
	scrape
	account *account
	kind    int
	id      string
}

// Collect implements prometheus.Collector.
func (p *probe) Collect(ch chan<- prometheus.Metric) {
	v := p.account.watches[p.kind].probe(p.ctx, p.id)
	v.collect(ch)
	ch <- new(p.set.families.up.Gauge(p.account.labels, series.Bool(v.failure == nil)))
}

// probe fetches one job if that is due and allowed, until the deadline of ctx,
// and returns what is known of it then. What was asked within the last minute is
// not asked again.
func (w *watch[T]) probe(ctx context.Context, id string) (v jobView) {
	due := func(p schedule.Pass) []schedule.Wish {
		now := time.Now()
		j, policy := w.forProbe(id, now)
		wishes := plan(&w.list.listKnown, []*known{&j.known}, now, p, policy)
		return slices.DeleteFunc(wishes, func(wish schedule.Wish) bool {
			asked := j.asked
			if wish.Task == &w.list.task {
				asked = w.list.asked
			}
			return !wish.Task.Pending() && now.Sub(asked) < sharedFor
		})
	}
	w.scheduler.WaitFor(ctx, due, func(p schedule.Pass) {
		now := time.Now()
		j, policy := w.forProbe(id, now)
		v = w.view(j, now, p, policy)
		w.probedAt = now
	})
	return v
}

// forProbe returns a job and how it is fetched and served. One that is not
// watched is remembered for the time of its probes; the list says nothing of it.
func (w *watch[T]) forProbe(id string, now time.Time) (*job[T], policy) {
	p := w.policy
	p.staleness = max(p.staleness, sharedFor) // what is shared is not stale
	if j := w.jobs[id]; j != nil {
		return j, p
	}
	p.list, p.discover = false, false
	j := w.probed[id]
	if j == nil || now.Sub(j.probed) >= probedFor && !j.task.Pending() {
		w.forgetProbed(now)
		j = newJob(id, w.labels, w.families)
		w.probed[id] = j
	}
	j.probed = now
	return j, p
}

// forgetProbed makes room for one more job.
func (w *watch[T]) forgetProbed(now time.Time) {
	var idle []*job[T]
	for id, j := range w.probed {
		switch {
		case j.task.Pending():
		case now.Sub(j.probed) >= probedFor:
			delete(w.probed, id)
		default:
			idle = append(idle, j)
		}
	}
	if len(w.probed) >= mostProbed && len(idle) > 0 {
		oldest := slices.MinFunc(idle, func(a, b *job[T]) int { return a.probed.Compare(b.probed) })
		delete(w.probed, oldest.task.ID)
	}
}
