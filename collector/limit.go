package collector

import (
	"math"
	"math/rand/v2"
	"time"
)

// How long a gate stays closed after a refusal, and how many requests may then
// be under way at once while refusals are fresh: what is sent together is
// refused together.
const (
	maxRetryAfter = 10 * time.Minute // however long the API asks for
	minBackOff    = 5 * time.Second  // where it does not ask; doubles while refusals go on
	maxBackOff    = 2 * time.Minute
	fewAtOnce     = 2
)

// verdict is whether a request may be sent now.
type verdict int

const (
	allowed verdict = iota
	tooSoon         // not before another one that is under way has ended
	overBudget
	rateLimited
)

// limit says when an account may ask the API: a budget of requests in any
// window of time, and a gate that a refusal closes. It is asked at the moment
// of sending.
type limit struct {
	budget int // requests in a window; 0: no limit
	window time.Duration

	unsent int         // allowed, and neither sent nor given up yet
	sent   []time.Time // within the last window, oldest first

	turn     uint64    // numbers the tickets
	closed   uint64    // the turn at which the gate last closed
	closedAt time.Time // when that was
	opens    time.Time // when it may open
	refusals int       // in a row
	underWay int       // requests of later turns than that
}

// ticket is the leave to send one request.
type ticket struct {
	turn    uint64
	sent    bool
	revoked bool // the gate closed before it was sent
}

// newLimit allows perMinute requests in any minute; below 1, one in any
// 1/perMinute minutes; 0 sets no budget.
func newLimit(perMinute float64) limit {
	var l limit
	l.setBudget(perMinute)
	return l
}

func (l *limit) setBudget(perMinute float64) {
	l.budget, l.window = int(perMinute), time.Minute
	if perMinute > 0 && perMinute < 1 {
		l.budget, l.window = 1, time.Duration(float64(time.Minute)/perMinute)
	}
}

// take asks for leave to send a request. Each ticket has to be given back with
// done.
func (l *limit) take(now time.Time) (*ticket, verdict) {
	switch {
	case now.Before(l.opens):
		return nil, rateLimited
	case !l.room(now):
		return nil, overBudget
	case l.underWay >= l.atOnce(now):
		return nil, tooSoon
	}
	l.turn++
	l.unsent++
	l.underWay++
	return &ticket{turn: l.turn}, allowed
}

// room tells whether the budget has any left.
func (l *limit) room(now time.Time) bool {
	if l.budget == 0 {
		return true
	}
	for len(l.sent) > 0 && now.Sub(l.sent[0]) >= l.window {
		l.sent = l.sent[1:]
	}
	return len(l.sent)+l.unsent < l.budget
}

// atOnce is how many requests may be under way: one until it is answered after
// the gate closed, and few for as long as refusals are fresh.
func (l *limit) atOnce(now time.Time) int {
	switch {
	case l.refusals > 0:
		return 1
	case l.closed > 0 && now.Sub(l.closedAt) < maxBackOff:
		return fewAtOnce
	}
	return math.MaxInt
}

// send notes that a request is written now. It returns false where it must not
// be: the gate has closed since, or net/http sends it again by itself and the
// budget has no room for that.
func (l *limit) send(t *ticket, now time.Time) bool {
	switch {
	case now.Before(l.opens):
		t.revoked = !t.sent
		return false
	case t.sent && !l.room(now):
		return false
	case !t.sent:
		t.sent = true
		l.unsent--
	}
	if l.budget > 0 {
		l.sent = append(l.sent, now)
	}
	return true
}

// done gives a ticket back.
func (l *limit) done(t *ticket) {
	if !t.sent {
		l.unsent--
	}
	if t.turn > l.closed {
		l.underWay--
	}
}

// refused closes the gate after a 429, for as long as the API asked or the
// back-off says. A request that was under way when the gate last closed tells
// nothing new: closed is false.
func (l *limit) refused(t *ticket, now time.Time, retryAfter time.Duration) (wait time.Duration, closed bool) {
	if t.turn <= l.closed {
		return 0, false
	}
	wait = min(retryAfter, maxRetryAfter)
	if retryAfter <= 0 {
		wait = min(minBackOff<<min(l.refusals, 5), maxBackOff)
		wait += rand.N(wait / 10) // so that exporters of one key do not come back together
	}
	l.refusals++
	l.closed, l.closedAt, l.opens = l.turn, now, now.Add(wait)
	l.underWay = 0
	return wait, true
}

// answered notes that the API let a request in. It returns true if that opens
// the gate.
func (l *limit) answered(t *ticket) (opened bool) {
	if t.turn <= l.closed || l.refusals == 0 {
		return false
	}
	l.refusals = 0
	return true
}
