package web_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/cohere-exporter/cohere_exporter/client"
	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
)

// ask answers a query of a page. It is of one line unless it is a 200.
func ask(t *testing.T, h http.Handler, path, query string) *httptest.ResponseRecorder {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), "GET", path, nil)
	req.URL.RawQuery = query
	req.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", "3")
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	line, ended := strings.CutSuffix(rec.Body.String(), "\n")
	switch {
	case rec.Code == 200:
	case rec.Code != 400:
		t.Fatalf("%q: status %d: %s", query, rec.Code, rec.Body)
	case line == "", !ended, !utf8.ValidString(line), strings.ContainsFunc(line, unicode.IsControl), rec.Header().Get("Content-Type") != "text/plain; charset=utf-8":
		t.Errorf("%q: %q", query, rec.Body)
	}
	return rec
}

var queries = []string{
	"", "unknown=1", "job_id=e-old", "batch_id=b-runs&account=search", "job_id=a%2Fb%3Fc", "job_id=a&job_id=b", "job_id=a&batch_id=b", "job_id=..",
	"job_id=http://169.254.169.254/x", "job_id=%ff", "job_id=%zz", "a;b", "account=other&job_id=a", "q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E&refresh=7",
	"status=failed&kind=batches&page=2", "refresh=99999999999999999999&page=-1", "page=2&q=ATA&account=%00%ff", "status='%20onclick=1&q=javascript:",
}

// Whatever is asked of the page of jobs, it is a page of the same elements, links
// lead to pages of the exporter, and the API is not asked.
func FuzzJobs(f *testing.F) {
	s := newSite(f, jobsOf)
	s.scrape()
	asked := len(s.api.Requests())
	known := map[string]bool{} // elements and their attributes
	for _, path := range []string{"/jobs", "/jobs?job_id=e-old&refresh=5", "/jobs?q=nobody"} {
		for _, element := range elementsOf(f, s.open(path).Body) {
			known[element.Name.Local] = true
			for _, a := range element.Attr {
				known[element.Name.Local+" "+a.Name.Local] = true
			}
		}
	}
	for _, query := range queries {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		rec := ask(t, s, "/jobs", query)
		values, err := url.ParseQuery(query)
		if (rec.Code == 400) != (err != nil) {
			t.Errorf("%q: status %d", query, rec.Code)
		}
		if len(s.api.Requests()) != asked {
			t.Errorf("%q asks the API", query)
		}
		if rec.Code == 400 {
			return
		}
		shown := strings.Map(func(r rune) rune {
			if unicode.IsControl(r) {
				return -1
			}
			return r
		}, values.Get("q"))
		for _, element := range elementsOf(t, rec.Body) {
			for _, a := range element.Attr {
				switch {
				case !known[element.Name.Local+" "+a.Name.Local]:
					t.Errorf("%q: <%s %s=%q>", query, element.Name.Local, a.Name.Local, a.Value)
				case a.Name.Local == "href":
					if link, err := url.Parse(a.Value); err != nil || link.Host != "" || !strings.HasPrefix(a.Value, "./") && !strings.HasPrefix(a.Value, "data:") {
						t.Errorf("%q: a link to %q", query, a.Value)
					}
				case a.Name.Local == "name" && a.Value == "q":
					if want := (xml.Attr{Name: xml.Name{Local: "value"}, Value: nonCharacters.Replace(shown)}); !slices.Contains(element.Attr, want) {
						t.Errorf("%q: shown as %v", query, element.Attr)
					}
				}
			}
			if !known[element.Name.Local] {
				t.Errorf("%q: <%s>", query, element.Name.Local)
			}
		}
	})
}

// nonCharacters are what XML lacks.
var nonCharacters = strings.NewReplacer("\uFFFE", "\uFFFD", "\uFFFF", "\uFFFD")

// elementsOf returns the elements of a page.
func elementsOf(t testing.TB, page *bytes.Buffer) (elements []xml.StartElement) {
	t.Helper()
	dec := xml.NewDecoder(strings.NewReader(nonCharacters.Replace(page.String())))
	dec.Strict, dec.AutoClose, dec.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return elements
		}
		if err != nil {
			t.Fatalf("not HTML: %v", err)
		}
		if element, ok := token.(xml.StartElement); ok {
			elements = append(elements, element.Copy())
		}
	}
}

// A probe asks the API for the job that was named and nothing else, or says
// what is wrong.
func FuzzProbe(f *testing.F) {
	s := newSite(f, func(u *cohertest.User, embedJobs, batches *config.Jobs) {
		jobsOf(u, embedJobs, batches)
		embedJobs.RequestsPerMinute, batches.RequestsPerMinute = 0, 0
	})
	for _, query := range queries {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		s.api.ResetRequests()
		rec := ask(t, s, "/probe", query)
		requests := s.api.Requests()
		if rec.Code == 400 {
			if len(requests) > 0 {
				t.Errorf("%q: refused, and asked for %+v", query, requests)
			}
			return
		}
		values, err := url.ParseQuery(query)
		label, resource, path := model.LabelName("job_id"), "embed_jobs", "/v1/embed-jobs/"
		if values.Has("batch_id") {
			label, resource, path = "batch_id", "batches", "/v2/batches/"
		}
		id := values.Get(string(label))
		if account := values.Get("account"); err != nil || len(values["job_id"])+len(values["batch_id"]) != 1 || client.CheckID(id) != nil || account != "" && account != "search" {
			t.Fatalf("%q: status 200", query)
		}
		for _, r := range requests {
			if r.Resource != resource || r.ID != id || r.Path != path+url.PathEscape(id) || r.Query != "" || len(requests) > 1 {
				t.Errorf("%q: asked for %+v", query, r)
			}
		}
		parser := expfmt.NewTextParser(model.UTF8Validation)
		families, err := parser.TextToMetricFamilies(rec.Body)
		if err != nil || len(families) < 2 || families["cohere_up"] == nil {
			t.Fatalf("%q: %v, %v", query, families, err)
		}
		for name, family := range families {
			for _, m := range family.Metric {
				for _, l := range m.Label {
					if l.GetName() == string(label) && l.GetValue() != id || l.GetName() == "account" && l.GetValue() != "search" {
						t.Errorf("%q: %s %v", query, name, m)
					}
				}
			}
		}
	})
}
