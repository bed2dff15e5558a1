package collector

import (
	"testing"
	"time"
)

var epoch = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)

func after(d time.Duration) time.Time { return epoch.Add(d) }

// mustTake takes leave that has to be given.
func (l *limit) mustTake(t *testing.T, now time.Time) *ticket {
	t.Helper()
	ticket, v := l.take(now)
	if v != allowed {
		t.Fatalf("at %v: verdict %d", now.Sub(epoch), v)
	}
	return ticket
}

// mustSend sends a request that has to be allowed, and leaves it under way.
func (l *limit) mustSend(t *testing.T, now time.Time) *ticket {
	t.Helper()
	ticket := l.mustTake(t, now)
	if !l.send(ticket, now) {
		t.Fatalf("at %v: not sent", now.Sub(epoch))
	}
	return ticket
}

// mustNot asks for leave that has to be refused.
func (l *limit) mustNot(t *testing.T, now time.Time, want verdict) {
	t.Helper()
	if _, v := l.take(now); v != want {
		t.Fatalf("at %v: verdict %d, want %d", now.Sub(epoch), v, want)
	}
}

// refuse ends a request with a 429 without Retry-After.
func (l *limit) refuse(ticket *ticket, now time.Time) (wait time.Duration, closed bool) {
	l.done(ticket)
	return l.refused(ticket, now, 0)
}

func TestLimitBudget(t *testing.T) {
	for _, tc := range []struct {
		perMinute float64
		requests  int
		window    time.Duration
	}{
		{40, 40, time.Minute},
		{5, 5, time.Minute},
		{2.5, 2, time.Minute}, // three would be more than 2.5
		{1, 1, time.Minute},
		{0.5, 1, 2 * time.Minute},
		{0.75, 1, 80 * time.Second},
		{1e-6, 1, 1e6 * time.Minute}, // the least that a configuration may have
	} {
		l := newLimit(tc.perMinute)
		var sent []time.Time
		for step := range 300 { // greedily, through two and a half windows
			now := after(time.Duration(step) * (tc.window / 120))
			for {
				ticket, v := l.take(now)
				if v == overBudget {
					break
				}
				l.send(ticket, now)
				l.done(ticket)
				if sent = append(sent, now); len(sent) > 3*tc.requests {
					t.Fatalf("%v per minute: sent at %v", tc.perMinute, sent)
				}
			}
		}
		if len(sent) != 3*tc.requests {
			t.Errorf("%v per minute: %d requests in 2.5 windows, want %d", tc.perMinute, len(sent), 3*tc.requests)
		}
		for i := tc.requests; i < len(sent); i++ {
			if sent[i].Sub(sent[i-tc.requests]) < tc.window {
				t.Errorf("%v per minute: %v and %v", tc.perMinute, sent[i-tc.requests], sent[i])
			}
		}
	}
}

func TestLimitWithoutBudget(t *testing.T) {
	l := newLimit(0)
	for range 10000 {
		l.mustSend(t, epoch)
	}
	if len(l.sent) > 0 {
		t.Error("remembers what there is no use for")
	}
}

// A window that is fixed to the minute, or a bucket that refills, would let
// twice the budget through here.
func TestLimitBudgetSlides(t *testing.T) {
	l := newLimit(2)
	l.mustSend(t, epoch)
	l.mustSend(t, after(59*time.Second))
	l.mustNot(t, after(60*time.Second-1), overBudget)
	l.mustSend(t, after(60*time.Second))
	l.mustNot(t, after(61*time.Second), overBudget)
	l.mustNot(t, after(119*time.Second-1), overBudget)
	l.mustSend(t, after(119*time.Second))
}

func TestLimitUnsentTicket(t *testing.T) {
	l := newLimit(1)
	unsent := l.mustTake(t, epoch)
	l.mustNot(t, epoch, overBudget) // it may still be sent
	l.done(unsent)

	slow := l.mustTake(t, epoch) // the other has cost nothing
	l.send(slow, after(30*time.Second))
	l.done(slow)
	l.mustNot(t, after(90*time.Second-1), overBudget) // when it was sent counts
	l.mustSend(t, after(90*time.Second))
}

func TestLimitNewBudget(t *testing.T) {
	l := newLimit(3)
	l.mustSend(t, epoch)
	l.mustSend(t, epoch)
	l.setBudget(1)
	l.mustNot(t, after(59*time.Second), overBudget)
	l.mustSend(t, after(60*time.Second))
	l.setBudget(0)
	l.mustSend(t, after(60*time.Second))
}

func TestLimitSentAgain(t *testing.T) {
	l := newLimit(2)
	ticket := l.mustSend(t, epoch)
	if !l.send(ticket, epoch) {
		t.Error("not sent again, though the budget has room")
	}
	l.mustNot(t, epoch, overBudget) // since both counted
	if l.send(ticket, epoch) {
		t.Error("sent again beyond the budget")
	}
	if !l.send(ticket, after(time.Minute)) {
		t.Error("not sent again, though the budget has room again")
	}

	l = newLimit(2)
	ticket = l.mustSend(t, epoch)
	l.mustTake(t, epoch)
	if l.send(ticket, epoch) {
		t.Error("sent again at the cost of a request that has leave")
	}

	l = newLimit(0)
	ticket, refused := l.mustSend(t, epoch), l.mustSend(t, epoch)
	if !l.send(ticket, epoch) {
		t.Error("not sent again, though there is no budget")
	}
	wait, _ := l.refuse(refused, epoch)
	if l.send(ticket, after(wait-1)) {
		t.Error("sent again through a closed gate")
	}
	if !l.send(ticket, after(wait)) {
		t.Error("not sent again through an open gate")
	}
}

func TestLimitRetryAfter(t *testing.T) {
	for _, tc := range []struct{ retryAfter, min, max time.Duration }{
		{time.Second, time.Second, time.Second},
		{37 * time.Second, 37 * time.Second, 37 * time.Second},
		{10 * time.Minute, 10 * time.Minute, 10 * time.Minute},
		{time.Hour, 10 * time.Minute, 10 * time.Minute},
		{0, 5 * time.Second, 5500 * time.Millisecond},
		{-time.Second, 5 * time.Second, 5500 * time.Millisecond}, // a date that has passed
	} {
		l := newLimit(0)
		ticket := l.mustSend(t, epoch)
		l.done(ticket)
		wait, closed := l.refused(ticket, epoch, tc.retryAfter)
		if !closed || wait < tc.min || wait > tc.max {
			t.Errorf("Retry-After %v: %v, %v", tc.retryAfter, wait, closed)
		}
		l.mustNot(t, epoch, rateLimited)
		l.mustNot(t, after(wait-1), rateLimited)
		l.mustSend(t, after(wait))
	}
}

func TestLimitBackOff(t *testing.T) {
	l, now := newLimit(0), epoch
	waits := map[time.Duration]bool{}
	for range 3 {
		for i, least := range []time.Duration{5, 10, 20, 40, 80, 120, 120, 120} {
			least *= time.Second
			wait, closed := l.refuse(l.mustSend(t, now), now)
			if !closed || wait < least || wait > least+least/10 {
				t.Errorf("refusal %d: %v, %v, want %v and up to a tenth", i+1, wait, closed, least)
			}
			waits[wait-least] = true
			now = now.Add(wait)
		}
		ticket := l.mustSend(t, now) // an answer ends the doubling
		l.done(ticket)
		l.answered(ticket)
	}
	if len(waits) < 20 {
		t.Errorf("%d different waits in 24", len(waits))
	}
}

func TestLimitRefusedTogether(t *testing.T) {
	l := newLimit(0)
	var tickets []*ticket
	for range 20 {
		tickets = append(tickets, l.mustSend(t, epoch))
	}
	wait, closed := l.refuse(tickets[7], epoch) // answers come in any order
	if !closed {
		t.Fatal("the gate stays open")
	}
	for i, ticket := range tickets {
		if i == 7 {
			continue
		}
		if wait, closed := l.refuse(ticket, after(time.Second)); closed || wait != 0 {
			t.Fatalf("closed once more, for %v", wait)
		}
	}
	l.mustNot(t, after(wait-1), rateLimited)
	ticket := l.mustSend(t, after(wait))
	if wait, _ := l.refuse(ticket, after(wait)); wait < 10*time.Second || wait > 11*time.Second {
		t.Errorf("the second refusal closes the gate for %v", wait)
	}
}

// What a request says that began before the gate last closed is no news: it
// neither closes the gate again nor opens it.
func TestLimitLateAnswers(t *testing.T) {
	l := newLimit(0)
	first, second, third := l.mustSend(t, epoch), l.mustSend(t, epoch), l.mustSend(t, epoch)
	wait, _ := l.refuse(first, epoch)

	l.done(second)
	if l.answered(second) {
		t.Error("an answer from before opens the gate")
	}
	l.mustNot(t, after(wait-1), rateLimited)
	prover := l.mustSend(t, after(wait))
	if _, closed := l.refuse(third, after(wait)); closed {
		t.Error("a refusal from before closes the gate")
	}
	l.mustNot(t, after(wait), tooSoon)
	l.done(prover)
	if !l.answered(prover) {
		t.Error("its answer does not open the gate")
	}
}

func TestLimitOneAlone(t *testing.T) {
	l := newLimit(0)
	wait, _ := l.refuse(l.mustSend(t, epoch), epoch)
	now := after(wait)

	prover := l.mustSend(t, now)
	l.mustNot(t, now, tooSoon)
	l.done(prover) // no answer, as after a network error: the next one goes alone
	prover = l.mustSend(t, now)
	l.mustNot(t, now, tooSoon)
	l.done(prover)
	if !l.answered(prover) {
		t.Fatal("its answer does not open the gate")
	}

	// Open, but for a few at once as long as the refusal is fresh.
	next := l.mustSend(t, now)
	l.mustSend(t, now)
	l.mustNot(t, now, tooSoon)
	l.done(next)
	if l.answered(next) {
		t.Error("the gate opens twice")
	}
	l.mustSend(t, now)
	l.mustNot(t, now, tooSoon)
	for range 20 {
		l.mustSend(t, after(maxBackOff))
	}
}

// A request that has to wait for its connection must not slip through a gate
// that closed meanwhile.
func TestLimitGateClosesBeforeSending(t *testing.T) {
	l := newLimit(10)
	slow := l.mustTake(t, epoch)
	wait, _ := l.refuse(l.mustSend(t, epoch), epoch)
	if l.send(slow, after(wait-1)) || !slow.revoked {
		t.Error("it is sent while the gate is closed")
	}
	l.done(slow)
	if !l.send(l.mustTake(t, after(wait)), after(wait)) {
		t.Error("nothing is sent after the gate has opened")
	}
}

// An unsent ticket of the one that goes alone must not keep the others out.
func TestLimitAloneUnsent(t *testing.T) {
	l := newLimit(10)
	wait, _ := l.refuse(l.mustSend(t, epoch), epoch)
	l.done(l.mustTake(t, after(wait)))
	l.mustSend(t, after(wait))
}
