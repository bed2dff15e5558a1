package collector

import (
	"slices"
	"time"

	"github.com/prometheus/common/model"

	"github.com/cohere-exporter/cohere_exporter/client"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
	"github.com/cohere-exporter/cohere_exporter/collector/schedule"
)

// policy is what the user said about when to ask.
type policy struct {
	refresh   time.Duration // a job younger than this is not asked for again
	settled   time.Duration // the same for settled jobs, where it is longer
	staleness time.Duration // how far beyond that an active job's values are served
	list      bool          // one list for all jobs, instead of a request for each
	discover  bool          // the list also tells which jobs there are
	tokens    int           // greatest number of settled jobs to ask in a scrape for what the list lacks
}

func policyOf(c *config.Jobs) policy {
	return policy{
		refresh:   time.Duration(c.RefreshInterval),
		settled:   time.Duration(c.SettledInterval),
		staleness: time.Duration(c.MaxStaleness),
		list:      c.List(),
		discover:  c.Discover != nil,
		tokens:    c.MaxConcurrentRequests,
	}
}

func limitsOf(c *config.Jobs, timeout model.Duration) schedule.Limits {
	return schedule.Limits{
		Concurrent: c.MaxConcurrentRequests,
		PerMinute:  c.RequestsPerMinute,
		Timeout:    time.Duration(timeout),
	}
}

// usesList reports whether the list is asked for at all.
func (p policy) usesList() bool { return p.list || p.discover }

// confirmAfter is how long after a job is seen settled it is asked again at the
// latest: billing may trail the status.
const confirmAfter = time.Minute

// minDiscovery is the least time between lists that only discover jobs.
const minDiscovery = time.Minute

// known is what the plan has to know of a job, or of the list.
type known struct {
	task        schedule.Task
	asked       time.Time     // when that was sent last; zero: never
	probed      time.Time     // when a probe last wanted it that is not watched; zero: it is watched
	tried       time.Time     // when the last attempt for that alone began; zero: never
	fetched     time.Time     // when the last successful request began; zero: never
	reason      client.Reason // why the last attempt failed, if it did
	settled     bool
	settledAt   time.Time // when the request began that first saw it settled
	confirmed   bool      // it was seen settled again, confirmAfter later
	listed      bool      // the last list had it
	unlisted    bool      // the last list did not have it; there may have been none yet
	lacksTokens bool      // its entry has no tokens, and they were never asked for
	tokensFrom  time.Time // when to ask for these at the earliest
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

// servable reports whether what was fetched is new enough to be served.
func (p policy) servable(k *known, now time.Time) bool {
	return k.settled || now.Sub(k.fetched) <= p.interval(k)+p.staleness
}

// The classes of what is due, the most urgent first.
const (
	neverAsked = iota
	active
	settled
	notFound
	unwatched // but probed
)

func (k *known) class() int {
	switch {
	case !k.probed.IsZero():
		return unwatched
	case !k.task.WasSent() && k.fetched.IsZero(): // nor in a list
		return neverAsked
	case k.reason == client.NotFound:
		return notFound
	case k.settled && k.confirmed:
		return settled
	}
	return active
}

// listKnown is what the plan has to know of the list.
type listKnown struct {
	known
	token   string // of the next page, while some are in
	changed bool   // what to discover has, since
}

func (l *listKnown) class() int {
	if l.fetched.IsZero() && !l.task.WasSent() {
		return neverAsked
	}
	return active
}

// due reports whether the list is old enough to be asked for, and would say
// anything.
func (l *listKnown) due(jobs []*known, now time.Time, p policy) bool {
	if l.fetched.IsZero() || l.token != "" || l.changed {
		return true
	}
	age := now.Sub(l.fetched)
	if !p.list {
		return age >= max(p.refresh, minDiscovery)
	}
	old := age >= p.refresh
	return old && p.discover || slices.ContainsFunc(jobs, func(k *known) bool {
		return (k.listed || old) && p.due(k, now)
	})
}

// plan returns what a scrape needs: the list, jobs, or both. What is pending
// already is among it, since the scrape has to wait for it.
func plan(l *listKnown, jobs []*known, now time.Time, pass schedule.Pass, p policy) []schedule.Wish {
	var wishes []schedule.Wish
	askList := p.usesList() && pass.Allows(&l.task) && (l.task.Pending() || l.due(jobs, now, p))
	if askList {
		wishes = append(wishes, schedule.Wish{Task: &l.task, Class: l.class()})
	}
	if p.list && !askList && (l.reason != "" || pass.Skipped(&l.task)) {
		return nil // it failed for all
	}
	byID := func(k *known) bool { return !p.list || !k.listed }
	if p.list && askList {
		// It answers for all, but for those that it lacked, where the budget
		// lets them wait for longer than the list.
		byID = func(k *known) bool { return k.unlisted && k.task.SentBefore(&l.task) }
	}

	tokens := p.tokens
	var forTokens []schedule.Wish
	for _, k := range jobs {
		if p.list && k.listed && (k.task.Pending() || pass.Sent(&k.task)) {
			tokens--
		}
		wish := schedule.Wish{Task: &k.task, Class: k.class()}
		switch {
		case !pass.Allows(&k.task):
		case k.task.Pending() || p.due(k, now) && byID(k):
			wishes = append(wishes, wish)
		case p.list && !askList && k.settled && k.lacksTokens && !now.Before(k.tokensFrom):
			forTokens = append(forTokens, wish)
		}
	}
	slices.SortFunc(forTokens, schedule.Wish.Compare)
	return append(wishes, forTokens[:max(0, min(tokens, len(forTokens)))]...)
}
