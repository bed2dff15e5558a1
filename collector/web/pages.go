package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"net/url"
	"time"

	"github.com/prometheus/common/version"

	"github.com/cohere-exporter/cohere_exporter/collector"
)

// quietAfter is how long nobody may scrape before pages say so: after that
// Prometheus no longer shows the values either.
const quietAfter = 5 * time.Minute

var (
	//go:embed pages
	pageFiles embed.FS

	//go:embed pages/style.css
	style string

	templates = template.Must(template.New("").
			Funcs(template.FuncMap{"style": func() template.CSS { return template.CSS(style) }}). //nolint:gosec // ours, not input
			ParseFS(pageFiles, "pages/*.html"))

	// contentSecurityPolicy lets a page have its one style sheet, and send its
	// form to itself.
	contentSecurityPolicy = "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(styleSum[:]) + "'; " +
		"img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
	styleSum = sha256.Sum256([]byte(style))
)

// setSecurityHeaders sets what the web configuration file has not set.
func setSecurityHeaders(h http.Header) {
	for name, value := range map[string]string{
		"Content-Security-Policy": contentSecurityPolicy,
		"Referrer-Policy":         "no-referrer",
		"X-Content-Type-Options":  "nosniff",
	} {
		if h.Get(name) == "" {
			h.Set(name, value)
		}
	}
}

// page is what all pages show.
type page struct {
	Path        string
	Title       string
	Jobs        string // link to their page
	MetricsPath string
	Taken       *moment
	State       []stateCount
	Quiet       string // says since when nobody scrapes
}

// stateCount is how many jobs are in a state.
type stateCount struct{ Words, Class, Link string }

// newPage returns what all pages show of what is known. Links to jobs keep these
// parameters.
func (o Options) newPage(path string, view *collector.Overview, jobs []*row, keep url.Values) page {
	p := page{
		Path:        path,
		Jobs:        jobsLink(keep),
		MetricsPath: o.MetricsPath,
		Taken:       newMoment(view.Taken, view.Taken.UTC().Format("15:04:05 UTC")),
		Quiet:       quiet(view),
	}
	var in [len(states)]int
	for _, j := range jobs {
		in[j.state]++
	}
	for s, n := range in {
		if n > 0 {
			p.State = append(p.State, stateCount{number(float64(n)) + " " + states[s].words, states[s].class, jobsLink(url.Values{"status": {states[s].filter}}, keep)})
		}
	}
	p.Title = "cohere_exporter"
	if len(p.State) > 0 {
		p.Title = p.State[0].Words + " – " + p.Title
	}
	return p
}

// quiet says since when nobody scrapes, if so.
func quiet(view *collector.Overview) string {
	var last time.Time
	for _, a := range view.Accounts {
		for _, r := range a.Resources {
			if r.Scraped.After(last) {
				last = r.Scraped
			}
		}
	}
	switch age := view.Taken.Sub(last); {
	case last.IsZero():
		return "Nobody has scraped since the start."
	case age >= quietAfter:
		return "Nobody has scraped for " + duration(age) + ": values are that old, or older."
	}
	return ""
}

// render writes a page as a whole, or an error.
func render(w http.ResponseWriter, name string, data any) {
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name, data); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(b.Bytes()) // an answer knows of its client's failures itself
}

// landing is the page of all pages.
func (o Options) landing(w http.ResponseWriter, _ *http.Request) {
	view := o.Set.Overview()
	render(w, "landing.html", struct {
		page
		Version string
	}{o.newPage(landingPath, view, rows(view), nil), version.Version + ", revision " + version.GetRevision()})
}
