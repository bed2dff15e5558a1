package collector_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
)

// once makes one patient pass, and returns how long that took.
func (b *harness) once(ctx context.Context) (series, time.Duration) {
	b.t.Helper()
	began := time.Now()
	reg := prometheus.NewRegistry()
	reg.MustRegister(b.set.Patient(ctx))
	families, err := reg.Gather()
	if err != nil {
		b.t.Error(err)
	}
	return seriesOf(families), time.Since(began)
}

// A patient pass waits for budget and gate. What it fetched first is not stale
// when it ends, however long that takes.
func TestOnce(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(c *config.Account)
		api    func(u *cohertest.User)
		jobs   int
		least  time.Duration
		most   time.Duration
	}{
		{name: "at once", jobs: 30},
		{
			name: "budget", jobs: 30, least: 14 * time.Minute, most: 14 * time.Minute,
			change: func(c *config.Account) { c.EmbedJobs.RequestsPerMinute, c.EmbedJobs.MaxStaleness = 2, 0 },
		},
		{
			name: "list and budget", jobs: 3, least: 0, most: 0,
			change: func(c *config.Account) { c.EmbedJobs.RequestsPerMinute, c.EmbedJobs.Fetch = 1, config.FetchList },
		},
		{
			name: "refusals", jobs: 12, least: 2 * time.Minute, most: 10 * time.Minute,
			api: func(u *cohertest.User) {
				u.Limit(cohertest.Limit{Requests: 5, Per: time.Minute, RetryAfter: cohertest.Seconds})
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newHarness(t, c.jobs, c.change)
				if c.api != nil {
					c.api(b.user)
				}
				s, took := b.once(t.Context())
				if s["cohere_up"] != 1 || s["cohere_embed_jobs"] != float64(c.jobs) {
					t.Error(s.text(true, "cohere_up", "cohere_embed_job_fetch_error"))
				}
				if took < c.least || took > c.most {
					t.Errorf("it took %v", took)
				}
				if told := strings.Contains(b.logs.String(), `msg="waiting until more may be asked" resource=embed_jobs requests_left=`); told != (c.least > 0) {
					t.Errorf("logs:\n%s", b.logs)
				}
			})
		})
	}
}

// There is no later scrape for what the list lacks of settled jobs.
func TestOnceBesidesTheList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const jobs = 50
		b := newHarness(t, jobs, func(c *config.Account) { c.EmbedJobs.Fetch, c.EmbedJobs.RequestsPerMinute = config.FetchList, 40 })
		b.user.ListWithoutMeta(true)
		for i := range jobs {
			b.user.Update(fmt.Sprintf("job-%03d", i), func(j *cohertest.Job) { j.Status, j.InputTokens = "complete", 7 })
		}
		s, took := b.once(t.Context())
		if n := strings.Count(s.text(true, "cohere_embed_job_billed_input_tokens"), "\n"); n != jobs {
			t.Errorf("%d jobs have tokens", n)
		}
		if n := len(b.api.Requests()); n != jobs+1 || took != time.Minute {
			t.Errorf("%d requests in %v", n, took)
		}
	})
}

// It does not wait for ever: not for an API that only refuses, and not when it
// is told to end. What is known then is there.
func TestOnceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newHarness(t, 2, nil)
		b.user.Fail("job-001", cohertest.Status(429, ""))
		s, took := b.once(t.Context())
		if took < 10*time.Minute || took > 11*time.Minute {
			t.Errorf("it took %v", took)
		}
		compare(t, "refused", s.ups(), `
			cohere_embed_job_fetch_error{job_id="job-001",reason="rate_limited"} 1
			cohere_embed_job_up{job_id="job-000"} 1
			cohere_embed_job_up{job_id="job-001"} 0
			cohere_up 0`)
	})
	synctest.Test(t, func(t *testing.T) {
		b := newHarness(t, 2, func(c *config.Account) { c.EmbedJobs.RequestsPerMinute = 1 })
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		s, took := b.once(ctx)
		if took != 20*time.Second {
			t.Errorf("it took %v", took)
		}
		compare(t, "ended", s.ups(), `
			cohere_embed_job_fetch_error{job_id="job-001",reason="over_budget"} 1
			cohere_embed_job_up{job_id="job-000"} 1
			cohere_embed_job_up{job_id="job-001"} 0
			cohere_up 0`)
	})
}

// At start and after a reload the log says what is watched, what that costs, and
// what --config.check warns of.
func TestAnnouncements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newTeam(t, func(c *config.Account) {
			c.EmbedJobs.RequestsPerMinute = 1
			if c.Name == "ben" {
				c.Batches = c.EmbedJobs
				c.EmbedJobs = nil
			}
		})
		compare(t, "start", m.started, `
			level=info msg="watching jobs" account=anna resource=embed_jobs jobs=1 due_a_minute=1 budget=1
			level=info msg="watching jobs" account=ben resource=batches jobs=1 due_a_minute=1 budget=1`)
		m.apply(func(a []config.Account) []config.Account {
			jobs := *a[0].EmbedJobs
			a[0].EmbedJobs = &jobs
			for i := range 9 {
				jobs.IDs = append(slices.Clone(jobs.IDs), fmt.Sprintf("more-%d", i))
			}
			return a[:1]
		})
		compare(t, "reload", m.logs.String(), `
			level=info msg="watching jobs" account=anna resource=embed_jobs jobs=10 due_a_minute=10 budget=1
			level=warn msg="values are served until they are 5m old (embed_jobs.refresh_interval and embed_jobs.max_staleness), so jobs will come and go: raise embed_jobs.max_staleness to 10m, or embed_jobs.requests_per_minute" account=anna resource=embed_jobs`)
	})
}

// Discovery that finds nothing says so, once.
func TestDiscoveryFindsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := config.DefaultDiscover()
		b := newHarness(t, 0, func(c *config.Account) { c.EmbedJobs.Discover = &d })
		b.every(15*time.Second, 3, nil)
		compare(t, "logs", b.logs.String(), `level=warn msg="discovery finds no job; the key sees only those of its own user" resource=embed_jobs`)
	})
}
