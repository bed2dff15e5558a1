package schedule_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/cohere-exporter/cohere_exporter/collector/schedule"
)

var unlimited = schedule.Limits{Concurrent: 20}

func refusedFor(retryAfter time.Duration) schedule.Result {
	return schedule.Result{Refused: true, RetryAfter: retryAfter}
}

func TestGateRetryAfter(t *testing.T) {
	for _, tc := range []struct{ retryAfter, min, max time.Duration }{
		{time.Second, time.Second, time.Second},
		{37 * time.Second, 37 * time.Second, 37 * time.Second},
		{10 * time.Minute, 10 * time.Minute, 10 * time.Minute},
		{time.Hour, 10 * time.Minute, 10 * time.Minute},
		{0, 5 * time.Second, 5500 * time.Millisecond},
		{-time.Second, 5 * time.Second, 5500 * time.Millisecond}, // a date that has passed
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t, unlimited, "a")
			f.earn()
			f.answer = always(refusedFor(tc.retryAfter))
			v := f.scrape("a")
			if v.saw != "a:gate" {
				t.Errorf("Retry-After %v: %s", tc.retryAfter, v.saw)
			}
			change := f.change()
			if wait := change.Closed; wait < tc.min || wait > tc.max || change.Refusals != 1 || change.Opened {
				t.Errorf("Retry-After %v: %+v", tc.retryAfter, change)
			}
			f.answer = always(accepted)
			f.scrape("gate=1")
			f.at(change.Closed - 1)
			f.scrape("gate=1")
			f.at(change.Closed)
			f.scrape("a")
			if got, want := f.change(), (schedule.Change{Opened: true}); got != want {
				t.Errorf("Retry-After %v: then %+v", tc.retryAfter, got)
			}
		})
	}
}

func TestGateBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, unlimited, "a")
		jitter := map[time.Duration]bool{}
		for range 3 {
			f.Forget()
			f.earn()
			f.answer = always(refused)
			for i := range 70 {
				least := []time.Duration{5, 10, 20, 40, 80, 120}[min(i, 5)] * time.Second
				f.scrape("a")
				change := f.change()
				if wait := change.Closed; wait < least || wait > least+least/10 || change.Refusals != i+1 {
					t.Errorf("refusal %d: %+v, want %v and up to a tenth", i+1, change, least)
				}
				jitter[change.Closed-least] = true
				time.Sleep(change.Closed)
			}
			f.answer = always(accepted) // which ends the doubling
			f.scrape("a")
		}
		if len(jitter) < 200 {
			t.Errorf("%d different waits in 210", len(jitter))
		}
	})
}

// What is refused together closes the gate once.
func TestGateRefusedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, unlimited, ids(20))
		f.earn()
		v := f.visit(time.Minute)
		f.expect(ids(20))
		f.mustWrite(ids(20))
		f.finish("t007", refused) // answers come in any order
		change := f.change()
		f.at(time.Second)
		for len(f.calls) > 0 {
			f.finish(f.calls[0].task.ID, refused)
			want := schedule.Change{Refusals: 1}
			if len(f.calls) == 0 {
				want.Learned = 80
			}
			if got := f.change(); got != want {
				t.Fatalf("a refusal from before: %+v", got)
			}
		}
		if !v.over() {
			t.Error("the pass waits for the gate")
		}
		f.at(change.Closed - 1)
		f.scrape("gate=20")
		f.at(change.Closed)
		f.visit(time.Second)
		f.mustWrite("t000")
		f.finish("t000", refused)
		f.expect("t000 gate=19")
		if got := f.change(); got.Refusals != 2 || got.Closed < 10*time.Second || got.Closed > 11*time.Second {
			t.Errorf("the second refusal: %+v", got)
		}
	})
}

// What a request says that was sent before the gate last closed is no news: it
// neither closes the gate again nor opens it.
func TestGateLateAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, unlimited, "a b c d e f")
		f.earn()
		f.only("a b c")
		f.visit(time.Hour)
		f.mustWrite("a b c")
		f.finish("a", refusedFor(10*time.Second))
		f.finish("b", accepted)
		if got := f.change(); got != (schedule.Change{}) {
			t.Errorf("an answer from before: %+v", got)
		}
		f.expect("a b c")

		f.only("d e f")
		f.at(10*time.Second - 1)
		f.visit(time.Second)
		f.expect("gate=3")
		f.at(10 * time.Second)
		f.visit(time.Hour)
		f.mustWrite("d")
		f.finish("c", refusedFor(time.Hour))
		if got, want := f.change(), (schedule.Change{Refusals: 1}); got != want {
			t.Errorf("a refusal from before: %+v", got)
		}
		f.expect("d")
		f.finish("d", accepted)
		if got, want := f.change(), (schedule.Change{Opened: true, Learned: 81}); got != want {
			t.Errorf("the answer of the probe: %+v", got)
		}
		f.expect("e") // alone, under the learned budget
		f.finish("e", accepted)
		f.expect("f")
	})
}

func TestGateProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, unlimited, "a b c d e")
		f.earn()
		f.only("a")
		f.answer = always(refusedFor(time.Second))
		f.scrape("a")
		f.answer, f.due = nil, nil

		f.at(time.Second)
		f.visit(time.Hour)
		f.expect("a")
		f.finish("a", noAnswer) // it was not even written: the next one goes alone
		f.expect("b")
		f.mustWrite("b")
		f.finish("b", noAnswer)
		f.expect("c")
		f.visit(time.Hour)
		f.expect("")
		f.mustWrite("c")
		f.finish("c", accepted)
		f.expect("d")
		f.finish("d", accepted)
		if got := f.change(); got != (schedule.Change{}) {
			t.Errorf("an answer through an open gate: %+v", got)
		}
		f.expect("e")
	})
}

// What is sent together is refused together: under a budget that was learned
// one request is in flight.
func TestOneAtATimeUnderALearnedBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, unlimited, ids(30))
		f.earn()
		f.only("t000")
		f.answer = always(refusedFor(time.Second))
		f.scrape("t000")
		f.answer = always(accepted)
		f.at(time.Second)
		f.scrape("t000")

		f.answer, f.due = nil, nil
		v := f.visit(time.Hour)
		f.expect("t001")
		f.at(10 * time.Minute)
		f.mustWrite("t001")
		f.finish("t001", accepted)
		f.expect("t002")
		v.leave()
		f.expect("deadline=28")
		f.Forget()
		f.visit(time.Hour)
		f.told()
		if n := len(f.calls); n != unlimited.Concurrent {
			t.Errorf("%d in flight once nothing is learned", n)
		}
	})
}

// A request that has to wait for its connection must not slip through a gate
// that closed meanwhile. It was not sent then, and is the first to be.
func TestGateClosesBeforeWriting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, schedule.Limits{Concurrent: 20, PerMinute: 4}, "a b c d e")
		f.only("d e")
		f.visit(time.Hour)
		f.mustWrite("d e")
		f.finish("d e", accepted)
		f.expect("d e")
		f.at(time.Minute - time.Second)
		f.only("a b")
		v := f.visit(time.Hour)
		f.mustWrite("b")
		f.finish("b", refusedFor(10*time.Second))
		if v.over() {
			t.Error("the pass does not wait for what is in flight")
		}
		f.at(time.Minute + 9*time.Second - 1)
		if f.call("a").write() {
			t.Error("it is written while the gate is closed")
		}
		f.expect("a b gate=1")
		if a := f.task("a"); !v.over() || v.saw != "a:gate b:gate c:- d:- e:-" || a.remembered > 0 || a.WasSent() {
			t.Errorf("%s, remembered %d, sent %v", v.saw, a.remembered, a.WasSent())
		}
		f.due = nil
		f.at(time.Minute + 9*time.Second)
		f.visit(time.Hour) // it costs nothing of the budget, which is 2 by now
		f.mustWrite("a")
		f.finish("a", accepted)
		f.expect("a budget=4")
	})
}

// Nor must it go beside the one that goes alone.
func TestGateProbeIsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, unlimited, "a b c d e")
		f.only("a b c d")
		f.visit(time.Hour)
		f.mustWrite("c d")
		f.finish("d", refusedFor(time.Second))
		f.at(time.Second)
		f.only("e")
		f.visit(time.Hour)
		f.expect("a b c d e")
		if f.call("a").write() {
			t.Error("one from before is written beside it")
		}
		f.expect("gate=1")
		if f.call("c").write() {
			t.Error("one from before is written again beside it")
		}
		f.mustWrite("e")
		f.finish("e", accepted)
		f.mustWrite("b")
	})
}

func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, schedule.Limits{Concurrent: 20, PerMinute: 6}, "a b c d e f g")
		f.only("a b")
		f.visit(time.Hour)
		f.mustWrite("a b")
		f.finish("a", refusedFor(10*time.Minute))
		f.due = nil
		f.visit(time.Second)
		f.expect("a b gate=5")

		f.Forget()
		f.visit(time.Hour) // all at once, as if nothing was ever refused, but for the budget
		f.expect("c d e f budget=1")
		f.finish("b", refusedFor(10*time.Minute)) // by the other API
		if got := f.change(); got != (schedule.Change{}) {
			t.Errorf("a refusal from before: %+v", got)
		}
		f.mustWrite("c d e f")
		f.finish("c", refused)
		if got := f.change(); got.Refusals != 1 || got.Closed > 5500*time.Millisecond {
			t.Errorf("the first refusal since: %+v", got)
		}
	})
}

// What waits for the one that goes alone does not when there is no need.
func TestForgetWhileAProbeIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, unlimited, "a b c")
		f.earn()
		f.only("a")
		f.answer = always(refusedFor(time.Second))
		f.scrape("a")
		f.answer, f.due = nil, nil
		f.at(time.Second)
		f.visit(time.Hour)
		f.expect("a")
		f.Forget()
		f.expect("b c")
		f.mustWrite("a")
		f.finish("a", refusedFor(time.Minute)) // by the other API
		if got := f.change(); got != (schedule.Change{}) {
			t.Errorf("a refusal from before: %+v", got)
		}
	})
}
