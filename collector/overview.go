package collector

import (
	"slices"
	"time"

	"github.com/cohere-exporter/cohere_exporter/client"
	"github.com/cohere-exporter/cohere_exporter/collector/schedule"
)

// Overview is what is known at one moment, for people. It does not change.
type Overview struct {
	Taken    time.Time
	Accounts []AccountOverview // by name
}

// AccountOverview is what is known of an account.
type AccountOverview struct {
	Name      string             // "" with flags
	Resources []ResourceOverview // one for each kind that is watched
}

// ResourceOverview is what is known of the jobs of one kind in one account. What
// it says of failures was so at the last scrape.
type ResourceOverview struct {
	Name     string   // as in the label "resource"
	ID       string   // the label with a job's ID
	Statuses []string // that a job may have, sorted

	Scraped   time.Time // when the last scrape or probe ended; zero: there was none
	Requests  schedule.State
	ListError client.Reason // why the list cannot be fetched, where it is used
	FileError []string      // job files and patterns that are not in use
	Discovers bool
	Dropped   int           // jobs found by discovery and left out
	Jobs      []JobOverview // those that are watched by ID, then those that are probed
}

// JobOverview is what is known of a job. What the API says is kept here even
// when it has become too old for a scrape.
type JobOverview struct {
	ID      string
	Name    string
	Status  string // one of its kind's; "": nothing is known
	Settled bool
	Created time.Time // zero: not reported

	Probed  bool          // it is not watched
	Waiting bool          // it was not asked for yet, which is no failure
	Error   client.Reason // why it cannot be fetched, or is too old; "": it can, or waits
	Stale   bool          // what is known has become too old for a scrape
	Fetched time.Time     // when the last successful request was sent; zero: never, or not found
	Changed time.Time     // when the status was first seen after another; zero: never

	said     any                        // what the API said last, as a pointer
	describe func(said any) Description // nil: nothing that it said holds
}

// Describe returns what else the API says of the job.
func (j *JobOverview) Describe() Description {
	if j.describe == nil {
		return Description{}
	}
	return j.describe(j.said)
}

// Description is what the API says of a job, in the words of its kind. What it
// left out is empty.
type Description struct {
	Model                     string
	InputTokens, OutputTokens client.Optional[float64] // billed
	Records                   *Records                 // nil where the kind has none
	Reason                    string                   // of the status
	IfFailed                  string                   // what to do if the job failed
	Warnings                  []string
	More                      []Detail // the rest
}

// Records are what became of the records of a job.
type Records struct{ All, Successful, Failed client.Optional[float64] }

// Detail is something that the API says of a job. Value is a string, a float64 or
// a time.Time.
type Detail struct {
	Name  string
	Value any
}

// details collects what the API did not leave out.
type details []Detail

func (d *details) text(name, value string) {
	if value != "" {
		*d = append(*d, Detail{name, value})
	}
}

func (d *details) number(name string, value client.Optional[float64]) {
	if value.Valid {
		*d = append(*d, Detail{name, value.Value})
	}
}

// nonZero is for what a job normally has none of.
func (d *details) nonZero(name string, value client.Optional[float64]) {
	if value.Value != 0 {
		d.number(name, value)
	}
}

// Overview returns what is known now.
func (s *Set) Overview() *Overview {
	o := &Overview{Taken: time.Now()}
	for _, a := range s.watched() {
		view := AccountOverview{Name: a.config.Name}
		for _, w := range a.watches {
			if w != nil {
				view.Resources = append(view.Resources, w.overview(o.Taken))
			}
		}
		o.Accounts = append(o.Accounts, view)
	}
	return o
}

// overview takes pointers while it holds the lock, and looks at them after that.
func (w *watch[T]) overview(now time.Time) ResourceOverview {
	r := ResourceOverview{Name: w.families.resource, ID: w.families.id, Statuses: w.families.statuses}
	w.scheduler.Do(func() {
		r.Scraped, r.Requests = w.scraped, w.scheduler.State(now)
		if w.probedAt.After(r.Scraped) {
			r.Scraped = w.probedAt
		}
		r.Discovers, r.Dropped = w.policy.discover, w.ids.dropped
		if !w.scraped.IsZero() && w.policy.usesList() {
			r.ListError = w.listProblem(w.scraped, w.lastPass)
		}
		found := w.setup.found()
		for _, file := range slices.Concat(found.Files, found.Patterns) {
			if file.Err != nil {
				r.FileError = append(r.FileError, file.Path)
			}
		}
		r.Jobs = make([]JobOverview, 0, len(w.sorted)+len(w.probed))
		for _, j := range w.sorted {
			r.Jobs = append(r.Jobs, w.jobOverview(j))
		}
		for _, j := range w.probed {
			if now.Sub(j.probed) < probedFor {
				r.Jobs = append(r.Jobs, w.probedOverview(j, now))
			}
		}
	})
	describe := func(said any) Description { return w.families.describeJob(said.(*T)) }
	for i := range r.Jobs {
		j := &r.Jobs[i]
		if last := j.said.(*T); last != nil {
			h := w.families.head(last)
			j.Name, j.Status, j.Settled, j.Created = h.name, h.status, h.settled, h.created.Value
			j.describe = describe
		}
	}
	return r
}

func (w *watch[T]) jobOverview(j *job[T]) JobOverview {
	v := JobOverview{ID: j.task.ID, Fetched: j.fetched, Changed: j.changedAt, Error: j.reason, said: j.last}
	if !w.scraped.IsZero() {
		v.Error = w.problem(j, w.scraped, w.lastPass, w.policy)
		v.Stale = j.last != nil && !w.servable(j, w.scraped, w.lastPass, w.policy)
	}
	// Where nothing says why there is no answer, none was asked for.
	v.Waiting = j.fetched.IsZero() && j.reason == "" && w.list.reason == "" &&
		j.task.Why() == schedule.NotSkipped && w.list.task.Why() == schedule.NotSkipped
	if v.Waiting {
		v.Error = ""
	}
	return v
}

// probedOverview is for a job that is not watched. Nothing but its own requests
// tells of it.
func (w *watch[T]) probedOverview(j *job[T], now time.Time) JobOverview {
	v := JobOverview{ID: j.task.ID, Fetched: j.fetched, Changed: j.changedAt, Error: j.reason, Probed: true, said: j.last}
	v.Stale = j.last != nil && !w.policy.servable(&j.known, now)
	if why := j.task.Why(); v.Error == "" && (v.Stale || j.fetched.IsZero()) && why != schedule.NotSkipped {
		v.Error = reasonOf(why)
	}
	v.Waiting = j.fetched.IsZero() && v.Error == ""
	return v
}
