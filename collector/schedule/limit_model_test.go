package schedule_test

import (
	"math"
	"slices"
	"time"

	"github.com/cohere-exporter/cohere_exporter/collector/schedule"
)

// limits is what keeps requests from being sent, in the contract's words.
type limits struct {
	schedule.Limits
	changed int       // how often they were
	written []writing // all requests, the oldest first

	closed   int       // when the gate last closed, on the clock
	closedAt time.Time // the same on the wall
	opens    time.Time // when it may open
	refusals int       // in a row; if there are any, one request goes alone, to find out
}

type writing struct {
	at      time.Time
	changed int // of the limits that allowed it
}

func (l *limits) set(to schedule.Limits) {
	l.Limits = to
	l.changed++
}

// shut reports whether the gate lets nothing through.
func (l *limits) shut() bool { return time.Now().Before(l.opens) }

// atOnce is how many requests may be in flight that were sent since the gate
// last closed: one until it is answered, and few for as long as a refusal is
// fresh. Time alone sets no more of them off: atLeast is how many are in flight
// if there is anything to send, however long ago that was.
func (l *limits) atOnce() (n, atLeast int) {
	switch {
	case l.refusals > 0:
		return 1, 1
	case l.closedAt.IsZero():
		return math.MaxInt, math.MaxInt
	case time.Since(l.closedAt) < 2*time.Minute:
		return 2, 2
	}
	return math.MaxInt, 2
}

// close notes a refusal, and returns what is expected to come of it: the gate is
// closed at least that long, and up to a tenth longer without Retry-After.
func (l *limits) close(clock int, retryAfter time.Duration) schedule.Change {
	wait := min(retryAfter, 10*time.Minute)
	if retryAfter == 0 {
		wait = min(5*time.Second<<min(l.refusals, 5), 2*time.Minute)
	}
	l.refusals++
	l.closed, l.closedAt, l.opens = clock, time.Now(), time.Now().Add(wait)
	return schedule.Change{Closed: wait, Refusals: l.refusals}
}

func (l *limits) forget(clock int) {
	l.closed, l.closedAt, l.opens, l.refusals = clock, time.Time{}, time.Time{}, 0
}

// used reports whether the budget is, if so many requests are still to be
// written.
func (l *limits) used(unwritten int) bool {
	requests, _ := l.Budget()
	return requests > 0 && len(l.window())+unwritten >= requests
}

// window returns the requests of the last window.
func (l *limits) window() []writing {
	_, window := l.Budget()
	first := len(l.written)
	for first > 0 && time.Since(l.written[first-1].at) < window {
		first--
	}
	return l.written[first:]
}

// overdrawn reports whether more was sent than the limits allow, which have
// been the same for so long.
func (l *limits) overdrawn() bool {
	requests, _ := l.Budget()
	sent := l.window()
	return requests > 0 && len(sent) > requests &&
		!slices.ContainsFunc(sent, func(w writing) bool { return w.changed != l.changed })
}
