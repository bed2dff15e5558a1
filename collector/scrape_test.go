package collector_test

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/common/model"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
)

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

// What the present scrape fetched is never stale, however long that took.
func TestSlowAnswersAreNotStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newHarness(t, 2, func(c *config.Account) { c.EmbedJobs.MaxStaleness, c.EmbedJobs.MaxConcurrentRequests = 0, 1 })
		b.api.SetLatency(4 * time.Second)
		if got := b.scrape(10 * time.Second); got["cohere_up"] != 1 || got["cohere_scrape_duration_seconds"] != 8 {
			t.Error(got.text(true))
		}
		at(15 * time.Second)
		if got := b.scrape(2 * time.Second).jobState(); got != "- 0 timeout 0" {
			t.Errorf("beyond the deadline: %s", got)
		}
	})
}

// Once no scrape waits no request starts. One under way keeps its own limit,
// and its answer is remembered.
func TestLateAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newHarness(t, 6, func(c *config.Account) {
			c.EmbedJobs.MaxConcurrentRequests, c.EmbedJobs.RefreshInterval = 2, model.Duration(time.Hour)
		})
		b.api.SetLatency(2 * time.Second)
		up := func(timeout time.Duration) int {
			return strings.Count(b.scrape(timeout).text(true, "cohere_embed_job_up"), "\n")
		}
		if n := up(3 * time.Second); n != 2 {
			t.Errorf("%d jobs are up after a scrape that ended early", n)
		}
		time.Sleep(time.Hour / 2)
		if n := len(b.api.Requests()); n != 4 {
			t.Errorf("%d requests started", n)
		}
		b.api.ResetRequests()
		if n := up(time.Second); n != 4 {
			t.Errorf("%d jobs are up", n)
		}
		time.Sleep(time.Minute)
		if n := up(time.Second); n != 6 {
			t.Errorf("%d jobs are up in the end", n)
		}
		if got := b.times(); len(got) != 2 {
			t.Errorf("asked for what was known: %q", got)
		}
	})
}

// A scrape that leaves cancels nothing that another waits for.
func TestScrapeThatLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newHarness(t, 6, func(c *config.Account) { c.EmbedJobs.MaxConcurrentRequests = 2 })
		b.api.SetLatency(2 * time.Second)
		go b.gather(time.Second)
		synctest.Wait()
		if s := b.scrape(10 * time.Second); s["cohere_up"] != 1 || s["cohere_scrape_duration_seconds"] != 6 {
			t.Error(s.text(false))
		}
		if n := len(b.api.Requests()); n != 6 {
			t.Errorf("%d requests", n)
		}
	})
}

func TestNothingIsAskedWhileNobodyScrapes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		discover := config.DefaultDiscover()
		b := newHarness(t, 3, func(c *config.Account) { c.EmbedJobs.Discover = &discover })
		time.Sleep(time.Hour)
		if n := len(b.api.Requests()); n != 0 {
			t.Errorf("%d requests before the first scrape", n)
		}
		b.scrape(time.Second)
		time.Sleep(24 * time.Hour)
		if n := len(b.api.Requests()); n != 1 {
			t.Errorf("%d requests for one scrape", n)
		}
	})
}
