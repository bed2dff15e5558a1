package schedule_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/cohere-exporter/cohere_exporter/collector/schedule"
)

// perMinute returns the budget in force.
func (f *fake) perMinute() (n float64) {
	f.Do(func() { n = f.PerMinute() })
	return n
}

// Four fifths of what the API let in within the minute before it refused, at
// least 1, and never more than before.
func TestLesson(t *testing.T) {
	for _, c := range []struct {
		name       string
		limits     schedule.Limits
		early      int // accepted a minute before the refusal
		accepted   int // and right before it
		want       float64
		configured bool // nothing was learned
	}{
		{"nothing let in", unlimited, 0, 0, 1, false},
		{"one", unlimited, 0, 1, 1, false},
		{"two", unlimited, 0, 2, 2, false},
		{"five", unlimited, 0, 5, 4, false},
		{"long ago", unlimited, 9, 5, 4, false},
		{"within a budget", schedule.Limits{Concurrent: 20, PerMinute: 40}, 0, 10, 8, false},
		{"as much as the budget", schedule.Limits{Concurrent: 20, PerMinute: 4}, 0, 3, 2, false},
		{"a budget below one a minute", schedule.Limits{Concurrent: 20, PerMinute: .5}, 0, 0, .5, true},
		{"a budget of one", schedule.Limits{Concurrent: 20, PerMinute: 1}, 0, 0, 1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, c.limits, ids(30))
				f.answer = always(accepted)
				for _, n := range []int{c.early, c.accepted} {
					time.Sleep(time.Minute)
					f.only(ids(n))
					f.scrape(ids(n))
				}
				f.only("t029")
				f.answer = always(refused)
				f.scrape("t029")
				if got := f.perMinute(); got != c.want {
					t.Errorf("the budget is %v, want %v", got, c.want)
				}
				if got := f.change().Learned; got > 0 == c.configured {
					t.Errorf("learned %d", got)
				}
			})
		})
	}
}

// Whichever was refused does not count.
func TestLessonOfTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, unlimited, ids(6))
		f.visit(time.Hour)
		f.mustWrite(ids(6))
		f.finish("t001 t002 t003 t004 t005", accepted)
		f.finish("t000", refused)
		if got := f.change().Learned; got != 4 {
			t.Errorf("learned %d", got)
		}
	})
}

// The request that goes alone after the gate teaches nothing: others may have
// used up what there is. Nor is anything learned before all are answered.
func TestLessonTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, unlimited, ids(12))
		f.earn()
		v := f.visit(time.Hour)
		f.told()
		f.mustWrite(ids(12))
		f.finish(ids(3), accepted)
		f.finish("t003 t004", refusedFor(time.Second))
		if got := f.perMinute(); got != 0 {
			t.Errorf("learned %v while requests are in flight", got)
		}
		f.finish("t005 t006 t007 t008 t009 t010 t011", refused)
		if got := f.change().Learned; got != 82 || f.perMinute() != 82 { // of 100 and 3
			t.Errorf("learned %d", got)
		}
		v.leave()
		f.told()
		f.at(time.Minute)
		f.only("t000")
		f.answer = always(refusedFor(time.Second))
		f.scrape("t000")
		if got := f.change(); got.Refusals != 2 || got.Learned != 0 || f.perMinute() != 82 {
			t.Errorf("after the one that went alone: %+v, %v", got, f.perMinute())
		}
	})
}

// What the gate kept from being written may be the last to end.
func TestLessonAfterRevokedRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, unlimited, ids(12))
		f.visit(time.Hour)
		f.mustWrite(ids(11))
		f.finish(ids(10), accepted)
		f.finish("t010", refused)
		c := f.call("t011")
		if got := f.perMinute(); got != 0 {
			t.Errorf("learned %v while it is in flight", got)
		}
		if c.write() {
			t.Error("it is written")
		}
		if got := f.change().Learned; got != 8 || f.perMinute() != 8 {
			t.Errorf("learned %d, and the budget is %v", got, f.perMinute())
		}
	})
}

// Every three minutes without a refusal it grows by a tenth, rounded up, until
// the configured one holds again.
func TestLessonIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, schedule.Limits{Concurrent: 20, PerMinute: 10}, ids(12))
		f.answer = always(accepted)
		f.only(ids(5))
		f.scrape(ids(5))
		f.only("t011")
		f.answer = always(refusedFor(time.Second))
		f.scrape("t011")
		f.answer = always(accepted)
		for i, want := range []float64{4, 5, 6, 7, 8, 9, 10, 10} {
			for _, at := range []time.Duration{0, 3*time.Minute - 1} {
				f.at(time.Duration(i)*3*time.Minute + at)
				if got := f.perMinute(); got != want {
					t.Errorf("after %d times three minutes and %v: %v, want %v", i, at, got, want)
				}
			}
		}
		f.SetLimits(schedule.Limits{Concurrent: 20, PerMinute: 40}) // does not bring it back
		if got := f.perMinute(); got != 40 {
			t.Errorf("then %v", got)
		}
	})
}

// A reload keeps what was learned, where that is less, and another key forgets
// it.
func TestLessonAndLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, unlimited, ids(6))
		f.answer = always(accepted)
		f.only(ids(5))
		f.scrape(ids(5))
		f.only("t005")
		f.answer = always(refused)
		f.scrape("t005")
		for perMinute, want := range map[float64]float64{0: 4, 40: 4, 3: 3, .5: .5} {
			f.SetLimits(schedule.Limits{Concurrent: 20, PerMinute: perMinute})
			if got := f.perMinute(); got != want {
				t.Errorf("with %v configured: %v, want %v", perMinute, got, want)
			}
		}
		f.SetLimits(schedule.Limits{Concurrent: 20})
		f.Forget()
		if got := f.perMinute(); got != 0 {
			t.Errorf("with another key: %v", got)
		}
	})
}

// A refusal by the API from before says nothing of this one, nor does what that
// one let in.
func TestLessonOfAnotherKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, unlimited, ids(12))
		f.only(ids(10))
		f.visit(time.Hour)
		f.told()
		f.mustWrite(ids(10))
		f.finish(ids(8), accepted)
		f.Forget()
		f.finish("t008", refused)
		f.finish("t009", accepted)
		if got := f.change().Learned; got != 0 || f.perMinute() != 0 {
			t.Errorf("from the key before: learned %d, and the budget is %v", got, f.perMinute())
		}
		f.answer = always(accepted)
		f.only("t010")
		f.scrape("t010")
		f.answer = always(refused)
		f.only("t011")
		f.scrape("t011")
		if got := f.change().Learned; got != 1 || f.perMinute() != 1 {
			t.Errorf("from this one: learned %d, and the budget is %v", got, f.perMinute())
		}
	})
}
