package collector

import (
	"cmp"
	"iter"
	"regexp"
	"slices"
	"time"

	"github.com/cohere-exporter/cohere_exporter/client"
)

// Regexp is an anchored regular expression in RE2 syntax.
type Regexp struct {
	text string
	re   *regexp.Regexp
}

// NewRegexp compiles an expression that has to match whole names.
func NewRegexp(text string) (Regexp, error) {
	if _, err := regexp.Compile(text); err != nil { // in the user's words
		return Regexp{}, err
	}
	re, err := regexp.Compile("^(?s:" + text + ")$")
	return Regexp{text, re}, err
}

// MustRegexp is NewRegexp for an expression that is known to be right.
func MustRegexp(text string) Regexp {
	re, err := NewRegexp(text)
	if err != nil {
		panic(err)
	}
	return re
}

func (r Regexp) String() string { return r.text }

// UnmarshalYAML implements yaml.Unmarshaler.
func (r *Regexp) UnmarshalYAML(unmarshal func(any) error) (err error) {
	var text string
	if err := unmarshal(&text); err != nil {
		return err
	}
	*r, err = NewRegexp(text)
	return err
}

// MarshalYAML implements yaml.Marshaler.
func (r Regexp) MarshalYAML() (any, error) { return r.text, nil }

// listing is what an account keeps of a list.
type listing struct {
	jobs    map[string]client.Job // the watched ones
	found   []string              // discovered, the newest first
	dropped int                   // discovered beyond the limit on their number
}

// listReader keeps of a list what is watched, or is to be.
type listReader struct {
	watched  map[string]bool
	names    map[string]string // of jobs that were discovered; an entry may come without
	discover *Discover
}

func (r listReader) from(list iter.Seq2[client.Job, error]) (listing, error) {
	l := listing{jobs: map[string]client.Job{}}
	var found []client.Job
	now := time.Now()
	for job, err := range list {
		switch {
		case err != nil:
			return listing{}, err
		case r.watched[job.ID]:
			l.jobs[job.ID] = job
		case r.discover != nil && r.discover.wants(job, r.names[job.ID], now):
			found = append(found, job)
		}
	}
	slices.SortStableFunc(found, func(a, b client.Job) int {
		return cmp.Or(b.CreatedAt.Value.Compare(a.CreatedAt.Value), cmp.Compare(a.ID, b.ID))
	})
	for _, job := range found {
		if _, twice := l.jobs[job.ID]; twice {
			continue
		}
		if len(l.found) == r.discover.MaxJobs {
			l.dropped++
			continue
		}
		l.found = append(l.found, job.ID)
		l.jobs[job.ID] = job
	}
	return l, nil
}

// wants tells whether to watch a job. knownAs is its name where it comes
// without.
func (d *Discover) wants(job client.Job, knownAs string, now time.Time) bool {
	return job.CreatedAt.Valid && now.Sub(job.CreatedAt.Value) <= time.Duration(d.MaxAge) &&
		d.Name.re.MatchString(cmp.Or(job.Name, knownAs)) && client.CheckID(job.ID) == nil
}
