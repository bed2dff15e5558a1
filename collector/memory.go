package collector

import (
	"cmp"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/cohere-exporter/cohere_exporter/client"
)

// tooLate and tooMany are why a job that was due was not asked. Together with
// client.RateLimited they are reasons where nothing could be fetched.
const (
	tooLate client.Reason = client.Timeout // the scrape's deadline came first
	tooMany client.Reason = "over_budget"
)

// job is what an account remembers of one embed job. Its series are made when
// an answer arrives, not at each scrape, and never changed: a scrape may still
// be sending them.
type job struct {
	known
	labels []*dto.LabelPair // that all its series begin with
	schema *schema

	request  *request      // while pending
	answered uint64        // the turn of the last successful answer
	skipped  client.Reason // why it was not asked when it was last due
	last     client.Job    // the last known values
	digest   client.Digest // of the answer that they are, to the byte; 0 where the list had a part in them
	told     client.Reason // the failure that the log speaks of

	failedByList bool // reason is the list's
	unitsKnown   bool // the settled job was asked for its billed units

	values  []gauge // nil without any
	changed *gauge  // when the status changed, if it did

	up, down  gauge
	error     *gauge // with the reason that it holds
	errorText client.Reason
	success   *gauge // when the last success was
}

func newJob(id string, account []*dto.LabelPair, s *schema) *job {
	j := &job{known: known{id: id}, schema: s}
	j.labels = slices.Concat(account, []*dto.LabelPair{s.pair("job_id", id)})
	j.up, j.down = s.gauge(jobUp, j.labels, 1), s.gauge(jobUp, j.labels, 0)
	return j
}

// succeed remembers an answer to a request that began at the given time. It
// returns the status before, "" if there was none.
func (j *job) succeed(got client.Job, began time.Time, p policy) (before client.Status) {
	before = j.last.Status
	j.renew(got.Status, began, p)
	if before != "" && before != got.Status {
		changed := j.schema.gauge(jobStatusChanged, j.labels, unix(began))
		j.changed = &changed
	}
	j.last, j.digest = got, 0
	r := rows{schema: j.schema, base: j.labels, before: j.values, made: make([]gauge, 0, max(len(j.values), 20))}
	for i := range jobRows {
		r.family, r.desc = &jobRows[i].desc, j.schema.rows[i]
		jobRows[i].add(&j.last, &r)
	}
	j.values = r.made
	return before
}

// renew remembers that a request which began at the given time worked, whatever
// it told.
func (j *job) renew(status client.Status, began time.Time, p policy) {
	j.reason, j.skipped, j.failedByList = "", "", false
	j.fetched = began
	j.settle(status.Settled(), j.last.Status != "", began, p)
	success := j.schema.gauge(jobLastSuccess, j.labels, unix(began))
	j.success = &success
}

// settle follows whether the job is settled, and whether that was seen twice.
func (j *job) settle(settled, seenBefore bool, began time.Time, p policy) {
	switch {
	case !settled:
		j.settledAt, j.confirmed = time.Time{}, false
	case !j.settled:
		j.settledAt, j.confirmed = began, false
		j.unitsFrom = began
		if seenBefore { // billing may trail the status
			j.unitsFrom = began.Add(confirmAfter)
		}
	case began.Sub(j.settledAt) >= min(confirmAfter, max(p.refresh, p.settled)):
		j.confirmed = true
	}
	j.settled = settled
}

// fail remembers that an attempt failed.
func (j *job) fail(reason client.Reason) {
	j.reason, j.skipped, j.failedByList = reason, "", false
	if reason == client.NotFound {
		j.forget()
	}
}

// forget drops the job's values, and keeps when they were last fetched.
func (j *job) forget() {
	j.fetched, j.last, j.digest, j.values, j.changed = time.Time{}, client.Job{}, 0, nil, nil
	j.settled, j.confirmed, j.lacksUnits, j.unitsKnown = false, false, false, false
}

// merge fills in what a list entry left out of what is known of the job.
func (j *job) merge(entry client.Job) client.Job {
	entry.Name = cmp.Or(entry.Name, j.last.Name)
	entry.OutputDatasetID = cmp.Or(entry.OutputDatasetID, j.last.OutputDatasetID)
	known, meta := &j.last.Meta, &entry.Meta
	fill(&meta.APIVersion, known.APIVersion)
	fill(&meta.BilledUnits, known.BilledUnits)
	fill(&meta.Tokens, known.Tokens)
	fill(&meta.CachedTokens, known.CachedTokens)
	if meta.Warnings == nil {
		meta.Warnings = known.Warnings
	}
	return entry
}

func fill[T comparable](value *T, known T) {
	var nothing T
	if *value == nothing {
		*value = known
	}
}

// state tells whether what is known is new enough for a scrape, up, and if it
// is not up, why. What the scrape fetched is never stale.
func (j *job) state(now time.Time, r round, p policy) (up bool, reason client.Reason) {
	switch {
	case j.reason != "":
		return false, j.reason
	case j.servable(now, r, p):
		return true, ""
	case j.pending || j.skipped == "":
		return false, tooLate
	}
	return false, j.skipped
}

func (j *job) servable(now time.Time, r round, p policy) bool {
	return !j.fetched.IsZero() && (j.answered > r.since || p.servable(&j.known, now))
}

// view is what a scrape sends of a job.
type view struct {
	values []gauge
	up     *gauge
	others [3]*gauge // where there are any
}

func (j *job) view(now time.Time, r round, p policy) (v view, up bool) {
	up, reason := j.state(now, r, p)
	v.others[0] = j.success
	if j.servable(now, r, p) {
		v.values, v.others[1] = j.values, j.changed
	}
	if up {
		v.up = &j.up
		return v, true
	}
	if j.error == nil || j.errorText != reason {
		g := j.schema.gauge(jobFetchError, j.labels, 1, string(reason))
		j.error, j.errorText = &g, reason
	}
	v.up, v.others[2] = &j.down, j.error
	return v, false
}
