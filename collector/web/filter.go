package web

import (
	"cmp"
	"net/url"
	"strings"

	"github.com/cohere-exporter/cohere_exporter/collector"
)

// state is what matters most of a job, the most urgent first.
type state int

const (
	failed state = iota
	unfetched
	running
	waiting
	done
)

// states are how pages speak of states, and filters name them.
var states = [...]struct{ words, class, mark, filter string }{
	failed:    {"failed", "bad", "✕", "failed"},
	unfetched: {"cannot be fetched", "warn", "!", "cannot_be_fetched"},
	running:   {"running", "run", "▸", "running"},
	waiting:   {"not asked for yet", "off", "…", "waiting"},
	done:      {"done", "good", "✓", "done"},
}

// row is a job, with what it belongs to.
type row struct {
	*collector.JobOverview
	account  string
	resource *collector.ResourceOverview
	state    state
}

// rows returns all jobs.
func rows(view *collector.Overview) (all []*row) {
	for _, a := range view.Accounts {
		for i := range a.Resources {
			r := &a.Resources[i]
			made := make([]row, len(r.Jobs))
			for i := range r.Jobs {
				j := &r.Jobs[i]
				made[i] = row{j, a.Name, r, stateOf(j)}
				all = append(all, &made[i])
			}
		}
	}
	return all
}

func stateOf(j *collector.JobOverview) state {
	switch {
	case j.Status == "failed": // as every kind calls it
		return failed
	case j.Error != "":
		return unfetched
	case j.Waiting, j.Status == "":
		return waiting
	case j.Settled:
		return done
	}
	return running
}

// query is the part of a query that asks for the job.
func (r *row) query() url.Values {
	q := url.Values{r.resource.ID: {r.ID}}
	if r.account != "" {
		q.Set("account", r.account)
	}
	return q
}

// compare is negative if r stands above other.
func (r *row) compare(other *row) int {
	return cmp.Or(
		cmp.Compare(r.state, other.state),
		other.Created.Compare(r.Created),
		cmp.Compare(r.account, other.account),
		cmp.Compare(r.ID, other.ID),
	)
}

// filter is what of the jobs to show.
type filter struct{ account, kind, status, text, id, value string }

// chosen is the part of a query that chooses jobs.
func chosen(query url.Values) url.Values {
	part := url.Values{}
	for _, name := range []string{"account", "kind", "status", "q", "job_id", "batch_id"} {
		if value := query.Get(name); value != "" {
			part.Set(name, value)
		}
	}
	return part
}

func newFilter(q url.Values) filter {
	f := filter{account: q.Get("account"), kind: q.Get("kind"), status: q.Get("status"), text: strings.ToLower(strings.TrimSpace(q.Get("q")))}
	for _, id := range []string{"job_id", "batch_id"} {
		if f.value == "" {
			f.id, f.value = id, q.Get(id)
		}
	}
	return f
}

func (f filter) admitsResource(account string, r *collector.ResourceOverview) bool {
	return (f.account == "" || f.account == account) && (f.kind == "" || f.kind == r.Name) && (f.value == "" || f.id == r.ID)
}

func (f filter) admits(r *row) bool {
	return f.admitsResource(r.account, r.resource) &&
		(f.status == "" || f.status == states[r.state].filter || f.status == r.Status) &&
		(f.value == "" || f.value == r.ID) &&
		(f.text == "" || strings.Contains(strings.ToLower(r.ID), f.text) || strings.Contains(strings.ToLower(r.Name), f.text))
}
