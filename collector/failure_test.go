package collector_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
	"github.com/cohere-exporter/cohere_exporter/collector"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
)

// misbehaviour is a way for the API to answer, and the reason that it gets; none
// where a job, or a list, is in the answer all the same.
type misbehaviour struct {
	name   string
	fault  cohertest.Fault
	reason string
}

// faults are told apart for a job and for the list alike.
var faults = []misbehaviour{
	{"400", cohertest.Status(400, "invalid id"), "bad_request"},
	{"401", cohertest.Status(401, "invalid api token"), "unauthorized"},
	{"402", cohertest.Status(402, "billing limit"), "payment_required"},
	{"403", cohertest.Status(403, "not yours"), "forbidden"},
	{"404", cohertest.Status(404, "no such job"), "not_found"},
	{"418", cohertest.Status(418, "a teapot"), "http_error"},
	{"422", cohertest.Status(422, "cannot"), "unprocessable"},
	{"498", cohertest.Status(498, "deny-listed"), "invalid_token"},
	{"499", cohertest.Status(499, "you left"), "client_closed"},
	{"500", cohertest.Status(500, "oops"), "server_error"},
	{"501", cohertest.Status(501, "later"), "not_implemented"},
	{"502", cohertest.BadGateway, "server_error"},
	{"503", cohertest.Status(503, "overloaded"), "unavailable"},
	{"504", cohertest.Status(504, "too slow"), "gateway_timeout"},
	{"529", cohertest.Status(529, ""), "server_error"},
	{"204", cohertest.Status(204, ""), "http_error"},
	{"array", cohertest.Array, "invalid_response"},
	{"cut-short", cohertest.CutShort, "invalid_response"},
	{"drip", cohertest.Drip, "timeout"},
	{"empty", cohertest.Empty, "invalid_response"},
	{"hang", cohertest.Hang, "timeout"},
	{"key-echo", cohertest.KeyEcho(403), "forbidden"},
	{"key-echo-garbage", cohertest.Body("Bearer " + key), "invalid_response"},
	{"not-json", cohertest.NotJSON, "invalid_response"},
	{"null", cohertest.Null, "invalid_response"},
	{"redirect", cohertest.RedirectTo("http://elsewhere.test/"), "http_error"},
	{"redirect-here", cohertest.RedirectTo("/v1/embed-jobs/job-000"), "http_error"},
	{"redirect-nowhere", cohertest.RedirectTo("http://%zz/"), "http_error"},
	{"reset", cohertest.Reset, "network"},
	{"string", cohertest.Body(`"job"`), "invalid_response"},
	{"too-slow", cohertest.Slow(time.Minute), "timeout"},

	{"invalid-utf8", cohertest.InvalidUTF8, ""},
	{"missing-fields", cohertest.MissingFields, ""},
	{"null-fields", cohertest.NullFields, ""},
	{"null-meta", cohertest.NullMeta, ""},
	{"numbers-as-strings", cohertest.NumbersAsStrings, ""},
	{"slow", cohertest.Slow(9 * time.Second), ""},
	{"unknown-status", cohertest.UnknownStatus, ""},
	{"warning", cohertest.Warning("this model goes away, says " + key), ""},
	{"wrong-types", cohertest.WrongTypes, ""},
}

// jobFaults are those that only the answer for one job may have.
var jobFaults = []misbehaviour{
	{"endless", cohertest.Endless, "invalid_response"},
	{"key-echo-body", cohertest.Body(`{"job_id":"` + key + `","status":"processing"}`), "invalid_response"},
	{"no-status", cohertest.NoStatus, "invalid_response"},
	{"other-job", cohertest.OtherJob, "invalid_response"},
}

// All at once: each costs its own job only.
func TestFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := slices.Concat(faults, jobFaults)
		b := newHarness(t, 3, func(c *config.Account) {
			c.EmbedJobs.MaxConcurrentRequests = 100
			for _, f := range all {
				c.EmbedJobs.IDs = append(c.EmbedJobs.IDs, f.name)
			}
		})
		want := []string{"cohere_up 0"}
		for _, f := range append(all, misbehaviour{name: "job-000"}, misbehaviour{name: "job-001"}, misbehaviour{name: "job-002"}) {
			b.user.Add(cohertest.Job{ID: f.name})
			b.user.Fail(f.name, f.fault)
			want = append(want, upOf("job_id="+strconv.Quote(f.name), f.reason)...)
		}
		slices.Sort(want)
		for range 2 { // the second over connections that were used before
			got := b.scrape(15*time.Second).text(false, "cohere_up", "cohere_embed_job_up", "cohere_embed_job_fetch_error")
			compare(t, "series", got, strings.Join(want, "\n"))
		}
		b.checkSecret(key)
		if strings.Contains(b.logs.String(), "elsewhere") || strings.Count(b.logs.String(), "<secret>") < 3 {
			t.Error("logs:\n" + b.logs.String())
		}
	})
}

// upOf returns the series that tell whether a job is up.
func upOf(labels, reason string) []string {
	if reason == "" {
		return []string{"cohere_embed_job_up{" + labels + "} 1"}
	}
	return []string{
		"cohere_embed_job_up{" + labels + "} 0",
		"cohere_embed_job_fetch_error{" + labels + `,reason="` + reason + `"} 1`,
	}
}

// A list that fails is every job's failure, and no reason for single requests.
func TestListFailures(t *testing.T) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newHarness(t, 2, func(c *config.Account) { c.EmbedJobs.Fetch = config.FetchList })
				b.user.Fail(cohertest.List, f.fault)
				want := []string{`cohere_list_up{resource="embed_jobs"} 1`, "cohere_up 1"}
				if f.reason != "" {
					want = []string{`cohere_list_up{resource="embed_jobs"} 0`, "cohere_up 0", `cohere_list_fetch_error{reason="` + f.reason + `",resource="embed_jobs"} 1`}
				}
				for i := range 2 {
					want = append(want, upOf(fmt.Sprintf("job_id=\"job-%03d\"", i), f.reason)...)
				}
				slices.Sort(want)
				got := b.scrape(15*time.Second).text(false, "cohere_list_*", "cohere_up", "cohere_embed_job_up", "cohere_embed_job_fetch_error")
				compare(t, "series", got, strings.Join(want, "\n"))
				if n := len(b.api.Requests()); n != 1 {
					t.Errorf("%d requests", n)
				}
				b.checkSecret(key)
			})
		})
	}
}

// checkSecret fails if a key is anywhere in the logs or metrics.
func (b *harness) checkSecret(key string) {
	b.t.Helper()
	if strings.Contains(b.logs.String(), key) {
		b.t.Errorf("the key is in the logs:\n%s", b.logs)
	}
	own, err := b.reg.Gather()
	if err != nil {
		b.t.Fatal(err)
	}
	var text bytes.Buffer
	for _, family := range append(own, b.gather(15*time.Second)...) {
		if _, err := expfmt.MetricFamilyToText(&text, family); err != nil {
			b.t.Fatal(err)
		}
	}
	if strings.Contains(text.String(), key) {
		b.t.Errorf("the key is in the metrics:\n%s", &text)
	}
}

// keyFile has the account read its key from a file, which it returns.
func keyFile(t *testing.T, c *config.Account) (file string) {
	file = filepath.Join(t.TempDir(), "key")
	c.HTTPClientConfig.Authorization = &promconfig.Authorization{CredentialsFile: file}
	return file
}

func TestKeyFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var file string
		b := newHarness(t, 1, func(c *config.Account) { file = keyFile(t, c) })
		write := func(text string) func() {
			return func() {
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, step := range []struct {
			name   string
			change func()
			reason string
			sent   string
		}{
			{"missing", func() {}, "no_key", ""},
			{"written", write(key + "\n"), "", key},
			{"emptied", write(" \n"), "no_key", ""},
			{"two lines", write(key + "\nanother"), "no_key", ""},
			{"wrong", write("wrong-key"), "unauthorized", "wrong-key"},
			{"replaced", func() { b.user.SetKey("new-key"); write("new-key")() }, "", "new-key"},
			{"removed", func() { os.Remove(file) }, "no_key", ""},
		} {
			step.change()
			b.api.ResetRequests()
			got := b.scrape(time.Second).text(false, "cohere_embed_job_up", "cohere_embed_job_fetch_error")
			want := upOf(`job_id="job-000"`, step.reason)
			slices.Sort(want)
			compare(t, step.name, got, strings.Join(want, "\n"))
			var sent string
			for _, r := range b.api.Requests() {
				sent += r.Key
			}
			if sent != step.sent {
				t.Errorf("%s: sent %q", step.name, sent)
			}
		}
		// Nothing sent, nothing counted.
		compare(t, "counters", b.counters(), `
			cohere_api_request_duration_seconds{endpoint="get",resource="embed_jobs"} 3
			cohere_api_requests_total{code="200",endpoint="get",resource="embed_jobs"} 2
			cohere_api_requests_total{code="401",endpoint="get",resource="embed_jobs"} 1`)
		for _, key := range []string{key, "wrong-key", "new-key"} {
			b.checkSecret(key)
		}
	})
}

// counters returns the metrics about API requests that are not 0.
func (b *harness) counters() string {
	b.t.Helper()
	families, err := b.reg.Gather()
	if err != nil {
		b.t.Fatal(err)
	}
	return seriesOf(families).text(true)
}

func TestCountersFromTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		discover := config.DefaultDiscover()
		b := newHarness(t, 0, func(c *config.Account) { c.EmbedJobs.Discover = &discover })
		families, err := b.reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		compare(t, "counters", seriesOf(families).text(false), `
			cohere_api_request_duration_seconds{endpoint="get",resource="embed_jobs"} 0
			cohere_api_request_duration_seconds{endpoint="list",resource="embed_jobs"} 0
			cohere_api_requests_total{code="200",endpoint="get",resource="embed_jobs"} 0
			cohere_api_requests_total{code="200",endpoint="list",resource="embed_jobs"} 0
			cohere_api_requests_total{code="429",endpoint="get",resource="embed_jobs"} 0
			cohere_api_requests_total{code="429",endpoint="list",resource="embed_jobs"} 0
			cohere_api_requests_total{code="error",endpoint="get",resource="embed_jobs"} 0
			cohere_api_requests_total{code="error",endpoint="list",resource="embed_jobs"} 0
			cohere_api_warnings_total{resource="embed_jobs"} 0
			cohere_fetches_skipped_total{reason="deadline",resource="embed_jobs"} 0
			cohere_fetches_skipped_total{reason="over_budget",resource="embed_jobs"} 0
			cohere_fetches_skipped_total{reason="rate_limited",resource="embed_jobs"} 0`)
	})
}

// Two scrapes, 15 s apart.
func TestCounters(t *testing.T) {
	for _, c := range []struct {
		name   string
		jobs   int
		change func(c *config.Account)
		api    func(b *harness)
		want   string
		asked  int // requests that the API saw
	}{
		{
			name: "statuses", jobs: 5, asked: 10,
			api: func(b *harness) {
				b.user.Remove("job-000")
				b.user.Fail("job-001", cohertest.Status(503, ""))
				b.user.Fail("job-002", cohertest.NotJSON)
				b.user.Fail("job-003", cohertest.Hang)
			},
			want: `
				cohere_api_request_duration_seconds{endpoint="get",resource="embed_jobs"} 10
				cohere_api_requests_total{code="200",endpoint="get",resource="embed_jobs"} 4
				cohere_api_requests_total{code="404",endpoint="get",resource="embed_jobs"} 2
				cohere_api_requests_total{code="503",endpoint="get",resource="embed_jobs"} 2
				cohere_api_requests_total{code="error",endpoint="get",resource="embed_jobs"} 2`,
		},
		{
			name: "warnings", jobs: 3, asked: 6,
			api: func(b *harness) { b.user.Fail("job-001", cohertest.Warning("old model")) },
			want: `
				cohere_api_request_duration_seconds{endpoint="get",resource="embed_jobs"} 6
				cohere_api_requests_total{code="200",endpoint="get",resource="embed_jobs"} 6
				cohere_api_warnings_total{resource="embed_jobs"} 2`,
		},
		{
			name: "over budget", jobs: 5, asked: 3,
			change: func(c *config.Account) { c.EmbedJobs.RequestsPerMinute = 3 },
			want: `
				cohere_api_request_duration_seconds{endpoint="get",resource="embed_jobs"} 3
				cohere_api_requests_total{code="200",endpoint="get",resource="embed_jobs"} 3
				cohere_fetches_skipped_total{reason="over_budget",resource="embed_jobs"} 7`,
		},
		{
			name: "refused", jobs: 5, asked: 1,
			change: func(c *config.Account) { c.EmbedJobs.MaxConcurrentRequests = 1 },
			api: func(b *harness) {
				b.user.Limit(cohertest.Limit{Per: time.Hour, RetryAfter: cohertest.Seconds})
			},
			want: `
				cohere_api_request_duration_seconds{endpoint="get",resource="embed_jobs"} 1
				cohere_api_requests_total{code="429",endpoint="get",resource="embed_jobs"} 1
				cohere_fetches_skipped_total{reason="rate_limited",resource="embed_jobs"} 9`,
		},
		{
			name: "deadline", jobs: 5, asked: 8,
			change: func(c *config.Account) {
				c.EmbedJobs.MaxConcurrentRequests, c.Timeout = 2, model.Duration(6*time.Second)
			},
			api: func(b *harness) { b.user.Fail(cohertest.All, cohertest.Hang) },
			want: `
				cohere_api_request_duration_seconds{endpoint="get",resource="embed_jobs"} 8
				cohere_api_requests_total{code="error",endpoint="get",resource="embed_jobs"} 8
				cohere_fetches_skipped_total{reason="deadline",resource="embed_jobs"} 2`,
		},
		{
			name: "sent again", jobs: 1, asked: 3,
			api: func(b *harness) { b.user.Fail(cohertest.All, cohertest.ResetReused) },
			want: `
				cohere_api_request_duration_seconds{endpoint="get",resource="embed_jobs"} 2
				cohere_api_requests_total{code="200",endpoint="get",resource="embed_jobs"} 2
				cohere_api_requests_total{code="error",endpoint="get",resource="embed_jobs"} 1`,
		},
		{
			name: "sent again within the budget", jobs: 1, asked: 3,
			change: func(c *config.Account) { c.EmbedJobs.RequestsPerMinute = 3 },
			api:    func(b *harness) { b.user.Fail(cohertest.All, cohertest.ResetReused) },
			want: `
				cohere_api_request_duration_seconds{endpoint="get",resource="embed_jobs"} 2
				cohere_api_requests_total{code="200",endpoint="get",resource="embed_jobs"} 2
				cohere_api_requests_total{code="error",endpoint="get",resource="embed_jobs"} 1`,
		},
		{
			name: "not sent again beyond the budget", jobs: 1, asked: 2,
			change: func(c *config.Account) { c.EmbedJobs.RequestsPerMinute = 2 },
			api:    func(b *harness) { b.user.Fail(cohertest.All, cohertest.ResetReused) },
			want: `
				cohere_api_request_duration_seconds{endpoint="get",resource="embed_jobs"} 2
				cohere_api_requests_total{code="200",endpoint="get",resource="embed_jobs"} 1
				cohere_api_requests_total{code="error",endpoint="get",resource="embed_jobs"} 1`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newHarness(t, c.jobs, c.change)
				if c.api != nil {
					c.api(b)
				}
				b.every(15*time.Second, 2, nil)
				compare(t, "counters", b.counters(), c.want)
				if n := len(b.api.Requests()); n != c.asked {
					t.Errorf("the API was asked %d times", n)
				}
			})
		})
	}
}

// A connection that became a black hole, as where NAT forgot it, costs one
// scrape: HTTP/2 would go on using it.
func TestBlackHole(t *testing.T) {
	b := &harness{t: t, api: cohertest.New(), reg: prometheus.NewRegistry()}
	b.api.AddUser(key).Add(cohertest.Job{ID: "job-000"}, cohertest.Job{ID: "job-001"})
	server := b.api.StartTLS()
	t.Cleanup(server.Close)
	c := account(server, key)
	c.EmbedJobs.IDs = []string{"job-000", "job-001"}
	c.Timeout, c.EmbedJobs.MaxConcurrentRequests = model.Duration(300*time.Millisecond), 1
	c.HTTPClientConfig.TLSConfig.CA = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	var conns []*blackHole
	set, err := collector.New(&config.Config{Accounts: []config.Account{c}}, collector.Options{
		Registerer: b.reg,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			conns = append(conns, &blackHole{Conn: conn})
			return conns[len(conns)-1], err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	b.set = set
	t.Cleanup(set.Close)
	for i, want := range []float64{1, 0, 1} {
		if got := b.scrape(10 * time.Second)["cohere_up"]; got != want {
			t.Errorf("scrape %d: up is %v", i, got)
		}
		if i == 0 {
			for _, conn := range conns {
				conn.silent.Store(true)
			}
		}
	}
	if len(conns) != 2 {
		t.Errorf("%d connections", len(conns))
	}
}

// blackHole is a connection that at some time swallows what is written.
type blackHole struct {
	net.Conn
	silent atomic.Bool
}

func (b *blackHole) Write(p []byte) (int, error) {
	if b.silent.Load() {
		return len(p), nil
	}
	return b.Conn.Write(p)
}
