package collector_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/model"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
	"github.com/cohere-exporter/cohere_exporter/collector"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
	"github.com/cohere-exporter/cohere_exporter/collector/web"
)

// serveVariable makes the test binary a simulated API with so many jobs of a
// kind, and a latency, "batches 100 50ms", where a benchmark is to measure only the
// one that asks.
const serveVariable = "COHERE_EXPORTER_BENCHMARK_JOBS"

func TestMain(m *testing.M) {
	if of := strings.Fields(os.Getenv(serveVariable)); len(of) == 3 {
		n, err := strconv.Atoi(of[1])
		if err != nil {
			panic(err)
		}
		latency, err := time.ParseDuration(of[2])
		if err != nil {
			panic(err)
		}
		serveJobs(of[0], n, latency)
		return
	}
	os.Exit(m.Run())
}

// seriesPerJob of an embed job as the API's page shows it, and of a completed
// batch.
var seriesPerJob = map[string]int{cohertest.EmbedJobs: 19, cohertest.Batches: 17}

func benchmarkID(i int) string { return fmt.Sprintf("ebd-%016x", i) }

// newAPI returns an API of n complete jobs of a kind. Those that grow are never
// the same twice.
func newAPI(kind string, n int, grow bool) *cohertest.API {
	api := cohertest.New()
	api.KeepRequests(1)
	user := api.AddUser(key)
	var tokens atomic.Int64
	for i := range n {
		job := cohertest.Job{
			ID: benchmarkID(i), Status: "complete", Name: "nightly embedding", OutputDatasetID: "ds-out",
			InputTokens: float64(1520 + i), OutputTokens: 1520,
		}
		batch := cohertest.Batch{
			ID: job.ID, Status: "BATCH_STATUS_COMPLETED", Name: job.Name, OutputDatasetID: job.OutputDatasetID,
			InputTokens: int64(1520 + i), OutputTokens: 1520, Records: 1000, SuccessfulRecords: 1000,
		}
		if grow {
			job.Script = func(_ time.Time, j *cohertest.Job) { j.InputTokens = float64(tokens.Add(1)) }
			batch.Script = func(_ time.Time, b *cohertest.Batch) { b.InputTokens = tokens.Add(1) }
		}
		if kind == cohertest.Batches {
			user.AddBatches(batch)
		} else {
			user.Add(job)
		}
	}
	return api
}

// serveJobs serves n jobs until standard input ends.
func serveJobs(kind string, n int, latency time.Duration) {
	api := newAPI(kind, n, false)
	api.SetLatency(latency)
	server := api.Start()
	fmt.Println(server.URL)
	io.Copy(io.Discard, os.Stdin)
	server.Close()
}

// startHere serves n jobs from this process, as net/http/httptest does, and
// returns the URL.
func startHere(b *testing.B, kind string, n int) string {
	server := newAPI(kind, n, false).Start()
	b.Cleanup(server.Close)
	return server.URL
}

// startGrowing is startHere with jobs that are never the same twice.
func startGrowing(b *testing.B, kind string, n int) string {
	server := newAPI(kind, n, true).Start()
	b.Cleanup(server.Close)
	return server.URL
}

// startAtOnce is startElsewhere without latency.
func startAtOnce(b *testing.B, kind string, n int) string { return startElsewhere(b, kind, n, 0) }

// startElsewhere starts a process that serves n jobs, and returns its URL.
func startElsewhere(b *testing.B, kind string, n int, latency time.Duration) string {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d %v", serveVariable, kind, n, latency))
	stdin, _ := cmd.StdinPipe()
	stdout, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
	})
	url, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(url)
}

// exporter is one that watches jobs of a kind.
type exporter struct {
	http.Handler
	own     *prometheus.Registry
	series  int // at least
	scrapes float64
}

// newExporter returns an exporter of n jobs of a kind in so many accounts. change
// may adapt what is watched.
func newExporter(b *testing.B, url, kind string, accounts, n int, change func(*config.Jobs)) *exporter {
	b.Helper()
	cfg := &config.Config{FromFile: accounts > 1}
	for a := range accounts {
		c := account(&cohertest.Server{URL: url}, key)
		c.Timeout = model.Duration(time.Minute)
		if cfg.FromFile {
			c.Name = fmt.Sprintf("account-%02d", a)
		}
		for i := range n / accounts {
			c.EmbedJobs.IDs = append(c.EmbedJobs.IDs, benchmarkID(a*n/accounts+i))
		}
		if change != nil {
			change(c.EmbedJobs)
		}
		if kind == cohertest.Batches {
			c.Batches, c.EmbedJobs = c.EmbedJobs, nil
		}
		cfg.Accounts = append(cfg.Accounts, c)
	}
	own := prometheus.NewRegistry()
	set, err := collector.New(cfg, collector.Options{Registerer: own})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(set.Close)
	h, err := web.NewHandler(web.Options{
		Set: set, Own: own, MetricsPath: "/metrics", Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	return &exporter{Handler: h, own: own, series: seriesPerJob[kind] * n}
}

func (e *exporter) scrape(b *testing.B) {
	b.Helper()
	scrapeHandler(b, e, e.series)
	e.scrapes++
}

// requests returns how many the API got.
func (e *exporter) requests(b *testing.B) (n float64) {
	families, err := e.own.Gather()
	if err != nil {
		b.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "cohere_api_requests_total" {
			for _, m := range f.Metric {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

// discard is a scrape that is not read.
type discard struct {
	header http.Header
	size   int
	code   int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { d.size += len(p); return len(p), nil }
func (d *discard) WriteHeader(code int)        { d.code = code }

// prometheusAccepts is what Prometheus 3 sends as Accept.
const prometheusAccepts = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6," +
	"application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4," +
	"text/plain;version=0.0.4;q=0.3,*/*;q=0.2"

func scrapeHandler(b *testing.B, h http.Handler, series int) {
	b.Helper()
	r, _ := http.NewRequest(http.MethodGet, "/metrics", nil)
	r.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", "60")
	r.Header.Set("Accept", prometheusAccepts)
	w := &discard{header: http.Header{}}
	h.ServeHTTP(w, r)
	if w.size < series*40 {
		b.Fatalf("a scrape of %d bytes", w.size)
	}
}

// perJob runs f, which handles n jobs, and reports what a job costs.
func perJob(b *testing.B, n int, f func()) {
	b.Helper()
	f() // connections, caches
	perJobCold(b, n, f)
}

// perJobCold is perJob without the first time, for what takes long.
func perJobCold(b *testing.B, n int, f func()) {
	b.Helper()
	runtime.GC()
	b.ReportAllocs()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu := cpuTime()
	for b.Loop() {
		f()
	}
	jobs := float64(b.N) * float64(n)
	b.ReportMetric(float64(cpuTime()-cpu)/jobs, "cpu-ns/job")
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/jobs, "allocs/job")
	b.ReportMetric(float64(b.Elapsed())/jobs, "ns/job")
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkFetch is a whole scrape, in which every job is fetched by ID, beside
// a bare loop of as many requests. The simulated API is another process, which is
// not measured, but where it says "here".
func BenchmarkFetch(b *testing.B) {
	for _, n := range sizes {
		for _, latency := range []time.Duration{0, 50 * time.Millisecond} {
			measure := measurement(perJob)
			if n == 10_000 && latency > 0 { // takes half a minute
				if testing.Short() {
					continue
				}
				measure = perJobCold
			}
			start := func(b *testing.B, kind string, n int) string { return startElsewhere(b, kind, n, latency) }
			benchmarkFetch(b, fmt.Sprintf("embed_jobs=%d/latency=%v", n, latency), cohertest.EmbedJobs, n, start, measure)
		}
	}
	benchmarkFetch(b, "embed_jobs=1000/api=here", cohertest.EmbedJobs, 1_000, startHere, perJob)
	benchmarkFetch(b, "embed_jobs=1000/api=here/answers=new", cohertest.EmbedJobs, 1_000, startGrowing, perJob)
	benchmarkFetch(b, "batches=1000", cohertest.Batches, 1_000, startAtOnce, perJob)
	benchmarkFetch(b, "batches=1000/api=here", cohertest.Batches, 1_000, startHere, perJob)
	benchmarkFetch(b, "batches=1000/api=here/answers=new", cohertest.Batches, 1_000, startGrowing, perJob)
	// Each account has its own 20 requests under way.
	b.Run("embed_jobs=10000/accounts=50/by=exporter", func(b *testing.B) {
		e := newExporter(b, startAtOnce(b, cohertest.EmbedJobs, 10_000), cohertest.EmbedJobs, 50, 10_000, nil)
		perJob(b, 10_000, func() { e.scrape(b) })
	})
	b.Run("embed_jobs=10000/accounts=50/by=baseline", func(b *testing.B) {
		benchmarkBare(b, startAtOnce(b, cohertest.EmbedJobs, 10_000), 10_000, 50*20, perJob)
	})
}

// measurement is perJob or perJobCold.
type measurement func(b *testing.B, n int, f func())

func benchmarkFetch(b *testing.B, name, kind string, n int, start func(b *testing.B, kind string, n int) string, measure measurement) {
	b.Run(name+"/by=exporter", func(b *testing.B) {
		e := newExporter(b, start(b, kind, n), kind, 1, n, nil)
		measure(b, n, func() { e.scrape(b) })
		b.ReportMetric(e.requests(b)/e.scrapes, "requests/scrape")
	})
	if kind == cohertest.EmbedJobs {
		b.Run(name+"/by=baseline", func(b *testing.B) { benchmarkBare(b, start(b, kind, n), n, 20, measure) })
	}
}

func benchmarkBare(b *testing.B, url string, n, workers int, measure measurement) {
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: workers}}
	defer hc.CloseIdleConnections()
	measure(b, n, func() { bareLoop(b, hc, url, n, workers) })
}

func bareLoop(b *testing.B, hc *http.Client, url string, n, workers int) {
	ids := make(chan string)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for id := range ids {
				req, _ := http.NewRequest(http.MethodGet, url+"/v1/embed-jobs/"+id, nil)
				req.Header.Set("Authorization", "Bearer "+key)
				resp, err := hc.Do(req)
				if err != nil {
					b.Error(err)
					continue
				}
				body, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				var job bareJob
				if err := json.Unmarshal(body, &job); err != nil || job.JobID != id {
					b.Error(err, job)
				}
			}
		})
	}
	for i := range n {
		ids <- benchmarkID(i)
	}
	close(ids)
	wg.Wait()
}

// bareJob is what one would write down first.
type bareJob struct {
	JobID           string    `json:"job_id"`
	Status          string    `json:"status"`
	CreatedAt       time.Time `json:"created_at"`
	InputDatasetID  string    `json:"input_dataset_id"`
	OutputDatasetID string    `json:"output_dataset_id"`
	Model           string    `json:"model"`
	Truncate        string    `json:"truncate"`
	Name            string    `json:"name"`
	Meta            struct {
		APIVersion struct {
			Version        string `json:"version"`
			IsDeprecated   bool   `json:"is_deprecated"`
			IsExperimental bool   `json:"is_experimental"`
		} `json:"api_version"`
		BilledUnits  map[string]float64 `json:"billed_units"`
		Tokens       map[string]float64 `json:"tokens"`
		CachedTokens float64            `json:"cached_tokens"`
		Warnings     []string           `json:"warnings"`
	} `json:"meta"`
}

// sizes are how many jobs there are.
var sizes = []int{10, 100, 1_000, 10_000}

// BenchmarkList is a whole scrape of jobs that the list says everything of:
// embed jobs come at once, batches in pages of 1,000.
func BenchmarkList(b *testing.B) {
	for _, kind := range []string{cohertest.EmbedJobs, cohertest.Batches} {
		for _, n := range sizes {
			b.Run(fmt.Sprintf("%s=%d/by=exporter", kind, n), func(b *testing.B) {
				e := newExporter(b, startAtOnce(b, kind, n), kind, 1, 0, func(j *config.Jobs) {
					discover := config.DefaultDiscover()
					discover.MaxJobs = n
					j.Discover = &discover
				})
				e.series = seriesPerJob[kind] * n
				perJob(b, n, func() { e.scrape(b) })
				b.ReportMetric(e.requests(b)/e.scrapes, "requests/scrape")
			})
		}
	}
}

// BenchmarkServe is a scrape of settled jobs, all of it from memory, beside
// promhttp serving as many series from plain gauges.
func BenchmarkServe(b *testing.B) {
	serve := func(name, kind string, accounts, n int) {
		b.Run(name+"/by=exporter", func(b *testing.B) {
			e := newExporter(b, startAtOnce(b, kind, n), kind, accounts, n, fromMemory)
			perJob(b, n, func() { e.scrape(b) })
		})
	}
	for _, n := range sizes {
		serve(fmt.Sprintf("embed_jobs=%d", n), cohertest.EmbedJobs, 1, n)
		b.Run(fmt.Sprintf("embed_jobs=%d/by=baseline", n), func(b *testing.B) {
			h := plainGauges(n)
			perJob(b, n, func() { scrapeHandler(b, h, seriesPerJob[cohertest.EmbedJobs]*n) })
		})
		serve(fmt.Sprintf("batches=%d", n), cohertest.Batches, 1, n)
	}
	serve("embed_jobs=10000/accounts=50", cohertest.EmbedJobs, 50, 10_000)
}

// fromMemory has jobs fetched once.
func fromMemory(j *config.Jobs) {
	j.RefreshInterval = model.Duration(time.Hour)
	j.SettledInterval = j.RefreshInterval
}

// BenchmarkMemory tells what remembering jobs takes, and the process after ten
// scrapes: run it alone, for one kind and size.
func BenchmarkMemory(b *testing.B) {
	for _, kind := range []string{cohertest.EmbedJobs, cohertest.Batches} {
		for _, n := range sizes {
			b.Run(fmt.Sprintf("%s=%d/by=exporter", kind, n), func(b *testing.B) {
				for b.Loop() {
					benchmarkMemory(b, kind, n)
				}
			})
		}
	}
}

func benchmarkMemory(b *testing.B, kind string, n int) {
	url := startAtOnce(b, kind, n)
	before := heap()
	e := newExporter(b, url, kind, 1, n, fromMemory)
	for range 10 {
		e.scrape(b)
	}
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, _ := strconv.Atoi(strings.Fields(value)[0])
			b.ReportMetric(float64(kib)/1024, "resident-MiB")
		}
	}
	b.ReportMetric(float64(heap()-before)/float64(n), "held-B/job")
	runtime.KeepAlive(e)
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func plainGauges(n int) http.Handler {
	reg := prometheus.NewRegistry()
	vec := func(name string, labels ...string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: name}, append([]string{"job_id"}, labels...))
		reg.MustRegister(v)
		return v
	}
	status := vec("status", "status")
	info := vec("info", "name", "model", "truncate", "input_dataset_id", "output_dataset_id")
	api := vec("api_info", "version", "deprecated", "experimental")
	var others []*prometheus.GaugeVec
	for i := range seriesPerJob[cohertest.EmbedJobs] - 8 {
		others = append(others, vec(fmt.Sprintf("embed_job_number_%d_of_some_kind", i)))
	}
	for i := range n {
		id := benchmarkID(i)
		for _, s := range []string{"processing", "complete", "cancelling", "cancelled", "failed", "unknown"} {
			status.WithLabelValues(id, s).Set(1)
		}
		info.WithLabelValues(id, "nightly embedding", "embed-multilingual-v3.0", "END", "ds-"+id+"-in", "ds-out").Set(1)
		api.WithLabelValues(id, "1", "false", "false").Set(1)
		for _, v := range others {
			v.WithLabelValues(id).Set(float64(1520 + i))
		}
	}
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{EnableOpenMetrics: true})
}

// BenchmarkJobsPage is the page of 200 of 10,000 jobs.
func BenchmarkJobsPage(b *testing.B) {
	const n = 10_000
	jobs := cohertest.EmbedJobs
	e := newExporter(b, startHere(b, jobs, n), jobs, 1, n, fromMemory)
	e.scrape(b)
	for _, query := range []string{"", "?page=25", "?q=nightly", "?q=no+such+job"} {
		b.Run("query="+query, func(b *testing.B) {
			r, _ := http.NewRequest(http.MethodGet, "/jobs"+query, nil)
			b.ReportAllocs()
			cpu := cpuTime()
			for b.Loop() {
				w := &discard{header: http.Header{}}
				e.ServeHTTP(w, r)
				if w.code != 0 && w.code != http.StatusOK {
					b.Fatalf("status %d", w.code)
				}
			}
			b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N)/1e6, "cpu-ms/page")
		})
	}
}
