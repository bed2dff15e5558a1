package collector

import (
	"cmp"
	"slices"
	"time"

	"github.com/cohere-exporter/cohere_exporter/client"
)

// policy is what the user said about when to ask.
type policy struct {
	refresh   time.Duration // a job younger than this is not asked for again
	settled   time.Duration // the same for settled jobs, where it is longer
	staleness time.Duration // how far beyond that an active job's values are served
	list      bool          // one list for all jobs, instead of a request for each
	discover  bool          // the list also tells which jobs there are
	units     int           // greatest number of settled jobs to ask in a scrape for what the list lacks
}

// confirmAfter is how long after a job is seen settled it is asked again at the
// latest: billing may trail the status.
const confirmAfter = time.Minute

// minDiscovery is the least time between lists that only discover jobs.
const minDiscovery = time.Minute

// known is what the plan has to know of a job.
type known struct {
	id         string
	asked      uint64        // the turn in which it was last asked; 0: never
	passed     uint64        // the turn in which it was last due and not asked
	pending    bool          // a request is queued or under way
	fetched    time.Time     // when the last successful request began; zero: never
	reason     client.Reason // why the last attempt failed, if it did
	settled    bool
	settledAt  time.Time // when the request began that first saw it settled
	confirmed  bool      // it was seen settled again, confirmAfter later
	listed     bool      // the last list had it
	lacksUnits bool      // its entry has no billed units, and they were never asked for
	unitsFrom  time.Time // when to ask for these at the earliest
	unitsAsked uint64    // the turn in which they were asked for
}

// interval is the age at which a job is due.
func (p policy) interval(k *known) time.Duration {
	if !k.settled {
		return p.refresh
	}
	interval := max(p.refresh, p.settled)
	if !k.confirmed {
		interval = min(interval, confirmAfter)
	}
	return interval
}

func (p policy) due(k *known, now time.Time) bool {
	return k.fetched.IsZero() || now.Sub(k.fetched) >= p.interval(k)
}

// servable tells whether what was fetched is new enough to be served.
func (p policy) servable(k *known, now time.Time) bool {
	return k.settled || now.Sub(k.fetched) <= p.interval(k)+p.staleness
}

// rank orders jobs where not all may be asked. The list is among them, as an
// active one.
func rank(k *known) int {
	switch {
	case k.asked == 0 && k.fetched.IsZero(): // nor told of by the list
		return 0
	case k.reason == client.NotFound && k.id != "":
		return 3
	case k.settled && k.confirmed:
		return 2
	}
	return 1
}

// before is the order of requests: by rank, and within it by the longest time
// since last asked. By last asked, not by last success, so that jobs which fail
// do not starve the others.
func before(a, b *known) int {
	return cmp.Or(
		cmp.Compare(rank(a), rank(b)),
		cmp.Compare(a.asked, b.asked),
		cmp.Compare(a.id, b.id),
	)
}

// round is the scrape that a plan is made for, in turns: a count of what
// happened, in order.
type round struct {
	began uint64 // when it began
	since uint64 // when the oldest scrape under way began: what was asked later is not asked again
}

// plan returns what a scrape needs: whether the list, and which jobs, in the
// order of asking. What is pending already is among it, since the scrape has to
// wait for it. The list is known by the id "".
func plan(list *known, jobs []*known, now time.Time, r round, p policy) (askList bool, ask []*known) {
	needed := func(k *known) bool {
		return k.pending || k.asked <= r.since && k.passed <= r.began
	}
	if (p.list || p.discover) && needed(list) {
		askList = list.pending || listDue(list, jobs, now, p)
	}
	unanswered := list.passed > r.since && list.passed > list.asked
	if p.list && (list.reason != "" || unanswered) && !askList {
		return false, nil // it failed for all
	}
	byID := func(k *known) bool { return !p.list || !k.listed }
	if p.list && askList {
		// It answers for all, but for those that it lacked, where the budget
		// lets them wait for longer than the list.
		byID = func(k *known) bool { return !k.listed && k.asked > 0 && k.asked < list.asked }
	}

	lacking := func(k *known) bool { return p.list && !askList && k.settled && k.lacksUnits }
	units := p.units
	for _, k := range jobs {
		if k.unitsAsked > r.since || k.pending && lacking(k) {
			units--
		}
		if needed(k) && (k.pending ||
			p.due(k, now) && byID(k) ||
			lacking(k) && !now.Before(k.unitsFrom)) {
			ask = append(ask, k)
		}
	}
	slices.SortFunc(ask, before)
	return askList, slices.DeleteFunc(ask, func(k *known) bool {
		if k.pending || !lacking(k) {
			return false
		}
		units--
		return units < 0
	})
}

// listDue tells whether the list is old enough to be asked for, and would tell
// anything.
func listDue(list *known, jobs []*known, now time.Time, p policy) bool {
	if list.fetched.IsZero() {
		return true
	}
	age := now.Sub(list.fetched)
	if !p.list {
		return age >= max(p.refresh, minDiscovery)
	}
	old := age >= p.refresh
	return old && p.discover || slices.ContainsFunc(jobs, func(k *known) bool {
		return (k.listed || old) && p.due(k, now)
	})
}
