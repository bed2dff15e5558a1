package collector

import (
	"time"

	"github.com/cohere-exporter/cohere_exporter/client"
	"github.com/cohere-exporter/cohere_exporter/collector/schedule"
	"github.com/cohere-exporter/cohere_exporter/collector/series"
)

// overBudget is why a job cannot be served whose request the budget had no room
// for.
const overBudget client.Reason = "over_budget"

// job is what is remembered of one. Its series are made when an answer arrives,
// not at each scrape, and never changed: a scrape may still be sending them.
type job[T any] struct {
	known
	*families[T]
	labels series.Labels // that all its series begin with

	last         *T            // what the API said last; nil: nothing that holds
	tokensKnown  bool          // the settled job was asked for its tokens
	loggedReason client.Reason // of the failure that the log speaks of

	values    []series.Gauge
	success   *series.Gauge // when the last success was
	changed   *series.Gauge // when the status changed, if it did
	changedAt time.Time
	upGauge   [2]series.Gauge
	failure   *series.Gauge // with the reason that it holds
	failureOf client.Reason
}

func newJob[T any](id string, account series.Labels, f *families[T]) *job[T] {
	j := &job[T]{known: known{task: schedule.Task{ID: id}}, families: f, labels: account.With(f.id, id)}
	for i := range j.upGauge {
		j.upGauge[i] = f.up.Gauge(j.labels, float64(i))
	}
	return j
}

// succeed remembers an answer to a request that began at the given time. It
// returns the status before and now; both are empty where that is the first.
func (j *job[T]) succeed(got *T, began time.Time, p policy) (before, now string) {
	h := j.head(got)
	if j.last != nil {
		before, now = j.head(j.last).status, h.status
	}
	j.reason, j.fetched = "", began
	j.settle(h.settled, j.last != nil, began, p)
	j.success = new(j.lastSuccess.Gauge(j.labels, series.Seconds(began)))
	if before != now {
		j.changed, j.changedAt = new(j.statusChanged.Gauge(j.labels, series.Seconds(began))), began
	}
	if j.last == nil || !j.equal(got, j.last) {
		j.last = got
		j.values = j.families.values(got, j.labels, j.values)
	}
	return before, now
}

// settle follows whether the job is settled, and whether that was seen twice.
func (k *known) settle(settled, seenBefore bool, began time.Time, p policy) {
	switch {
	case !settled:
		k.settledAt, k.confirmed = time.Time{}, false
	case !k.settled:
		k.settledAt, k.confirmed = began, false
		k.tokensFrom = began
		if seenBefore { // billing may trail the status
			k.tokensFrom = began.Add(confirmAfter)
		}
	case began.Sub(k.settledAt) >= min(confirmAfter, max(p.refresh, p.settled)):
		k.confirmed = true
	}
	k.settled = settled
}

// fail remembers that an attempt failed. A job that is not found loses its
// values, but not when they were last fetched.
func (j *job[T]) fail(reason client.Reason) {
	j.reason = reason
	if reason == client.NotFound {
		j.fetched, j.last, j.values, j.changed = time.Time{}, nil, nil, nil
		j.changedAt = time.Time{}
		j.settled, j.confirmed, j.lacksTokens, j.tokensKnown = false, false, false, false
	}
}

// failureGauge returns the series that says why the job is not up.
func (j *job[T]) failureGauge(reason client.Reason) *series.Gauge {
	if j.failure == nil || j.failureOf != reason {
		j.failure, j.failureOf = new(j.fetchError.Gauge(j.labels, 1, string(reason))), reason
	}
	return j.failure
}

// reasonOf says why there is no newer answer, for what was last left out.
func reasonOf(why schedule.Why) client.Reason {
	switch why {
	case schedule.Budget:
		return overBudget
	case schedule.Gate:
		return client.RateLimited
	}
	return client.Timeout // the scrape's deadline came first
}
