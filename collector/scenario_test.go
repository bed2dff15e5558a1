package collector_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/common/model"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
)

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

// statuses counts the API's answers by status.
func (b *harness) statuses() map[int]int {
	got := map[int]int{}
	for _, r := range b.api.Requests() {
		got[r.Status]++
	}
	return got
}

// noneWhileClosed fails if anything was asked within wait of a refusal.
func (b *harness) noneWhileClosed(wait time.Duration) {
	b.t.Helper()
	var refused time.Time
	for _, r := range b.api.Requests() {
		if !refused.IsZero() && r.Time.After(refused) && r.Time.Sub(refused) < wait {
			b.t.Errorf("asked %v after a refusal", r.Time.Sub(refused))
		}
		if r.Status == http.StatusTooManyRequests {
			refused = r.Time
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
				b.noneWhileClosed(5 * time.Second)
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

func TestListMode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newHarness(t, 500, func(c *config.Account) {
			c.EmbedJobs.Fetch = config.FetchList
			c.EmbedJobs.RefreshInterval = model.Duration(25 * time.Second)
			c.EmbedJobs.SettledInterval = model.Duration(time.Hour)
		})
		b.user.ListWithoutMeta(true)
		for i := range 450 {
			b.user.Update(fmt.Sprintf("job-%03d", i), func(j *cohertest.Job) { j.Status, j.InputTokens = "complete", 7 })
		}
		// A pair of Prometheus servers at 15 s.
		b.every(7500*time.Millisecond, 60, nil)
		if n := len(b.api.Requests()); n < 450 || n > 450+2*3*8 {
			t.Errorf("%d requests to begin with", n)
		}
		b.api.ResetRequests()
		b.every(7500*time.Millisecond, 240, nil)
		requests := b.api.Requests()
		for i, r := range requests {
			if r.Endpoint != "list" {
				t.Fatalf("request %d is for %s", i, r.ID)
			}
			if i >= 3 && r.Time.Sub(requests[i-3].Time) < time.Minute {
				t.Fatalf("request %d is the fourth within a minute", i)
			}
		}
		s := b.scrape(time.Second)
		for j := range 450 {
			if tokens, ok := s.job("billed_input_tokens", j); !ok || tokens != 7 {
				t.Fatalf("billed tokens of settled job %d: %v %v", j, tokens, ok)
			}
		}
		if up := s["cohere_up"]; up != 1 {
			t.Error("not everything is up")
		}
	})
}

func TestScrapesShareRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newHarness(t, 50, nil)
		b.api.SetLatency(300 * time.Millisecond)
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 7 * time.Millisecond)
				s := b.scrape(10 * time.Second)
				for j := range 50 {
					if up, _ := s.job("up", j); up != 1 {
						t.Errorf("job %d is not up for scrape %d", j, i)
					}
				}
			})
		}
		wg.Wait()
		if n := len(b.api.Requests()); n != 50 {
			t.Errorf("%d requests for 50 jobs", n)
		}
	})
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newHarness(t, 50, nil)
		b.api.SetLatency(300 * time.Millisecond)
		b.user.Fail("job-007", cohertest.Hang)
		var wg sync.WaitGroup
		for _, timeout := range []time.Duration{2 * time.Second, 5 * time.Second} {
			wg.Go(func() {
				started := time.Now()
				s := b.scrape(timeout)
				if took := time.Since(started); took != timeout {
					t.Errorf("with %v the scrape took %v", timeout, took)
				}
				for j := range 50 {
					want := 1.
					if j == 7 {
						want = 0
					}
					if up, ok := s.job("up", j); !ok || up != want {
						t.Errorf("with %v job %d has up %v", timeout, j, up)
					}
				}
				if v := s[`cohere_embed_job_fetch_error{job_id="job-007",reason="timeout"}`]; v != 1 {
					t.Error("no reason for the job that hangs")
				}
			})
		}
		wg.Wait()
	})
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

// A list takes its turn among the jobs that it lacks, however small the budget.
func TestListStarvesNoJob(t *testing.T) {
	for name, change := range map[string]func(*config.Account){
		"list": func(c *config.Account) { c.EmbedJobs.Fetch, c.EmbedJobs.RequestsPerMinute = config.FetchList, 4 },
		"discover": func(c *config.Account) {
			d := config.DefaultDiscover()
			c.EmbedJobs.Discover, c.EmbedJobs.Fetch, c.EmbedJobs.RequestsPerMinute = &d, config.FetchGet, 1
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newHarness(t, 2, change)
				b.user.Fail(cohertest.List, func(w http.ResponseWriter, _ *http.Request, c *cohertest.Call) {
					c.AnswerWith(w, c.Jobs()[:1]...)
				})
				b.every(15*time.Second, 120, nil)
				asked := map[string]int{}
				for _, r := range b.api.Requests() {
					asked[r.ID]++
				}
				if asked["job-001"] < 8 || asked[""] < 8 {
					t.Errorf("in half an hour the job that the list lacks was asked for %d times, the list %d times", asked["job-001"], asked[""])
				}
			})
		})
	}
}
