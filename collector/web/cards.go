package web

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cohere-exporter/cohere_exporter/client"
	"github.com/cohere-exporter/cohere_exporter/collector"
)

// Where there are more than manyCards, those that are well are folded.
const manyCards = 8

type (
	resourceCard struct {
		Account, Kind                   string
		Bad                             bool
		Health, HealthClass, HealthMark string
		Troubles                        []string
		Requests, Gate, Ages            string
		Bar                             []segment
	}
	// segment is a part of a bar, in hundredths of it.
	segment struct{ Class, X, Width string }
)

// addCards adds what is known of accounts and kinds.
func (p *jobsPage) addCards(view *collector.Overview, f filter) {
	for _, a := range view.Accounts {
		for i := range a.Resources {
			if r := &a.Resources[i]; f.admitsResource(a.Name, r) {
				p.Cards = append(p.Cards, newResourceCard(a.Name, r, view.Taken))
			}
		}
	}
	if len(p.Cards) <= manyCards {
		return
	}
	p.Folded = slices.DeleteFunc(slices.Clone(p.Cards), func(c resourceCard) bool { return c.Bad })
	p.Cards = slices.DeleteFunc(p.Cards, func(c resourceCard) bool { return !c.Bad })
	p.FoldedWords = number(float64(len(p.Folded))) + " without trouble"
}

func newResourceCard(account string, r *collector.ResourceOverview, now time.Time) resourceCard {
	c := resourceCard{Account: short(account, maxCell), Kind: spaced(r.Name), HealthClass: "good", HealthMark: "✓"}
	errors := map[client.Reason]int{}
	down := 0
	for i := range r.Jobs {
		if reason := r.Jobs[i].Error; reason != "" {
			errors[reason]++
			down++
		}
	}
	mostFirst := func(a, b client.Reason) int { return cmp.Or(cmp.Compare(errors[b], errors[a]), cmp.Compare(a, b)) }
	for _, reason := range slices.SortedFunc(maps.Keys(errors), mostFirst) {
		c.Troubles = append(c.Troubles, fmt.Sprintf("%s: %s", count(errors[reason], "job", "jobs"), adviceOn(reason).What))
	}
	if r.ListError != "" {
		a := adviceOn(r.ListError)
		c.Troubles = append(c.Troubles, fmt.Sprintf("The list of jobs: %s %s", a.What, a.Do))
	}
	for _, path := range r.FileError {
		c.Troubles = append(c.Troubles, "Job file "+short(path, maxCell)+" is not in use as it is now; the log has the error.")
	}
	if r.Dropped > 0 {
		c.Troubles = append(c.Troubles, count(r.Dropped, "more job is", "more jobs are")+" found by discovery and left out: raise max_jobs.")
	}
	c.Bad = down > 0 || r.ListError != "" || len(r.FileError) > 0
	switch {
	case down > 0:
		c.Health = fmt.Sprintf("%d of %s cannot be fetched", down, count(len(r.Jobs), "job", "jobs"))
	case r.ListError != "":
		c.Health = "the list cannot be fetched"
	case r.Scraped.IsZero():
		c.Health, c.HealthClass, c.HealthMark = count(len(r.Jobs), "job", "jobs")+", not fetched yet", "off", "…"
	case len(r.Jobs) == 0:
		c.Health, c.HealthClass, c.HealthMark = "no jobs", "off", "–"
	default:
		c.Health = count(len(r.Jobs), "job", "jobs") + ", all fetched"
	}
	if c.Bad {
		c.HealthClass, c.HealthMark = "bad", "✕"
	}
	c.addRequests(r, now)
	c.Ages = ages(r.Jobs, now)
	return c
}

func (c *resourceCard) addRequests(r *collector.ResourceOverview, now time.Time) {
	requests := &r.Requests
	within := "the last minute"
	if requests.Window != time.Minute {
		within = "the last " + duration(requests.Window)
	}
	if requests.Budget == 0 {
		c.Requests = count(requests.Used, "request", "requests") + " in " + within + ", without a budget"
	} else {
		c.Requests = fmt.Sprintf("%d of %s in %s", requests.Used, count(requests.Budget, "request", "requests"), within)
		class := ""
		if requests.Used >= requests.Budget {
			class = "warn"
		}
		c.Bar = bar(float64(requests.Budget), part{class, float64(requests.Used)})
	}
	switch wait := requests.Opens.Sub(now); {
	case wait > 0:
		c.Gate = "The API refused requests; asks again in " + duration(wait+time.Second-1)
	case requests.Refused:
		c.Gate = "The API refused requests; the next scrape sends one to see"
	}
}

// ages says how old values are.
func ages(jobs []collector.JobOverview, now time.Time) string {
	var newest, oldest time.Time
	for i := range jobs {
		j := &jobs[i]
		if j.Fetched.IsZero() {
			continue
		}
		if j.Fetched.After(newest) {
			newest = j.Fetched
		}
		if !j.Settled && (oldest.IsZero() || j.Fetched.Before(oldest)) {
			oldest = j.Fetched
		}
	}
	switch {
	case newest.IsZero():
		return "No values yet"
	case oldest.IsZero():
		return "Newest values " + duration(now.Sub(newest)) + " old"
	}
	return "Newest values " + duration(now.Sub(newest)) + " old, oldest running " + duration(now.Sub(oldest))
}

// part is what a segment stands for.
type part struct {
	class string
	value float64
}

// bar draws parts of a whole.
func bar(whole float64, parts ...part) (segments []segment) {
	x := 0.0
	for _, p := range parts {
		if p.value <= 0 || x >= 100 {
			continue
		}
		width := min(100-x, max(1, 100*p.value/whole)) // some is never nothing
		segments = append(segments, segment{p.class, fmt.Sprintf("%.2f", x), fmt.Sprintf("%.2f", width)})
		x += width
	}
	return segments
}
