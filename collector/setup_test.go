package collector_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	promconfig "github.com/prometheus/common/config"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
	"github.com/cohere-exporter/cohere_exporter/collector"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
)

const key = "secret-key-of-the-tests"

// patience is how long to wait, outside of fake time, for what takes no time on a
// machine that is not busy with something else.
const patience = 20 * time.Second

// harness is an exporter of one account, with the API that it asks. It lives in
// a bubble of fake time.
type harness struct {
	t    *testing.T
	api  *cohertest.API
	user *cohertest.User
	set  *collector.Set
	reg  *prometheus.Registry
	logs *logs // since the start

	started string // what was logged at the start
}

// account returns the configuration of an account without a budget, and without
// anything to watch.
func account(server *cohertest.Server, key string) config.Account {
	c, jobs := config.Default(), config.DefaultJobs()
	jobs.RequestsPerMinute = 0
	c.BaseURL, c.EmbedJobs = server.URL, &jobs
	c.HTTPClientConfig.Authorization = &promconfig.Authorization{Credentials: promconfig.Secret(key)}
	return c
}

// logs is what was logged.
type logs struct {
	mu      sync.Mutex
	text    strings.Builder
	blocked chan struct{} // nil: not
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	blocked := l.blocked
	l.mu.Unlock()
	if blocked != nil {
		<-blocked
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// block has who writes wait.
func (l *logs) block() (release func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.blocked = make(chan struct{})
	return sync.OnceFunc(func() { close(l.blocked) })
}

// taken returns what was logged by now, and forgets it.
func (l *logs) taken() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.text.Reset()
	return l.text.String()
}

// String waits for what is still to be written: no scrape does.
func (l *logs) String() string {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// await waits, outside of fake time, until something was logged.
func (l *logs) await(t *testing.T, what string) {
	t.Helper()
	logged := func() string {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.text.String()
	}
	for deadline := time.Now().Add(patience); !strings.Contains(logged(), what); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%q was not logged, but\n%s", what, logged())
		}
	}
}

// newHarness watches n processing jobs, job-000 and so on. change may adapt the
// configuration.
func newHarness(t *testing.T, n int, change func(*config.Account)) *harness {
	t.Helper()
	b := &harness{t: t, api: cohertest.New(), reg: prometheus.NewRegistry(), logs: &logs{}}
	b.user = b.api.AddUser(key)
	server := b.api.StartInMemory()
	t.Cleanup(server.Close)
	c := account(server, key)
	for i := range n {
		id := fmt.Sprintf("job-%03d", i)
		b.user.Add(cohertest.Job{ID: id, Status: "processing"})
		c.EmbedJobs.IDs = append(c.EmbedJobs.IDs, id)
	}
	if change != nil {
		change(&c)
	}
	b.start(server, &config.Config{Accounts: []config.Account{c}})
	return b
}

func (b *harness) start(server *cohertest.Server, cfg *config.Config) {
	b.t.Helper()
	var err error
	b.set, err = collector.New(cfg, collector.Options{
		Logger:      log.NewLogfmtLogger(b.logs),
		Registerer:  b.reg,
		DialContext: server.DialContext,
		UserAgent:   "cohere_exporter/test",
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(b.set.Close)
	b.started = b.logs.taken()
}

// gather scrapes once.
func (b *harness) gather(timeout time.Duration) []*dto.MetricFamily {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), timeout)
	defer cancel()
	reg := prometheus.NewRegistry()
	reg.MustRegister(b.set.Collector(ctx))
	families, err := reg.Gather()
	if err != nil {
		b.t.Error(err)
	}
	return families
}

// scrape returns the series of one scrape.
func (b *harness) scrape(timeout time.Duration) series {
	b.t.Helper()
	return seriesOf(b.gather(timeout))
}

// seriesOf returns the series of families, by name and labels as in the text
// format. The value of a histogram is its count.
func seriesOf(families []*dto.MetricFamily) series {
	got := series{}
	for _, family := range families {
		for _, m := range family.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, l.GetName()+"="+strconv.Quote(l.GetValue()))
			}
			name := family.GetName()
			if len(labels) > 0 {
				name += "{" + strings.Join(labels, ",") + "}"
			}
			got[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return got
}

type series map[string]float64

func (s series) job(metric string, i int, labels ...string) (float64, bool) {
	name := fmt.Sprintf("cohere_embed_job_%s{job_id=\"job-%03d\"", metric, i)
	if metric == "fetch_error" {
		for n, v := range s {
			if strings.HasPrefix(n, name) {
				return v, true
			}
		}
		return 0, false
	}
	for i := 0; i < len(labels); i += 2 {
		name += fmt.Sprintf(",%s=%q", labels[i], labels[i+1])
	}
	v, ok := s[name+"}"]
	return v, ok
}

// every scrapes n times, an interval apart, and has check, if any, look at
// each.
func (b *harness) every(interval time.Duration, n int, check func(i int, s series)) {
	b.t.Helper()
	for i := range n {
		started := time.Now()
		if timeout := min(interval, 10*time.Second); check == nil {
			b.gather(timeout)
		} else {
			check(i, b.scrape(timeout))
		}
		time.Sleep(interval - time.Since(started))
	}
}

// times returns when the API was asked, in seconds since the start, and for
// what.
func (b *harness) times() (times []string) {
	for _, r := range b.api.Requests() {
		what := r.ID
		if r.Endpoint == "list" {
			what = r.Endpoint
		}
		times = append(times, fmt.Sprintf("%v %s", r.Time.Sub(time.Unix(start, 0)).Seconds(), what))
	}
	return times
}
