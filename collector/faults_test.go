package collector_test

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.uber.org/goleak"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
	"github.com/cohere-exporter/cohere_exporter/collector"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
	"github.com/cohere-exporter/cohere_exporter/collector/logging"
	"github.com/cohere-exporter/cohere_exporter/collector/web"
)

// What the test of faults scrapes: 40 jobs and 20 batches over HTTP/1.1, and as
// many over TLS with HTTP/2. Two thirds of them misbehave.
const (
	faultyRequestTimeout = 4 * time.Second
	faultyScrapeTimeout  = 30 * time.Second
	mostMemory           = 64 << 20 // above idle
)

var (
	faultyTotal = map[string]int{cohertest.EmbedJobs: 40, cohertest.Batches: 20}
	faultyWell  = map[string]int{cohertest.EmbedJobs: 13, cohertest.Batches: 7}
)

// faulty is an exporter whose API misbehaves, over real connections.
type faulty struct {
	t        *testing.T
	api      *cohertest.API
	users    map[string]*cohertest.User // by account
	accounts []config.Account

	mu        sync.Mutex // guards the rest
	logs      bytes.Buffer
	protocols map[string]int // the major version of HTTP, by account
}

func (f *faulty) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.logs.Write(p)
}

// account has the exporter watch jobs of another user.
func (f *faulty) account(name string, server *cohertest.Server, n map[string]int) *config.Account {
	user := f.api.AddUser(name + "-secret")
	f.users[name] = user
	c := config.Default()
	c.Name, c.BaseURL, c.Timeout = name, server.URL, model.Duration(faultyRequestTimeout)
	c.HTTPClientConfig.Authorization = &promconfig.Authorization{Credentials: promconfig.Secret(name + "-secret")}
	if cert := server.Certificate(); cert != nil {
		c.HTTPClientConfig.TLSConfig.CA = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	}
	for _, k := range bothKinds {
		jobs := config.DefaultJobs()
		jobs.RequestsPerMinute = 0
		for i := range n[k.Name] {
			id := faultyID(k, i)
			jobs.IDs = append(jobs.IDs, id)
			user.Add(cohertest.Job{ID: id, Status: "complete", InputTokens: float64(1000 + i)})
			user.AddBatches(cohertest.Batch{ID: id, Status: "BATCH_STATUS_COMPLETED", InputTokens: int64(1000 + i)})
		}
		k.Watch(&c, &jobs)
	}
	f.accounts = append(f.accounts, c)
	return &f.accounts[len(f.accounts)-1]
}

func faultyID(k kindOf, i int) string { return fmt.Sprintf("%s-%02d", k.name, i) }

// misbehave gives every job that is not to be well its way to misbehave,
// beginning with that of a number, and returns the series to expect.
func (f *faulty) misbehave(account string, ways []misbehaviour, next int) (want []string) {
	for _, k := range bothKinds {
		for i := range faultyTotal[k.Name] {
			id, reason := faultyID(k, i), ""
			if i >= faultyWell[k.Name] {
				way := ways[next%len(ways)]
				next++
				f.users[account].Fail(id, way.fault)
				reason = way.reason
			} else {
				f.users[account].Fail(id, func(w http.ResponseWriter, r *http.Request, c *cohertest.Call) {
					f.mu.Lock()
					f.protocols[account] = r.ProtoMajor
					f.mu.Unlock()
					c.Answer(w)
				})
				want = append(want, fmt.Sprintf("cohere_%s{account=%q,%s=%q} %d", tokensOf[k.Name], account, k.id, id, 1000+i))
			}
			for _, line := range k.upOf(id, reason) {
				want = append(want, strings.Replace(line, "{", "{account=\""+account+"\",", 1))
			}
		}
	}
	return want
}

var tokensOf = map[string]string{
	cohertest.EmbedJobs: "embed_job_billed_input_tokens",
	cohertest.Batches:   "batch_input_tokens",
}

// get returns a page of the exporter, which has to come in time.
func (f *faulty) get(url string) string {
	f.t.Helper()
	req, _ := http.NewRequest(http.MethodGet, url, nil)
	req.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", fmt.Sprint(faultyScrapeTimeout.Seconds()))
	began := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		f.t.Errorf("%s: status %d, error %v", url, resp.StatusCode, err)
	}
	if took := time.Since(began); took > faultyScrapeTimeout {
		f.t.Errorf("%s took %v", url, took)
	}
	return string(body)
}

// Two thirds of the jobs and batches misbehave in every way that the simulated
// API knows, at once, over real connections. The others do not notice, and
// nothing remains of it.
func TestFaults(t *testing.T) {
	f := &faulty{t: t, api: cohertest.New(), users: map[string]*cohertest.User{}, protocols: map[string]int{}}
	plain, tls := f.api.Start(), f.api.StartTLS()
	t.Cleanup(plain.Close)
	t.Cleanup(tls.Close)
	before, descriptors := goleak.IgnoreCurrent(), openFiles(t)

	f.account("http1", plain, faultyTotal)
	f.account("http2", tls, faultyTotal)
	one := map[string]int{cohertest.EmbedJobs: 1, cohertest.Batches: 1}
	f.account("refused", plain, one)
	for _, k := range bothKinds {
		k.limit(f.users["refused"], cohertest.Limit{Per: time.Hour, RetryAfter: cohertest.Seconds})
	}
	f.account("keyless", plain, one).HTTPClientConfig.Authorization = &promconfig.Authorization{
		CredentialsFile: filepath.Join(t.TempDir(), "missing"),
	}
	f.account("stranger", tls, one).HTTPClientConfig.Authorization.Credentials = "stranger-secret-of-another"

	logger, own := logging.New(f, "debug", "logfmt"), prometheus.NewRegistry()
	set, err := collector.New(&config.Config{Accounts: f.accounts, FromFile: true}, collector.Options{Logger: logger, Registerer: own})
	if err != nil {
		t.Fatal(err)
	}
	handler, err := web.NewHandler(web.Options{
		Set: set, Own: own, MetricsPath: "/metrics", TimeoutOffset: 500 * time.Millisecond,
		Logger: slog.New(logging.Handler(logger)),
	})
	if err != nil {
		t.Fatal(err)
	}
	exporter := httptest.NewServer(handler)
	shown := f.get(exporter.URL + "/")

	ways := slices.DeleteFunc(slices.Concat(faults, jobFaults), func(m misbehaviour) bool { return m.name == "slow" })
	ways = append(ways, misbehaviour{"slow", cohertest.Slow(100 * time.Millisecond), ""})
	overHTTP1 := append(slices.Clip(ways), misbehaviour{"reset-reused", cohertest.ResetReused, ""}) // which net/http sends again
	var others []string
	for account, reason := range map[string]string{"refused": "rate_limited", "keyless": "no_key", "stranger": "unauthorized"} {
		for _, k := range bothKinds {
			for _, line := range k.upOf(faultyID(k, 0), reason) {
				others = append(others, strings.Replace(line, "{", "{account=\""+account+"\",", 1))
			}
		}
	}

	memory := watchMemory()
	misbehaving := faultyTotal[cohertest.EmbedJobs] - faultyWell[cohertest.EmbedJobs] +
		faultyTotal[cohertest.Batches] - faultyWell[cohertest.Batches]
	for round := 0; round*misbehaving < 2*len(overHTTP1); round++ {
		want := slices.Concat(others, f.misbehave("http1", overHTTP1, round*misbehaving), f.misbehave("http2", ways, round*misbehaving))
		slices.Sort(want)
		text := f.get(exporter.URL + "/metrics")
		shown += text
		got := metricsIn(t, text)
		maps.DeleteFunc(got, func(name string, tokens float64) bool { // whatever those that misbehave say
			return strings.Contains(name, "_input_tokens{") && !slices.Contains(want, fmt.Sprint(name, " ", tokens))
		})
		compare(t, fmt.Sprintf("round %d", round), got.text(false,
			"cohere_embed_job_up", "cohere_embed_job_fetch_error", "cohere_embed_job_billed_input_tokens",
			"cohere_batch_up", "cohere_batch_fetch_error", "cohere_batch_input_tokens"), strings.Join(want, "\n"))
	}
	if used := memory(); used > mostMemory {
		t.Errorf("%d MiB more than when idle", used>>20)
	} else {
		t.Logf("%d MiB more than when idle", used>>20)
	}
	shown += f.get(exporter.URL + "/metrics?jobs=0")

	exporter.Close()
	http.DefaultClient.CloseIdleConnections()
	set.Close() // its connections end, though the API is there still
	goleak.VerifyNone(t, before)
	for wait := time.Millisecond; openFiles(t) > descriptors && wait < time.Second; wait *= 2 {
		time.Sleep(wait)
	}
	if n := openFiles(t); n > descriptors {
		t.Errorf("%d file descriptors are open, %d were before", n, descriptors)
	}
	if f.protocols["http1"] != 1 || f.protocols["http2"] != 2 {
		t.Errorf("major versions of HTTP: %v", f.protocols)
	}
	shown += f.logs.String()
	for account := range f.users {
		if secret := account + "-secret"; strings.Contains(shown, secret) {
			t.Errorf("the key %s shows", secret)
		}
	}
	if !strings.Contains(shown, "<secret>") || !strings.Contains(shown, "level=debug") {
		t.Error("no key was hidden, or nothing logged")
	}
}

// metricsIn parses the text format.
func metricsIn(t *testing.T, text string) series {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return seriesOf(slices.Collect(maps.Values(families)))
}

// openFiles returns the number of open file descriptors, 0 where the system
// does not tell.
func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if os.IsNotExist(err) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// watchMemory follows how much memory the process uses. The function that it
// returns ends that, and tells by how much the most was more than now.
func watchMemory() (most func() uint64) {
	read := func() uint64 {
		samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
		metrics.Read(samples)
		return samples[0].Value.Uint64() - samples[1].Value.Uint64()
	}
	debug.FreeOSMemory()
	idle := read()
	peak := idle
	ended, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			peak = max(peak, read())
			select {
			case <-time.After(2 * time.Millisecond):
			case <-ended:
				return
			}
		}
	}()
	return func() uint64 {
		close(ended)
		<-stopped
		return peak - idle
	}
}
