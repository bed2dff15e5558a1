package schedule_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cohere-exporter/cohere_exporter/collector/schedule"
)

// patience makes a patient pass, and tells what that said and did: how many tasks
// it left for how long, when it ended, and how its tasks were then.
func (f *fake) patience(ctx context.Context) string {
	var story []string
	f.WaitOut(ctx, func(tasks int, wait time.Duration) {
		story = append(story, fmt.Sprintf("%d for %v", tasks, wait))
	}, func(p schedule.Pass) {
		over := fmt.Sprintf("over after %v", time.Since(f.start))
		for _, t := range f.tasks {
			over += " " + t.ID + ":" + state(p, &t.Task)
		}
		story = append(story, over)
	})
	return strings.Join(story, ", ")
}

// What the limit leaves out is sent once that allows it.
func TestWaitOut(t *testing.T) {
	inTurn := func(results ...schedule.Result) func(*call) schedule.Result {
		return func(c *call) schedule.Result {
			result := results[0]
			if len(results) > 1 {
				results = results[1:]
			}
			return always(result)(c)
		}
	}
	for _, tc := range []struct {
		name      string
		perMinute float64
		answer    func(*call) schedule.Result
		timeout   time.Duration
		want      string
	}{
		{"at once", 0, always(accepted), time.Hour, "over after 0s a:answered b:answered c:answered"},
		{"budget", 1, always(accepted), time.Hour, "2 for 1m0s, 1 for 1m0s, over after 2m0s a:answered b:answered c:answered"},
		{"no answer is one", 0, always(noAnswer), time.Hour, "over after 0s a:answered b:answered c:answered"},
		{
			"gate", 100, inTurn(refusedFor(30*time.Second), accepted), time.Hour, // which teaches a budget of 1
			"3 for 1m0s, 2 for 1m0s, 1 for 1m0s, over after 3m0s a:answered b:answered c:answered",
		},
		{
			"gate for longer than the budget", 100, inTurn(refusedFor(9*time.Minute), accepted), time.Hour, // in which that grows
			"3 for 9m0s, over after 9m0s a:answered b:answered c:answered",
		},
		{
			"nothing but refusals for 10 minutes", 100, always(refusedFor(4 * time.Minute)), time.Hour,
			"3 for 4m0s, 3 for 4m0s, 3 for 2m0s, over after 10m0s a:gate b:gate c:gate",
		},
		{
			"of which an answer begins new ones", 100,
			inTurn(refusedFor(9*time.Minute), accepted, refusedFor(6*time.Minute)), time.Hour,
			"3 for 9m0s, 2 for 6m0s, 2 for 4m0s, over after 19m0s a:answered b:gate c:gate",
		},
		{"its time is over", 1, always(accepted), 90 * time.Second, "2 for 1m0s, 1 for 1m0s, over after 1m30s a:answered b:answered c:budget"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, schedule.Limits{Concurrent: 1, PerMinute: tc.perMinute}, "a b c")
				f.answer = tc.answer
				ctx, cancel := context.WithTimeout(t.Context(), tc.timeout)
				defer cancel()
				if got := f.patience(ctx); got != tc.want {
					t.Errorf("got  %s\nwant %s", got, tc.want)
				}
			})
		})
	}
}

// What another pass has not written yet may be at any time.
func TestWaitOutBesideAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, schedule.Limits{Concurrent: 2, PerMinute: 1}, "a b")
		f.only("a")
		f.visit(time.Hour)
		f.due = func(_ schedule.Pass, t *task) bool { return t.ID == "b" }
		a := f.call("a")
		time.AfterFunc(1500*time.Microsecond, func() { a.write() })
		f.answer = always(accepted)
		want := "1 for 1ms, 1 for 1ms, 1 for 59.9995s, over after 1m0.0015s a:pending b:answered"
		if got := f.patience(t.Context()); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}
