package collector_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/common/model"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
)

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
