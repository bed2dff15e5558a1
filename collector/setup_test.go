package collector_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/config"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
	"github.com/cohere-exporter/cohere_exporter/collector"
)

const key = "secret-key-of-the-tests"

// bench is an exporter of one account, with the API that it asks. It lives in
// a bubble of fake time.
type bench struct {
	t    *testing.T
	api  *cohertest.API
	user *cohertest.User
	set  *collector.Set
	reg  *prometheus.Registry
	logs *strings.Builder
}

// account returns the configuration of an account without anything to watch.
func account(server *cohertest.Server, key string) collector.AccountConfig {
	c := collector.DefaultAccountConfig()
	c.BaseURL = server.URL
	c.HTTPClientConfig.Authorization = &config.Authorization{Credentials: config.Secret(key)}
	return c
}

// newBench watches n processing jobs, job-000 and so on. change may adapt the
// configuration.
func newBench(t *testing.T, n int, change func(*collector.AccountConfig)) *bench {
	t.Helper()
	b := &bench{t: t, api: cohertest.New(), reg: prometheus.NewRegistry(), logs: &strings.Builder{}}
	b.user = b.api.AddUser(key)
	server := b.api.StartInMemory()
	t.Cleanup(server.Close)
	c := account(server, key)
	for i := range n {
		id := fmt.Sprintf("job-%03d", i)
		b.user.Add(cohertest.Job{ID: id, Status: "processing"})
		c.JobIDs = append(c.JobIDs, id)
	}
	if change != nil {
		change(&c)
	}
	b.start(server, &collector.Config{Accounts: []collector.AccountConfig{c}})
	return b
}

func (b *bench) start(server *cohertest.Server, cfg *collector.Config) {
	b.t.Helper()
	var err error
	b.set, err = collector.New(cfg, collector.Options{
		Logger:      log.NewLogfmtLogger(log.NewSyncWriter(b.logs)),
		Registerer:  b.reg,
		DialContext: server.DialContext,
		UserAgent:   "cohere_exporter/test",
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(b.set.Close)
}

// gather scrapes once.
func (b *bench) gather(timeout time.Duration) []*dto.MetricFamily {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), timeout)
	defer cancel()
	reg := prometheus.NewRegistry()
	reg.MustRegister(b.set.Scrape(ctx))
	families, err := reg.Gather()
	if err != nil {
		b.t.Error(err)
	}
	return families
}

// scrape returns the series of one scrape.
func (b *bench) scrape(timeout time.Duration) series {
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
