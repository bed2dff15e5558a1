package web

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cohere-exporter/cohere_exporter/client"
	"github.com/cohere-exporter/cohere_exporter/collector"
)

const (
	jobsPerPage = 200
	maxCell     = 100  // characters of a text in the table
	maxText     = 1000 // and where a job is opened
	manyCards   = 8    // more of them are folded

	minRefresh, maxRefresh = 5, 3600 // seconds
)

// state is what matters most of a job, the most urgent first.
type state int

const (
	failed state = iota
	unfetched
	running
	waiting
	done
	stateNumber
)

// states are how pages speak of states, and filters name them.
var states = [stateNumber]struct{ words, class, mark, filter string }{
	failed:    {"failed", "bad", "✕", "failed"},
	unfetched: {"cannot be fetched", "warn", "!", "cannot_be_fetched"},
	running:   {"running", "run", "▸", "running"},
	waiting:   {"not asked for yet", "off", "…", "waiting"},
	done:      {"done", "good", "✓", "done"},
}

// failedStatus is what every kind calls it.
const failedStatus = "failed"

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
	case j.Status == failedStatus:
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

// filterParameters are the names of query parameters that choose jobs.
var filterParameters = []string{"account", "kind", "status", "q", "job_id", "batch_id"}

func newFilter(q url.Values) filter {
	f := filter{account: q.Get("account"), kind: q.Get("kind"), status: q.Get("status"), text: strings.ToLower(strings.TrimSpace(q.Get("q")))}
	for _, id := range []string{"job_id", "batch_id"} {
		if f.value == "" {
			f.id, f.value = id, q.Get(id)
		}
	}
	return f
}

func (f filter) admitsResource(account, kind string) bool {
	return (f.account == "" || f.account == account) && (f.kind == "" || f.kind == kind)
}

func (f filter) admits(r *row) bool {
	return f.admitsResource(r.account, r.resource.Name) &&
		(f.status == "" || f.status == states[r.state].filter || f.status == r.Status) &&
		(f.value == "" || f.id == r.resource.ID && f.value == r.ID) &&
		(f.text == "" || strings.Contains(strings.ToLower(r.ID), f.text) || strings.Contains(strings.ToLower(r.Name), f.text))
}

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

	resourceCard struct {
		Account, Kind                   string
		Bad                             bool
		Health, HealthClass, HealthMark string
		Troubles                        []string
		Requests, Gate, Ages            string
		Bar                             []segment
	}
	// segment is a part of a bar, in hundredths of it.
	segment struct {
		Class    string
		X, Width string
	}

	jobRow struct {
		Class, Mark, Status, Was string
		Account, Kind, Name, ID  string
		Model, In, Out           string
		Running                  bool
		Created, Fetched         *moment
		Old, Open                bool
		Records                  *recordsCell
		Troubles                 []trouble
		Details                  []detail
	}
	recordsCell struct {
		Successful, Rest string
		Bar              []segment
	}
	trouble struct{ Class, What, Do string }
	detail  struct {
		Name, Text string
		Time       *moment
		Wide       bool
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

// addCards adds what is known of accounts and kinds. Where there are many, those
// that are well are folded.
func (p *jobsPage) addCards(view *collector.Overview, f filter) {
	for _, a := range view.Accounts {
		for i := range a.Resources {
			if r := &a.Resources[i]; f.admitsResource(a.Name, r.Name) {
				p.Cards = append(p.Cards, newResourceCard(a.Name, r, view.Taken))
			}
		}
	}
	if len(p.Cards) <= manyCards {
		return
	}
	all := p.Cards
	p.Cards = nil
	for _, c := range all {
		if c.Bad {
			p.Cards = append(p.Cards, c)
		} else {
			p.Folded = append(p.Folded, c)
		}
	}
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
	for _, reason := range sortedKeys(errors) {
		c.Troubles = append(c.Troubles, fmt.Sprintf("%s: %s", count(errors[reason], "job", "jobs"), adviceOn(reason).What))
	}
	if r.ListError != "" {
		c.Troubles = append(c.Troubles, "The list of jobs: "+adviceOn(r.ListError).What)
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

func sortedKeys(errors map[client.Reason]int) []client.Reason {
	var keys []client.Reason
	for reason := range errors {
		keys = append(keys, reason)
	}
	slices.SortFunc(keys, func(a, b client.Reason) int {
		return cmp.Or(cmp.Compare(errors[b], errors[a]), cmp.Compare(a, b))
	})
	return keys
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
		if p.value <= 0 || whole <= 0 || x >= 100 {
			continue
		}
		width := min(100-x, max(1, 100*p.value/whole)) // some is never nothing
		segments = append(segments, segment{p.class, hundredths(x), hundredths(width)})
		x += width
	}
	return segments
}

func hundredths(x float64) string { return strconv.FormatFloat(x, 'f', 2, 64) }

func newJobRow(r *row, now time.Time) jobRow {
	d := r.Describe()
	s := states[r.state]
	v := jobRow{
		Class: s.class, Mark: s.mark, Status: spaced(r.Status),
		Account: short(r.account, maxCell), Kind: singular(r.resource.Name),
		Name: short(cmp.Or(r.Name, r.ID), maxCell), ID: short(r.ID, maxText),
		Model: short(d.Model, maxCell), In: optional(d.InputTokens), Out: optional(d.OutputTokens),
		Running: r.Status != "" && !r.Settled && !r.Created.IsZero(),
		Old:     r.Stale,
	}
	if r.Probed {
		v.Kind += ", probed"
	}
	switch {
	case r.state == unfetched:
		v.Was, v.Status = v.Status, s.words
	case r.state == waiting:
		v.Status = s.words
	case r.state == done && strings.HasPrefix(r.Status, "cancel"):
		v.Class, v.Mark = "off", "–"
	}
	if !r.Created.IsZero() {
		v.Created = ago(r.Created, now)
		if v.Running {
			v.Created = newMoment(r.Created, duration(now.Sub(r.Created)))
		}
	}
	if !r.Fetched.IsZero() {
		v.Fetched = ago(r.Fetched, now)
	}
	v.Records = newRecordsCell(d.Records, r.Settled)
	v.addTroubles(r, &d)
	v.addDetails(r, &d, now)
	return v
}

// singular is the name of one of a kind.
func singular(resource string) string {
	if one, ok := strings.CutSuffix(resource, "ches"); ok {
		return one + "ch"
	}
	return spaced(strings.TrimSuffix(resource, "s"))
}

func newRecordsCell(r *collector.Records, settled bool) *recordsCell {
	if r == nil || !r.All.Valid || r.All.Value <= 0 {
		return nil
	}
	successful, failed := part{"good", r.Successful.Value}, part{"bad", r.Failed.Value}
	rest, what := part{"", r.All.Value - successful.value - failed.value}, " to come"
	if settled {
		rest.class, what = "warn", " missing"
	}
	cell := &recordsCell{Successful: number(successful.value) + " of " + number(r.All.Value) + " successful"}
	var others []string
	if failed.value > 0 {
		others = append(others, number(failed.value)+" failed")
	}
	if rest.value > 0 {
		others = append(others, number(rest.value)+what)
	}
	cell.Rest = strings.Join(others, ", ")
	if !settled {
		rest.value = 0 // the empty part of the bar
	}
	cell.Bar = bar(r.All.Value, successful, failed, rest)
	return cell
}

// addTroubles says what is wrong, and what to do.
func (v *jobRow) addTroubles(r *row, d *collector.Description) {
	if r.Status == failedStatus {
		t := trouble{"bad", "The job failed.", d.IfFailed}
		if d.Reason != "" {
			t.What = "The job failed, says the API:"
			t.Do = short(d.Reason, maxText)
		}
		v.Troubles = append(v.Troubles, t)
	} else if d.Reason != "" {
		v.Troubles = append(v.Troubles, trouble{"", "The API says:", short(d.Reason, maxText)})
	}
	if r.Error != "" {
		a := adviceOn(r.Error)
		v.Troubles = append(v.Troubles, trouble{"warn", a.What, a.Do})
	}
}

// addDetails says everything that is known.
func (v *jobRow) addDetails(r *row, d *collector.Description, now time.Time) {
	text := func(name, value string) {
		if value != "" {
			v.Details = append(v.Details, detail{Name: name, Text: short(value, maxText), Wide: len(value) > 60})
		}
	}
	at := func(name string, t time.Time) {
		if !t.IsZero() {
			m := ago(t, now)
			v.Details = append(v.Details, detail{Name: name, Time: newMoment(t, m.Full+", "+m.Words)})
		}
	}
	text("Name", r.Name)
	text("Status", spaced(r.Status))
	at("Status changed, as seen here", r.Changed)
	at("Created", r.Created)
	at("Values fetched", r.Fetched)
	for _, m := range d.More {
		switch value := m.Value.(type) {
		case string:
			text(m.Name, value)
		case float64:
			text(m.Name, number(value))
		case time.Time:
			at(m.Name, value)
		}
	}
	if v.Records != nil {
		text("Records", strings.TrimSuffix(v.Records.Successful+", "+v.Records.Rest, ", "))
	}
	for _, warning := range d.Warnings {
		v.Details = append(v.Details, detail{Name: "Warning", Text: short(warning, maxText), Wide: true})
	}
	if len(v.Details) == 0 {
		text("Known", "nothing yet")
	}
}
