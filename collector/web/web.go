// Package web serves what a collector.Set knows over HTTP.
package web

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/cohere-exporter/cohere_exporter/collector"
)

// Paths of the routes that are not the metrics.
const (
	landingPath = "/"
	jobsPath    = "/jobs"
	probePath   = "/probe"
	healthyPath = "/-/healthy"
	readyPath   = "/-/ready"
	reloadPath  = "/-/reload"
)

// Options are what the handler serves, and how.
type Options struct {
	Set           *collector.Set
	Own           *prometheus.Registry // the exporter's own metrics
	MetricsPath   string
	TimeoutOffset time.Duration               // kept back from Prometheus's scrape timeout
	Reload        func(context.Context) error // nil: there is no such route
	Logger        *slog.Logger

	// Ending is done when scrapes in flight are to end with what is known; nil
	// is never.
	Ending context.Context
}

// NewHandler returns the handler of all routes.
func NewHandler(o Options) (http.Handler, error) {
	if err := CheckMetricsPath(o.MetricsPath); err != nil {
		return nil, err
	}
	if o.Ending == nil {
		o.Ending = context.Background()
	}
	mux := http.NewServeMux()
	mux.Handle(get(o.MetricsPath), o.metrics())
	mux.HandleFunc(get(probePath), o.probe)
	mux.HandleFunc(get(jobsPath), o.jobs)
	mux.Handle(get(healthyPath), text("cohere_exporter is healthy.\n"))
	mux.Handle(get(readyPath), text("cohere_exporter is ready.\n"))
	if o.Reload != nil {
		mux.HandleFunc("POST "+reloadPath, o.reload)
	}
	if o.MetricsPath != landingPath {
		mux.HandleFunc(get(landingPath), o.landing)
	}
	return answered(mux, o.Logger), nil
}

// CheckMetricsPath says what is wrong with a path for the metrics.
func CheckMetricsPath(p string) error {
	switch {
	case !strings.HasPrefix(p, "/"), strings.ContainsAny(p, "{}?#%<>\"' \t\r\n"), path.Clean(p) != p:
		return fmt.Errorf("%q is not a path like /metrics", p)
	case slices.Contains([]string{healthyPath, readyPath, reloadPath, probePath, jobsPath}, p):
		return fmt.Errorf("%s is another page's path", p)
	}
	return nil
}

// get is the pattern of GET and HEAD of a path without those below it.
func get(path string) string {
	if path == "/" {
		path = "/{$}"
	}
	return "GET " + path
}

func text(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprint(w, text)
	}
}

// metrics serves every scrape from a registry of its own, so that each has its
// own deadline.
func (o Options) metrics() http.Handler {
	return promhttp.InstrumentMetricHandler(o.Own, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var g prometheus.Gatherer = o.Own
		switch {
		case r.Method == http.MethodHead:
			g = prometheus.Gatherers{} // of nothing
		case r.URL.Query().Get("jobs") != "0":
			ctx, cancel := o.deadline(r.Context(), r.Header)
			defer cancel()
			g = Everything(o.Set.Collector(ctx), o.Own)
		}
		o.expose(w, r, g, o.Own)
	}))
}

// expose sends all that is gathered. Errors count in the registerer, if any.
func (o Options) expose(w http.ResponseWriter, r *http.Request, g prometheus.Gatherer, errors prometheus.Registerer) {
	whole := *r
	whole.URL = &url.URL{Path: r.URL.Path} // promhttp would leave out what a parameter name[] does not name
	promhttp.HandlerFor(g, promhttp.HandlerOpts{
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelError),
		ErrorHandling:     promhttp.ContinueOnError,
		Registry:          errors,
		EnableOpenMetrics: true,
	}).ServeHTTP(w, &whole)
}

// deadline returns the context of a scrape, which ends in time to answer it:
// after what Prometheus says to wait, less the offset, or half of it where that
// leaves nothing.
func (o Options) deadline(ctx context.Context, h http.Header) (context.Context, context.CancelFunc) {
	timeout := 10 * time.Second // where nothing is said
	seconds, err := strconv.ParseFloat(h.Get("X-Prometheus-Scrape-Timeout-Seconds"), 64)
	if err == nil && seconds > 0 && seconds <= math.MaxInt32 {
		timeout = time.Duration(seconds * float64(time.Second))
	}
	if timeout > o.TimeoutOffset {
		timeout -= o.TimeoutOffset
	} else {
		timeout /= 2
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	stop := context.AfterFunc(o.Ending, cancel)
	return ctx, func() { stop(); cancel() }
}

// Everything is what a scrape of /metrics sends: the jobs, which are fetched
// for it, and then the exporter's own metrics, which count that.
func Everything(jobs prometheus.Collector, own *prometheus.Registry) prometheus.Gatherer {
	reg := prometheus.NewRegistry()
	reg.MustRegister(inOrder{jobs, own})
	return reg
}

// inOrder collects one collector after the other.
type inOrder []prometheus.Collector

func (cs inOrder) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range cs {
		c.Describe(ch)
	}
}

func (cs inOrder) Collect(ch chan<- prometheus.Metric) {
	for _, c := range cs {
		c.Collect(ch)
	}
}

func (o Options) reload(w http.ResponseWriter, r *http.Request) {
	if err := o.Reload(r.Context()); err != nil {
		http.Error(w, "failed to reload: "+err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprintln(w, "Configuration reloaded.")
}
