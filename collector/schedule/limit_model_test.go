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

	learned int       // requests a minute that refusals taught; 0: none
	taught  time.Time // when that was, or it grew, or a refusal came after
	until   time.Time // when the first refusal came that is still to teach
	forgot  int       // on the clock, when what was sent before said nothing any longer
}

type writing struct {
	at      time.Time
	changed int // of the limits that allowed it
	given   int // when the request was, on the clock
	refused bool
}

// Budget is the configured one, or what refusals taught where that is less. It
// grows by a tenth, rounded up, with every 3 minutes without a refusal.
func (l *limits) Budget() (requests int, window time.Duration) {
	requests, window = l.Limits.Budget()
	less := func() bool { return l.learned > 0 && window == time.Minute && (requests == 0 || l.learned < requests) }
	for less() && time.Since(l.taught) >= 3*time.Minute {
		l.learned += (l.learned + 9) / 10
		l.taught = l.taught.Add(3 * time.Minute)
		if !less() {
			l.learned = 0
		}
	}
	if less() {
		return l.learned, window
	}
	return requests, window
}

// alone reports whether a request went alone after the gate closed.
func (l *limits) alone(s *sending) bool { return l.refusals > 0 && s.given > l.closed }

// refused notes that a request was, which teaches unless it went alone.
func (l *limits) refused(s *sending) {
	if s.given <= l.forgot {
		return
	}
	for i := len(l.written) - 1; i >= 0; i-- {
		if l.written[i].given == s.given {
			l.written[i].refused = true
			break
		}
	}
	l.taught = time.Now()
	if !l.alone(s) && l.until.IsZero() {
		l.until = time.Now()
	}
}

// letIn counts what was written within the minute before the first refusal came,
// and not refused. What was written longer ago than a window and a minute, when
// something was written last, is forgotten.
func (l *limits) letIn() (n int) {
	for _, w := range l.written {
		if !w.refused && w.given > l.forgot && !w.at.After(l.until) && l.until.Sub(w.at) < time.Minute {
			n++
		}
	}
	return n
}

// forgetOld forgets what was written long ago, as something is written.
func (l *limits) forgetOld() {
	_, window := l.Limits.Budget()
	for len(l.written) > 0 && time.Since(l.written[0].at) >= window+time.Minute {
		l.written = l.written[1:]
	}
}

// learn returns what refusals teach once nothing is in flight, 0 if that is no
// news: four fifths of what was let in within the minute before the first came, at
// least 1, and never more than before.
func (l *limits) learn() int {
	if l.until.IsZero() {
		return 0
	}
	n := l.letIn()
	n = max(1, int(math.Round(.8*float64(n))))
	if before, _ := l.Budget(); before > 0 {
		n = min(n, before)
	}
	l.learned, l.taught, l.until = n, time.Now(), time.Time{}
	l.changed++
	return l.less()
}

// less returns the learned budget if it is the one in force.
func (l *limits) less() int {
	configured, window := l.Limits.Budget()
	if window > time.Minute || configured > 0 && l.learned >= configured {
		return 0
	}
	return l.learned
}

func (l *limits) set(to schedule.Limits) {
	l.Limits = to
	l.changed++
}

// shut reports whether the gate lets nothing through.
func (l *limits) shut() bool { return time.Now().Before(l.opens) }

// atOnce is how many requests may be in flight that were sent since the gate
// last closed: one until it is answered, and under a budget that was learned. Time alone sets no more of them off: atLeast is how many are in flight if there
// is anything to send, however long ago that was learned.
func (l *limits) atOnce() (n, atLeast int) {
	l.Budget() // may have grown
	switch {
	case l.refusals > 0 || l.less() > 0:
		return 1, 1
	case !l.taught.IsZero():
		return math.MaxInt, 1
	}
	return math.MaxInt, math.MaxInt
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
	l.learned, l.until, l.forgot = 0, time.Time{}, clock
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
