package web_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
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

// newHandler serves two jobs of an in-memory API; job-hangs does. change may
// adapt the options.
func newHandler(t *testing.T, change func(*web.Options)) (http.Handler, *cohertest.API) {
	t.Helper()
	api := cohertest.New()
	user := api.AddUser("key")
	user.Add(cohertest.Job{ID: "job-1"}, cohertest.Job{ID: "job-hangs"})
	user.Fail("job-hangs", cohertest.Hang)
	server := api.StartInMemory()
	t.Cleanup(server.Close)

	account := config.Default()
	jobs := config.DefaultJobs()
	account.BaseURL, account.EmbedJobs = server.URL, &jobs
	jobs.IDs = []string{"job-1", "job-hangs"}
	account.HTTPClientConfig.Authorization = &promconfig.Authorization{Credentials: "key"}
	if err := account.Timeout.Set("1h"); err != nil {
		t.Fatal(err)
	}
	own := prometheus.NewRegistry()
	set, err := collector.New(&config.Config{Accounts: []config.Account{account}},
		collector.Options{Registerer: own, DialContext: server.DialContext})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set.Close)
	o := web.Options{
		Set:           set,
		Own:           own,
		MetricsPath:   "/metrics",
		TimeoutOffset: 500 * time.Millisecond,
		Logger:        slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&o)
	}
	handler, err := web.NewHandler(o)
	if err != nil {
		t.Fatal(err)
	}
	return handler, api
}

func serve(t testing.TB, h http.Handler, method, path string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	return rec
}

func expect(t testing.TB, rec *httptest.ResponseRecorder, status int, want ...string) {
	t.Helper()
	if rec.Code != status {
		t.Errorf("status %d, want %d", rec.Code, status)
	}
	for _, w := range want {
		unwanted, not := strings.CutPrefix(w, "!")
		if strings.Contains(rec.Body.String(), unwanted) == not {
			t.Errorf("%s is not as wanted in\n%s", w, rec.Body)
		}
	}
}

// Only /metrics asks the API anything.
func TestRoutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, api := newHandler(t, nil)
		expect(t, serve(t, h, "GET", "/"), 200, `href="./jobs"`, `href="./metrics"`, `href="./metrics?jobs=0"`, `href="./-/healthy"`, `href="./-/ready"`, "!/debug/pprof")
		expect(t, serve(t, h, "GET", "/-/healthy"), 200, "healthy")
		expect(t, serve(t, h, "GET", "/-/ready"), 200, "ready")
		expect(t, serve(t, h, "GET", "/metrics?jobs=0"), 200, "cohere_api_requests_total", "!cohere_up", "!job_id")
		for _, path := range []string{"/nothing", "/metrics/", "/metrics/more", "/-/", "/-/reload", "/debug/pprof/"} {
			expect(t, serve(t, h, "GET", path), 404)
		}
		expect(t, serve(t, h, "POST", "/-/reload"), 404)
		if n := len(api.Requests()); n != 0 {
			t.Errorf("%d requests to the API", n)
		}
		expect(t, serve(t, h, "GET", "/metrics"), 200, "\ncohere_up 0\n", `cohere_embed_job_up{job_id="job-1"} 1`,
			`cohere_api_requests_total{code="200",endpoint="get",resource="embed_jobs"} 1`) // counted by the scrape that made it
		if n := len(api.Requests()); n != 2 {
			t.Errorf("%d requests to the API", n)
		}
	})
}

// An unknown parameter is ignored, promhttp's own filter too: what it left out
// would have been fetched all the same.
func TestUnknownParameters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := newHandler(t, nil)
		const query = "unknown=1&name[]=cohere_up&name[]=promhttp_metric_handler_requests_in_flight"
		expect(t, serve(t, h, "GET", "/metrics?"+query), 200, "\ncohere_up 0\n", `cohere_embed_job_up{job_id="job-1"} 1`, "cohere_api_requests_total")
		expect(t, serve(t, h, "GET", "/metrics?jobs=0&"+query), 200, "cohere_api_requests_total")
		expect(t, serve(t, h, "GET", "/probe?job_id=job-1&"+query), 200, "\ncohere_up 1\n", `cohere_embed_job_up{job_id="job-1"} 1`)
	})
}

func TestMetricsPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := func(path string) http.Handler {
			h, _ := newHandler(t, func(o *web.Options) { o.MetricsPath = path })
			return h
		}
		root := at("/")
		expect(t, serve(t, root, "GET", "/"), 200, `cohere_embed_job_up{job_id="job-1"} 1`)
		expect(t, serve(t, root, "GET", "/?jobs=0"), 200, "cohere_api_requests_total", "!cohere_up")
		expect(t, serve(t, root, "GET", "/metrics"), 404)
		expect(t, serve(t, root, "GET", "/-/ready"), 200)
		expect(t, serve(t, root, "GET", "/jobs"), 200, `<a href="./">Metrics</a>`, "!Overview")

		other := at("/some/where")
		expect(t, serve(t, other, "GET", "/some/where"), 200, "\ncohere_up 0\n")
		expect(t, serve(t, other, "GET", "/some"), 404)
		expect(t, serve(t, other, "GET", "/metrics"), 404)
		for _, page := range []string{"/", "/jobs"} {
			expect(t, serve(t, other, "GET", page), 200, `<a href="./some/where">Metrics</a>`, `<a href="./"`)
		}
	})
	for _, path := range []string{
		"", "metrics", "/metrics/", "//", "/a b", "/{name}", "/a?b", "/a#b", "/-/healthy", "/-/ready", "/-/reload", "/probe", "/jobs",
		"/a/../b", "//a", "/./a", "/a%",
	} {
		if _, err := web.NewHandler(web.Options{MetricsPath: path}); err == nil {
			t.Errorf("%q is accepted", path)
		}
	}
}

// The answer comes before Prometheus gives up, with what there is.
func TestScrapeDeadlines(t *testing.T) {
	const without = 10*time.Second - 500*time.Millisecond // as if there were no header
	for header, want := range map[string]time.Duration{
		"":       without,
		"2":      1500 * time.Millisecond,
		"2.5":    2 * time.Second,
		"60":     59500 * time.Millisecond,
		"0.6":    100 * time.Millisecond,
		"0.5":    250 * time.Millisecond, // the offset leaves nothing
		"0.2":    100 * time.Millisecond,
		"0":      without,
		"-3":     without,
		"soon":   without,
		"10s":    without,
		"NaN":    without,
		"+Inf":   without,
		"1e300":  without,
		"1e-300": 0,
	} {
		t.Run(header, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, _ := newHandler(t, nil)
				var headers []string
				if header != "" {
					headers = []string{"X-Prometheus-Scrape-Timeout-Seconds", header}
				}
				started := time.Now()
				rec := serve(t, h, "GET", "/metrics", headers...)
				if took := time.Since(started); took != want {
					t.Errorf("answered after %v, want %v", took, want)
				}
				expect(t, rec, 200, `cohere_embed_job_fetch_error{job_id="job-hangs",reason="timeout"} 1`)
				if want > 0 {
					expect(t, rec, 200, `cohere_embed_job_up{job_id="job-1"} 1`)
				}
			})
		})
	}
}

func TestScrapeEndsWithItsClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := newHandler(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		started := time.Now()
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", "/metrics", nil))
		if took := time.Since(started); took != time.Second {
			t.Errorf("a scrape whose client left after 1 s took %v", took)
		}
	})
}

// A collector that fails costs its own series only.
func TestFailingCollector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := newHandler(t, func(o *web.Options) { o.Own.MustRegister(failing{}) })
		expect(t, serve(t, h, "GET", "/metrics"), 200, `cohere_embed_job_up{job_id="job-1"} 1`, "!failing")
		expect(t, serve(t, h, "GET", "/metrics?jobs=0"), 200, `promhttp_metric_handler_errors_total{cause="gathering"} 1`)
	})
}

type failing struct{}

var failingDesc = prometheus.NewDesc("failing", "Fails.", nil, nil)

func (failing) Describe(ch chan<- *prometheus.Desc) { ch <- failingDesc }

func (failing) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.NewInvalidMetric(failingDesc, errors.New("does not work"))
}

func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var err error
		reloads := 0
		h, _ := newHandler(t, func(o *web.Options) {
			o.Reload = func(context.Context) error { reloads++; return err }
		})
		expect(t, serve(t, h, "GET", "/-/reload"), 405)
		if reloads != 0 {
			t.Error("GET reloads")
		}
		expect(t, serve(t, h, "POST", "/-/reload"), 200, "reloaded")
		err = errors.New("exporter.yml:3: no")
		expect(t, serve(t, h, "POST", "/-/reload"), 500, "exporter.yml:3: no")
		if reloads != 2 {
			t.Errorf("%d reloads", reloads)
		}
	})
}
