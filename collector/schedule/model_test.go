package schedule_test

import (
	"context"
	"fmt"
	"slices"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/cohere-exporter/cohere_exporter/collector/schedule"
)

// world is a source that holds what the scheduler does against what it promises.
// For that it keeps an account of its own, of all that it is told and asked: by
// the scheduler, which has its lock then, and by the test, which takes it with Do.
type world struct {
	*schedule.Scheduler
	t       *rapid.T
	ctx     context.Context
	refresh time.Duration // how old jobs are when they are due
	settled time.Duration // the same for settled ones, where it is longer

	wrong    string // what was found first
	clock    int    // counts passes, requests, answers and skips
	jobs     []*job
	entering *scrape
	scrapes  []*scrape // waiting, the oldest first
	sendings []*sending
	revoked  *sending // not written, and its end is still to come
	limits   limits
}

// job is a task, with what the contract has to know of it.
type job struct {
	schedule.Task
	sent, skipped, answered int // on the clock; 0: never
	place                   int // when it was sent last, but for refusals that others shared
	queued, inFlight        bool
	more                    bool
	why                     schedule.Why
	success                 time.Time
	settled                 int // how often it was seen settled, in a row
	lost                    bool
}

// scrape is a pass.
type scrape struct {
	pass          schedule.Pass
	began, shared int // on the clock
	ctx           context.Context
	leave         context.CancelFunc
}

// ending is how a request ends.
type ending string

const (
	seenActive  ending = "active"
	seenSettled ending = "settled"
	page        ending = "a page, of more"
	notFound    ending = "not found"
	unavailable ending = "unavailable"
	failed      ending = "no answer"
	tooMany     ending = "refused"
)

func newWorld(t *rapid.T, jobs int, limits schedule.Limits) *world {
	w := &world{t: t}
	w.limits.set(limits)
	for i := range jobs {
		w.jobs = append(w.jobs, &job{Task: schedule.Task{ID: fmt.Sprintf("job-%03d", i)}})
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.ctx = ctx
	w.Scheduler = schedule.New(w, limits)
	t.Cleanup(func() {
		cancel()
		w.Close()
		synctest.Wait()
	})
	return w
}

// blame notes what is wrong.
func (w *world) blame(format string, args ...any) {
	if w.wrong == "" {
		w.wrong = fmt.Sprintf(format, args...)
	}
}

func (w *world) tick() int {
	w.clock++
	return w.clock
}

// class and due say in which order jobs are sent, and when.
func (w *world) class(j *job) int {
	switch {
	case j.sent == 0:
		return 0
	case j.more:
		return 1
	case j.lost:
		return 3
	case j.settled > 1:
		return 2
	}
	return 1
}

func (w *world) due(j *job) bool {
	interval := w.refresh
	if j.settled > 0 {
		interval = max(interval, w.settled)
	}
	if j.settled == 1 {
		interval = min(interval, time.Minute)
	}
	return j.more || j.success.IsZero() || time.Since(j.success) >= interval
}

func (j *job) pending() bool { return j.queued || j.inFlight }

// allows reports whether a job may be sent for a scrape: not if it was for one
// that overlaps, unless it goes on, nor if it was skipped for this one.
func (s *scrape) allows(j *job) bool { return (j.more || j.sent <= s.shared) && j.skipped <= s.began }

func (w *world) queue() (queued []*job) {
	for _, j := range w.jobs {
		if j.queued {
			queued = append(queued, j)
		}
	}
	return queued
}

// scrapeOf returns the scrape that a pass is for.
func (w *world) scrapeOf(p schedule.Pass) *scrape {
	for _, s := range w.scrapes {
		if s.pass == p {
			return s
		}
	}
	s := w.entering
	s.pass, s.began = p, w.tick()
	s.shared = s.began
	if len(w.scrapes) > 0 {
		s.shared = w.scrapes[0].began
	}
	w.scrapes = append(w.scrapes, s)
	return s
}

func (w *world) Due(p schedule.Pass) (due []schedule.Wish) {
	s := w.scrapeOf(p)
	for _, j := range slices.Backward(w.jobs) { // their order is not for the source to care about
		w.judgeState(s, j)
		if !j.pending() && !w.due(j) {
			continue
		}
		due = append(due, schedule.Wish{Task: &j.Task, Class: w.class(j)})
		j.queued = j.queued || !j.inFlight && s.allows(j)
	}
	return due
}

// judgeState compares what a pass says of a task.
func (w *world) judgeState(s *scrape, j *job) {
	p, t := s.pass, &j.Task
	type state struct {
		allows, sent, answered, skipped, pending, everSent bool
		why                                                schedule.Why
	}
	got := state{p.Allows(t), p.Sent(t), p.Answered(t), p.Skipped(t), t.Pending(), t.WasSent(), t.Why()}
	want := state{
		j.pending() || s.allows(j), j.sent > s.shared, j.answered > s.shared && !j.more, j.skipped > max(s.shared, j.sent),
		j.pending(), j.sent > 0, j.why,
	}
	if got != want {
		w.blame("%s is %+v, want %+v", j.ID, got, want)
	}
}

func (w *world) Skipped(why schedule.Why, n int) {
	if s := w.revoked; s != nil && why == schedule.Gate {
		w.over(s)
		w.revoked = nil
		s.job.sent, s.job.place, s.job.skipped, s.job.why = s.before, s.place, w.tick(), why
		if n != 1 {
			w.blame("one was revoked, and %d skipped", n)
		}
		w.teach(s)
		return
	}
	queue := w.queue()
	if n != len(queue) || n == 0 {
		w.blame("%d skipped, of %d", n, len(queue))
	}
	right := false
	switch why {
	case schedule.Gate:
		right = w.limits.shut()
	case schedule.Budget:
		right = !w.limits.shut() && w.limits.used(w.unwritten())
	case schedule.Deadline:
		right = len(w.scrapes) == 0
	}
	if !right {
		w.blame("skipped for reason %d", why)
	}
	for _, j := range queue {
		j.queued, j.skipped, j.why = false, w.tick(), why
	}
}

func (w *world) Resent(t *schedule.Task) {
	for _, s := range w.sendings {
		if &s.job.Task == t {
			s.resent++
		}
	}
}

// scrape begins a pass.
func (w *world) scrape(timeout time.Duration) {
	s := &scrape{}
	s.ctx, s.leave = context.WithTimeout(w.ctx, timeout)
	w.Do(func() { w.entering = s })
	go func() {
		defer s.leave()
		w.Wait(s.ctx, w.look)
	}()
	w.check()
}

// look is called when a pass is over.
func (w *world) look(p schedule.Pass) {
	s := w.scrapeOf(p)
	for _, j := range w.jobs {
		w.judgeState(s, j)
		if s.ctx.Err() == nil && (j.pending() || w.due(j) && s.allows(j)) {
			w.blame("a pass is over, but not %s", j.ID)
		}
	}
	w.scrapes = without(w.scrapes, s)
}

// check looks at what has come to rest.
func (w *world) check() {
	synctest.Wait()
	var wrong string
	w.Do(func() {
		for _, s := range w.scrapes {
			if s.ctx.Err() != nil {
				w.blame("a pass still waits after its end")
			}
			if !slices.ContainsFunc(w.jobs, (*job).pending) {
				w.blame("a pass waits for nothing")
			}
		}
		_, least := w.limits.atOnce()
		if n := len(w.queue()); n > 0 && len(w.sendings) < w.limits.Concurrent && w.sinceGate() < least {
			w.blame("%d are queued, and only %d in flight", n, len(w.sendings))
		}
		wrong = w.wrong
	})
	if wrong != "" {
		w.t.Fatal(wrong)
	}
}
