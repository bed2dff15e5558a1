package collector_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/common/model"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
)

// logged returns the log, but for debug.
func (b *harness) logged() string {
	var text strings.Builder
	for line := range strings.Lines(b.logs.String()) {
		if !strings.HasPrefix(line, "level=debug ") {
			text.WriteString(line)
		}
	}
	return text.String()
}

// Logs say what changed, once. Each step lasts for three scrapes.
func TestLogs(t *testing.T) {
	list := func(c *config.Account) { c.EmbedJobs.Fetch = config.FetchList }
	fail := func(fault cohertest.Fault) func(b *harness) {
		return func(b *harness) { b.user.Fail(cohertest.All, fault) }
	}
	status := func(status string) func(b *harness) {
		return func(b *harness) { b.user.Update("job-000", func(j *cohertest.Job) { j.Status = status }) }
	}
	limit := func(l cohertest.Limit) func(b *harness) {
		return func(b *harness) { b.user.Limit(l) }
	}
	// Refused at every scrape, since the gate opens before the next.
	refusing := cohertest.Limit{Per: 10 * time.Second, RetryAfter: cohertest.Seconds}
	for _, c := range []struct {
		name   string
		change func(c *config.Account)
		steps  []func(b *harness)
		want   string
	}{
		{name: "nothing", steps: []func(*harness){fail(nil)}},
		{
			name:  "status",
			steps: []func(*harness){fail(nil), status("cancelling"), status("hibernating"), status("complete")},
			want: `
				level=info msg="status of job changed" resource=embed_jobs job_id=job-000 from=processing to=cancelling
				level=info msg="status of job changed" resource=embed_jobs job_id=job-000 from=cancelling to=unknown
				level=info msg="status of job changed" resource=embed_jobs job_id=job-000 from=unknown to=complete`,
		},
		{
			name: "failure",
			steps: []func(*harness){
				fail(cohertest.Status(503, "overloaded")), fail(cohertest.Status(500, strings.Repeat("x", 201))), fail(nil),
				fail(cohertest.Status(404, "gone")), fail(nil),
			},
			want: `
				level=warn msg="fetching failed" resource=embed_jobs job_id=job-000 reason=unavailable err="API answered 503: overloaded"
				level=warn msg="fetching failed" resource=embed_jobs job_id=job-000 reason=server_error err="API answered 500: ` + strings.Repeat("x", 200) + `"
				level=info msg="fetching works again" resource=embed_jobs job_id=job-000
				level=warn msg="fetching failed" resource=embed_jobs job_id=job-000 reason=not_found hint="a job is visible only to the user who started it" err="API answered 404: gone"
				level=info msg="fetching works again" resource=embed_jobs job_id=job-000`,
		},
		{
			name: "failure of the list", change: list,
			steps: []func(*harness){fail(cohertest.Status(503, "overloaded")), fail(cohertest.Status(500, "oops")), fail(nil)},
			want: `
				level=warn msg="fetching failed" resource=embed_jobs endpoint=list reason=unavailable err="API answered 503: overloaded"
				level=warn msg="fetching failed" resource=embed_jobs endpoint=list reason=server_error err="API answered 500: oops"
				level=info msg="fetching the list of jobs works again" resource=embed_jobs`,
		},
		{
			name: "failure besides the list", change: list,
			steps: []func(*harness){
				func(b *harness) {
					b.user.ListWithoutMeta(true)
					b.user.Update("job-000", func(j *cohertest.Job) { j.Status = "complete" })
					b.user.Fail("job-000", cohertest.Status(404, "gone"))
				},
				func(b *harness) { b.user.Fail("job-000", nil) },
			},
			want: `
				level=warn msg="fetching failed" resource=embed_jobs job_id=job-000 reason=not_found hint="a job is visible only to the user who started it" err="API answered 404: gone"
				level=info msg="fetching works again" resource=embed_jobs job_id=job-000`,
		},
		{
			name:  "gate",
			steps: []func(*harness){limit(refusing), limit(cohertest.Limit{}), limit(cohertest.Limit{}), limit(refusing), limit(refusing)},
			want: `
				level=warn msg="API refuses requests; not asking for a while" resource=embed_jobs wait=10s err="API answered 429: You are using a Trial key, which is limited to 0 API calls / 10s."
				level=info msg="asking less often, since the API refused requests" resource=embed_jobs requests_per_minute=1
				level=warn msg="this is probably a trial key, which is allowed 1,000 calls a month" resource=embed_jobs used_up_after_hours=16 hint="set --cohere.refresh-interval to ask less often"
				level=info msg="API accepts requests again" resource=embed_jobs
				level=warn msg="API refuses requests; not asking for a while" resource=embed_jobs wait=10s err="API answered 429: You are using a Trial key, which is limited to 0 API calls / 10s."
				level=info msg="asking less often, since the API refused requests" resource=embed_jobs requests_per_minute=1`,
		},
		{
			name:   "over budget",
			change: func(c *config.Account) { c.EmbedJobs.RequestsPerMinute = .1 },
			steps:  []func(*harness){fail(nil)},
		},
		{
			name:   "deadline",
			change: func(c *config.Account) { c.Timeout = model.Duration(time.Hour) },
			steps:  []func(*harness){fail(cohertest.Hang)},
		},
		{
			name:  "warning of the API",
			steps: []func(*harness){fail(cohertest.Warning("model is old")), fail(nil), fail(cohertest.Warning("model is gone")), fail(cohertest.Warning("model is old"))},
			want: `
				level=warn msg="API warns" resource=embed_jobs warning="model is old"
				level=warn msg="API warns" resource=embed_jobs warning="model is gone"`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newHarness(t, 1, c.change)
				for _, step := range c.steps {
					step(b)
					b.every(15*time.Second, 3, nil)
				}
				compare(t, "logs", b.logged(), c.want)
			})
		})
	}
}

// What goes on is told at debug level.
func TestDebugLogs(t *testing.T) {
	for line, fault := range map[string]cohertest.Fault{
		`level=debug msg="fetching still fails" resource=embed_jobs job_id=job-000 reason=unavailable err="API answered 503: later"`: cohertest.Status(503, "later"),
		`level=debug msg="API still refuses requests" resource=embed_jobs wait=`:                                                     cohertest.Status(429, "later"),
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newHarness(t, 1, nil)
			b.user.Fail(cohertest.All, fault)
			b.every(time.Minute, 3, nil)
			if n := strings.Count(b.logs.String(), line); n != 2 {
				t.Errorf("%d times %s:\n%s", n, line, b.logs)
			}
		})
	}
}

func TestLogsNameTheAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newTeam(t, nil)
		m.users["anna"].Limit(cohertest.Limit{Per: time.Minute, RetryAfter: cohertest.Seconds})
		m.users["ben"].Remove("ben-job")
		m.scrape(time.Second)
		logs := m.logged()
		for _, want := range []string{
			`msg="API refuses requests; not asking for a while" account=anna resource=embed_jobs wait=1m0s err=`,
			`msg="fetching failed" account=ben resource=embed_jobs job_id=ben-job reason=not_found`,
		} {
			if !strings.Contains(logs, want) {
				t.Errorf("missing %s:\n%s", want, logs)
			}
		}
	})
}

// A log that nobody reads takes none of a scrape's time.
func TestBlockedLog(t *testing.T) {
	b := newHarness(t, 3, nil)
	b.scrape(time.Minute)
	release := b.logs.block()
	defer release()
	b.user.Update("job-000", func(j *cohertest.Job) { j.Status = "complete" })
	b.user.Fail("job-001", cohertest.Status(503, "overloaded"))
	for range 3 {
		scraped := make(chan series, 1)
		go func() { scraped <- b.scrape(time.Minute) }()
		var s series
		select {
		case s = <-scraped:
		case <-time.After(patience):
			t.Error("a scrape waits for the log")
			release()
			s = <-scraped
		}
		compare(t, "jobs", s.text(true, "cohere_embed_job_status", "cohere_embed_job_up", "cohere_embed_job_fetch_error"), `
			cohere_embed_job_fetch_error{job_id="job-001",reason="unavailable"} 1
			cohere_embed_job_status{job_id="job-000",status="complete"} 1
			cohere_embed_job_status{job_id="job-001",status="processing"} 1
			cohere_embed_job_status{job_id="job-002",status="processing"} 1
			cohere_embed_job_up{job_id="job-000"} 1
			cohere_embed_job_up{job_id="job-002"} 1`)
	}
}
