package schedule_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cohere-exporter/cohere_exporter/collector/schedule"
)

// fake is a source whose requests a test answers, with the scheduler that works
// for it. It lives in a bubble of fake time.
type fake struct {
	*schedule.Scheduler
	t      *testing.T
	start  time.Time
	answer func(*call) schedule.Result     // how requests end; nil: when the test says so
	report func(*call, schedule.Change)    // nil: does nothing
	due    func(schedule.Pass, *task) bool // nil: everything is, always

	// The scheduler's lock guards the rest.
	tasks   []*task
	calls   []*call // in flight, in the order of sending
	story   []string
	written []time.Time
	changes []schedule.Change
}

type task struct {
	schedule.Task
	class      int
	remembered int // answers, refusals included
}

// newFake returns a source with those tasks, separated by spaces.
func newFake(t *testing.T, limits schedule.Limits, ids string) *fake {
	f := &fake{t: t, start: time.Now()}
	for id := range strings.FieldsSeq(ids) {
		f.tasks = append(f.tasks, &task{Task: schedule.Task{ID: id}})
	}
	f.Scheduler = schedule.New(f, limits)
	t.Cleanup(f.Close)
	return f
}

// earn has 100 requests let in and lets a minute pass, so that a refusal now
// teaches a budget of 80 with room for all of it once the gate opens.
func (f *fake) earn() {
	f.t.Helper()
	warm := &task{Task: schedule.Task{ID: "warm"}}
	answer := f.answer
	f.answer, f.tasks = always(accepted), append(f.tasks, warm)
	for range 100 {
		f.WaitFor(f.t.Context(), func(schedule.Pass) []schedule.Wish {
			return []schedule.Wish{{Task: &warm.Task}}
		}, func(schedule.Pass) {})
	}
	f.answer, f.tasks = answer, f.tasks[:len(f.tasks)-1]
	time.Sleep(59 * time.Second)
	f.told()
	f.start, f.changes, f.written = time.Now(), nil, nil
}

// ids returns the IDs of n tasks, in order.
func ids(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("t%03d", i))
	}
	return strings.Join(all, " ")
}

func (f *fake) Due(p schedule.Pass) (due []schedule.Wish) {
	for _, t := range f.tasks {
		if f.due == nil || f.due(p, t) {
			due = append(due, schedule.Wish{Task: &t.Task, Class: t.class})
		}
	}
	return due
}

func (f *fake) Prepare(t *schedule.Task) schedule.Request {
	f.story = append(f.story, t.ID)
	c := &call{fake: f, task: f.task(t.ID), end: make(chan schedule.Result, 1)}
	f.calls = append(f.calls, c)
	return c.do
}

func (f *fake) Skipped(why schedule.Why, n int) {
	f.story = append(f.story, fmt.Sprintf("%s=%d", reasons[why], n))
}

func (f *fake) Resent(t *schedule.Task) { f.story = append(f.story, t.ID+"-again") }

var reasons = map[schedule.Why]string{
	schedule.NotSkipped: "none", schedule.Budget: "budget", schedule.Gate: "gate", schedule.Deadline: "deadline",
}

func (f *fake) task(id string) *task {
	for _, t := range f.tasks {
		if t.ID == id {
			return t
		}
	}
	panic("no task " + id)
}

// only makes those tasks due, and what is pending.
func (f *fake) only(ids string) {
	due := strings.Fields(ids)
	f.due = func(_ schedule.Pass, t *task) bool { return t.Pending() || slices.Contains(due, t.ID) }
}

// told returns what happened since it was last called: IDs in the order of
// sending, and why and how many tasks were skipped.
func (f *fake) told() string {
	synctest.Wait()
	var story string
	f.Do(func() { story, f.story = strings.Join(f.story, " "), nil })
	return story
}

// expect fails the test unless exactly that happened since the last call.
func (f *fake) expect(want string) {
	f.t.Helper()
	if got := f.told(); got != want {
		f.t.Fatalf("after %v:\ngot  %.200q\nwant %.200q", time.Since(f.start), got, want)
	}
}

// at lets time pass until so long after the start.
func (f *fake) at(d time.Duration) {
	time.Sleep(time.Until(f.start.Add(d)))
	synctest.Wait()
}

// scrape makes a pass, and fails the test unless that is over at once and exactly
// this happened.
func (f *fake) scrape(want string) *visit {
	f.t.Helper()
	v := f.visit(10 * time.Second)
	if !v.over() {
		f.t.Fatalf("after %v: it still waits; %q", time.Since(f.start), f.told())
	}
	f.expect(want)
	return v
}

// change returns what the answer that was reported last did to the gate.
func (f *fake) change() schedule.Change {
	f.t.Helper()
	synctest.Wait()
	if len(f.changes) == 0 {
		f.t.Fatal("nothing was reported")
	}
	return f.changes[len(f.changes)-1]
}

// visit is a pass.
type visit struct {
	cancel context.CancelFunc
	done   chan struct{}
	saw    string // how its tasks were in the end
}

// visit begins a pass, and lets it come as far as it does without time passing.
func (f *fake) visit(timeout time.Duration) *visit {
	ctx, cancel := context.WithTimeout(f.t.Context(), timeout)
	v := &visit{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(v.done)
		defer cancel()
		f.Wait(ctx, func(p schedule.Pass) {
			var saw []string
			for _, t := range f.tasks {
				saw = append(saw, t.ID+":"+state(p, &t.Task))
			}
			v.saw = strings.Join(saw, " ")
		})
	}()
	synctest.Wait()
	return v
}

func state(p schedule.Pass, t *schedule.Task) string {
	switch {
	case t.Pending():
		return "pending"
	case p.Skipped(t):
		return reasons[t.Why()]
	case p.Answered(t):
		return "answered"
	case p.Sent(t):
		return "sent"
	}
	return "-"
}

func (v *visit) over() bool {
	synctest.Wait()
	select {
	case <-v.done:
		return true
	default:
		return false
	}
}

func (v *visit) leave() {
	v.cancel()
	synctest.Wait()
}
