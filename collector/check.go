package collector

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/prometheus/common/model"

	"github.com/cohere-exporter/cohere_exporter/collector/config"
	"github.com/cohere-exporter/cohere_exporter/collector/jobfile"
	"github.com/cohere-exporter/cohere_exporter/collector/schedule"
)

// keyLimits are what Cohere allows a key for each kind of jobs, the greatest first.
var keyLimits = map[string][]keyLimit{
	"embed_jobs": {{50, "a production"}, {5, "a trial"}},
	"batches":    {{500, "any"}},
}

type keyLimit struct {
	perMinute float64
	key       string
}

// scrapeIntervals are those that a plan is printed for.
var scrapeIntervals = []time.Duration{15 * time.Second, 30 * time.Second, time.Minute}

// Check checks a configuration and prints what it will ask of the API. It asks
// nothing itself. An account whose key cannot be used at present is an error.
func Check(w io.Writer, c *config.Config) (err error) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	blank := ""
	for i := range c.Accounts {
		a := &c.Accounts[i]
		if err := a.Validate(); err != nil {
			return err
		}
		for _, kind := range config.Kinds {
			if jobs := kind.Jobs(a); jobs != nil {
				fmt.Fprint(tw, blank)
				blank = "\n"
				newCost(a, kind.Name, jobs, jobfile.Read(jobs.IDFiles)).print(tw)
			}
		}
		if problem := a.KeyProblem(); problem != nil && err == nil {
			err = fmt.Errorf("account %s: %w", a.Name, problem)
		}
	}
	return cmp.Or(tw.Flush(), err)
}

// cost is what one kind of jobs of an account asks of the API, with all jobs
// that there may be.
type cost struct {
	account  *config.Account
	resource string
	config   *config.Jobs
	policy   policy
	limits   schedule.Limits
	found    jobfile.Result
	jobs     int
}

func newCost(a *config.Account, resource string, c *config.Jobs, found jobfile.Result) cost {
	ids := map[string]bool{}
	for _, id := range slices.Concat(found.IDs, c.IDs) {
		ids[id] = true
	}
	jobs := len(ids)
	if c.Discover != nil {
		jobs += c.Discover.MaxJobs
	}
	return cost{a, resource, c, policyOf(c), limitsOf(c, a.Timeout), found, jobs}
}

func (c cost) setting(name string) string { return c.account.Setting(c.resource + "." + name) }

// announce says in the log what print prints.
func (c cost) announce(es *events) {
	fields := []any{"jobs", c.jobs, "due_a_minute", rounded(c.due(time.Minute))}
	if c.limits.PerMinute > 0 {
		fields = append(fields, "budget", c.limits.PerMinute)
	}
	es.info("watching jobs", fields...)
	for _, text := range c.warnings() {
		es.warn(text, nil)
	}
}

func (c cost) print(w io.Writer) {
	if c.account.Name != "" {
		fmt.Fprintf(w, "account\t%s\n", c.account.Name)
	}
	fmt.Fprintf(w, "%s\t%d", strings.ReplaceAll(c.resource, "_", " "), c.jobs)
	if c.policy.discover {
		fmt.Fprintf(w, ", up to %d of them discovered", c.config.Discover.MaxJobs)
	}
	if len(c.config.IDFiles) > 0 {
		fmt.Fprintf(w, ", with those in %d job files", len(c.found.Files))
	}
	fmt.Fprint(w, "\nrequests a scrape\t")
	switch {
	case c.policy.list:
		fmt.Fprint(w, "1 for each page of the list, and 1 for each job that it lacks or tells no billed units of")
	case c.policy.discover:
		fmt.Fprintf(w, "%d for the jobs, and 1 a minute for the list", c.jobs)
	default:
		fmt.Fprint(w, c.jobs)
	}
	fmt.Fprint(w, "\n\nscrape interval\tdue a minute\tsent a minute\tonce all are settled\toldest values\n")
	for _, every := range scrapeIntervals {
		due := c.due(every)
		settled := c.policy.perMinute(c.jobs, max(c.policy.refresh, c.policy.settled), every)
		fmt.Fprintf(w, "%v\t%v\t%v\t%v\t%v\n", model.Duration(every), rounded(due), rounded(c.sent(due)),
			rounded(c.sent(settled)), model.Duration(c.oldest(every)))
	}
	for _, text := range c.warnings() {
		fmt.Fprintf(w, "warning: %s\n", text)
	}
}

// warnings say what will not work as one would wish.
func (c cost) warnings() (warnings []string) {
	warn := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	for _, file := range c.found.Files {
		if file.Err != nil {
			warn("job file %s is not used: %v", file.Path, file.Err)
		}
	}
	for _, pattern := range c.found.Patterns {
		switch {
		case pattern.Err != nil:
			warn("%s: the folder of %s cannot be read: %v", c.setting("id_files"), pattern.Path, pattern.Err)
		case pattern.IDs == 0:
			warn("%s: %s has no IDs; name files with an ID in each line", c.setting("id_files"), pattern.Path)
		}
	}

	var oldest time.Duration
	limits := keyLimits[c.resource]
	over := make([][]string, len(limits))
	for _, every := range scrapeIntervals {
		oldest = max(oldest, c.oldest(every))
		for i, limit := range limits {
			if c.limits.PerMinute == 0 && c.due(every) > limit.perMinute {
				over[i] = append(over[i], model.Duration(every).String())
				break
			}
		}
	}
	budget, refresh, staleness := c.setting("requests_per_minute"), c.setting("refresh_interval"), c.setting("max_staleness")
	if served := c.policy.refresh + c.policy.staleness; oldest > served {
		warn("values are served until they are %v old (%s and %s), so jobs will come and go: raise %s to %v, or %s",
			model.Duration(served), refresh, staleness, staleness, model.Duration(oldest-c.policy.refresh), budget)
	}
	for i, limit := range limits {
		if len(over[i]) > 0 {
			warn("scraped every %s this is more than the %v requests a minute that Cohere allows %s key: set %s, or raise %s",
				strings.Join(over[i], " or "), limit.perMinute, limit.key, budget, refresh)
		}
	}
	return warnings
}

func (c cost) due(every time.Duration) float64 {
	return c.policy.perMinute(c.jobs, c.policy.refresh, every)
}

// sent is what the budget leaves of a number of requests a minute.
func (c cost) sent(due float64) float64 {
	requests, window := c.limits.Budget()
	if requests == 0 {
		return due
	}
	return min(due, float64(requests)/window.Minutes())
}

// oldest is the age that values of active jobs reach within the budget.
func (c cost) oldest(every time.Duration) time.Duration {
	due := c.due(every)
	if c.sent(due) == due {
		return wait(c.policy.refresh, every) - every
	}
	jobs := c.jobs
	switch {
	case c.policy.list:
		jobs = 1
	case c.policy.discover:
		jobs++ // the list is asked for like one of them
	}
	requests, window := c.limits.Budget()
	return time.Duration(math.Ceil(float64(jobs)/float64(requests))) * window
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
	requests := float64(jobs) / wait(interval, every).Minutes()
	if p.discover { // the list, beside the jobs
		requests += 1 / wait(max(p.refresh, minDiscovery), every).Minutes()
	}
	return requests
}

func rounded(perMinute float64) float64 { return math.Round(perMinute*100) / 100 }
