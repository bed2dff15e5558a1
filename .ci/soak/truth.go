package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
)

// judge holds what the exporter shows against the API's record. Its rules follow
// from the contract and from what came before what, however slow the machine is:
//
//   - What is shown of a job is what one state of it says, whole, and the job was in
//     that state at some time between its last_success and the end of the scrape.
//     Where a list comes without tokens, these may be older.
//   - Values of an active job are no older than interval plus max_staleness when
//     the scrape begins, unless they were asked for since the oldest scrape that
//     was then in flight began, or a list ended since that told them on a page
//     before. After a 404 there are none.
//   - up is 1 only if values are shown, and an attempt since last_success worked
//     that no failure followed. A failure followed if its request arrived after
//     that attempt had ended, and had ended itself before the scrape began: then
//     the exporter knows, or waits for it. A list and a request for a job in it may
//     be in flight together, and then be known in either order.
//   - up is 0 with one reason of the contract's: that of a failure that may have
//     been the last attempt; or, if nothing is known or it is too old, that nobody
//     could ask.
//   - After a reload with another key, nothing is shown of the time before.
//   - A list is up only as a job is, and cohere_up if everything is.
//   - Jobs that are configured by ID are always there; nothing else is but what was
//     configured or listed.
type judge struct {
	world *world
	found *findings

	pictures map[any]picture // by state
	last     map[task]judged // what held

	expositions, jobs, up, withValues atomic.Int64
}

// judged is what was shown of a job and found to be true, which it stays.
type judged struct {
	lastSuccess float64
	values      []string
}

func newJudge(w *world, found *findings) *judge {
	return &judge{world: w, found: found, pictures: map[any]picture{}, last: map[task]judged{}}
}

// answer is an exposition, and when it was asked for.
type answer struct {
	began, ended time.Time
	oldest       time.Time // when the oldest request began that was in flight when it began
	probed       *task     // nil: it is a scrape
	text         []byte
}

// leeway is for times that are told as a float, and for a clock that is set while
// ages are measured. What is known since the last success may be as much older.
const leeway = time.Millisecond

func (j *judge) judge(a *answer, e *exposition) {
	j.expositions.Add(1)
	ups := map[string]bool{} // by account: all is up
	for t, s := range e.jobs {
		j.jobs.Add(1)
		if a.probed != nil && t != *a.probed {
			j.found.add("probe", "of %s shows %s", a.probed, t)
			continue
		}
		if !j.world.isKnown(t) {
			j.found.add("job", "%s is not one that there ever was", t)
			continue
		}
		up := j.job(a, t, s)
		if was, ok := ups[t.account]; !ok || was {
			ups[t.account] = up
		}
	}
	for _, s := range e.others {
		account := s.labels["account"]
		if s.name != "cohere_list_up" {
			continue
		}
		t := task{account, s.labels["resource"], ""}
		ups[account] = ups[account] && s.value == 1
		if s.value == 1 && !j.backed(a, t, j.world.reloads.keySince(account, a.began)) {
			j.found.add("list up", "%s: cohere_list_up is 1, but the last attempt did not work: %s", t, j.history(a, t))
		}
	}
	for _, s := range e.others {
		if up, ok := ups[s.labels["account"]]; ok && s.name == "cohere_up" && (s.value == 1) != up {
			j.found.add("cohere_up", "%s: is %v, but whether all of the account is up is %t", s.labels["account"], s.value, up)
		}
	}
	if a.probed == nil {
		for _, t := range j.world.requiredBefore(a.began) {
			if e.jobs[t] == nil {
				j.found.add("job", "%s is configured, and not shown", t)
			}
		}
	} else if e.jobs[*a.probed] == nil {
		j.found.add("probe", "of %s does not show it", a.probed)
	}
}

// job judges what is shown of one, and returns whether it is up.
func (j *judge) job(a *answer, t task, s *shown) (up bool) {
	_, r := j.world.find(t)
	if s.up == nil || *s.up != 0 && *s.up != 1 {
		j.found.add("up", "%s: neither 0 nor 1", t)
		return false
	}
	up = *s.up == 1
	since := j.world.reloads.keySince(t.account, a.began) // what was known before is forgotten
	if s.lastSuccess != nil {
		last := moment(*s.lastSuccess)
		if last.Add(leeway).Before(since) {
			j.found.add("another key", "%s: the last success was %s before the reload", t, since.Sub(last))
		}
		if last.After(a.ended) {
			j.found.add("last success", "%s: lies in the future", t)
		}
		since = last.Add(-leeway)
	}
	old := s.lastSuccess != nil && !isSettled(s.status) && j.old(a, t, r, since)
	if len(s.values) > 0 {
		j.withValues.Add(1)
		j.values(a, t, r, s, since, old)
	}
	if up {
		j.up.Add(1)
		switch {
		case len(s.reasons) > 0:
			j.found.add("up", "%s: is 1, with the reason %s", t, s.reasons)
		case len(s.values) == 0 || s.lastSuccess == nil:
			j.found.add("up", "%s: is 1, without values or last success", t)
		case old:
			j.found.add("up", "%s: is 1, but its values are %s old, which is more than %s", t, a.began.Sub(since), r.refresh+r.staleness)
		case !j.backed(a, t, since):
			j.found.add("up", "%s: is 1, but the last attempt did not work: %s", t, j.history(a, t))
		}
		return true
	}
	if len(s.reasons) != 1 {
		j.found.add("reason", "%s: is down for %d reasons %s", t, len(s.reasons), s.reasons)
		return false
	}
	if reason := s.reasons[0]; !j.explained(a, t, r, s, reason) {
		j.found.add("reason", "%s: is down for %s, which nothing explains; values %d, last success %s before the scrape: %s", t, reason, len(s.values), a.began.Sub(since), j.history(a, t))
	}
	return false
}

// old reports whether values of an active job are older than may be served, from
// the beginning of the scrape on. What was asked for since is not, nor what a list
// told whose last page was.
func (j *judge) old(a *answer, t task, r *resource, since time.Time) bool {
	return a.began.Sub(since) > j.limit(a, r)+2*leeway && since.Before(a.oldest) &&
		!(r.list && slices.ContainsFunc(j.attempts(a, t), func(at attempt) bool {
			return at.ofList && at.worked() && at.ended.After(a.oldest)
		}))
}

// limit is how old the values of an active job may be.
func (j *judge) limit(a *answer, r *resource) time.Duration {
	if a.probed != nil {
		return r.refresh + max(r.staleness, time.Minute) // what is shared is not stale
	}
	return r.refresh + r.staleness
}

// values judges the values of a job.
func (j *judge) values(a *answer, t task, r *resource, s *shown, since time.Time, old bool) {
	switch {
	case s.lastSuccess == nil:
		j.found.add("values", "%s: there was no success", t)
		return
	case old:
		j.found.add("age", "%s: values are %s old, which is more than %s", t, a.began.Sub(since), j.limit(a, r))
	case j.gone(a, t):
		j.found.add("values", "%s: are served after a 404: %s", t, j.history(a, t))
	}
	if last := j.last[t]; last.lastSuccess == *s.lastSuccess && slices.Equal(last.values, s.values) {
		return
	}
	if wrong := j.compare(a, t, r, s, since); wrong != "" {
		j.found.add("values", "%s: since the last success, %s before the scrape, the job was never so: %s", t, a.began.Sub(since), wrong)
		return
	}
	j.last[t] = judged{*s.lastSuccess, s.values}
}

// compare says what of a job's values was not so since a time.
func (j *judge) compare(a *answer, t task, r *resource, s *shown, since time.Time) (wrong string) {
	pictures := j.between(t, since, a.ended)
	for _, p := range pictures {
		if slices.Equal(p, s.values) {
			return ""
		}
	}
	if r.list && r.bare {
		isMeta := func(text string, meta bool) bool { return fromMeta(text) == meta }
		part := func(p []string, meta bool) []string {
			return slices.DeleteFunc(slices.Clone(p), func(text string) bool { return !isMeta(text, meta) })
		}
		same := func(meta bool) func(picture) bool {
			return func(p picture) bool { return slices.Equal(part(p, meta), part(s.values, meta)) }
		}
		if slices.ContainsFunc(pictures, same(false)) &&
			(len(part(s.values, true)) == 0 || slices.ContainsFunc(j.between(t, time.Time{}, a.ended), same(true))) {
			return ""
		}
	}
	if len(pictures) == 0 {
		return "there was no such job"
	}
	nearest := pictures[len(pictures)-1]
	var differences []string
	for _, text := range s.values {
		if !slices.Contains(nearest, text) {
			differences = append(differences, "+"+text)
		}
	}
	for _, text := range nearest {
		if !slices.Contains(s.values, text) {
			differences = append(differences, "-"+text)
		}
	}
	return fmt.Sprintf("of %d states, the last differs by %s", len(pictures), strings.Join(differences, "; "))
}

// between returns how a job was between two times.
func (j *judge) between(t task, from, to time.Time) []picture {
	a, _ := j.world.find(t)
	if t.resource == cohertest.Batches {
		return picturesOf(j, a.user.BatchHistory(t.id), from, to, pictureOfBatch)
	}
	return picturesOf(j, a.user.History(t.id), from, to, pictureOfJob)
}

func picturesOf[T cohertest.Job | cohertest.Batch](j *judge, states []cohertest.State[T], from, to time.Time, of func(*T) picture) (pictures []picture) {
	for i, s := range states {
		if s.Job == nil || s.Since.After(to) || i+1 < len(states) && !states[i+1].Since.After(from) {
			continue
		}
		p := j.pictures[s.Job]
		if p == nil {
			p = of(s.Job)
			j.pictures[s.Job] = p
		}
		pictures = append(pictures, p)
	}
	return pictures
}

// forget bounds the judge's memory.
func (j *judge) forget() {
	if len(j.pictures) > 20_000 {
		clear(j.pictures)
	}
	if len(j.last) > 20_000 {
		clear(j.last)
	}
}

// attempts returns the latest that tell of a job or list, in order of arrival. A
// list that worked while there was no such job does not tell of it, but is the end
// of the failures of lists before.
func (j *judge) attempts(a *answer, t task) []attempt {
	attempts := j.world.attempts.until(t, a, always)
	if _, r := j.world.find(t); t.id == "" || !r.list {
		return attempts
	}
	tells := func(at attempt) bool { return len(j.between(t, at.first, at.ended)) > 0 }
	lists := j.world.attempts.until(t.list(), a, tells)
	for i, at := range lists {
		if at.proper && tells(at) || at.failed() && !slices.ContainsFunc(lists[i+1:], worked) {
			attempts = append(attempts, at)
		}
	}
	slices.SortFunc(attempts, func(x, y attempt) int { return x.arrived.Compare(y.arrived) })
	return attempts
}

func always(attempt) bool { return true }

func worked(at attempt) bool { return at.worked() }

// backed reports whether an attempt since a time worked, and surely none failed
// after.
func (j *judge) backed(a *answer, t task, since time.Time) bool {
	attempts := j.attempts(a, t)
	return slices.ContainsFunc(attempts, func(good attempt) bool {
		return good.worked() && !good.arrived.Before(since) && !slices.ContainsFunc(attempts, func(bad attempt) bool {
			return bad.sure && bad.failed() && bad.after(good)
		})
	})
}

// gone reports whether the job was surely not found after it was last.
func (j *judge) gone(a *answer, t task) bool {
	attempts := j.attempts(a, t)
	return slices.ContainsFunc(attempts, func(bad attempt) bool {
		return bad.sure && bad.status == http.StatusNotFound && !slices.ContainsFunc(attempts, func(good attempt) bool {
			return good.worked() && !bad.after(good)
		})
	})
}

// notAsked are the reasons why nobody asked.
var notAsked = []string{"over_budget", "rate_limited", "timeout"}

// explained reports whether there is a cause for a reason.
func (j *judge) explained(a *answer, t task, r *resource, s *shown, reason string) bool {
	unknown := s.lastSuccess == nil || len(s.values) == 0
	return reason == "timeout" || // the client may give up what the API answers
		unknown && slices.Contains(notAsked, reason) ||
		failedFor(j.world.attempts.until(t, a, always), reason) ||
		r.list && failedFor(j.world.attempts.until(t.list(), a, always), reason)
}

// failedFor reports whether an attempt that may have been the last to be known
// failed for a reason.
func failedFor(attempts []attempt, reason string) bool {
	for i, at := range attempts {
		if at.ended.IsZero() {
			return true // for any
		}
		followed := slices.ContainsFunc(attempts[i+1:], func(next attempt) bool {
			return next.sure && (next.worked() || next.failed()) && next.arrived.After(at.ended)
		})
		if !followed && !at.proper && at.reason() == reason {
			return true
		}
	}
	return false
}

// history tells of the latest attempts.
func (j *judge) history(a *answer, t task) string {
	attempts := j.attempts(a, t)
	if len(attempts) == 0 {
		return "there was none"
	}
	var texts []string
	for _, at := range attempts[max(0, len(attempts)-4):] {
		text := "open"
		if !at.ended.IsZero() {
			text = fmt.Sprintf("%d in %s", at.status, at.ended.Sub(at.arrived).Round(time.Millisecond))
			if at.proper {
				text += ", proper"
			}
		}
		texts = append(texts, fmt.Sprintf("%s before (%s)", a.began.Sub(at.arrived).Round(time.Millisecond), text))
	}
	return strings.Join(texts, ", ")
}
