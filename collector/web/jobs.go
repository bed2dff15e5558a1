package web

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

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
		Refresh     int // seconds; 0: not by itself
		RefreshLink string

		Watched   int
		Discovers bool
		Query     string
		Selects   []selection
		Hidden    []parameter
		ClearLink string // "": nothing is filtered

		Caption        string
		Records        bool // some job has them
		Below          int  // columns below which a job opens: all but the status
		Rows           []jobRow
		Page, Pages    int
		Previous, Next string
	}
	parameter struct{ Name, Value string }
	selection struct {
		Label, Name string
		Options     []option
	}
	option struct {
		Value, Words string
		Selected     bool
	}
)

// jobs is the page of jobs.
func (o Options) jobs() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		p := o.jobsPage(o.Set.Overview(), query)
		if p.Refresh > 0 {
			w.Header().Set("Refresh", strconv.Itoa(p.Refresh))
		}
		render(w, "jobs.html", p)
	})
}

func (o Options) jobsPage(view *collector.Overview, query url.Values) *jobsPage {
	all, f := rows(view), newFilter(query)
	p := &jobsPage{page: o.newPage(jobsPath, view, all), Watched: len(all), Query: query.Get("q")}
	p.addCards(view, f)
	p.addForm(view, query)

	shown := slices.DeleteFunc(all, func(r *row) bool { return !f.admits(r) })
	slices.SortFunc(shown, (*row).compare)
	p.Pages = max(1, (len(shown)+jobsPerPage-1)/jobsPerPage)
	p.Page, _ = strconv.Atoi(query.Get("page"))
	p.Page = min(max(1, p.Page), p.Pages)
	if p.Page > 1 {
		p.Previous = linkWith(query, "page", strconv.Itoa(p.Page-1))
	}
	if p.Page < p.Pages {
		p.Next = linkWith(query, "page", strconv.Itoa(p.Page+1))
	}
	p.Caption = count(len(shown), "job", "jobs")
	if len(shown) < p.Watched {
		p.Caption = number(float64(len(shown))) + " of " + count(p.Watched, "job", "jobs")
	}
	first := (p.Page - 1) * jobsPerPage
	shown = shown[first:min(first+jobsPerPage, len(shown))]
	if p.Pages > 1 {
		p.Caption += fmt.Sprintf(", %d to %d", first+1, first+len(shown))
	}
	for _, r := range shown {
		row := newJobRow(r, view.Taken)
		row.Open = f.value != ""
		p.Records = p.Records || row.Records != nil
		p.Rows = append(p.Rows, row)
	}
	p.Below = 6
	if p.Records {
		p.Below++
	}
	return p
}

// linkWith links to the same page with another value of a parameter; "" is none.
func linkWith(query url.Values, name, value string) string {
	next := url.Values{}
	for key, values := range query {
		if slices.Contains(filterParameters, key) || key == "page" || key == "refresh" {
			next[key] = values[:1]
		}
	}
	next.Set(name, value)
	if value == "" {
		next.Del(name)
	}
	if len(next) == 0 {
		return "./jobs"
	}
	return "./jobs?" + next.Encode()
}

// addForm adds what chooses the jobs, and whether the page refreshes itself.
func (p *jobsPage) addForm(view *collector.Overview, query url.Values) {
	refresh, err := strconv.Atoi(query.Get("refresh"))
	if err == nil && refresh > 0 {
		p.Refresh = min(max(refresh, minRefresh), maxRefresh)
		p.RefreshLink = linkWith(query, "refresh", "")
		p.Hidden = append(p.Hidden, parameter{"refresh", strconv.Itoa(p.Refresh)})
	} else {
		p.RefreshLink = linkWith(query, "refresh", "30")
	}
	for _, name := range filterParameters {
		if query.Get(name) != "" {
			p.ClearLink = "./jobs"
			if p.Refresh > 0 {
				p.ClearLink += "?refresh=" + strconv.Itoa(p.Refresh)
			}
		}
	}

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
			s.selected(query.Get(s.Name))
			p.Selects = append(p.Selects, s)
		}
	}
}

func (s *selection) add(value, words string) {
	if !slices.ContainsFunc(s.Options, func(o option) bool { return o.Value == value }) {
		s.Options = append(s.Options, option{Value: value, Words: words})
	}
}

// selected adds the option that chooses nothing, and marks the one that is
// chosen.
func (s *selection) selected(value string) {
	s.Options = slices.Insert(s.Options, 0, option{Words: "all"})
	for i := range s.Options {
		s.Options[i].Selected = s.Options[i].Value == value
	}
}
