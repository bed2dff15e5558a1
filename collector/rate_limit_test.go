package collector_test

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
)

// statuses counts the API's answers by status.
func (b *harness) statuses() map[int]int {
	got := map[int]int{}
	for _, r := range b.api.Requests() {
		got[r.Status]++
	}
	return got
}

// noneWhileClosed fails if anything was asked within wait of a refusal, from
// when that was known.
func (b *harness) noneWhileClosed(latency, wait time.Duration) {
	b.t.Helper()
	var known time.Time
	for _, r := range b.api.Requests() {
		if !known.IsZero() && r.Time.After(known) && r.Time.Sub(known) < wait {
			b.t.Errorf("asked %v after a refusal", r.Time.Sub(known))
		}
		if r.Status == http.StatusTooManyRequests {
			known = r.Time.Add(latency)
		}
	}
}

// A key that allows 50 requests a minute, 30 jobs, a scrape every second, and
// nothing configured: the worst that a newcomer can do.
func TestRefusalsWithoutBudget(t *testing.T) {
	for _, latency := range []time.Duration{0, 200 * time.Millisecond} {
		t.Run(latency.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const jobs = 30
				b := newHarness(t, jobs, nil)
				b.api.SetLatency(latency)
				b.user.Limit(cohertest.Limit{Requests: 50, Per: time.Minute, CountRefused: true})
				oldest := 0.
				b.every(time.Second, 600, func(i int, s series) {
					if i < 60 {
						return
					}
					for j := range jobs {
						if _, ok := s.job("status", j, "status", "processing"); !ok {
							t.Fatalf("scrape %d lacks job %d", i, j)
						}
						last, _ := s.job("last_success_timestamp_seconds", j)
						oldest = max(oldest, float64(time.Now().Unix())-last)
					}
				})
				if oldest > 120 {
					t.Errorf("values got %v s old", oldest)
				}
				if n := b.statuses()[http.StatusTooManyRequests]; n == 0 || n >= 60 {
					t.Errorf("%d refusals", n)
				}
				b.noneWhileClosed(latency, 5*time.Second)
				t.Logf("oldest value %.0f s, answers %v", oldest, b.statuses())
			})
		})
	}
}

func TestBudgetAvoidsRefusals(t *testing.T) {
	for _, latency := range []time.Duration{0, 200 * time.Millisecond} {
		t.Run(latency.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newHarness(t, 30, func(c *config.Account) { c.EmbedJobs.RequestsPerMinute = 40 })
				b.api.SetLatency(latency)
				b.user.Limit(cohertest.Limit{Requests: 50, Per: time.Minute, CountRefused: true})
				b.every(time.Second, 600, nil)
				got := b.statuses()
				if got[http.StatusTooManyRequests] > 0 || got[http.StatusOK] < 390 {
					t.Errorf("answers %v", got)
				}
				for i, r := range b.api.Requests() {
					if i >= 40 && r.Time.Sub(b.api.Requests()[i-40].Time) < time.Minute {
						t.Fatalf("request %d is the 41st within a minute", i)
					}
				}
			})
		})
	}
}

func TestNoJobStarves(t *testing.T) {
	const jobs, dead = 30, 10
	for _, interval := range []time.Duration{time.Second, 15 * time.Second, time.Minute} {
		for _, dead := range []int{0, dead} {
			t.Run(fmt.Sprintf("%v,dead=%d", interval, dead), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newHarness(t, jobs, func(c *config.Account) {
						c.EmbedJobs.RequestsPerMinute = 10
						for i := range dead {
							c.EmbedJobs.IDs = append([]string{fmt.Sprintf("dead-%03d", i)}, c.EmbedJobs.IDs...)
						}
					})
					b.every(interval, int(30*time.Minute/interval), nil)
					last := map[string]time.Time{}
					start := b.api.Requests()[0].Time
					for i := range jobs {
						last[fmt.Sprintf("job-%03d", i)] = start
					}
					now := time.Now()
					for _, r := range append(b.api.Requests(), endOf(last, now)...) {
						if before, ok := last[r.ID]; ok {
							// The dead ones, never asked before, come first once.
							grace := time.Duration(0)
							if before.Equal(start) {
								grace = time.Duration(dead/10) * max(time.Minute, interval)
							}
							if gap := r.Time.Sub(before); gap > 3*time.Minute+interval+grace {
								t.Errorf("%s was not asked for %v", r.ID, gap)
							}
							last[r.ID] = r.Time
						}
					}
				})
			})
		}
	}
}

// endOf pretends a request for every job now, so that the time since its last
// one counts.
func endOf(last map[string]time.Time, now time.Time) (rs []cohertest.Request) {
	for id := range last {
		rs = append(rs, cohertest.Request{ID: id, Time: now})
	}
	return rs
}

// A request that is still waited for tells more than the refusal before it.
func TestHangAfterRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newHarness(t, 1, nil)
		for i, step := range []struct {
			fault cohertest.Fault
			want  string
		}{
			{cohertest.Status(429, ""), "- 0 rate_limited"},
			{cohertest.Hang, "- 0 timeout"},
		} {
			at(time.Duration(i) * time.Minute) // the refused request has used up what it taught
			b.user.Fail("job-000", step.fault)
			if got := b.scrape(5 * time.Second).jobState(); got != step.want {
				t.Errorf("step %d: %s; want %s", i, got, step.want)
			}
		}
	})
}
