package schedule

import (
	"context"
	"math/rand/v2"
	"time"
)

// How long the gate stays closed after a refusal.
const (
	maxRetryAfter = 10 * time.Minute // however long the API asks for
	minBackOff    = 5 * time.Second  // where it does not ask; doubles while refusals go on
	maxBackOff    = 2 * time.Minute
)

// Limits are how many requests may be sent, and how long one may take.
type Limits struct {
	Concurrent int           // requests in flight at once, at least 1
	PerMinute  float64       // requests in any minute; below 1, one in any 1/PerMinute minutes; 0: no limit
	Timeout    time.Duration // of a request; 0: none
}

// Budget returns what PerMinute allows: so many requests in any window of that
// length. Without a limit, requests is 0.
func (l Limits) Budget() (requests int, window time.Duration) {
	if l.PerMinute > 0 && l.PerMinute < 1 {
		return 1, time.Duration(float64(time.Minute) / l.PerMinute)
	}
	return int(l.PerMinute), time.Minute
}

// State is how the limit stands.
type State struct {
	Budget int           // requests in a window; 0: no limit
	Window time.Duration // of the budget
	Used   int           // requests sent within the last window

	Opens   time.Time // when the gate may open; not after now: it is not closed
	Refused bool      // a request was refused, and none has been answered since
}

// limit says when a request may be sent: a budget in any window of time, and a
// gate that a refusal closes. It is asked at the moment of sending. Times of
// the scheduler's clock say what came first.
type limit struct {
	configured Limits
	lesson     lesson // what refusals taught

	epoch    time.Time // that the times of requests count from
	permits  int       // given, and not given back yet
	reserved int       // of these, neither used nor given up yet
	sent     []sending // requests of the last window, oldest first, and the latest

	closed   uint64    // when the gate last closed, on the clock
	opens    time.Time // when it may open
	refusals int       // in a row
	inFlight int       // requests sent since the gate last closed
}

// sending is a request that was written. There may be many: it holds no pointer,
// which the garbage collector would follow.
type sending struct {
	at      time.Duration // since the epoch
	permit  uint64        // when that was given
	refused bool
}

func (l *limit) age(s sending, now time.Time) time.Duration { return now.Sub(l.epoch) - s.at }

type permit struct {
	given   uint64 // on the clock
	sent    int    // how often it was used: net/http may send a request again
	revoked bool   // the gate closed before it was used
}

// budget returns how many requests may be sent in a window of which length; 0:
// any number.
func (l *limit) budget() (requests int, window time.Duration) {
	if n := l.learned(); n > 0 {
		return n, time.Minute
	}
	return l.configured.Budget()
}

// take asks for a permit, which has to be given back with done. Where there is
// none, it says why; NotSkipped means not before a request in flight has ended.
func (l *limit) take(clock uint64, now time.Time) (*permit, Why) {
	l.grow(now)
	switch {
	case now.Before(l.opens):
		return nil, Gate
	case !l.room(now):
		return nil, Budget
	case l.inFlight > 0 && l.alone():
		return nil, NotSkipped
	}
	l.permits++
	l.reserved++
	l.inFlight++
	return &permit{given: clock}, NotSkipped
}

// room reports whether the budget has any left.
func (l *limit) room(now time.Time) bool {
	requests, window := l.budget()
	if requests == 0 {
		return true
	}
	free := requests - l.reserved
	return free > 0 && (len(l.sent) < free || l.age(l.sent[len(l.sent)-free], now) >= window)
}

// next returns how long it takes until a request may be sent, as far as that is
// known.
func (l *limit) next(now time.Time) time.Duration {
	wait := l.opens.Sub(now)
	if !l.room(now) {
		requests, window := l.budget()
		if free := requests - l.reserved; free > 0 {
			wait = max(wait, window-l.age(l.sent[len(l.sent)-free], now))
		}
	}
	return wait
}

// alone reports whether a request has to wait until no other is in flight: after
// the gate closed, until an answer opens it; and under a budget that was learned,
// since what is sent together is refused together.
func (l *limit) alone() bool { return l.refusals > 0 || l.learned() > 0 }

// send notes that a request is written now. It returns false where it must not
// be: the gate has closed since, and no answer has opened it yet, or net/http
// sends the request again by itself and the budget has no room for that.
func (l *limit) send(p *permit, now time.Time) bool {
	l.grow(now)
	switch {
	case l.refusals > 0 && p.given <= l.closed:
		p.revoked = p.sent == 0
		return false
	case p.sent > 0 && !l.room(now):
		return false
	case p.sent == 0:
		l.reserved--
	}
	p.sent++
	// Without a budget too, since one may be set; the latest counts in any. A
	// refusal that comes within a minute can still look at the minute before.
	_, window := l.configured.Budget()
	for len(l.sent) > 0 && l.age(l.sent[0], now) >= window+time.Minute {
		l.sent = l.sent[1:]
	}
	l.sent = append(l.sent, sending{at: now.Sub(l.epoch), permit: p.given})
	return true
}

// probing reports whether a request went alone after the gate closed.
func (l *limit) probing(p *permit) bool { return l.refusals > 0 && p.given > l.closed }

// context returns that of a request which is sent now.
func (l *limit) context(parent context.Context) (context.Context, context.CancelFunc) {
	if t := l.configured.Timeout; t > 0 {
		return context.WithTimeout(parent, t)
	}
	return context.WithCancel(parent)
}

func (l *limit) done(p *permit) {
	l.permits--
	if p.sent == 0 {
		l.reserved--
	}
	if p.given > l.closed {
		l.inFlight--
	}
}

// refused closes the gate after a refusal, for as long as the API asked or the
// back-off says. A request that was in flight when the gate last closed says
// nothing new: then it returns 0.
func (l *limit) refused(p *permit, clock uint64, now time.Time, retryAfter time.Duration) (wait time.Duration) {
	l.note(p, now)
	if p.given <= l.closed {
		return 0
	}
	wait = min(retryAfter, maxRetryAfter)
	if retryAfter <= 0 {
		wait = min(minBackOff<<min(l.refusals, 5), maxBackOff)
		wait += rand.N(wait / 10) //nolint:gosec // a guess does no harm; so that exporters of one key do not come back together
	}
	l.refusals++
	l.closed, l.opens = clock, now.Add(wait)
	l.inFlight = 0
	return wait
}

// accepted notes that the API let a request in. It reports whether that opens
// the gate.
func (l *limit) accepted(p *permit) (opened bool) {
	if !l.probing(p) {
		return false
	}
	l.refusals = 0
	return true
}

// forget opens the gate, and forgets what was learned. What is in flight says
// nothing of what comes.
func (l *limit) forget(clock uint64) {
	l.closed, l.opens = clock, time.Time{}
	l.refusals, l.inFlight = 0, 0
	l.lesson = lesson{after: clock}
}

// State returns how the limit stands. The lock has to be held, as within Do.
func (s *Scheduler) State(now time.Time) State {
	l := &s.limit
	l.grow(now)
	state := State{Opens: l.opens, Refused: l.refusals > 0}
	state.Budget, state.Window = l.budget()
	for _, sent := range l.sent {
		if l.age(sent, now) < state.Window {
			state.Used++
		}
	}
	return state
}
