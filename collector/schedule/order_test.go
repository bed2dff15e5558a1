package schedule_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cohere-exporter/cohere_exporter/collector/schedule"
)

func (f *fake) classes(classes map[string]int) {
	for id, class := range classes {
		f.task(id).class = class
	}
}

func TestOrder(t *testing.T) {
	for _, tc := range []struct {
		name    string
		sent    []string // for earlier passes
		classes map[string]int
		want    string
	}{
		{name: "by ID, if nothing else", want: "a b c d e f"},
		{name: "never sent first", sent: []string{"b a", "d"}, want: "c e f a b d"},
		{name: "unsent for longest first", sent: []string{"f", "c", "d", "a", "b", "e"}, want: "f c d a b e"},
		{name: "the last time counts", sent: []string{"f", "c", "d", "f"}, want: "a b e c d f"},
		{
			name: "classes before time", sent: []string{"f", "c", "d", "a", "b", "e"},
			classes: map[string]int{"a": -1, "c": 7, "f": 2, "e": 2}, want: "a d b f e c",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, limits := range []schedule.Limits{one, unlimited} {
				synctest.Test(t, func(t *testing.T) {
					f := newFake(t, limits, "f e d c b a")
					f.answer = always(accepted)
					for _, ids := range tc.sent {
						f.only(ids)
						f.visit(time.Second)
					}
					f.told()
					f.due = nil
					f.classes(tc.classes)
					f.scrape(tc.want)
				})
			}
		})
	}
}

// The order holds when a request is sent, not only when a pass begins.
func TestOrderOfOverlappingPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, one, "a b c d e")
		f.classes(map[string]int{"a": 1, "b": 1, "c": 1, "d": 0, "e": 0})
		f.only("a b c")
		f.visit(time.Minute)
		f.expect("a")
		f.due = nil
		f.task("c").class = -1 // which the next pass tells
		f.visit(time.Minute)
		f.finish("a", accepted)
		f.finish("c", accepted)
		f.finish("d", accepted)
		f.finish("e", accepted)
		f.expect("c d e b")
	})
}

func TestSentBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, one, "a b c")
		f.answer = always(accepted)
		f.only("b")
		f.scrape("b")
		f.only("a")
		f.scrape("a")
		var got [][2]string
		f.Do(func() {
			for _, x := range f.tasks {
				for _, y := range f.tasks {
					if x.SentBefore(&y.Task) {
						got = append(got, [2]string{x.ID, y.ID})
					}
				}
			}
		})
		if want := [][2]string{{"b", "a"}, {"c", "a"}, {"c", "b"}}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// What is left for later comes first then.
func TestOrderUnderABudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, schedule.Limits{Concurrent: 5, PerMinute: 2}, "a b c d e")
		f.answer = always(accepted)
		for i, want := range []string{"a b budget=3", "c d budget=3", "e a budget=3", "b c budget=3", "d e budget=3"} {
			f.at(time.Duration(i) * time.Minute)
			f.scrape(want)
			f.at(time.Duration(i)*time.Minute + 30*time.Second)
			f.scrape("budget=5")
		}
	})
}

// A failed one was sent. A refused one keeps its place: the refusal says nothing
// of it.
func TestOrderAfterFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, one, "a b c")
		f.earn()
		f.visit(time.Minute)
		f.finish("a", noAnswer)
		f.mustWrite("b")
		f.finish("b", refusedFor(time.Second))
		f.expect("a b gate=1")
		f.at(time.Second)
		f.answer = always(accepted)
		f.scrape("b c a")
	})
}

// The one that goes alone does not, or one that is refused whenever it is asked
// would keep all others from being asked.
func TestOrderAfterARefusedProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, one, "a b c")
		f.earn()
		f.answer = func(c *call) schedule.Result {
			if c.task.ID == "a" {
				return always(refusedFor(time.Second))(c)
			}
			return always(accepted)(c)
		}
		f.scrape("a gate=2")
		time.Sleep(time.Second)
		f.scrape("a gate=2")
		time.Sleep(time.Second)
		f.scrape("b c a")
	})
}

var more = schedule.Result{Accepted: true, More: true}

// A task that goes on is sent again in the same pass, once that has all the rest.
func TestMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, one, "a b c")
		f.classes(map[string]int{"c": 1})
		v := f.visit(time.Minute)
		f.finish("a", more)
		f.finish("b", accepted)
		second := f.visit(time.Minute)
		f.finish("c", accepted)
		f.expect("a b c a")
		f.finish("a", more) // for the second too, though it was sent since that began
		f.expect("a")
		f.finish("a", accepted)
		f.expect("")
		f.mustSee(v, "a:answered b:answered c:answered")
		f.mustSee(second, "a:answered b:answered c:answered")
	})
}

func TestMoreKeepsItsRank(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, one, "a b c d")
		f.classes(map[string]int{"c": 1, "d": 1})
		f.only("a c d")
		f.visit(time.Hour)
		f.finish("a", more)
		f.expect("a c")
		f.due = nil
		f.visit(time.Hour) // plans anew, so that a need not wait for d
		f.finish("c", accepted)
		f.finish("b", accepted)
		f.finish("a", accepted)
		f.expect("b a d")
	})
}

func TestMoreInterrupted(t *testing.T) {
	for _, tc := range []struct {
		name      string
		interrupt func(f *fake, overlapped *visit)
		want      string
	}{
		{"by the budget", func(f *fake, _ *visit) {
			f.mustWrite("a b")
			f.finish("a", more)
			f.finish("b", accepted)
		}, "budget=1"},
		{"by the gate", func(f *fake, _ *visit) {
			f.mustWrite("b")
			f.finish("a", more)
			f.finish("b", refusedFor(time.Minute))
		}, "gate=1"},
		{"by the gate, itself", func(f *fake, _ *visit) {
			f.finish("a", more)
			f.finish("b", accepted)
			f.finish("c", accepted)
			f.SetLimits(unlimited)
			f.mustWrite("a")
			f.finish("a", refusedFor(time.Minute))
		}, "a"},
		{"by the deadline", func(f *fake, v *visit) {
			f.finish("a", more)
			v.leave()
			f.finish("b", accepted)
		}, ""},
		{"by the gate, before it is written", func(f *fake, _ *visit) {
			f.finish("a", more)
			f.finish("b", accepted)
			f.finish("c", refusedFor(time.Minute))
			f.call("a").write()
		}, "a gate=1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, schedule.Limits{Concurrent: 20, PerMinute: 4}, "a b c d")
				f.only("c d")
				f.visit(time.Hour) // goes on, so that those to come overlap
				f.mustWrite("c d")
				f.due = func(_ schedule.Pass, t *task) bool { return t.ID == "a" || t.ID == "b" }
				v := f.visit(time.Hour)
				f.expect("c d a b")
				tc.interrupt(f, v)
				f.expect(tc.want)
				f.at(time.Minute)
				f.visit(time.Hour)
				f.expect("a")
				f.finish("a", accepted)
				f.visit(time.Hour)
				f.expect("")
			})
		})
	}
}
