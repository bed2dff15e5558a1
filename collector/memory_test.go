package collector_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/common/model"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
)

// start is when the clock of a bubble starts, in Unix time.
const start = 946684800

// jobState is what a scrape tells of job-000: its status, "-" without any; up;
// the reason if it is not; and when it last succeeded, in seconds since start.
func (s series) jobState() string {
	status, reason := "-", ""
	for name, value := range s {
		if value != 1 {
			continue
		}
		if after, ok := strings.CutPrefix(name, `cohere_embed_job_status{job_id="job-000",status="`); ok {
			status = strings.TrimSuffix(after, `"}`)
		}
		if after, ok := strings.CutPrefix(name, `cohere_embed_job_fetch_error{job_id="job-000",reason="`); ok {
			reason = " " + strings.TrimSuffix(after, `"}`)
		}
	}
	up, _ := s.job("up", 0)
	text := fmt.Sprintf("%s %v%s", status, up, reason)
	if last, ok := s.job("last_success_timestamp_seconds", 0); ok {
		text += fmt.Sprintf(" %v", last-start)
	}
	return text
}

// at sleeps until so long after the start.
func at(d time.Duration) { time.Sleep(time.Until(time.Unix(start, 0).Add(d))) }

// How old values get, and why there are no newer ones: one success, and then
// the API is gone.
func TestLastKnownValues(t *testing.T) {
	for _, c := range []struct {
		name   string
		status string // "processing" if it is empty
		change func(c *config.Account)
		api    func(u *cohertest.User)
		takes  time.Duration // each scrape
		due    time.Duration // when the job is asked for again
		limit  time.Duration // of the age of values
		within string        // while they may be served
		beyond string
	}{
		{
			name: "network", limit: 5 * time.Minute,
			api:    func(u *cohertest.User) { u.Fail(cohertest.All, cohertest.Reset) },
			within: "processing 0 network 0", beyond: "- 0 network 0",
		},
		{
			name: "longer interval and staleness", due: time.Minute, limit: 11 * time.Minute,
			change: func(c *config.Account) {
				c.EmbedJobs.RefreshInterval, c.EmbedJobs.MaxStaleness = model.Duration(time.Minute), model.Duration(10*time.Minute)
			},
			api:    func(u *cohertest.User) { u.Fail(cohertest.All, cohertest.Status(503, "")) },
			within: "processing 0 unavailable 0", beyond: "- 0 unavailable 0",
		},
		{
			name: "no staleness", due: time.Minute, limit: time.Minute,
			change: func(c *config.Account) {
				c.EmbedJobs.RefreshInterval, c.EmbedJobs.MaxStaleness = model.Duration(time.Minute), 0
			},
			api:    func(u *cohertest.User) { u.Fail(cohertest.All, cohertest.NotJSON) },
			within: "processing 0 invalid_response 0", beyond: "- 0 invalid_response 0",
		},
		{
			name: "refused", limit: 5 * time.Minute,
			api: func(u *cohertest.User) {
				u.Limit(cohertest.Limit{Per: time.Hour, RetryAfter: cohertest.Seconds})
			},
			within: "processing 1 0", beyond: "- 0 rate_limited 0",
		},
		{
			name: "refused again and again", limit: 5 * time.Minute,
			api:    func(u *cohertest.User) { u.Limit(cohertest.Limit{Per: time.Hour}) },
			within: "processing 1 0", beyond: "- 0 rate_limited 0",
		},
		{
			name: "over budget", limit: 5 * time.Minute,
			change: func(c *config.Account) { c.EmbedJobs.RequestsPerMinute = .01 },
			within: "processing 1 0", beyond: "- 0 over_budget 0",
		},
		{
			name: "deadline", takes: time.Second, limit: 5 * time.Minute,
			change: func(c *config.Account) { c.Timeout = model.Duration(time.Hour) },
			api:    func(u *cohertest.User) { u.Fail(cohertest.All, cohertest.Hang) },
			within: "processing 1 0", beyond: "- 0 timeout 0",
		},
		{
			name: "list", limit: 5 * time.Minute,
			change: func(c *config.Account) { c.EmbedJobs.Fetch = config.FetchList },
			api:    func(u *cohertest.User) { u.Fail(cohertest.List, cohertest.Status(500, "")) },
			within: "processing 0 server_error 0", beyond: "- 0 server_error 0",
		},
		{
			name: "list refused", limit: 5 * time.Minute,
			change: func(c *config.Account) { c.EmbedJobs.Fetch = config.FetchList },
			api:    func(u *cohertest.User) { u.Limit(cohertest.Limit{Per: time.Hour}) },
			within: "processing 1 0", beyond: "- 0 rate_limited 0",
		},
		{
			name: "unknown status ages", status: "hibernating", limit: 5 * time.Minute,
			api:    func(u *cohertest.User) { u.Fail(cohertest.All, cohertest.Reset) },
			within: "unknown 0 network 0", beyond: "- 0 network 0",
		},
		{
			name: "settled", status: "failed", limit: 10 * time.Minute,
			api:    func(u *cohertest.User) { u.Fail(cohertest.All, cohertest.Reset) },
			within: "failed 0 network 0", beyond: "failed 0 network 0",
		},
		{
			name: "settled and refused", status: "complete", limit: 10 * time.Minute,
			api:    func(u *cohertest.User) { u.Limit(cohertest.Limit{Per: time.Hour}) },
			within: "complete 1 0", beyond: "complete 1 0",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newHarness(t, 1, c.change)
				b.user.Update("job-000", func(j *cohertest.Job) {
					if c.status != "" {
						j.Status = c.status
					}
				})
				b.every(time.Second, 1, nil)
				if c.api != nil {
					c.api(b.user)
				}
				const interval = 15 * time.Second
				for now := interval; now <= c.limit+2*time.Minute; now += interval {
					at(now)
					want := c.within
					switch {
					case now < c.due:
						want = "processing 1 0"
					case now+c.takes > c.limit:
						want = c.beyond
					}
					timeout := c.takes
					if timeout == 0 {
						timeout = 10 * time.Second
					}
					got := b.scrape(timeout).jobState()
					if got != want {
						t.Errorf("after %v: %s; want %s", now, got, want)
					}
				}
			})
		})
	}
}

// A job that is not found loses its values at once, and starts anew.
func TestNotFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newHarness(t, 1, nil)
		job := cohertest.Job{ID: "job-000", Status: "complete", InputTokens: 5}
		step := func(after time.Duration, want string) {
			t.Helper()
			at(after)
			s := b.scrape(time.Second)
			if got := s.jobState(); got != want {
				t.Errorf("after %v: %s; want %s", after, got, want)
			}
			if got := s.text(false, "cohere_embed_job_status_changed*"); got != "" {
				t.Errorf("after %v: %s", after, got)
			}
		}
		step(0, "processing 1 0")
		b.user.Remove("job-000")
		step(15*time.Second, "- 0 not_found 0")
		b.user.Add(job)
		step(30*time.Second, "complete 1 30")
	})
}

func TestStatusChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newHarness(t, 1, nil)
		b.api.SetLatency(2 * time.Second)
		change := func(status string) {
			b.user.Update("job-000", func(j *cohertest.Job) { j.Status = status })
		}
		for i, step := range []struct {
			status string
			want   string
		}{
			{"processing", ""},
			{"processing", ""},
			{"cancelling", "946684830"},
			{"cancelling", "946684830"},
			{"cancelled", "946684860"},
		} {
			at(time.Duration(i) * 15 * time.Second)
			change(step.status)
			want := step.want
			if want != "" {
				want = `cohere_embed_job_status_changed_timestamp_seconds{job_id="job-000"} ` + want
			}
			got := b.scrape(10*time.Second).text(false, "cohere_embed_job_status_changed*")
			compare(t, fmt.Sprintf("scrape %d", i), got, want)
		}
		compare(t, "logs", b.logs.String(), `
			level=info msg="status of job changed" resource=embed_jobs job_id=job-000 from=processing to=cancelling
			level=info msg="status of job changed" resource=embed_jobs job_id=job-000 from=cancelling to=cancelled`)
	})
}

// Billing may trail the status: a minute later the job is asked once more.
func TestSettledJobs(t *testing.T) {
	for _, c := range []struct {
		fetch string
		want  []string
	}{
		{config.FetchGet, []string{"0 job-000", "30 job-000", "90 job-000", "3690 job-000"}},
		{config.FetchList, []string{"0 list", "30 list", "90 list", "3690 list"}},
	} {
		t.Run(c.fetch, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newHarness(t, 1, func(c2 *config.Account) {
					c2.EmbedJobs.Fetch = c.fetch
					c2.EmbedJobs.RefreshInterval, c2.EmbedJobs.SettledInterval = model.Duration(25*time.Second), model.Duration(time.Hour)
				})
				b.every(15*time.Second, 1, nil)
				b.user.Update("job-000", func(j *cohertest.Job) { j.Status = "complete" })
				b.every(15*time.Second, 250, func(i int, s series) {
					if s["cohere_up"] != 1 {
						t.Fatalf("scrape %d:\n%s", i, s.text(true, "cohere_up", "cohere_list_*", "cohere_embed_job_fetch_error"))
					}
				})
				if got := b.times(); !slices.Equal(got, c.want) {
					t.Errorf("asked %q", got)
				}
			})
		})
	}
}
