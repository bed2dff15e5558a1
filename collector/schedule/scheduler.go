// Package schedule sends the most urgent of the requests that are due, within a
// limit, while someone waits for them.
//
// A [Source] knows what is due and how to ask for it. Each call of
// [Scheduler.Wait] is a pass over what is due: it sends as many requests as the
// limit allows, shares them with passes that overlap it, and waits until they
// are answered. Nothing waits for the limit: what may not be sent now is left
// for a later pass. Nothing is sent while nobody waits.
//
// The limit is a budget of requests in any minute, and a gate: a refusal closes
// it, so that for some time nothing is sent, and then one request alone, whose
// answer opens it again. A refusal also teaches: the budget becomes less than
// what the API let in before it, and grows again while nothing is refused.
package schedule

import (
	"cmp"
	"context"
	"crypto/tls"
	"net/http/httptrace"
	"slices"
	"sync"
	"time"
)

// Task is what a request is made for again and again. Its state is the
// scheduler's, and guarded by its lock.
type Task struct {
	ID string

	lastSent, lastSkipped, lastAnswered uint64 // on the clock; 0: never
	place                               uint64 // lastSent, or what that was before a refusal

	why     Why
	again   bool     // it goes on, for passes that it was sent for too
	request *request // while pending
}

// Wish is a task that is due.
type Wish struct {
	Task  *Task
	Class int // lower classes are sent first, and within one what was not sent, or only refused, for longest
}

// Compare is negative if the task of w is to be sent before that of other.
func (w Wish) Compare(other Wish) int {
	return cmp.Or(
		cmp.Compare(w.Class, other.Class),
		cmp.Compare(w.Task.place, other.Task.place),
		cmp.Compare(w.Task.ID, other.Task.ID),
	)
}

// Why says why a task that was due was not sent.
type Why int

// The reasons.
const (
	NotSkipped Why = iota
	Budget         // it is used up
	Gate           // a refusal has closed it, or met the task itself
	Deadline       // nobody waited any longer
)

// Source is what a Scheduler works for. The scheduler's lock is held whenever it
// is called.
type Source interface {
	// Due returns what is due in a pass. Tasks that are pending belong to it,
	// or the pass does not wait for them; those that were sent or skipped for
	// the pass do no harm.
	Due(p Pass) []Wish

	// Prepare returns the request for a task.
	Prepare(t *Task) Request

	// Skipped is called when n tasks that were due are left for a later pass.
	Skipped(why Why, n int)

	// Resent is called when net/http sends a task's request once more by itself.
	Resent(t *Task)
}

// Request makes a request, and returns when that is over. No lock is held. ctx
// has to be that of the HTTP request: through it the scheduler learns when that
// is written, and can keep it from being written.
type Request func(ctx context.Context) Answer

// Answer is what came of a request.
type Answer interface {
	// Remember changes what the source knows. The scheduler's lock is held.
	Remember() Result

	// Report does what may take longer, such as logging. It is called if the
	// Result says so, or the gate changed. No lock is held.
	Report(Change)
}

// Result is what an answer says to the scheduler.
type Result struct {
	Accepted   bool          // the API answered, and with anything but a refusal
	Refused    bool          // the API refused because it was asked too often
	RetryAfter time.Duration // for how long it then wants to be left alone; 0: it does not say
	More       bool          // the task goes on, as a list does with its next page
	Report     bool          // there is something to report
}

// Change is what an answer did to the gate and the budget.
type Change struct {
	Closed   time.Duration // for how long the gate is closed now; 0: the answer did not close it
	Refusals int           // in a row, this one included
	Opened   bool
	Learned  int // the budget a minute that refusals taught; 0: no news
}

// Scheduler sends requests. It is safe for concurrent use.
type Scheduler struct {
	source Source
	ctx    context.Context // of requests
	cancel context.CancelFunc

	mu         sync.Mutex
	answeredAt time.Time // when an attempt last ended: in an answer, or none in time, but in no refusal
	clock      uint64    // counts passes, requests, answers and skips, to say what came first
	limit      limit
	workers    int // sending
	queue      []*request
	passes     []*pass // waiting, the oldest first
}

// request is one that passes wait for.
type request struct {
	Wish
	permit  *permit // nil while queued
	waiting []*pass
	before  uint64 // when the task was last sent before
	place   uint64 // that the task had before
}

// pass is a call of Wait.
type pass struct {
	start, sharedSince uint64
	patient            bool
	due                func(Pass) []Wish
	missing            int           // requests that it waits for
	done               chan struct{} // closed when there are none left
}

// New returns a Scheduler that asks nothing yet.
func New(source Source, limits Limits) *Scheduler {
	s := &Scheduler{source: source, limit: limit{configured: limits, epoch: time.Now()}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Close gives up the requests in flight.
func (s *Scheduler) Close() { s.cancel() }

// Do calls f while it holds the lock, to change what the source knows.
func (s *Scheduler) Do(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// SetLimits replaces the limits. What was sent before counts against them.
func (s *Scheduler) SetLimits(limits Limits) {
	s.Do(func() {
		s.limit.grow(time.Now())
		s.limit.configured = limits
		s.work()
	})
}

// Forget opens the gate and forgets what refusals taught, as for another API or
// key. The budget stays used.
func (s *Scheduler) Forget() {
	s.Do(func() {
		s.limit.forget(s.tick())
		s.work()
	})
}

// PerMinute returns the budget in force: the configured one, or what refusals
// taught; 0 is none. The lock has to be held, as within Wait's look.
func (s *Scheduler) PerMinute() float64 {
	s.limit.grow(time.Now())
	if n := s.limit.learned(); n > 0 {
		return float64(n)
	}
	return s.limit.configured.PerMinute
}

// Drop leaves all that is queued and not wanted any longer for a later pass.
// The lock has to be held, as within Do.
func (s *Scheduler) Drop(wanted func(*Task) bool) {
	s.queue = slices.DeleteFunc(s.queue, func(r *request) bool {
		if !wanted(r.Task) {
			s.skip(r, Deadline)
			return true
		}
		return false
	})
}

// Wait makes one pass over what is due, until ctx ends, and then calls look
// while it holds the lock.
func (s *Scheduler) Wait(ctx context.Context, look func(Pass)) {
	s.WaitFor(ctx, s.source.Due, look)
}

// WaitFor is Wait for some of what there is: due takes the place of the
// source's Due.
func (s *Scheduler) WaitFor(ctx context.Context, due func(Pass) []Wish, look func(Pass)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.begin()
	p.due = due
	defer s.end(p)
	s.complete(ctx, p)
	look(Pass{p})
}

// complete sends what is due in a pass, until there is nothing that may be sent
// or ctx ends.
func (s *Scheduler) complete(ctx context.Context, p *pass) {
	for ctx.Err() == nil && s.plan(p) { //nolint:contextcheck // a request outlives the scrape that it began for
		s.mu.Unlock()
		select {
		case <-p.done:
		case <-ctx.Done():
		}
		s.mu.Lock()
	}
}

// giveUpAfter is how long a patient pass goes on without any answer but
// refusals.
const giveUpAfter = 10 * time.Minute

// WaitOut is Wait with patience: what the limit leaves out is sent as soon as
// that allows it, until ctx ends or nothing but refusals came for 10 minutes.
// Whenever it has to wait, it calls left with the number of tasks that are still
// to be sent, and for how long. No lock is held then.
func (s *Scheduler) WaitOut(ctx context.Context, left func(tasks int, wait time.Duration), look func(Pass)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.begin()
	p.patient = true
	defer s.end(p)
	began := time.Now()
	for {
		s.complete(ctx, p)
		p.start = s.tick() // what was skipped may be sent after all
		n := s.wanted(p)
		idle := min(time.Since(began), time.Since(s.answeredAt))
		if n == 0 || ctx.Err() != nil || idle >= giveUpAfter {
			break
		}
		wait := min(max(s.limit.next(time.Now()), time.Millisecond), giveUpAfter-idle)
		s.mu.Unlock()
		left(n, wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		s.mu.Lock()
	}
	look(Pass{p})
}

// wanted counts what is due and may be sent.
func (s *Scheduler) wanted(p *pass) (n int) {
	for _, wish := range p.due(Pass{p}) {
		if (Pass{p}).Allows(wish.Task) {
			n++
		}
	}
	return n
}

func (s *Scheduler) tick() uint64 {
	s.clock++
	return s.clock
}

func (s *Scheduler) begin() *pass {
	p := &pass{start: s.tick(), due: s.source.Due}
	p.sharedSince = p.start
	if len(s.passes) > 0 {
		p.sharedSince = s.passes[0].start
	}
	s.passes = append(s.passes, p)
	return p
}

func (s *Scheduler) end(p *pass) {
	s.passes = slices.DeleteFunc(s.passes, func(other *pass) bool { return other == p })
	if len(s.passes) == 0 && len(s.queue) > 0 { // nobody waits for what is still queued
		s.skipQueue(Deadline)
	}
}

// plan queues what is due in a pass. It returns false if that is nothing.
func (s *Scheduler) plan(p *pass) bool {
	for _, wish := range p.due(Pass{p}) {
		if (Pass{p}).Allows(wish.Task) {
			s.join(p, wish)
		}
	}
	if p.missing == 0 {
		return false
	}
	p.done = make(chan struct{})
	slices.SortFunc(s.queue, func(a, b *request) int { return a.Compare(b.Wish) })
	s.work()
	return true
}

// join makes a pass wait for a request, and queues one if there is none.
func (s *Scheduler) join(p *pass, wish Wish) {
	r := wish.Task.request
	if r == nil {
		r = &request{}
		wish.Task.request = r
		s.queue = append(s.queue, r)
	}
	r.Wish = wish
	r.waiting = append(r.waiting, p)
	p.missing++
}

// work sees to it that enough workers are at the queue.
func (s *Scheduler) work() {
	for n := len(s.queue); n > 0 && s.workers < s.limit.configured.Concurrent; n-- {
		s.workers++
		go s.worker()
	}
}

// worker sends requests until there are none that may be sent.
func (s *Scheduler) worker() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for r := s.next(); r != nil; r = s.next() {
		s.send(r)
	}
	s.workers--
}

// next takes the first request off the queue, with a permit. Where there is
// none for it, there is none for those behind it either.
func (s *Scheduler) next() *request {
	if len(s.queue) == 0 || s.workers > s.limit.configured.Concurrent {
		return nil
	}
	permit, why := s.limit.take(s.tick(), time.Now())
	if permit == nil {
		if why != NotSkipped { // else the worker of the request in flight comes back
			s.skipQueue(why)
		}
		return nil
	}
	r := s.queue[0]
	s.queue = s.queue[1:]
	r.permit, r.before, r.place = permit, r.Task.lastSent, r.Task.place
	r.Task.lastSent, r.Task.place, r.Task.why = permit.given, permit.given, NotSkipped
	return r
}

// skipQueue leaves everything that is queued for a later pass.
func (s *Scheduler) skipQueue(why Why) {
	s.source.Skipped(why, len(s.queue))
	for _, r := range s.queue {
		s.skip(r, why)
	}
	s.queue = nil
}

// skip leaves a request for a later pass.
func (s *Scheduler) skip(r *request, why Why) {
	s.left(r.Task, why)
	s.finish(r)
}

func (s *Scheduler) left(t *Task, why Why) {
	t.lastSkipped, t.why = s.tick(), why
}

// finish releases the passes that wait for a request.
func (s *Scheduler) finish(r *request) {
	r.Task.request = nil
	for _, p := range r.waiting {
		if p.missing--; p.missing == 0 {
			close(p.done)
		}
	}
}

// send makes a request, without the lock, and has the answer remembered.
func (s *Scheduler) send(r *request) {
	do := s.source.Prepare(r.Task)
	ctx, cancel := s.limit.context(s.ctx)
	defer cancel()
	s.mu.Unlock()
	answer := do(s.trace(ctx, cancel, r))
	s.mu.Lock()

	s.limit.done(r.permit)
	var result Result
	var change Change
	if r.permit.revoked {
		r.Task.lastSent, r.Task.place = r.before, r.place
		s.source.Skipped(Gate, 1)
		s.left(r.Task, Gate)
	} else {
		result = answer.Remember()
		change = s.remember(r, result)
	}
	change.Learned = s.limit.learn(time.Now())
	s.finish(r)
	if !result.Report && change == (Change{}) {
		return
	}
	s.workers-- // another one sends, however long this one reports
	s.work()
	s.mu.Unlock()
	answer.Report(change)
	s.mu.Lock()
	s.workers++
}

func (s *Scheduler) remember(r *request, result Result) (change Change) {
	if result.Refused { // which says nothing of the task
		if !s.limit.probing(r.permit) { // else another one goes alone the next time
			r.Task.place = r.place
		}
		s.left(r.Task, Gate)
		change.Closed = s.limit.refused(r.permit, s.tick(), time.Now(), result.RetryAfter)
		change.Refusals = s.limit.refusals
		return change
	}
	s.answeredAt = time.Now()
	r.Task.lastAnswered = s.tick()
	r.Task.again = result.More
	change.Opened = result.Accepted && s.limit.accepted(r.permit)
	return change
}

// trace makes the limit follow what is really written: net/http sends a GET
// again by itself when a connection that it used before turns out to be closed.
func (s *Scheduler) trace(ctx context.Context, cancel context.CancelFunc, r *request) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			if s.write(r) {
				return
			}
			cancel()
			// Only a closed connection keeps HTTP/1 from writing. What HTTP/2
			// sends again, the server has said not to have seen.
			if c, ok := info.Conn.(*tls.Conn); !ok || c.ConnectionState().NegotiatedProtocol != "h2" {
				info.Conn.Close()
			}
		},
	})
}

func (s *Scheduler) write(r *request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.limit.send(r.permit, time.Now()) {
		return false
	}
	if r.permit.sent > 1 {
		s.source.Resent(r.Task)
	}
	return true
}
