package collector_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/common/model"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
)

// What stays keeps its memory, its budget and its counters.
func TestReloadKeeps(t *testing.T) {
	type accounts = []config.Account
	for _, c := range []struct {
		name   string
		change func(a accounts) accounts
		memory bool // of anna's job
		asked  int  // of the API afterwards
	}{
		{"nothing changed", func(a accounts) accounts { return a }, true, 0},
		{"another order", func(a accounts) accounts { slices.Reverse(a); return a }, true, 0},
		{"equal key", func(a accounts) accounts { a[0] = withKey(a[0], "anna-key"); return a }, true, 0},
		{"more budget", func(a accounts) accounts { a[0].EmbedJobs.RequestsPerMinute = 5; return a }, true, 0},
		{"another account", func(a accounts) accounts {
			c := copied(a[0])
			c.Name = "carl"
			return append(a, c)
		}, true, 1},
		{"more jobs", func(a accounts) accounts { a[0].EmbedJobs.IDs = []string{"x", "anna-job", "y"}; return a }, true, 1},
		{"another key", func(a accounts) accounts { a[0] = withKey(a[0], "anna-new-key"); return a }, false, 1},
		{"another address", func(a accounts) accounts { a[0].BaseURL += "/"; return a }, false, 1},
		{"another key and no budget left", func(a accounts) accounts {
			a[0] = withKey(a[0], "anna-new-key")
			a[0].EmbedJobs.RequestsPerMinute = 1
			return a
		}, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newTeam(t, func(c *config.Account) {
					c.EmbedJobs.RequestsPerMinute, c.EmbedJobs.RefreshInterval = 2, model.Duration(time.Hour)
				})
				m.scrape(time.Second)
				m.api.ResetRequests()
				m.apply(c.change)
				known := m.scrape(0) // has no time to ask
				if _, ok := known[`cohere_embed_job_last_success_timestamp_seconds{account="anna",job_id="anna-job"}`]; ok != c.memory {
					t.Errorf("memory: %t", ok)
				}
				if _, ok := known[`cohere_embed_job_last_success_timestamp_seconds{account="ben",job_id="ben-job"}`]; !ok {
					t.Error("the account that stays has lost its memory")
				}
				m.scrape(time.Second)
				if got := m.times(); len(got) != c.asked {
					t.Errorf("asked %q", got)
				}
				families, err := m.reg.Gather()
				if err != nil {
					t.Fatal(err)
				}
				for _, name := range []string{"anna", "ben"} {
					if n := seriesOf(families)[`cohere_api_requests_total{account="`+name+`",code="200",endpoint="get",resource="embed_jobs"}`]; n < 1 {
						t.Errorf("the counter of %s began anew", name)
					}
				}
			})
		})
	}
}

func TestReloadRemoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newTeam(t, nil)
		m.users["anna"].Fail(cohertest.All, cohertest.Warning("old"))
		m.scrape(time.Second)
		// Answers that come later must not bring its series back.
		m.api.SetLatency(2 * time.Second)
		go m.gather(5 * time.Second)
		synctest.Wait()
		m.apply(func(a []config.Account) []config.Account { return a[1:] })
		time.Sleep(10 * time.Second)
		families, err := m.reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := m.scrape(5*time.Second).text(false) + seriesOf(families).text(false)
		if strings.Contains(got, "anna") || !strings.Contains(got, "ben") {
			t.Error(got)
		}
		m.apply(func(a []config.Account) []config.Account {
			a[0].EmbedJobs.IDs = nil
			return a
		})
		if got := m.scrape(5 * time.Second).text(false); strings.Contains(got, "job_id") {
			t.Errorf("a job that is not watched any longer:\n%s", got)
		}
	})
}

func TestBadReloadChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newTeam(t, nil)
		for name, bad := range map[string]config.Config{
			"flags":   {Accounts: m.config.Accounts[:1]},
			"invalid": {FromFile: true, Accounts: []config.Account{withKey(m.config.Accounts[0], "wrong"), {Name: "carl"}}},
		} {
			if err := m.set.Apply(&bad); err == nil {
				t.Errorf("%s: no error", name)
			}
		}
		compare(t, "series", m.scrape(time.Second).ups(), bothUp)
	})
}

// A request of the old key must not answer for the new one, nor be the reason
// for others.
func TestReloadDuringScrape(t *testing.T) {
	for _, fetch := range []string{config.FetchGet, config.FetchList} {
		t.Run(fetch, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newTeam(t, func(c *config.Account) { c.EmbedJobs.Fetch = fetch })
				m.api.SetLatency(2 * time.Second)
				m.users["anna"].Fail(cohertest.All, cohertest.Status(503, "old"))
				var wg sync.WaitGroup
				var s series
				wg.Go(func() { s = m.scrape(10 * time.Second) })
				time.Sleep(time.Second)
				m.users["new"] = m.api.AddUser("new-key")
				m.users["new"].Add(cohertest.Job{ID: "anna-job"})
				m.apply(func(a []config.Account) []config.Account {
					a[0] = withKey(a[0], "new-key")
					return a
				})
				wg.Wait()
				if up := s[`cohere_up{account="anna"}`]; up != 1 {
					t.Error(s.ups())
				}
				for _, r := range m.api.Requests() {
					if r.Endpoint != fetch {
						t.Errorf("asked %q", m.times())
					}
				}
			})
		})
	}
}

// What is queued and still watched is fetched, and nothing else.
func TestReloadOfWhatIsQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newTeam(t, func(c *config.Account) {
			c.EmbedJobs.MaxConcurrentRequests = 1
			if c.Name == "anna" {
				c.EmbedJobs.IDs = []string{"anna-job", "gone", "kept"}
			}
		})
		m.users["anna"].Add(cohertest.Job{ID: "gone"}, cohertest.Job{ID: "kept"})
		m.api.SetLatency(2 * time.Second)
		var wg sync.WaitGroup
		var s series
		wg.Go(func() { s = m.scrape(10 * time.Second) })
		time.Sleep(time.Second)
		m.apply(func(a []config.Account) []config.Account {
			a[0].EmbedJobs.IDs = []string{"anna-job", "kept"}
			return a
		})
		wg.Wait()
		compare(t, "series", s.ups(), `
			cohere_embed_job_up{account="anna",job_id="anna-job"} 1
			cohere_embed_job_up{account="anna",job_id="kept"} 1
			cohere_embed_job_up{account="ben",job_id="ben-job"} 1
			cohere_up{account="anna"} 1
			cohere_up{account="ben"} 1`)
		if got := m.times(); len(got) != 3 || got[2] != "2 kept" { // beside ben's
			t.Errorf("asked %q", got)
		}
	})
}

// Nor may its answer be remembered.
func TestReloadForgetsLateAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newTeam(t, func(c *config.Account) { c.EmbedJobs.Fetch = config.FetchList })
		m.api.SetLatency(2 * time.Second)
		go m.gather(10 * time.Second)
		time.Sleep(time.Second)
		m.api.AddUser("new-key").Fail(cohertest.All, cohertest.Hang)
		m.apply(func(a []config.Account) []config.Account {
			a[0] = withKey(a[0], "new-key")
			return a
		})
		time.Sleep(4 * time.Second)
		if got := m.scrape(0).text(false, "cohere_embed_job_status"); strings.Contains(got, "anna") {
			t.Error(got)
		}
		time.Sleep(10 * time.Second) // for the other scrape
	})
}

func TestReloadUnderConstantScraping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newTeam(t, nil)
		m.api.SetLatency(50 * time.Millisecond)
		m.scrape(time.Second)
		synctest.Wait()
		goroutines := runtime.NumGoroutine()

		var wg sync.WaitGroup
		stop := make(chan struct{})
		for i := range 4 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 11 * time.Millisecond)
				for {
					select {
					case <-stop:
						return
					default:
					}
					if s := m.scrape(time.Second); s[`cohere_embed_job_up{account="ben",job_id="ben-job"}`] != 1 {
						t.Errorf("the account that stays:\n%s", s.ups())
					}
				}
			})
		}
		anna, ben := m.config.Accounts[0], m.config.Accounts[1]
		for i := range 100 {
			time.Sleep(37 * time.Millisecond)
			m.apply(func([]config.Account) []config.Account {
				switch i % 4 {
				case 0:
					return []config.Account{ben}
				case 1:
					return []config.Account{withKey(anna, fmt.Sprintf("key %d", i)), ben}
				case 2:
					changed := copied(anna)
					changed.EmbedJobs.IDs = []string{"anna-job", fmt.Sprintf("job-%d", i)}
					return []config.Account{changed, ben}
				}
				changed := copied(anna)
				changed.EmbedJobs.Fetch = config.FetchList
				return []config.Account{ben, changed}
			})
		}
		close(stop)
		wg.Wait()
		for i := range 25 { // nor are connections that idle kept
			m.apply(func([]config.Account) []config.Account {
				return []config.Account{withKey(anna, fmt.Sprintf("key %d", i)), ben}
			})
			m.scrape(time.Second)
		}
		m.apply(func([]config.Account) []config.Account {
			return []config.Account{anna, ben}
		})
		compare(t, "afterwards", m.scrape(time.Second).ups(), bothUp)
		synctest.Wait()
		// A few connections may be open now that were not: two goroutines at
		// each end.
		if n := runtime.NumGoroutine(); n > goroutines+4*4 {
			t.Errorf("%d goroutines, %d before", n, goroutines)
		}
	})
}

// Another way to the same API, with the same key, is no reason to forget.
func TestReloadWithAnotherClientName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newTeam(t, func(c *config.Account) { c.EmbedJobs.RefreshInterval = model.Duration(time.Hour) })
		before := m.scrape(time.Second).text(false, "cohere_embed_job_*")
		m.apply(func(a []config.Account) []config.Account {
			a[0].ClientName = "another"
			return a
		})
		compare(t, "after", m.scrape(time.Second).text(false, "cohere_embed_job_*"), before)
		if n := len(m.api.Requests()); n != 2 {
			t.Errorf("%d requests", n)
		}
		time.Sleep(time.Hour)
		m.scrape(time.Second)
		if got := m.api.Requests()[2:]; got[0].Header.Get("X-Client-Name") != "another" && got[1].Header.Get("X-Client-Name") != "another" {
			t.Error("the new name is not used")
		}
	})
}

// What a list did wrong does not stick to jobs once it is no longer asked for.
func TestReloadLeavesList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newTeam(t, func(c *config.Account) {
			c.EmbedJobs.Fetch, c.EmbedJobs.SettledInterval = config.FetchList, model.Duration(time.Hour)
		})
		m.users["anna"].Update("anna-job", func(j *cohertest.Job) { j.Status = "complete" })
		m.scrape(time.Second)
		time.Sleep(2 * time.Minute)
		m.scrape(time.Second)
		m.users["anna"].Fail(cohertest.List, cohertest.Status(403, ""))
		time.Sleep(time.Hour)
		if s := m.scrape(time.Second); s[`cohere_up{account="anna"}`] != 0 {
			t.Fatal("the list does not fail")
		}
		m.apply(func(a []config.Account) []config.Account {
			a[0].EmbedJobs.Fetch, a[1].EmbedJobs.Fetch = config.FetchGet, config.FetchGet
			return a
		})
		compare(t, "by ID", m.scrape(time.Second).ups(), bothUp)
	})
}

// A gate is closed for a key: another opens it. The budget is the account's.
func TestReloadWithAnotherKeyOpensGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newTeam(t, func(c *config.Account) { c.EmbedJobs.RequestsPerMinute = 2 })
		m.users["anna"].Limit(cohertest.Limit{Per: 10 * time.Minute, RetryAfter: cohertest.Seconds})
		m.api.AddUser("anna-new-key").Add(cohertest.Job{ID: "anna-job"})
		m.scrape(time.Second)
		m.scrape(time.Second) // at which ben uses up his budget, and the gate of anna is closed
		m.api.ResetRequests()

		m.apply(func(a []config.Account) []config.Account {
			a[0] = withKey(a[0], "anna-new-key")
			return a
		})
		for range 3 {
			compare(t, "with the new key", m.scrape(time.Second).ups(), bothUp)
		}
		if n := len(m.api.Requests()); n != 1 {
			t.Errorf("%d requests within a minute of the one that was refused, under 2 a minute", n)
		}
	})
}

// A budget that comes with a reload counts what was sent without it.
func TestReloadBudgetCountsWhatWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newTeam(t, nil)
		m.every(time.Second, 10, nil)
		m.api.ResetRequests()
		m.apply(func(a []config.Account) []config.Account {
			a[0].EmbedJobs.RequestsPerMinute = 10
			return a[:1]
		})
		m.every(time.Second, 50, nil)
		if n := len(m.api.Requests()); n != 0 {
			t.Errorf("%d requests in the minute after the first of 10, under 10 a minute", n)
		}
		m.every(time.Second, 60, nil)
		if n := len(m.api.Requests()); n != 10 {
			t.Errorf("%d requests in the minute after that, under 10 a minute", n)
		}
	})
}
