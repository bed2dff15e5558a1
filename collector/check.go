package collector

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/prometheus/common/model"
)

// keyLimits are the requests a minute that Cohere allows a key, the greatest
// first.
var keyLimits = []struct {
	perMinute float64
	key       string
}{{50, "production"}, {5, "trial"}}

// scrapeIntervals are those that a plan is printed for.
var scrapeIntervals = []time.Duration{15 * time.Second, 30 * time.Second, time.Minute}

// Check checks the configuration and prints what it will ask of the API. It
// asks nothing itself.
func (c *Config) Check(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i := range c.Accounts {
		a := &c.Accounts[i]
		if err := a.Validate(); err != nil {
			return err
		}
		if i > 0 {
			fmt.Fprintln(tw)
		}
		a.check(tw)
	}
	return tw.Flush()
}

// check prints the account's plan, with all jobs that there may be.
func (c *AccountConfig) check(w io.Writer) {
	jobs, files, warnings := c.countJobs()
	p, l := c.policy(), newLimit(c.RequestsPerMinute)

	if c.Name != "" {
		fmt.Fprintf(w, "account\t%s\n", c.Name)
	}
	fmt.Fprintf(w, "jobs\t%d", jobs)
	if p.discover {
		fmt.Fprintf(w, ", up to %d of them discovered", c.Discover.MaxJobs)
	}
	if len(c.JobIDFiles) > 0 {
		fmt.Fprintf(w, ", with those in %d job files", files)
	}
	fmt.Fprint(w, "\nrequests a scrape\t")
	switch {
	case p.list:
		fmt.Fprint(w, "1 for the list, and 1 for each job that it lacks or tells no billed units of")
	case p.discover:
		fmt.Fprintf(w, "%d for the jobs, and 1 a minute for the list", jobs)
	default:
		fmt.Fprint(w, jobs)
	}
	fmt.Fprint(w, "\n\nscrape interval\tdue a minute\tsent a minute\tonce all are settled\toldest values\n")

	var oldest time.Duration
	over := make([][]string, len(keyLimits))
	for _, every := range scrapeIntervals {
		due, age := p.perMinute(jobs, p.refresh, every), p.oldest(jobs, &l, every)
		fmt.Fprintf(w, "%v\t%v\t%v\t%v\t%v\n", model.Duration(every), rounded(due), rounded(l.cut(due)),
			rounded(l.cut(p.perMinute(jobs, max(p.refresh, p.settled), every))), model.Duration(age))

		oldest = max(oldest, age)
		for i, limit := range keyLimits {
			if l.budget == 0 && due > limit.perMinute {
				over[i] = append(over[i], model.Duration(every).String())
				break
			}
		}
	}

	budget, refresh, staleness := c.setting("requests-per-minute"), c.setting("refresh-interval"), c.setting("max-staleness")
	if oldest > p.refresh+p.staleness {
		warnings = append(warnings, fmt.Sprintf("values are served until they are %v old (%s and %s), so jobs will come and go: raise %s to %v, or %s",
			model.Duration(p.refresh+p.staleness), refresh, staleness, staleness, model.Duration(oldest-p.refresh), budget))
	}
	for i, limit := range keyLimits {
		if len(over[i]) > 0 {
			warnings = append(warnings, fmt.Sprintf("scraped every %s this is more than the %v requests a minute that Cohere allows a %s key: set %s, or raise %s",
				strings.Join(over[i], " or "), limit.perMinute, limit.key, budget, refresh))
		}
	}
	for _, text := range warnings {
		fmt.Fprintf(w, "warning: %s\n", text)
	}
}

// countJobs returns how many jobs there may be, how many job files there are,
// and what is wrong with these.
func (c *AccountConfig) countJobs() (jobs, files int, warnings []string) {
	ids := map[string]bool{}
	add := func(more []string) {
		for _, id := range more {
			ids[id] = true
		}
	}
	add(c.JobIDs)
	paths := matches(c.JobIDFiles)
	for _, path := range paths {
		more, err := readJobFile(path)
		if err != nil {
			warnings = append(warnings, fmt.Sprintf("job file %s is not used: %v", path, err))
		}
		add(more)
	}
	jobs = len(ids)
	if c.Discover != nil {
		jobs += c.Discover.MaxJobs
	}
	return jobs, len(paths), warnings
}

// wait is how long it takes until something of an interval is fetched again.
func wait(interval, every time.Duration) time.Duration {
	return max(1, (interval+every-1)/every) * every
}

// perMinute is how many requests are due a minute for jobs of an interval.
func (p policy) perMinute(jobs int, interval, every time.Duration) float64 {
	switch {
	case p.list && p.discover:
		return 1 / wait(p.refresh, every).Minutes()
	case p.list:
		return 1 / wait(interval, every).Minutes()
	}
	return float64(jobs)/wait(interval, every).Minutes() + p.discoveries(every)
}

// discoveries is how many requests a minute go to a list beside the jobs.
func (p policy) discoveries(every time.Duration) float64 {
	if p.list || !p.discover {
		return 0
	}
	return 1 / wait(max(p.refresh, minDiscovery), every).Minutes()
}

// oldest is the age that values of active jobs reach within the limit.
func (p policy) oldest(jobs int, l *limit, every time.Duration) time.Duration {
	due := p.perMinute(jobs, p.refresh, every)
	if l.cut(due) == due {
		return wait(p.refresh, every) - every
	}
	switch {
	case p.list:
		jobs = 1
	case p.discover:
		jobs++ // the list takes its turn among them
	}
	return time.Duration(math.Ceil(float64(jobs)/float64(l.budget))) * l.window
}

// cut is what the budget leaves of a number of requests a minute.
func (l *limit) cut(perMinute float64) float64 {
	if l.budget == 0 {
		return perMinute
	}
	return min(perMinute, float64(l.budget)/l.window.Minutes())
}

func rounded(perMinute float64) float64 { return math.Round(perMinute*100) / 100 }
