package collector

import (
	"cmp"
	"context"
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

// readList asks for the list and keeps what is watched, or is to be.
func readList(ctx context.Context, c *client.Client, watched map[string]bool, d *Discover) (listing, error) {
	l := listing{jobs: map[string]client.Job{}}
	var found []client.Job
	oldest := time.Now()
	if d != nil {
		oldest = oldest.Add(-time.Duration(d.MaxAge))
	}
	for job, err := range c.EmbedJobs(ctx) {
		switch {
		case err != nil:
			return listing{}, err
		case watched[job.ID]:
			l.jobs[job.ID] = job
		case d != nil && job.CreatedAt.Valid && !job.CreatedAt.Value.Before(oldest) &&
			client.CheckID(job.ID) == nil && d.Name.re.MatchString(job.Name):
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
		if len(l.found) == d.MaxJobs {
			l.dropped++
			continue
		}
		l.found = append(l.found, job.ID)
		l.jobs[job.ID] = job
	}
	return l, nil
}
