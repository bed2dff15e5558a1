package schedule_test

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/cohere-exporter/cohere_exporter/collector/schedule"
)

// sending is a request in flight.
type sending struct {
	*world
	job     *job
	before  int // when the job was sent before
	place   int // that the job had before
	given   int // on the clock
	changed int // of the limits that allowed it
	began   time.Time
	ctx     context.Context
	writes  int
	resent  int // as the source was told
	end     chan struct{}

	how        ending
	retryAfter time.Duration
	expected   schedule.Change // Closed: or up to a tenth more
}

// Prepare is called as a task is sent.
func (w *world) Prepare(t *schedule.Task) schedule.Request {
	i := slices.IndexFunc(w.jobs, func(j *job) bool { return &j.Task == t })
	j := w.jobs[i]
	w.judgeSending(j)
	s := &sending{world: w, job: j, before: j.sent, place: j.place, given: w.tick(), changed: w.limits.changed, began: time.Now(), end: make(chan struct{})}
	j.queued, j.inFlight = false, true
	j.sent, j.place, j.why = s.given, s.given, schedule.NotSkipped
	w.sendings = append(w.sendings, s)
	return func(ctx context.Context) schedule.Answer {
		s.ctx = ctx
		select {
		case <-s.end:
		case <-ctx.Done():
			s.how = failed
		}
		return reply{s}
	}
}

// judgeSending blames what is wrong with sending a job now.
func (w *world) judgeSending(j *job) {
	for _, other := range w.queue() {
		if c := cmp.Or(
			cmp.Compare(w.class(j), w.class(other)), cmp.Compare(j.place, other.place), cmp.Compare(j.ID, other.ID),
		); c > 0 {
			w.blame("%s is sent before %s", j.ID, other.ID)
		}
	}
	switch {
	case !j.queued:
		w.blame("%s is sent, but no pass asked for it", j.ID)
	case !w.due(j):
		w.blame("%s is sent, but not due", j.ID)
	case len(w.scrapes) == 0:
		w.blame("%s is sent, but nobody waits", j.ID)
	case !j.more && j.sent > w.scrapes[0].began:
		w.blame("%s is sent again, though passes overlap", j.ID)
	case len(w.sendings) >= w.limits.Concurrent:
		w.blame("%s is sent beside %d others", j.ID, len(w.sendings))
	case w.limits.shut():
		w.blame("%s is sent while the gate is closed", j.ID)
	case w.limits.used(w.unwritten()):
		w.blame("%s is sent without budget", j.ID)
	}
	if most, _ := w.limits.atOnce(); w.sinceGate() >= most {
		w.blame("%s is sent beside %d others since the gate closed", j.ID, w.sinceGate())
	}
}

func (w *world) unwritten() (n int) {
	for _, s := range w.sendings {
		if s.writes == 0 {
			n++
		}
	}
	return n
}

func (w *world) sinceGate() (n int) {
	for _, s := range w.sendings {
		if s.given > w.limits.closed {
			n++
		}
	}
	return n
}

func (w *world) over(s *sending) {
	w.sendings = without(w.sendings, s)
	s.job.inFlight = false
}

// teach notes what is learned at the end of a request.
func (w *world) teach(s *sending) {
	if len(w.sendings) == 0 {
		s.expected.Learned = w.limits.learn()
	}
}

// write writes a request, for the first time or again, if it may be.
func (w *world) write(s *sending) {
	var may bool
	w.Do(func() {
		again := s.writes > 0
		closed := w.limits.shut() || w.limits.refusals > 0 && s.given <= w.limits.closed
		may = !closed && (!again || !w.limits.used(w.unwritten()))
		if !may && !again {
			w.revoked = s
		}
	})
	written := write(s.ctx)
	w.Do(func() {
		if written != may {
			w.blame("%s, written %d times, is written: %v", s.job.ID, s.writes, written)
		}
		if written {
			s.writes++
			w.limits.forgetOld()
			w.limits.written = append(w.limits.written, writing{at: time.Now(), changed: s.changed, given: s.given})
		}
		if s.resent != max(0, s.writes-1) {
			w.blame("%s is written %d times, and resent %d", s.job.ID, s.writes, s.resent)
		}
		if w.limits.overdrawn() {
			w.blame("%d requests in a window", len(w.limits.window()))
		}
	})
	w.check()
}

// finish ends a request, if need be unwritten.
func (w *world) finish(s *sending, how ending, retryAfter time.Duration) {
	if s.writes == 0 {
		how = failed
	}
	s.how, s.retryAfter = how, retryAfter
	close(s.end)
	w.check()
}

// reply is what came of a request.
type reply struct{ *sending }

func (r reply) Remember() schedule.Result {
	w, j := r.world, r.job
	w.over(r.sending)
	now, news := w.tick(), r.given > w.limits.closed
	defer w.teach(r.sending)
	if r.how == tooMany {
		if !w.limits.alone(r.sending) { // its job keeps its place
			j.place = r.place
		}
		w.limits.refused(r.sending)
		r.expected.Refusals = w.limits.refusals
		if news {
			r.expected = w.limits.close(now, r.retryAfter)
		}
		j.skipped, j.why = now, schedule.Gate
		return schedule.Result{Refused: true, RetryAfter: r.retryAfter}
	}
	j.answered, j.more = now, r.how == page
	switch r.how {
	case seenActive, seenSettled:
		j.success, j.lost = r.began, false
		if j.settled++; r.how == seenActive {
			j.settled = 0
		}
	case notFound:
		j.success, j.settled, j.lost = time.Time{}, 0, true
	case unavailable, failed:
		j.lost = false
	}
	if r.how == failed {
		return schedule.Result{Report: true}
	}
	r.expected.Opened = news && w.limits.refusals > 0
	if r.expected.Opened {
		w.limits.refusals = 0
	}
	return schedule.Result{Accepted: true, More: r.how == page, Report: true}
}

func (r reply) Report(change schedule.Change) {
	r.Do(func() {
		want := r.expected
		if want.Closed > 0 && r.retryAfter == 0 && change.Closed >= want.Closed && change.Closed < want.Closed+want.Closed/10 {
			r.limits.opens = r.limits.closedAt.Add(change.Closed)
			want.Closed = change.Closed
		}
		if change != want {
			r.blame("%s: %s, which does %+v, want %+v", r.job.ID, r.how, change, want)
		}
	})
}
