package collector_test

import (
	"context"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
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
		all := slices.Concat(faults, jobFaults, []misbehaviour{{name: "fine"}, {name: "fine-too"}})
		b := newBothHarness(t, 0, func(c *config.Account) {
			for _, k := range bothKinds {
				k.Jobs(c).MaxConcurrentRequests, k.Jobs(c).RequestsPerMinute = 100, 0
				for _, f := range all {
					k.Jobs(c).IDs = append(k.Jobs(c).IDs, f.name)
				}
			}
		})
		want := []string{"cohere_up 0"}
		for _, f := range all {
			b.user.Add(cohertest.Job{ID: f.name})
			b.user.AddBatches(cohertest.Batch{ID: f.name})
			b.user.Fail(f.name, f.fault) // both
			for _, k := range bothKinds {
				want = append(want, k.upOf(f.name, f.reason)...)
			}
		}
		slices.Sort(want)
		for range 2 { // the second over connections that were used before
			got := b.scrape(15*time.Second).text(false, "cohere_up", "cohere_embed_job_up", "cohere_embed_job_fetch_error",
				"cohere_batch_up", "cohere_batch_fetch_error")
			compare(t, "series", got, strings.Join(want, "\n"))
		}
		b.checkSecret(key)
		if strings.Contains(b.logs.String(), "elsewhere") || strings.Count(b.logs.String(), "<secret>") < 3 {
			t.Error("logs:\n" + b.logs.String())
		}
	})
}

// upOf returns the series that tell whether a job is up.
func (k kindOf) upOf(id, reason string) []string {
	name, labels := "cohere_"+k.name, k.id+"="+strconv.Quote(id)
	if reason == "" {
		return []string{name + "_up{" + labels + "} 1"}
	}
	return []string{
		name + "_up{" + labels + "} 0",
		name + "_fetch_error{" + labels + `,reason="` + reason + `"} 1`,
	}
}

func TestFlappingAPI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const jobs = 20
		b := newHarness(t, jobs, nil)
		b.user.Update("job-004", func(j *cohertest.Job) { j.Status = "failed" })
		b.every(time.Second, 1, nil)
		b.user.Fail(cohertest.All, cohertest.Flaky(.3, 1, cohertest.Status(http.StatusServiceUnavailable, "try later")))
		started, flapped := time.Now(), 0
		type attempt struct {
			ok bool
			at time.Time
		}
		b.every(15*time.Second, 40, func(i int, s series) {
			last, success := map[string]attempt{}, map[string]time.Time{}
			for _, r := range b.api.Requests() {
				ok := r.Status == http.StatusOK
				last[r.ID] = attempt{ok, r.Time}
				if ok {
					success[r.ID] = r.Time
				}
			}
			if v, _ := s.job("status", 4, "status", "failed"); v != 1 {
				t.Fatalf("scrape %d lost the failed job", i)
			}
			for j := range jobs {
				id := fmt.Sprintf("job-%03d", j)
				up, _ := s.job("up", j)
				_, hasError := s.job("fetch_error", j)
				unavailable := s[fmt.Sprintf("cohere_embed_job_fetch_error{job_id=%q,reason=\"unavailable\"}", id)]
				if (up == 1) != last[id].ok || hasError == last[id].ok || unavailable != 1-up {
					t.Fatalf("scrape %d: %s up %v, last attempt %v", i, id, up, last[id])
				}
				if got, _ := s.job("last_success_timestamp_seconds", j); got != float64(success[id].UnixMilli())/1e3 {
					t.Fatalf("scrape %d: %s last success %v, not %v", i, id, got, success[id])
				}
				if up == 0 {
					flapped++
				}
			}
		})
		if flapped == 0 || time.Since(started) < 10*time.Minute-time.Second {
			t.Error("the API did not flap")
		}
	})
}

// A connection that became a black hole, as where NAT forgot it, costs one
// scrape: HTTP/2 would go on using it.
func TestBlackHole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &harness{t: t, api: cohertest.New(), reg: prometheus.NewRegistry(), logs: &logs{}}
		b.api.AddUser(key).Add(cohertest.Job{ID: "job-000"}, cohertest.Job{ID: "job-001"})
		server := b.api.StartInMemoryTLS()
		t.Cleanup(server.Close)
		c := account(server, key)
		c.EmbedJobs.IDs = []string{"job-000", "job-001"}
		c.EmbedJobs.MaxConcurrentRequests = 1
		c.HTTPClientConfig.TLSConfig.CA = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
		var conns []*blackHole
		dial := server.DialContext
		server.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			conns = append(conns, &blackHole{Conn: conn})
			return conns[len(conns)-1], err
		}
		b.start(server, &config.Config{Accounts: []config.Account{c}})
		for i, want := range []float64{1, 0, 1} {
			if got := b.scrape(30 * time.Second)["cohere_up"]; got != want {
				t.Errorf("scrape %d: up is %v", i, got)
			}
			if i == 0 {
				conns[0].silent.Store(true)
			}
			time.Sleep(time.Second)
		}
		if len(conns) != 2 {
			t.Errorf("%d connections", len(conns))
		}
	})
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
