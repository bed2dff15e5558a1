package schedule_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cohere-exporter/cohere_exporter/collector/schedule"
)

var one = schedule.Limits{Concurrent: 1}

func (f *fake) mustSee(v *visit, want string) {
	f.t.Helper()
	if !v.over() {
		f.t.Fatalf("after %v: the pass still waits", time.Since(f.start))
	}
	if v.saw != want {
		f.t.Fatalf("after %v: the pass saw\n%s, want\n%s", time.Since(f.start), v.saw, want)
	}
}

func TestOverlappingPassesShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, unlimited, "a b c")
		f.only("a b")
		first := f.visit(time.Minute)
		f.expect("a b")
		f.at(time.Second)
		f.finish("a", accepted)
		f.due = nil
		second := f.visit(time.Minute) // a was sent since the first began
		f.expect("c")
		f.finish("b", noAnswer)
		if first.over() { // c is due for it as well
			t.Error("the pass does not wait for what is due by now")
		}
		f.finish("c", accepted)
		f.mustSee(first, "a:answered b:answered c:answered")
		f.mustSee(second, "a:answered b:answered c:answered")
		f.expect("")

		third := f.visit(time.Minute) // overlaps none
		f.expect("a b c")
		third.leave()
		f.mustSee(third, "a:pending b:pending c:pending")
	})
}

// What was skipped for one pass may be sent for another.
func TestOverlappingPassesAfterASkip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, schedule.Limits{Concurrent: 5, PerMinute: 1}, "a b")
		first := f.visit(time.Hour)
		f.mustWrite("a")
		f.expect("a budget=1")
		f.at(time.Minute)
		second := f.visit(time.Hour)
		f.mustWrite("b")
		f.expect("b")
		f.finish("a", accepted)
		if first.over() {
			t.Error("the pass does not wait for what another one sent")
		}
		f.finish("b", accepted)
		f.mustSee(first, "a:answered b:answered")
		f.mustSee(second, "a:answered b:answered")
	})
}

func TestLeavingCancelsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, one, "a b c")
		first, second := f.visit(time.Minute), f.visit(10*time.Second)
		first.leave()
		f.mustSee(first, "a:pending b:pending c:pending")
		f.finish("a", accepted)
		f.expect("a b") // for the second
		f.at(10 * time.Second)
		f.mustSee(second, "a:answered b:pending c:pending")
		f.expect("deadline=1")
		if err := f.call("b").ctx.Err(); err != nil {
			t.Errorf("the request in flight: %v", err)
		}
		f.finish("b", accepted) // late, and nobody waits
		f.expect("")
		if n := f.task("b").remembered; n != 1 {
			t.Errorf("remembered %d times", n)
		}
	})
}

// A request that is in flight from before is waited for, and not made twice at
// once.
func TestJoiningALateRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, unlimited, "a b")
		f.only("a")
		f.visit(time.Second)
		f.at(time.Second)
		f.only("b")
		second := f.visit(time.Minute)
		f.expect("a b")
		f.finish("b", accepted)
		if second.over() {
			t.Error("it does not wait for the late one")
		}
		f.finish("a", accepted)
		f.mustSee(second, "a:answered b:answered")
	})
}

func TestNobodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, one, "a b c")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		looked := false
		f.Wait(ctx, func(schedule.Pass) { looked = true })
		if !looked {
			t.Error("a pass without time does not look")
		}
		f.expect("")

		f.visit(time.Second)
		f.at(time.Second)
		f.expect("a deadline=2")
		f.finish("a", accepted)
		f.expect("")
		f.visit(time.Second)
		f.expect("b")
		f.at(2 * time.Second)
		f.expect("deadline=2")
	})
}

func TestSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, schedule.Limits{Concurrent: 1, PerMinute: 1}, "a b c d")
		v := f.visit(10 * time.Second)
		f.at(10 * time.Second)
		f.expect("a deadline=3")
		f.mustSee(v, "a:pending b:pending c:pending d:pending")
		f.mustWrite("a")
		f.finish("a", accepted)

		f.answer = always(refusedFor(time.Minute))
		f.mustSee(f.scrape("budget=4"), "a:budget b:budget c:budget d:budget")
		f.at(70 * time.Second)
		f.mustSee(f.scrape("b gate=3"), "a:gate b:gate c:gate d:gate")
		f.at(130*time.Second - 1) // gate and budget: the gate it is
		f.mustSee(f.scrape("gate=4"), "a:gate b:gate c:gate d:gate")

		f.answer = always(accepted)
		f.at(130 * time.Second)
		f.mustSee(f.scrape("b budget=3"), "a:budget b:answered c:budget d:budget")
		f.only("a")
		f.at(190 * time.Second) // what is not due was not skipped for this pass
		f.mustSee(f.scrape("a"), "a:answered b:- c:- d:-")
	})
}

func TestDrop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, one, "a b c")
		v := f.visit(time.Minute)
		f.Do(func() { f.Drop(func(t *schedule.Task) bool { return t.ID == "c" }) })
		f.finish("a", accepted) // which is in flight, wanted or not
		f.finish("c", accepted)
		f.expect("a c")
		f.mustSee(v, "a:answered b:deadline c:answered")

		first := f.visit(time.Minute)
		f.only("c")
		second := f.visit(time.Minute)
		f.Do(func() { f.Drop(func(*schedule.Task) bool { return false }) })
		f.finish("b", accepted)
		f.expect("b") // nothing is left to wait for
		f.mustSee(first, "a:deadline b:answered c:deadline")
		f.mustSee(second, "a:deadline b:answered c:deadline")
	})
}

// However long reports take, no pass waits for them, and no request.
func TestReportHoldsUpNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, one, "a b c")
		f.answer = always(accepted)
		read := make(chan struct{})
		reported := 0
		f.report = func(*call, schedule.Change) {
			<-read
			reported++
		}
		f.mustSee(f.scrape("a b c"), "a:answered b:answered c:answered")
		f.scrape("a b c")
		if reported > 0 {
			t.Error("reports were read")
		}
		for range 6 {
			read <- struct{}{}
			synctest.Wait()
		}
		if reported != 6 {
			t.Errorf("%d reports", reported)
		}
		f.report = nil
		f.visit(time.Minute) // as many at once as before
		f.expect("a b c")
	})
}

// Neither a request nor a report holds the lock.
func TestDoAnywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, one, "a b")
		var done []string
		f.answer = func(c *call) schedule.Result {
			f.Do(func() { done = append(done, "request of "+c.task.ID) })
			return accepted
		}
		f.report = func(c *call, _ schedule.Change) {
			f.Do(func() { done = append(done, "report of "+c.task.ID) })
		}
		f.only("a")
		f.scrape("a")
		f.SetLimits(unlimited)
		f.only("b")
		f.scrape("b")
		if len(done) != 4 {
			t.Errorf("done: %q", done)
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, one, "a b")
		v := f.visit(time.Minute)
		f.expect("a")
		f.Close()
		f.expect("b") // and gives it up
		f.mustSee(v, "a:answered b:answered")
		if f.inFlight() != "" || time.Since(f.start) > 0 {
			t.Errorf("in flight after %v: %s", time.Since(f.start), f.inFlight())
		}
	})
}
