package web

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/cohere-exporter/cohere_exporter/collector"
)

const (
	jobsPerPage = 200
	maxCell     = 100  // characters of a text in the table
	maxText     = 1000 // and where a job is opened

	minRefresh, maxRefresh = 5, 3600 // seconds
)

type (
	jobsPage struct {
		page
		Cards       []resourceCard
		Folded      []resourceCard // those that are well, where there are many
		FoldedWords string
		Refresh     string // seconds; "": not by itself
		RefreshLink string

		Watched   int
		Discovers bool
		Filtered  bool
		JobsFirst bool // some are asked for, whatever their account
		One       bool // a job is asked for by its ID
		Query     string
		Selects   []selection

		Caption        string
		Records        bool // some job has them
		Rows           []jobRow
		Page, Pages    int
		Previous, Next string
	}
	selection struct {
		Label, Name, Chosen string
		Options             []option
	}
	option struct{ Value, Words string }
)

// jobs is the page of jobs.
func (o Options) jobs(w http.ResponseWriter, r *http.Request) {
	p := o.jobsPage(o.Set.Overview(), r.URL.Query())
	if p.Refresh != "" {
		w.Header().Set("Refresh", p.Refresh)
	}
	render(w, "jobs.html", p)
}

func (o Options) jobsPage(view *collector.Overview, query url.Values) *jobsPage {
	all, f := rows(view), newFilter(query)
	here, refresh := chosen(query), refreshing(query)
	p := &jobsPage{
		page: o.newPage(jobsPath, view, all, refresh), Refresh: refresh.Get("refresh"),
		Watched: len(all), Filtered: len(here) > 0, One: f.value != "", Query: fieldText(query.Get("q")),
		JobsFirst: f.value != "" || f.status != "" || f.text != "",
	}
	p.addCards(view, f)
	p.addForm(view, query)

	shown := slices.DeleteFunc(all, func(r *row) bool { return !f.admits(r) })
	slices.SortFunc(shown, (*row).compare)
	p.Caption = count(len(shown), "job", "jobs")
	if len(shown) < p.Watched {
		p.Caption = number(float64(len(shown))) + " of " + count(p.Watched, "job", "jobs")
	}
	p.Pages = max(1, (len(shown)+jobsPerPage-1)/jobsPerPage)
	p.Page, _ = strconv.Atoi(query.Get("page"))
	p.Page = min(max(1, p.Page), p.Pages)
	first := (p.Page - 1) * jobsPerPage
	shown = shown[first:min(first+jobsPerPage, len(shown))]
	if p.Pages > 1 {
		p.Caption += fmt.Sprintf(", %d to %d", first+1, first+len(shown))
	}
	toPage := func(n int) url.Values { return url.Values{"page": {strconv.Itoa(n)}} }
	if p.Page < p.Pages {
		p.Next = jobsLink(here, refresh, toPage(p.Page+1))
	}
	if p.Page > 1 {
		p.Previous = jobsLink(here, refresh, toPage(p.Page-1))
		maps.Copy(here, toPage(p.Page))
	}
	p.RefreshLink = jobsLink(here)
	if p.Refresh == "" {
		p.RefreshLink = jobsLink(here, url.Values{"refresh": {"30"}})
	}

	for _, r := range shown {
		row := newJobRow(r, view.Taken)
		row.Link = jobsLink(r.query(), refresh)
		p.Records = p.Records || row.Records != nil
		p.Rows = append(p.Rows, row)
	}
	if p.One && len(p.Rows) == 1 {
		p.Title = p.Rows[0].Status + ": " + p.Rows[0].Name + " – cohere_exporter"
	}
	return p
}

// fieldText is a text as a page's field can hold it: control characters are left
// out, and U+FFFD stands for what is not UTF-8.
func fieldText(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, s)
}

// refreshing is the part of a query that has the page refresh itself.
func refreshing(query url.Values) url.Values {
	seconds, err := strconv.Atoi(query.Get("refresh"))
	if err != nil || seconds <= 0 {
		return nil
	}
	return url.Values{"refresh": {strconv.Itoa(min(max(seconds, minRefresh), maxRefresh))}}
}

// jobsLink is the address of the page with a query of these parts.
func jobsLink(parts ...url.Values) string {
	query := url.Values{}
	for _, part := range parts {
		maps.Copy(query, part)
	}
	if len(query) == 0 {
		return "./jobs"
	}
	return "./jobs?" + query.Encode()
}

// addForm adds what chooses the jobs.
func (p *jobsPage) addForm(view *collector.Overview, query url.Values) {
	account, kind, status := selection{Label: "Account", Name: "account"}, selection{Label: "Kind", Name: "kind"}, selection{Label: "Status", Name: "status"}
	for _, s := range states {
		status.add(s.filter, s.words)
	}
	for _, a := range view.Accounts {
		account.add(a.Name, a.Name)
		for _, r := range a.Resources {
			kind.add(r.Name, spaced(r.Name))
			for _, s := range r.Statuses {
				status.add(s, spaced(s))
			}
			p.Discovers = p.Discovers || r.Discovers
		}
	}
	for _, s := range []selection{account, kind, status} {
		if len(s.Options) > 1 {
			s.Chosen = query.Get(s.Name)
			p.Selects = append(p.Selects, s)
		}
	}
}

func (s *selection) add(value, words string) {
	if !slices.ContainsFunc(s.Options, func(o option) bool { return o.Value == value }) {
		s.Options = append(s.Options, option{value, words})
	}
}
