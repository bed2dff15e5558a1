package schedule_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/cohere-exporter/cohere_exporter/collector/schedule"
)

func TestBudget(t *testing.T) {
	for _, tc := range []struct {
		perMinute float64
		requests  int
		window    time.Duration
	}{
		{40, 40, time.Minute},
		{5, 5, time.Minute},
		{2.5, 2, time.Minute}, // three would be more than 2.5
		{1.2, 1, time.Minute},
		{1, 1, time.Minute},
		{0.5, 1, 2 * time.Minute},
		{0.75, 1, 80 * time.Second},
		{1e-6, 1, 1e6 * time.Minute},
	} {
		limits := schedule.Limits{Concurrent: 3, PerMinute: tc.perMinute}
		if requests, window := limits.Budget(); requests != tc.requests || window != tc.window {
			t.Errorf("%v per minute: %d in %v", tc.perMinute, requests, window)
		}
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t, limits, ids(100))
			f.answer = always(accepted)
			for step := range 300 { // greedily, through two and a half windows
				f.at(time.Duration(step) * (tc.window / 120))
				f.visit(time.Second)
			}
			if len(f.written) != 3*tc.requests {
				t.Errorf("%v per minute: %d requests in 2.5 windows, want %d", tc.perMinute, len(f.written), 3*tc.requests)
			}
			for i := tc.requests; i < len(f.written); i++ {
				if f.written[i].Sub(f.written[i-tc.requests]) < tc.window {
					t.Errorf("%v per minute: %v and %v", tc.perMinute, f.written[i-tc.requests], f.written[i])
				}
			}
		})
	}
}

func TestNoBudget(t *testing.T) {
	if requests, _ := (schedule.Limits{}).Budget(); requests != 0 {
		t.Errorf("a budget of %d", requests)
	}
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, schedule.Limits{Concurrent: 20}, ids(1000))
		f.answer = always(accepted)
		for range 3 {
			f.scrape(ids(1000))
		}
	})
}

// A window that is fixed to the minute, or a bucket that refills, would let
// twice the budget through here.
func TestBudgetSlides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, schedule.Limits{Concurrent: 1, PerMinute: 2}, "a")
		f.answer = always(accepted)
		f.scrape("a")
		f.at(59 * time.Second)
		f.scrape("a")
		f.at(60*time.Second - 1)
		f.scrape("budget=1")
		f.at(60 * time.Second)
		f.scrape("a")
		f.at(61 * time.Second)
		f.scrape("budget=1")
		f.at(119*time.Second - 1)
		f.scrape("budget=1")
		f.at(119 * time.Second)
		f.scrape("a")
	})
}

// A request costs nothing until it is written, but it may be at any time.
func TestBudgetOfWhatIsNotWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, schedule.Limits{Concurrent: 2, PerMinute: 1}, "a b")
		f.visit(time.Hour)
		f.expect("a budget=1")
		f.finish("a", noAnswer)

		f.visit(time.Hour)
		f.expect("b budget=1")
		f.at(30 * time.Second)
		f.mustWrite("b")
		f.finish("b", accepted)

		f.at(90*time.Second - 1) // when it was written counts
		f.scrape("budget=2")
		f.at(90 * time.Second)
		f.visit(time.Hour)
		f.expect("a budget=1")
	})
}

func TestSetLimits(t *testing.T) {
	for _, tc := range []struct {
		name       string
		before     float64 // requests per minute
		sent       string  // at once, under those
		after      float64
		quiet      time.Duration // for which nothing is sent then
		sentAtLast string
	}{
		{"less", 3, "t000 t001 t002 budget=17", 1, time.Minute, "t003 budget=19"},
		{"more, of which some is used", 3, "t000 t001 t002 budget=17", 5, 0, "t003 t004 budget=18"},
		{"a first one", 0, ids(20), 10, time.Minute, ids(10) + " budget=10"},
		{"a first one, and one in two minutes", 0, ids(20), 0.5, 2 * time.Minute, "t000 budget=19"},
		{"one in two minutes", 1, "t000 budget=19", 0.5, 2 * time.Minute, "t001 budget=19"},
		{"no longer one in two minutes", 0.5, "t000 budget=19", 1, time.Minute, "t001 budget=19"},
		{"none", 1, "t000 budget=19", 0, 0, ids(20)[5:] + " t000"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, schedule.Limits{Concurrent: 20, PerMinute: tc.before}, ids(20))
				f.answer = always(accepted)
				f.scrape(tc.sent)
				f.SetLimits(schedule.Limits{Concurrent: 20, PerMinute: tc.after})
				if tc.quiet > 0 {
					f.scrape("budget=20")
					f.at(tc.quiet - 1)
					f.scrape("budget=20")
				}
				f.at(tc.quiet)
				f.scrape(tc.sentAtLast)
			})
		})
	}
}

// What was sent without a budget, or under another, counts for as long as any
// window that may come.
func TestSetLimitsLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, schedule.Limits{Concurrent: 20}, "a b")
		f.answer = always(accepted)
		f.scrape("a b")
		f.at(30 * time.Second)
		f.scrape("a b")
		f.at(70 * time.Second)
		f.SetLimits(schedule.Limits{Concurrent: 20, PerMinute: 3})
		f.scrape("a budget=1")
		f.at(80 * time.Second)
		f.SetLimits(schedule.Limits{Concurrent: 20, PerMinute: 0.01})
		f.at(70*time.Second + 100*time.Minute - 1)
		f.scrape("budget=2")
		f.at(70*time.Second + 100*time.Minute)
		f.scrape("b budget=1")
	})
}

func TestConcurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, schedule.Limits{Concurrent: 3}, "a b c d e f g h")
		f.visit(time.Hour)
		f.expect("a b c")
		f.SetLimits(schedule.Limits{Concurrent: 1})
		f.finish("b", accepted)
		f.finish("a", accepted)
		f.expect("")
		f.finish("c", accepted)
		f.expect("d")
		f.finish("d", accepted)
		f.expect("e")
		f.SetLimits(schedule.Limits{Concurrent: 3}) // more holds at once
		f.expect("f g")
		f.finish("f", accepted)
		f.expect("h")
	})
}

func TestState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, schedule.Limits{Concurrent: 1, PerMinute: 40}, ids(20))
		check := func(want schedule.State) {
			t.Helper()
			f.Do(func() {
				if got := f.State(time.Now()); got != want {
					t.Errorf("after %v: got %+v, want %+v", time.Since(f.start), got, want)
				}
			})
		}
		check(schedule.State{Budget: 40, Window: time.Minute})
		f.answer = always(accepted)
		f.only(ids(10))
		f.scrape(ids(10))
		check(schedule.State{Budget: 40, Window: time.Minute, Used: 10})
		f.at(30 * time.Second)
		f.only("t010")
		f.answer = always(refusedFor(45 * time.Second))
		f.scrape("t010")
		opens := f.start.Add(75 * time.Second)
		check(schedule.State{Budget: 8, Window: time.Minute, Used: 11, Opens: opens, Refused: true})
		f.at(time.Minute - 1)
		check(schedule.State{Budget: 8, Window: time.Minute, Used: 11, Opens: opens, Refused: true})
		f.at(time.Minute)
		check(schedule.State{Budget: 8, Window: time.Minute, Used: 1, Opens: opens, Refused: true})
		f.at(75 * time.Second)
		f.answer = always(accepted)
		f.scrape("t010")
		check(schedule.State{Budget: 8, Window: time.Minute, Used: 2, Opens: opens})
		f.SetLimits(schedule.Limits{Concurrent: 1, PerMinute: .5})
		check(schedule.State{Budget: 1, Window: 2 * time.Minute, Used: 12, Opens: opens})
	})
}
