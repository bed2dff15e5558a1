package collector

import (
	"errors"
	"slices"
	"time"

	"github.com/cohere-exporter/cohere_exporter/client"
	"github.com/cohere-exporter/cohere_exporter/collector/schedule"
)

// outcome is what came of a request, whatever it was for.
type outcome[T any] struct {
	w      *watch[T]
	setup  setup     // with which it was sent
	began  time.Time // when that was
	took   time.Duration
	err    error
	idle   bool // nobody uses its connection again
	events events
}

func (w *watch[T]) outcome(s setup, began time.Time, err error) outcome[T] {
	return outcome[T]{w: w, setup: s, began: began, took: time.Since(began), err: err}
}

// remember counts the request, and says what it means to the scheduler.
func (o *outcome[T]) remember(endpoint string) (r schedule.Result) {
	o.w.counters.count(endpoint, o.took, o.err)
	o.idle = o.w.closed || o.setup.transport != o.w.setup.transport
	refusal, _ := errors.AsType[client.Error](o.err)
	r.Refused = client.ReasonOf(o.err) == client.RateLimited
	r.RetryAfter = refusal.RetryAfter
	o.w.timedOut = o.w.timedOut || client.ReasonOf(o.err) == client.Timeout
	r.Accepted = client.StatusCode(o.err) != 0 && !r.Refused
	return r
}

// Report implements schedule.Answer.
func (o *outcome[T]) Report(change schedule.Change) {
	if o.idle {
		o.setup.client.CloseIdleConnections()
	}
	o.gate(change)
	o.events.write(o.w.logger, o.w.about...)
}

type jobAnswer[T any] struct {
	outcome[T]
	job *job[T]
	got *T
}

// Remember implements schedule.Answer.
func (a *jobAnswer[T]) Remember() schedule.Result {
	r := a.remember(getEndpoint)
	j := a.job
	if !r.Refused { // which says nothing of the job
		j.tried = a.began
	}
	switch {
	case r.Refused:
	case a.w.find(j.task.ID) != j: // no longer watched, or of another API
	case a.err != nil:
		a.failed(&j.loggedReason, client.ReasonOf(a.err), a.w.families.id, j.task.ID)
		j.fail(client.ReasonOf(a.err))
	case a.began.Before(j.fetched): // a list has told something newer
	default:
		a.succeeded(j, a.got, a.began)
		j.tokensKnown = j.settled && !a.began.Before(j.tokensFrom)
		j.lacksTokens = j.lacksTokens && !j.tokensKnown
		a.recovered(j)
	}
	r.Report = a.idle || len(a.events) > 0
	return r
}

// failed notes that an attempt failed, for another reason than the one that was
// logged last, or still.
func (o *outcome[T]) failed(logged *client.Reason, reason client.Reason, what ...any) {
	fields := append(slices.Clip(what), "reason", reason)
	if reason == client.NotFound && what[0] == o.w.families.id {
		fields = append(fields, "hint", "a job is visible only to the user who started it")
	}
	if *logged == reason {
		o.events.debug("fetching still fails", o.err, fields...)
	} else {
		o.events.warn("fetching failed", o.err, fields...)
	}
	*logged = reason
}

func (o *outcome[T]) succeeded(j *job[T], got *T, began time.Time) {
	if before, now := j.succeed(got, began, o.w.policy); before != now {
		o.events.info("status of job changed", o.w.families.id, j.task.ID, "from", before, "to", now)
	}
}

// recovered notes that fetching a job works again, when nothing of it is left to
// ask for: what failed may be what the list lacks.
func (o *outcome[T]) recovered(j *job[T]) {
	if j.loggedReason != "" && !j.lacksTokens {
		j.loggedReason = ""
		o.events.info("fetching works again", o.w.families.id, j.task.ID)
	}
}

// gate notes what a refusal, or the answer after one, did to the gate and the
// budget.
func (o *outcome[T]) gate(change schedule.Change) {
	wait := change.Closed.Round(time.Millisecond)
	switch {
	case change.Opened:
		o.events.info("API accepts requests again")
	case change.Closed == 0:
	case change.Refusals > 1:
		o.events.debug("API still refuses requests", o.err, "wait", wait)
	default:
		o.events.warn("API refuses requests; not asking for a while", o.err, "wait", wait)
	}
	if n := change.Learned; n > 0 {
		o.events.info("asking less often, since the API refused requests", "requests_per_minute", n)
		if n <= trialLimit && !o.w.saidTrial.Swap(true) {
			o.events.warn("this is probably a trial key, which is allowed 1,000 calls a month", nil,
				"used_up_after_hours", trialCalls/n/60, "hint", "set "+o.setup.account.Setting(o.w.families.resource+".refresh_interval")+" to ask less often")
		}
	}
}

// A trial key is allowed so many requests a minute, and calls a month.
const (
	trialLimit = 5
	trialCalls = 1000
)
