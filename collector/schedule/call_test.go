package schedule_test

import (
	"context"
	"net"
	"net/http/httptrace"
	"strings"
	"testing/synctest"
	"time"

	"github.com/cohere-exporter/cohere_exporter/collector/schedule"
)

// call is a request in flight.
type call struct {
	fake *fake
	task *task
	ctx  context.Context
	end  chan schedule.Result
}

// call returns the request in flight for a task.
func (f *fake) call(id string) *call {
	f.t.Helper()
	synctest.Wait()
	for _, c := range f.calls {
		if c.task.ID == id {
			return c
		}
	}
	f.t.Fatalf("no request for %s is in flight", id)
	return nil
}

// inFlight returns the IDs of what is in flight.
func (f *fake) inFlight() string {
	synctest.Wait()
	var ids []string
	f.Do(func() {
		for _, c := range f.calls {
			ids = append(ids, c.task.ID)
		}
	})
	return strings.Join(ids, " ")
}

func (c *call) do(ctx context.Context) schedule.Answer {
	c.ctx = ctx
	if c.fake.answer != nil {
		return answer{c, c.fake.answer(c)}
	}
	select {
	case result := <-c.end:
		return answer{c, result}
	case <-ctx.Done():
		c.fake.Do(func() { c.fake.calls = without(c.fake.calls, c) })
		return answer{c, noAnswer}
	}
}

// write does what net/http does before it writes a request, for the first time
// or again, and reports whether the scheduler let that happen.
func (c *call) write() bool {
	ok := write(c.ctx)
	if ok {
		c.fake.Do(func() { c.fake.written = append(c.fake.written, time.Now()) })
	}
	return ok
}

func write(ctx context.Context) bool {
	conn, server := net.Pipe()
	defer server.Close()
	defer conn.Close()
	httptrace.ContextClientTrace(ctx).GotConn(httptrace.GotConnInfo{Conn: conn})
	return conn.SetDeadline(time.Time{}) == nil // that is, it is not closed
}

// mustWrite writes the requests for those tasks.
func (f *fake) mustWrite(ids string) {
	f.t.Helper()
	for id := range strings.FieldsSeq(ids) {
		if !f.call(id).write() {
			f.t.Fatalf("after %v: %s is not written", time.Since(f.start), id)
		}
	}
	synctest.Wait()
}

var (
	accepted = schedule.Result{Accepted: true}
	refused  = schedule.Result{Refused: true}
	noAnswer = schedule.Result{}
)

// finish ends the requests for those tasks.
func (f *fake) finish(ids string, result schedule.Result) {
	f.t.Helper()
	for id := range strings.FieldsSeq(ids) {
		f.call(id).end <- result
		synctest.Wait()
	}
}

// always answers every request at once.
func always(result schedule.Result) func(*call) schedule.Result {
	return func(c *call) schedule.Result {
		if !c.write() {
			return noAnswer
		}
		return result
	}
}

type answer struct {
	*call
	result schedule.Result
}

func (a answer) Remember() schedule.Result {
	a.task.remembered++
	a.fake.calls = without(a.fake.calls, a.call)
	a.result.Report = true
	return a.result
}

func (a answer) Report(change schedule.Change) {
	if a.fake.report != nil {
		a.fake.report(a.call, change)
	}
	a.fake.Do(func() { a.fake.changes = append(a.fake.changes, change) })
}

func without[T comparable](all []T, one T) (others []T) {
	for _, other := range all {
		if other != one {
			others = append(others, other)
		}
	}
	return others
}
