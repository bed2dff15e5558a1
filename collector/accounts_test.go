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

	"github.com/prometheus/client_golang/prometheus"
	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
)

// team is an exporter of two accounts, anna and ben, as if from a file. Each is
// a user of the API, with one job.
type team struct {
	*harness
	server *cohertest.Server
	users  map[string]*cohertest.User
	config config.Config
}

func newTeam(t *testing.T, change func(*config.Account)) *team {
	t.Helper()
	b := &harness{t: t, api: cohertest.New(), reg: prometheus.NewRegistry(), logs: &logs{}}
	m := &team{harness: b, server: b.api.StartInMemory(), users: map[string]*cohertest.User{}}
	t.Cleanup(m.server.Close)
	for _, name := range []string{"anna", "ben"} {
		m.users[name] = b.api.AddUser(name + "-key")
		m.users[name].Add(cohertest.Job{ID: name + "-job"})
		c := account(m.server, name+"-key")
		c.Name, c.EmbedJobs.IDs = name, []string{name + "-job"}
		if change != nil {
			change(&c)
		}
		m.config.Accounts = append(m.config.Accounts, c)
	}
	m.config.FromFile = true
	b.start(m.server, &m.config)
	return m
}

// apply goes over to a changed configuration.
func (m *team) apply(change func(accounts []config.Account) []config.Account) {
	m.t.Helper()
	next := m.config
	next.Accounts = slices.Clone(m.config.Accounts)
	for i := range next.Accounts {
		next.Accounts[i] = copied(next.Accounts[i])
	}
	next.Accounts = change(next.Accounts)
	if err := m.set.Apply(&next); err != nil {
		m.t.Fatal(err)
	}
	m.config = next
}

// copied returns an account that can be changed.
func copied(c config.Account) config.Account {
	if c.EmbedJobs != nil {
		jobs := *c.EmbedJobs
		c.EmbedJobs = &jobs
	}
	return c
}

func withKey(c config.Account, key string) config.Account {
	c.HTTPClientConfig.Authorization = &promconfig.Authorization{Credentials: promconfig.Secret(key)}
	return c
}

func (s series) ups() string {
	return s.text(false, "cohere_up", "cohere_list_*", "cohere_embed_job_up", "cohere_embed_job_fetch_error")
}

const bothUp = `
	cohere_embed_job_up{account="anna",job_id="anna-job"} 1
	cohere_embed_job_up{account="ben",job_id="ben-job"} 1
	cohere_up{account="anna"} 1
	cohere_up{account="ben"} 1`

func TestAccounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newTeam(t, nil)
		compare(t, "right keys", m.scrape(time.Second).ups(), bothUp)

		m.apply(func(a []config.Account) []config.Account {
			a[0], a[1] = withKey(a[0], "ben-key"), withKey(a[1], "anna-key")
			return a
		})
		s := m.scrape(time.Second)
		compare(t, "swapped keys", s.ups(), `
			cohere_embed_job_fetch_error{account="anna",job_id="anna-job",reason="not_found"} 1
			cohere_embed_job_fetch_error{account="ben",job_id="ben-job",reason="not_found"} 1
			cohere_embed_job_up{account="anna",job_id="anna-job"} 0
			cohere_embed_job_up{account="ben",job_id="ben-job"} 0
			cohere_up{account="anna"} 0
			cohere_up{account="ben"} 0`)
		if got := s.text(false, "cohere_embed_job_status", "cohere_embed_job_last_success*"); got != "" {
			t.Errorf("known from another key:\n%s", got)
		}
		if n := strings.Count(m.logs.String(), `hint="a job is visible only to the user who started it"`); n != 2 {
			t.Errorf("%d hints in the logs:\n%s", n, m.logs)
		}
	})
}

// An account that is refused or down costs the others nothing.
func TestAccountInTrouble(t *testing.T) {
	for _, c := range []struct {
		name    string
		trouble func(u *cohertest.User)
		reason  string
	}{
		{"refused", func(u *cohertest.User) { u.Limit(cohertest.Limit{Per: time.Hour}) }, "rate_limited"},
		{"down", func(u *cohertest.User) { u.Fail(cohertest.All, cohertest.Reset) }, "network"},
		{"hanging", func(u *cohertest.User) { u.Fail(cohertest.All, cohertest.Hang) }, "timeout"},
		{"another key", func(u *cohertest.User) { u.SetKey("another") }, "unauthorized"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newTeam(t, nil)
				m.api.SetLatency(time.Second)
				c.trouble(m.users["anna"])
				for range 3 {
					s := m.scrape(5 * time.Second)
					compare(t, "series", s.ups(), `
						cohere_embed_job_fetch_error{account="anna",job_id="anna-job",reason="`+c.reason+`"} 1
						cohere_embed_job_up{account="anna",job_id="anna-job"} 0
						cohere_embed_job_up{account="ben",job_id="ben-job"} 1
						cohere_up{account="anna"} 0
						cohere_up{account="ben"} 1`)
					if took := s[`cohere_scrape_duration_seconds{account="ben"}`]; took != 1 {
						t.Errorf("the other account took %v s", took)
					}
				}
			})
		})
	}
}

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

// watched returns the IDs of the jobs in a scrape.
func (s series) watched() (ids []string) {
	for line := range strings.Lines(s.text(false, "cohere_embed_job_up")) {
		_, id, _ := strings.Cut(line, `job_id="`)
		id, _, _ = strings.Cut(id, `"`)
		ids = append(ids, id)
	}
	return ids
}

func TestDiscovery(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(d *config.Discover)
		want    []string
		dropped float64
	}{
		{"defaults", func(*config.Discover) {}, []string{"job-000", "nightly-1", "nightly-2", "other"}, 0},
		{"age", func(d *config.Discover) { d.MaxAge = model.Duration(90 * time.Minute) }, []string{"job-000", "nightly-1"}, 0},
		{
			"older", func(d *config.Discover) { d.MaxAge = model.Duration(240 * time.Hour) },
			[]string{"job-000", "nightly-1", "nightly-2", "old", "other"},
			0,
		},
		{"name", func(d *config.Discover) { d.Name = config.MustRegexp("nightly-.") }, []string{"job-000", "nightly-1", "nightly-2"}, 0},
		{"anchored", func(d *config.Discover) { d.Name = config.MustRegexp("night|y-1") }, []string{"job-000"}, 0},
		{"newest", func(d *config.Discover) { d.MaxJobs = 1 }, []string{"job-000", "nightly-1"}, 2},
		{"newest two", func(d *config.Discover) { d.MaxJobs = 2 }, []string{"job-000", "nightly-1", "nightly-2"}, 1},
	} {
		for _, fetch := range []string{"", config.FetchGet} {
			t.Run(c.name+" "+fetch, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					d := config.DefaultDiscover()
					c.change(&d)
					b := newHarness(t, 1, func(c *config.Account) { c.EmbedJobs.Discover, c.EmbedJobs.Fetch = &d, fetch })
					created := func(ago time.Duration) time.Time { return time.Now().Add(-ago) }
					b.user.Update("job-000", func(j *cohertest.Job) { j.CreatedAt = created(1000 * time.Hour) }) // but configured
					b.user.Add(
						cohertest.Job{ID: "old", CreatedAt: created(169 * time.Hour)},
						cohertest.Job{ID: "nightly-2", Name: "nightly-2", CreatedAt: created(2 * time.Hour)},
						cohertest.Job{ID: "other", Name: "other", CreatedAt: created(3 * time.Hour)},
						cohertest.Job{ID: "nightly-1", Name: "nightly-1", CreatedAt: created(time.Hour)},
						cohertest.Job{ID: "ageless", Raw: `{"job_id":"ageless","status":"processing","name":"nightly-3"}`},
						cohertest.Job{ID: ".."},
					)
					s := b.scrape(time.Second)
					if got := s.watched(); !slices.Equal(got, c.want) {
						t.Errorf("watched %q", got)
					}
					if s["cohere_embed_jobs_dropped"] != c.dropped || s["cohere_up"] != 1 || s["cohere_embed_jobs"] != float64(len(c.want)) {
						t.Error(s.text(false, "cohere_up", "cohere_embed_jobs*"))
					}
					want := 1
					if fetch == config.FetchGet {
						want += len(c.want)
					}
					if n := len(b.api.Requests()); n != want {
						t.Errorf("%d requests", n)
					}
				})
			})
		}
	}
}

// Without any job the list is still asked for, and its failure seen.
// An entry that comes without a name does not make a job another one.
func TestDiscoveryByNameOnceKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := config.DefaultDiscover()
		d.Name = config.MustRegexp("nightly-.*")
		b := newHarness(t, 0, func(c *config.Account) { c.EmbedJobs.Discover = &d })
		b.user.Add(cohertest.Job{ID: "known", Name: "nightly-1"}, cohertest.Job{ID: "never known"})
		for range 2 {
			if got := b.scrape(time.Second).watched(); !slices.Equal(got, []string{"known"}) {
				t.Errorf("watched %q", got)
			}
			b.user.Update("known", func(j *cohertest.Job) { j.Name = "" })
			time.Sleep(time.Minute)
		}
	})
}

func TestDiscoveryFails(t *testing.T) {
	for _, fetch := range []string{config.FetchList, config.FetchGet} {
		t.Run(fetch, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := config.DefaultDiscover()
				b := newHarness(t, 0, func(c *config.Account) { c.EmbedJobs.Discover, c.EmbedJobs.Fetch = &d, fetch })
				b.user.Fail(cohertest.List, cohertest.Status(503, ""))
				s := b.scrape(time.Second)
				compare(t, "failing", s.text(false, "cohere_up", "cohere_list_*", "cohere_embed_jobs*"), `
					cohere_embed_jobs 0
					cohere_list_fetch_error{reason="unavailable",resource="embed_jobs"} 1
					cohere_list_up{resource="embed_jobs"} 0
					cohere_up 0`)
				b.user.Fail(cohertest.List, nil)
				s = b.scrape(time.Second)
				compare(t, "working", s.text(false, "cohere_up", "cohere_list_*", "cohere_embed_jobs*"), `
					cohere_embed_jobs 0
					cohere_embed_jobs_dropped 0
					cohere_list_up{resource="embed_jobs"} 1
					cohere_up 1`)
			})
		})
	}
}

// Jobs come and go with the list, which costs at most one request a minute
// where jobs are asked for one by one. Being that old is no failure.
func TestDiscoveryFollows(t *testing.T) {
	for _, c := range []struct {
		fetch string
		lists int // in 5 minutes of scrapes every 15 s
	}{
		{config.FetchList, 20},
		{config.FetchGet, 5},
	} {
		t.Run(c.fetch, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := config.DefaultDiscover()
				d.MaxAge = model.Duration(time.Hour)
				b := newHarness(t, 0, func(a *config.Account) {
					a.EmbedJobs.Discover, a.EmbedJobs.Fetch, a.EmbedJobs.MaxStaleness = &d, c.fetch, 0
				})
				b.user.Add(cohertest.Job{ID: "first", CreatedAt: time.Now().Add(-58 * time.Minute)})
				b.every(15*time.Second, 20, func(i int, s series) {
					want := []string{"first"}
					if i == 1 {
						b.user.Add(cohertest.Job{ID: "second", CreatedAt: time.Now()})
					}
					if i >= 4 {
						want = []string{"first", "second"}
					}
					if i >= 12 { // first is too old
						want = []string{"second"}
					}
					got := s.watched()
					if (i%4 == 0 || i > 12) && !slices.Equal(got, want) || s["cohere_up"] != 1 {
						t.Errorf("scrape %d: watched %q\n%s", i, got, s.ups())
					}
				})
				lists := 0
				for _, r := range b.api.Requests() {
					if r.Endpoint == "list" {
						lists++
					}
				}
				if lists != c.lists {
					t.Errorf("%d lists: %q", lists, b.times())
				}
			})
		})
	}
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
