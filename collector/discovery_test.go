package collector_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/common/model"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
)

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

// Without any job the list is still asked for, and its failure seen.
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

// A reload that changes what is discovered does not wait until the list is due.
func TestReloadOfDiscovery(t *testing.T) {
	discover := func(change func(*config.Discover)) *config.Discover {
		d := config.DefaultDiscover()
		if change != nil {
			change(&d)
		}
		return &d
	}
	for _, c := range []struct {
		name          string
		before, after *config.Discover
		want          []string
	}{
		{"switched on", nil, discover(nil), []string{"job-000", "new", "old"}},
		{"switched off", discover(nil), nil, []string{"job-000"}},
		{"name", discover(nil), discover(func(d *config.Discover) { d.Name = config.MustRegexp("o.*") }), []string{"job-000", "old"}},
		{"age", discover(nil), discover(func(d *config.Discover) { d.MaxAge = model.Duration(2 * time.Hour) }), []string{"job-000", "new"}},
		{"number", discover(func(d *config.Discover) { d.MaxJobs = 1 }), discover(nil), []string{"job-000", "new", "old"}},
	} {
		for _, fetch := range []string{config.FetchList, config.FetchGet} {
			t.Run(c.name+" "+fetch, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var account config.Account
					b := newHarness(t, 1, func(a *config.Account) {
						a.EmbedJobs.Discover, a.EmbedJobs.Fetch, a.EmbedJobs.RefreshInterval = c.before, fetch, model.Duration(time.Hour)
						account = *a
					})
					b.user.Add(
						cohertest.Job{ID: "new", Name: "new", CreatedAt: time.Now().Add(-time.Hour)},
						cohertest.Job{ID: "old", Name: "old", CreatedAt: time.Now().Add(-3 * time.Hour)},
					)
					b.scrape(time.Second)
					time.Sleep(time.Second)
					account = copied(account)
					account.EmbedJobs.Discover = c.after
					if err := b.set.Apply(&config.Config{Accounts: []config.Account{account}}); err != nil {
						t.Fatal(err)
					}
					s := b.scrape(time.Second)
					if got := s.watched(); !slices.Equal(got, c.want) || s["cohere_up"] != 1 {
						t.Errorf("watched %q\n%s", got, s.ups())
					}
				})
			})
		}
	}
}
