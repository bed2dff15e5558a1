package web_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	promconfig "github.com/prometheus/common/config"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
	"github.com/cohere-exporter/cohere_exporter/collector"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
	"github.com/cohere-exporter/cohere_exporter/collector/web"
)

// site is an exporter of one account with both kinds of jobs, and the API that
// it asks. It lives in a bubble of fake time.
type site struct {
	http.Handler
	t    testing.TB
	api  *cohertest.API
	user *cohertest.User
}

// newSite watches the jobs that change names.
func newSite(t testing.TB, change func(u *cohertest.User, embedJobs, batches *config.Jobs)) *site {
	t.Helper()
	s := &site{t: t, api: cohertest.New()}
	s.user = s.api.AddUser("key")
	server := s.api.StartInMemory()
	t.Cleanup(server.Close)
	embedJobs, batches, account := config.DefaultJobs(), config.DefaultJobs(), config.Default()
	account.Name, account.BaseURL = "search", server.URL
	account.EmbedJobs, account.Batches = &embedJobs, &batches
	account.HTTPClientConfig.Authorization = &promconfig.Authorization{Credentials: "key"}
	change(s.user, &embedJobs, &batches)
	own := prometheus.NewRegistry()
	set, err := collector.New(&config.Config{Accounts: []config.Account{account}, FromFile: true},
		collector.Options{Registerer: own, DialContext: server.DialContext})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set.Close)
	s.Handler, err = web.NewHandler(web.Options{
		Set: set, Own: own, MetricsPath: "/metrics", TimeoutOffset: 500 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) scrape() {
	s.t.Helper()
	expect(s.t, serve(s.t, s, "GET", "/metrics"), 200)
}

// open opens a page, which must not ask the API anything.
func (s *site) open(path string) *httptest.ResponseRecorder {
	s.t.Helper()
	before := len(s.api.Requests())
	rec := serve(s.t, s, "GET", path)
	if rec.Code != 200 {
		s.t.Fatalf("%s: status %d: %s", path, rec.Code, rec.Body)
	}
	if n := len(s.api.Requests()) - before; n != 0 {
		s.t.Errorf("%s costs %d requests", path, n)
	}
	return rec
}

// text is what people read of a page: a line for each block.
func (s *site) text(path string) string {
	s.t.Helper()
	return textOf(s.open(path).Body.String())
}

func textOf(page string) string {
	for _, r := range []struct{ pattern, with string }{
		{`(?s)<head>.*?</head>`, ""},
		{`\n`, ""},
		{`(?s)<(form|svg).*?</(form|svg)>`, ""},
		{`</?(h1|h2|h3|p|li|ul|header|main|section|footer|caption|tbody|table|div|nav|tr|details|summary|dl)\b[^>]*>`, "\n"},
		{`</(td|th)>`, " | "},
		{`</dt>`, ": "},
		{`</?small>`, " / "},
		{`<[^>]*>`, ""},
		{`[ /|]+\n`, "\n"},
		{` +`, " "},
		{`\n[ \n]*`, "\n"},
	} {
		page = regexp.MustCompile(r.pattern).ReplaceAllString(page, r.with)
	}
	return strings.TrimSpace(html.UnescapeString(page))
}

// section is the part of a text from a line up to another.
func section(t *testing.T, text, from, to string) string {
	t.Helper()
	_, after, ok := strings.Cut(text+"\n", "\n"+from+"\n")
	part, _, ended := strings.Cut(after, "\n"+to)
	if !ok || !ended {
		t.Fatalf("there is no part from %q to %q in\n%s", from, to, text)
	}
	return strings.TrimSpace(part)
}

func same(t *testing.T, got, want string) {
	t.Helper()
	if got, want := strings.TrimSpace(got), strings.TrimSpace(want); got != want {
		t.Errorf("got\n%s\n\nwant\n%s", got, want)
	}
}

// jobsOf has every state.
func jobsOf(u *cohertest.User, embedJobs, batches *config.Jobs) {
	at := time.Now()
	u.Add(
		cohertest.Job{ID: "e-done", Name: "reviews", Status: "complete", CreatedAt: at.Add(-50 * time.Hour), InputTokens: 4871290, OutputDatasetID: "ds-out", Warnings: []string{"17 records were cut"}},
		cohertest.Job{ID: "e-new", Name: "tickets", CreatedAt: at.Add(-25 * time.Minute), InputTokens: 611},
		cohertest.Job{ID: "e-old", Name: "catalogue", CreatedAt: at.Add(-125 * time.Minute), InputTokens: 2.5, Model: "embed-v4.0"},
		cohertest.Job{ID: "e-failed", Name: "contracts", Status: "failed", CreatedAt: at.Add(-3 * time.Hour)},
		cohertest.Job{ID: "e-cancelled", Name: "crawl", Status: "cancelled", CreatedAt: at.Add(-4 * time.Hour)},
		cohertest.Job{ID: "e-broken", Name: "wiki", CreatedAt: at.Add(-time.Minute)},
	)
	embedJobs.IDs = []string{"e-new", "e-old", "e-done", "e-failed", "e-cancelled", "e-gone", "e-broken"}
	u.AddBatches(
		cohertest.Batch{ID: "b-failed", Name: "invoices", Status: "BATCH_STATUS_FAILED", CreatedAt: at.Add(-time.Hour), Model: "command-a", StatusReason: "record 7 is too long", InputTokens: 12, OutputTokens: 3, Records: 100, SuccessfulRecords: 6, FailedRecords: 1},
		cohertest.Batch{ID: "b-runs", Name: "summaries", Status: "BATCH_STATUS_IN_PROGRESS", CreatedAt: at.Add(-90 * time.Second), Model: "command-a", Records: 650, SuccessfulRecords: 65},
	)
	batches.IDs = []string{"b-failed", "b-runs"}
}

func TestJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, jobsOf)
		s.scrape()
		s.user.Fail("e-broken", cohertest.Status(503, "down"))
		s.user.Update("e-new", func(j *cohertest.Job) { j.Status = "complete" })
		time.Sleep(time.Minute)
		s.scrape()
		time.Sleep(10 * time.Second)
		want, err := os.ReadFile("testdata/jobs.txt")
		if err != nil {
			t.Fatal(err)
		}
		same(t, s.text("/jobs"), string(want))
	})
}

// names are the jobs that a page shows, in its order.
func (s *site) names(path string) string {
	s.t.Helper()
	var names []string
	for _, m := range regexp.MustCompile(`(?s)<th role="rowheader" scope="row"><bdi>(.*?)</bdi>`).FindAllStringSubmatch(s.open(path).Body.String(), -1) {
		names = append(names, html.UnescapeString(m[1]))
	}
	return strings.Join(names, " ")
}

func TestJobFilters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, jobsOf)
		s.user.Fail("e-broken", cohertest.Status(503, "down"))
		s.scrape()
		for query, want := range map[string]string{
			"":                              "invoices contracts e-broken e-gone summaries tickets catalogue crawl reviews",
			"?unknown=1&page=-3&refresh=no": "invoices contracts e-broken e-gone summaries tickets catalogue crawl reviews",
			"?account=search&page=7":        "invoices contracts e-broken e-gone summaries tickets catalogue crawl reviews",
			"?account=other":                "",
			"?kind=batches":                 "invoices summaries",
			"?kind=embed_jobs&status=done":  "crawl reviews",
			"?status=failed":                "invoices contracts",
			"?status=cannot_be_fetched":     "e-broken e-gone",
			"?status=running":               "summaries tickets catalogue",
			"?status=processing":            "tickets catalogue",
			"?status=in_progress":           "summaries",
			"?q=ATA":                        "catalogue",
			"?q=e-c":                        "crawl",
			"?job_id=e-old":                 "catalogue",
			"?batch_id=b-runs":              "summaries",
			"?batch_id=e-old":               "",
			"?job_id=nobodys":               "",
		} {
			if got := s.names("/jobs" + query); got != want {
				t.Errorf("%s shows %q, not %q", query, got, want)
			}
			if text := s.text("/jobs" + query); (want == "") != regexp.MustCompile("No job (matches|of that ID)").MatchString(text) {
				t.Errorf("%s: %s", query, text)
			}
		}
		expect(t, s.open("/jobs?q=a"), 200, "!<details open>", `<a href="./jobs">Show all`)
		same(t, section(t, s.text("/jobs?kind=batches"), "Accounts and budgets", "Every job"), `
search · batches
✓ 2 jobs, all fetched
2 of 40 requests in the last minute
Newest values 0 s old, oldest running 0 s`)
		for query, first := range map[string]bool{"": false, "?kind=batches": false, "?status=failed": true, "?q=ata": true, "?job_id=e-old": true} {
			text := s.text("/jobs" + query)
			if strings.Index(text, "Status | Job") < strings.Index(text, "Accounts and budgets") != first {
				t.Errorf("%s: the jobs come first: %v", query, !first)
			}
		}
		// The form keeps what is chosen, and what else the address says.
		expect(t, s.open("/jobs?kind=batches&status=failed&q=%22x&refresh=60"), 200, `<option value="batches" selected>`,
			`<option value="failed" selected>`, `name="q" value="&#34;x"`, `<input type="hidden" name="refresh" value="60">`,
			`<a href="./jobs?refresh=60">Show all`, `<a href="./jobs?kind=batches&amp;q=%22x&amp;status=failed">Stop refreshing`)
		expect(t, s.open("/jobs?strange=1&kind=batches&page=1"), 200, `<a href="./jobs">Show all`, "!strange")
		expect(t, s.open("/jobs"), 200, "!Show all", "!name=\"account\"") // of which there is one
		expect(t, s.open("/jobs?q=%e1b%00%1fc"), 200, "name=\"q\" value=\"\uFFFDbc\"")
	})
}

func TestJobsRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, jobsOf)
		for query, want := range map[string]string{"": "", "?refresh=30": "30", "?refresh=1": "5", "?refresh=1000000": "3600", "?refresh=0": "", "?refresh=-1": "", "?refresh=x": ""} {
			if got := s.open("/jobs" + query).Header().Get("Refresh"); got != want {
				t.Errorf("%s: Refresh is %q, not %q", query, got, want)
			}
		}
	})
}

// A job has an address of its own, where it is open, with nothing before it.
func TestOneJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, jobsOf)
		s.scrape()
		expect(t, s.open("/jobs"), 200, `<a href="./jobs?account=search&amp;job_id=e-old">This job alone</a>`, `<a href="./jobs?account=search&amp;batch_id=b-runs">`)
		for _, path := range []string{"/jobs?account=search&job_id=e-old", "/jobs?job_id=e-old&page=7"} {
			expect(t, s.open(path), 200, "<title>processing: catalogue – cohere_exporter</title>", "<details open><summary><code><bdi>e-old<", "!<form", "!This job alone")
			same(t, section(t, s.text(path), "Refresh every 30 s", "Name: catalogue"), `
One job
Show all jobs
1 of 9 jobs
Status | Job | Model | Created | Tokens in | Tokens out | Values
▸ processing | catalogue | embed-v4.0 | running for 2 h 5 min | 2.5 | 0 | 0 s ago
e-old embed job · search`)
			same(t, section(t, s.text(path), "API version: 1", "As of"), `
Accounts and budgets
search · embed jobs
✕ 1 of 7 jobs cannot be fetched
1 job: Not found (404).
7 of 40 requests in the last minute
Newest values 0 s old, oldest running 0 s`)
		}
		expect(t, s.open("/jobs?job_id=nobodys"), 200, "No job of that ID is watched.", `<a href="./jobs">Show all jobs</a>`, "!<table")
	})
}

// A page that refreshes itself goes on with that wherever its links lead, and
// has nothing that a refresh would close.
func TestRefreshStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, jobsOf)
		s.scrape()
		for _, path := range []string{"/jobs?refresh=30", "/jobs?refresh=30&q=e", "/jobs?refresh=30&job_id=e-old", "/jobs?refresh=30&q=no+such"} {
			page := s.open(path).Body.String()
			for _, m := range regexp.MustCompile(`<a href="(\./jobs[^"]*)"[^>]*>([^<]*)`).FindAllStringSubmatch(page, -1) {
				if address := html.UnescapeString(m[1]); (m[2] == "Stop refreshing") == strings.Contains(address, "refresh=30") {
					t.Errorf("%s links to %s as %q", path, address, m[2])
				}
			}
			if strings.Contains(strings.ReplaceAll(page, "<details open>", ""), "<details") {
				t.Errorf("%s has what can be opened", path)
			}
		}
		expect(t, s.open("/jobs?refresh=30"), 200, `<p class="id"><a href="./jobs?account=search&amp;job_id=e-old&amp;refresh=30"><code><bdi>e-old</bdi>`)
		expect(t, s.open("/jobs?job_id=e-old&refresh=30"), 200, "<details open>", `<a href="./jobs?refresh=30">Show all jobs</a>`)
	})
}

func TestJobsInPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, func(u *cohertest.User, embedJobs, _ *config.Jobs) {
			embedJobs.RequestsPerMinute = 0
			for i := range 401 {
				id := fmt.Sprintf("job-%03d", i)
				u.Add(cohertest.Job{ID: id})
				embedJobs.IDs = append(embedJobs.IDs, id)
			}
		})
		s.scrape()
		for page, want := range map[string][]string{
			"?q=job":        {"401 jobs, 1 to 200", `<a href="./jobs?page=2&amp;q=job" rel="next">`, "Page 1 of 3", "!rel=\"prev\""},
			"?q=job&page=2": {"401 jobs, 201 to 400", `<a href="./jobs?page=3&amp;q=job" rel="next">`, `<a href="./jobs?page=1&amp;q=job" rel="prev">`},
			"?page=9":       {"401 jobs, 401 to 401", "job-400", "Page 3 of 3", "!rel=\"next\"", "!<th role=\"columnheader\" scope=\"col\">Records"},
		} {
			expect(t, s.open("/jobs"+page), 200, want...)
		}
	})
}

// What the API and the address say is text, wherever it stands.
func TestJobsOfHostileNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const script = `"><script>alert(1)</script>`
		names := []string{script, `=HYPERLINK("x")`, "\u202eמשימה", strings.Repeat("é", 10_000), "{{.}}", "a\x00b\nc", "javascript:alert(1)"}
		s := newSite(t, func(u *cohertest.User, embedJobs, batches *config.Jobs) {
			for i, name := range names {
				id := fmt.Sprintf("job-%d", i)
				u.Add(cohertest.Job{ID: id, Name: name, Model: name, Truncate: name, InputDatasetID: name, Warnings: []string{name}, APIVersion: name, Status: "failed"})
				u.AddBatches(cohertest.Batch{ID: id, Name: name, Model: name, InputDatasetID: name, Status: "BATCH_STATUS_" + name, StatusReason: name})
				embedJobs.IDs, batches.IDs = append(embedJobs.IDs, id), append(batches.IDs, id)
			}
		})
		s.scrape()
		want := slices.Clone(names)
		want[3], want[5] = strings.Repeat("é", 100)+"…", "a\uFFFDb\nc"
		if got := s.names("/jobs?kind=embed_jobs"); got != strings.Join(want, " ") {
			t.Errorf("the names are %q", got)
		}
		rec := s.open("/jobs?q=" + url.QueryEscape("job-") + "&account=&refresh=" + url.QueryEscape(script) + "&page=" + url.QueryEscape(script))
		expect(t, rec, 200, "!<script", "&lt;script&gt;alert(1)", "é…", `=HYPERLINK(&#34;x&#34;)`, "<bdi>\u202eמשימה</bdi>", "!href=\"javascript")
		if size := rec.Body.Len(); size > 200_000 {
			t.Errorf("a page of %d bytes", size)
		}
		for _, name := range []string{"account", "kind", "status", "q", "job_id", "batch_id"} {
			expect(t, s.open("/jobs?"+name+"="+url.QueryEscape(script)), 200, "!<script")
		}
	})
}

// Ages and numbers are written for people.
func TestJobsInWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ages := []time.Duration{
			0, 59 * time.Second, time.Minute, 59*time.Minute + 59*time.Second, time.Hour, 61 * time.Minute,
			9*time.Hour + 59*time.Minute, 10 * time.Hour, 10*time.Hour + 59*time.Minute, 47*time.Hour + 59*time.Minute, 48 * time.Hour, 1000 * time.Hour,
		}
		tokens := []float64{0, 999, 1000, -1234567, 2.5, 999_999_999_999_999, 1e15}
		long := []string{strings.Repeat("é", 30), strings.Repeat("é", 30) + "e", strings.Repeat("é", 100)}
		s := newSite(t, func(u *cohertest.User, embedJobs, _ *config.Jobs) {
			for i, age := range ages {
				job := cohertest.Job{ID: fmt.Sprintf("job-%02d", i), CreatedAt: time.Now().Add(-age)}
				job.InputTokens = tokens[i%len(tokens)]
				if i < len(long) {
					job.Name = long[i]
				}
				u.Add(job)
				embedJobs.IDs = append(embedJobs.IDs, job.ID)
			}
		})
		s.scrape()
		var got []string
		for _, m := range regexp.MustCompile(`running for (.*?) \| (.*?) \|`).FindAllStringSubmatch(s.text("/jobs"), -1) {
			got = append(got, m[1]+", "+m[2])
		}
		same(t, strings.Join(got, "\n"), `
0 s, 0
59 s, 999
1 min, 1,000
59 min, -1,234,567
1 h, 2.5
1 h 1 min, 999,999,999,999,999
9 h 59 min, 1e+15
10 h, 0
10 h, 999
47 h, 1,000
2 days, -1,234,567
41 days, 2.5`)
		for i, wide := range []string{"<div><dt>Name</dt>", `<div class="wide"><dt>Name</dt>`, `<div class="wide"><dt>Name</dt>`} {
			expect(t, s.open(fmt.Sprintf("/jobs?job_id=job-%02d", i)), 200, wide, "<bdi>"+long[i]+"</bdi></th>")
		}
	})
}

// The bar of a batch has its records in parts, none of them empty.
func TestJobsRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		batches := []cohertest.Batch{
			{ID: "a-mixed", Status: "BATCH_STATUS_FAILED", Records: 100, SuccessfulRecords: 6, FailedRecords: 1},
			{ID: "b-whole", Status: "BATCH_STATUS_COMPLETED", Records: 10, SuccessfulRecords: 10},
			{ID: "c-wrong", Status: "BATCH_STATUS_COMPLETED", Records: 10, SuccessfulRecords: 10, FailedRecords: 5},
			{ID: "d-few", Status: "BATCH_STATUS_IN_PROGRESS", Records: 1000, SuccessfulRecords: 1},
			{ID: "e-none", Status: "BATCH_STATUS_COMPLETED"},
		}
		s := newSite(t, func(u *cohertest.User, _, jobs *config.Jobs) {
			u.AddBatches(batches...)
			for _, b := range batches {
				jobs.IDs = append(jobs.IDs, b.ID)
			}
		})
		s.scrape()
		var got []string
		for _, b := range batches {
			page := s.open("/jobs?batch_id=" + b.ID).Body.String()
			_, cell, _ := strings.Cut(page, `data-label="Records"`)
			cell, _, _ = strings.Cut(cell, "</td>")
			var parts []string
			for _, m := range regexp.MustCompile(`<rect class="(.*?)" x="(.*?)" width="(.*?)"`).FindAllStringSubmatch(cell, -1) {
				parts = append(parts, m[1]+" "+m[2]+"+"+m[3])
			}
			got = append(got, b.ID+": "+strings.Join(parts, ", ")+strings.TrimRight(textOf(cell[strings.Index(cell, ">")+1:]), " /"))
		}
		same(t, strings.Join(got, "\n"), `
a-mixed: good 0.00+6.00, bad 6.00+1.00, warn 7.00+93.00/ 6 of 100 successful / / 1 failed, 93 missing
b-whole: good 0.00+100.00/ 10 of 10 successful
c-wrong: good 0.00+100.00/ 10 of 10 successful / / 5 failed
d-few: good 0.00+1.00/ 1 of 1,000 successful / / 999 to come
e-none:`)
	})
}

// Reasons are said in words, with what to do.
func TestJobsSayWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		faults := map[string]cohertest.Fault{"network": cohertest.Reset, "timeout": cohertest.Hang, "invalid": cohertest.NotJSON}
		for _, code := range []int{400, 401, 402, 403, 404, 418, 422, 498, 499, 500, 501, 503, 504} {
			faults[strconv.Itoa(code)] = cohertest.Status(code, "<b>no</b>")
		}
		s := newSite(t, func(u *cohertest.User, embedJobs, _ *config.Jobs) {
			for id, fault := range faults {
				u.Add(cohertest.Job{ID: id})
				u.Fail(id, fault)
				embedJobs.IDs = append(embedJobs.IDs, id)
			}
		})
		s.scrape()
		time.Sleep(time.Hour) // the request that hangs ends
		var got []string
		for _, m := range regexp.MustCompile(`(?s)<p class="trouble">(.*?)</p>.*?<code><bdi>(.*?)</bdi>`).FindAllStringSubmatch(s.open("/jobs").Body.String(), -1) {
			got = append(got, m[2]+": "+textOf(m[1]))
		}
		const (
			ask   = " Fetch the job by hand with curl and read the answer."
			wait  = " Wait, and look for an incident at Cohere."
			other = " Check the base URL and any proxy in between."
		)
		same(t, strings.Join(got, "\n"), `
400: The API finds the request bad (400).`+ask+`
401: The API does not accept the key (401). Put a key that works into the key file: it is used at the next request. A key in CO_API_KEY takes a restart.
402: The API wants to be paid (402). The account has reached its billing limit: ask whoever pays for it.
403: The key may not do this (403). Use a key of the user who starts the jobs.
404: Not found (404). The ID is wrong, the job was deleted, or another user started it: a job is visible only to the user who started it.
418: An unexpected answer.`+other+`
422: The API cannot process the request (422).`+ask+`
498: The API rejects a token (498).`+ask+`
499: The API says the request was given up (499).`+ask+`
500: The API has an error (5xx).`+wait+`
501: The API cannot do this (501).`+wait+`
503: The API is unavailable (503).`+wait+`
504: The API’s gateway gave up (504).`+wait+`
invalid: The answer is no such job.`+other+`
network: The API cannot be reached. Check DNS, proxy, firewall and TLS; the log has the error.
timeout: No answer in time. Raise the scrape timeout, --cohere.timeout or --cohere.max-concurrent-requests.`)
	})
}

func TestJobsSayWhatTheBudgetLeavesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, func(u *cohertest.User, embedJobs, batches *config.Jobs) {
			u.Add(cohertest.Job{ID: "a"}, cohertest.Job{ID: "b"}, cohertest.Job{ID: "c"})
			embedJobs.IDs, embedJobs.RequestsPerMinute = []string{"a", "b", "c"}, 2
			u.AddBatches(cohertest.Batch{ID: "d"})
			batches.IDs, batches.RequestsPerMinute = []string{"d"}, 0
			u.Fail("d", cohertest.Times(1, cohertest.StatusHeader(429, "slow down", http.Header{"Retry-After": {"40"}})))
		})
		s.scrape()
		same(t, section(t, s.text("/jobs"), "Accounts and budgets", "Every job"), `
search · embed jobs
✕ 1 of 3 jobs cannot be fetched
1 job: The budget is used up.
2 of 2 requests in the last minute
Newest values 0 s old, oldest running 0 s
search · batches
✕ 1 of 1 job cannot be fetched
1 job: The API refuses requests (429).
1 of 1 request in the last minute
! The API refused requests; asks again in 40 s
No values yet`)
		expect(t, s.open("/jobs"), 200, `<rect class="warn" x="0.00" width="100.00" height="8"/>`)
		time.Sleep(40 * time.Second)
		expect(t, s.open("/jobs"), 200, "the next scrape sends one to see")
		time.Sleep(21 * time.Second)
		expect(t, s.open("/jobs"), 200, "0 of 2 requests in the last minute", "the next scrape sends one to see")
		s.scrape()
		expect(t, s.open("/jobs"), 200, "1 job, all fetched", "!The API refused")
	})
}

func TestPagesSayThatNobodyScrapes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, jobsOf)
		for _, path := range []string{"/", "/jobs"} {
			expect(t, s.open(path), 200, "9 not asked for yet", "Nobody has scraped since the start.")
		}
		s.scrape()
		expect(t, s.open("/jobs"), 200, "!Nobody has scraped", "!>9 not asked")
		time.Sleep(5*time.Minute - 1)
		expect(t, s.open("/"), 200, "!Nobody has scraped")
		time.Sleep(time.Nanosecond)
		expect(t, s.open("/"), 200, "Nobody has scraped for 5 min: ")
		time.Sleep(7 * time.Minute)
		for _, path := range []string{"/", "/jobs"} {
			expect(t, s.open(path), 200, "2 failed", "Nobody has scraped for 12 min: values are that old, or older.")
		}
	})
}

func TestJobsOfNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, func(_ *cohertest.User, embedJobs, batches *config.Jobs) {
			discover := config.DefaultDiscover()
			embedJobs.Discover, batches.Discover = &discover, &discover
		})
		s.scrape()
		expect(t, s.open("/jobs"), 200, "No job is watched", "What to do", "Discovery is on.", "!--cohere.job-id=ID", "!<table", "!<form")
		expect(t, s.open("/"), 200, "No job is watched")
	})
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, func(_ *cohertest.User, embedJobs, batches *config.Jobs) {
			embedJobs.IDs, batches.IDs = []string{}, []string{} // only probed
		})
		s.scrape()
		expect(t, s.open("/jobs"), 200, "No job is watched", "What to do", "--cohere.job-id=ID", "!Discovery is on.")
	})
}

// A list that fails is what keeps discovery from finding jobs.
func TestJobsOfAListThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, func(u *cohertest.User, embedJobs, batches *config.Jobs) {
			discover := config.DefaultDiscover()
			embedJobs.Discover, batches.Discover = &discover, &discover
			u.SetKey("another")
		})
		s.scrape()
		expect(t, s.open("/jobs"), 200, "The list of jobs: The API does not accept the key (401). Put a key that works into the key file", "!--cohere.job-id=ID")
	})
}

// Jobs that Prometheus probes stand on the page for as long as they are
// remembered.
func TestProbedJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, func(u *cohertest.User, embedJobs, _ *config.Jobs) {
			jobsOf(u, &config.Jobs{}, &config.Jobs{})
			embedJobs.IDs = nil
		})
		for _, query := range []string{"job_id=e-new", "job_id=e-gone", "batch_id=b-failed"} {
			expect(t, serve(t, s, "GET", "/probe?"+query), 200)
		}
		expect(t, s.open("/jobs"), 200, "1 failed", "1 cannot be fetched", "1 running", "embed job, probed", "!Nobody has scraped", "!What to do")
		if got, want := s.names("/jobs"), "invoices e-gone tickets"; got != want {
			t.Errorf("the page shows %q, not %q", got, want)
		}
		time.Sleep(time.Hour - 1)
		expect(t, s.open("/jobs?job_id=e-new"), 200, "too old for Prometheus", "Nobody has scraped for 59 min", "!No answer in time")
		time.Sleep(time.Nanosecond)
		expect(t, s.open("/jobs"), 200, "What to do")
	})
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, func(u *cohertest.User, embedJobs, _ *config.Jobs) {
			jobsOf(u, &config.Jobs{}, &config.Jobs{})
			embedJobs.RequestsPerMinute = 1
		})
		for _, query := range []string{"job_id=e-new", "job_id=e-old"} {
			expect(t, serve(t, s, "GET", "/probe?"+query), 200)
		}
		expect(t, s.open("/jobs?job_id=e-old"), 200, "1 cannot be fetched", "The budget is used up.")
	})
}

// The list answers for all jobs, and what keeps it away is what keeps them.
func TestJobsOfAList(t *testing.T) {
	for want, fault := range map[string]cohertest.Fault{
		"The API is unavailable (503).":   cohertest.Status(503, ""),
		"The API refuses requests (429).": cohertest.Status(429, ""),
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, func(u *cohertest.User, embedJobs, _ *config.Jobs) {
				jobsOf(u, embedJobs, &config.Jobs{})
				embedJobs.Fetch = config.FetchList
				u.Fail(cohertest.List, fault)
			})
			expect(t, s.open("/jobs"), 200, "7 not asked for yet", "!cannot be fetched</a>")
			s.scrape()
			expect(t, s.open("/jobs"), 200, "7 cannot be fetched", "7 jobs: "+want, "!not asked for yet</a>")
		})
	}
}

// Of job files the page names those that are not in use.
func TestJobsSayWhichFiles(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"bad.txt": "a b\n", "good.txt": "e-new\n"} {
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := newSite(t, func(u *cohertest.User, embedJobs, _ *config.Jobs) {
		jobsOf(u, &config.Jobs{}, &config.Jobs{})
		embedJobs.IDFiles = []string{dir + "/*.txt", dir + "/gone/*.txt"}
	})
	s.scrape()
	var got []string
	for _, m := range regexp.MustCompile(`Job file `+dir+`/(.*?) is not in use`).FindAllStringSubmatch(s.text("/jobs"), -1) {
		got = append(got, m[1])
	}
	if want := []string{"bad.txt", "gone/*.txt"}; !slices.Equal(got, want) {
		t.Errorf("the page names %q, not %q", got, want)
	}
}

// A page is there at once, whatever a scrape waits for, and holds up none.
func TestJobsDuringAScrape(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, jobsOf)
		s.user.Fail("e-old", cohertest.Slow(3*time.Second))
		started := time.Now()
		took := make(chan time.Duration, 1)
		go func() {
			s.scrape()
			took <- time.Since(started)
		}()
		time.Sleep(time.Second)
		for range 100 {
			expect(t, serve(t, s, "GET", "/jobs"), 200, "1 not asked for yet", "invoices")
		}
		if waited := time.Since(started); waited != time.Second {
			t.Errorf("the pages took %v", waited-time.Second)
		}
		if got := <-took; got != 3*time.Second {
			t.Errorf("the scrape took %v", got)
		}
	})
}

func TestSecurityHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, jobsOf)
		for _, path := range []string{"/", "/jobs", "/metrics", "/metrics?jobs=0", "/probe?job_id=e-old", "/probe", "/-/healthy", "/-/ready", "/nothing", "/jobs?%zz"} {
			for _, method := range []string{"GET", "HEAD", "POST"} {
				h := serve(t, s, method, path).Header()
				policy := h.Get("Content-Security-Policy")
				if !strings.HasPrefix(policy, "default-src 'none'; style-src 'sha256-") || !strings.HasSuffix(policy, "; frame-ancestors 'none'") ||
					strings.Contains(policy, "unsafe") || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" {
					t.Errorf("%s %s: %v", method, path, h)
				}
			}
		}
		// The policy lets in the style that the page has, to the letter.
		for _, path := range []string{"/", "/jobs"} {
			rec := s.open(path)
			_, style, _ := strings.Cut(rec.Body.String(), "<style>")
			style, _, _ = strings.Cut(style, "</style>")
			sum := sha256.Sum256([]byte(style))
			if hash := base64.StdEncoding.EncodeToString(sum[:]); !strings.Contains(rec.Header().Get("Content-Security-Policy"), "'sha256-"+hash+"'") {
				t.Errorf("%s: the policy refuses the style, %s", path, hash)
			}
			expect(t, rec, 200, "!style=", "!src=", "!http://", "!https://", "!href=\"/") // relative, for proxies
			expect(t, serve(t, s, "POST", path), 405)
			if rec := serve(t, s, "HEAD", path); rec.Code != 200 || rec.Body.Len() != 0 {
				t.Errorf("HEAD %s: status %d, %d bytes", path, rec.Code, rec.Body.Len())
			}
		}
	})
}

func TestLargeBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, jobsOf)
		for size, want := range map[int]int{0: 200, 4096: 200, 4097: 413, 1 << 20: 413} {
			for _, known := range []bool{true, false} {
				req := httptest.NewRequestWithContext(t.Context(), "GET", "/jobs", io.LimitReader(zeros{}, int64(size)))
				req.ContentLength = -1
				if known {
					req.ContentLength = int64(size)
				}
				rec := httptest.NewRecorder()
				s.ServeHTTP(rec, req)
				if rec.Code != want {
					t.Errorf("a body of %d bytes: status %d, not %d", size, rec.Code, want)
				}
			}
		}
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
