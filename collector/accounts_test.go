package collector_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	promconfig "github.com/prometheus/common/config"

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

// apply replaces the configuration by a changed one.
func (m *team) apply(change func(accounts []config.Account) []config.Account) {
	m.t.Helper()
	next := m.config
	next.Accounts = slices.Clone(m.config.Accounts)
	for i := range next.Accounts {
		next.Accounts[i] = copied(next.Accounts[i])
	}
	next.Accounts = change(next.Accounts)
	if err := m.set.Apply(&next); err != nil {
		m.t.Error(err)
	}
	m.config = next
}

// copied returns an account that can be changed.
func copied(c config.Account) config.Account {
	for _, kind := range config.Kinds {
		if jobs := kind.Jobs(&c); jobs != nil {
			own := *jobs
			kind.Watch(&c, &own)
		}
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
