package collector

import (
	"math/rand/v2"
	"time"
)

// How long a gate stays closed after a refusal.
const (
	maxRetryAfter = 10 * time.Minute // however long the API asks for
	minBackOff    = 5 * time.Second  // where it does not ask; doubles while refusals go on
	maxBackOff    = 2 * time.Minute
)

// verdict is whether a request may be sent now.
type verdict int

const (
	allowed verdict = iota
	alone           // not beside the request that finds out whether the gate may open
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
	prover   *ticket   // the request that goes alone
}

// ticket is the leave to send one request.
type ticket struct {
	turn uint64
	sent bool
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
	case l.careful(now) && l.prover != nil:
		return nil, alone
	}
	l.turn++
	l.unsent++
	t := &ticket{turn: l.turn}
	if l.careful(now) {
		l.prover = t
	}
	return t, allowed
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

// careful tells whether requests go one at a time. They do until one has been
// answered since the gate closed, and then for as long as refusals are fresh:
// what is sent at once is refused at once.
func (l *limit) careful(now time.Time) bool {
	return l.refusals > 0 || l.closed > 0 && now.Sub(l.closedAt) < maxBackOff
}

// send notes that a request is written now, for the budget. It returns false
// for a request that net/http would send again by itself beyond the budget.
func (l *limit) send(t *ticket, now time.Time) bool {
	if t.sent {
		if !l.room(now) {
			return false
		}
	} else {
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
	if l.prover == t {
		l.prover = nil
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
