package collector_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
)

// kindOf is what a test has to know of a kind.
type kindOf struct {
	config.Kind
	name, id  string // in the names of metrics, and the label
	list, all string // for User.Fail
	limit     func(*cohertest.User, cohertest.Limit)
}

var bothKinds = []kindOf{
	{config.Kinds[0], "embed_job", "job_id", cohertest.List, cohertest.All, (*cohertest.User).Limit},
	{config.Kinds[1], "batch", "batch_id", cohertest.ListBatches, cohertest.AllBatches, (*cohertest.User).LimitBatches},
}

// newBothHarness watches n jobs of each kind, with a budget of 40 requests a
// minute for each.
func newBothHarness(t *testing.T, n int, change func(*config.Account)) *harness {
	t.Helper()
	b := newHarness(t, n, func(c *config.Account) {
		c.EmbedJobs.RequestsPerMinute = 40
		batches := *c.EmbedJobs
		batches.IDs = nil
		for i := range n {
			batches.IDs = append(batches.IDs, batchID(i))
		}
		c.Batches = &batches
		if change != nil {
			change(c)
		}
	})
	for i := range n {
		b.user.AddBatches(cohertest.Batch{ID: batchID(i), Status: "BATCH_STATUS_IN_PROGRESS"})
	}
	return b
}

// requestsFor returns the times of the requests for a kind.
func (b *harness) requestsFor(k kindOf) (times []time.Time) {
	for _, r := range b.api.Requests() {
		if r.Resource == k.Name {
			times = append(times, r.Time)
		}
	}
	return times
}

// ups tells how many jobs of a kind are up, and how many are not for which
// reason.
func (k kindOf) ups(s series) map[string]int {
	got := map[string]int{}
	for name, value := range s {
		if strings.HasPrefix(name, "cohere_"+k.name+"_up{") && value == 1 {
			got["up"]++
		}
		if strings.HasPrefix(name, "cohere_"+k.name+"_fetch_error{") {
			_, reason, _ := strings.Cut(name, `reason="`)
			got[strings.TrimSuffix(reason, `"}`)]++
		}
	}
	return got
}

// Whatever befalls one kind, the other is asked as if it were alone: its budget
// is exactly enough, and is used up to the last request.
func TestKindsAreApart(t *testing.T) {
	const jobs, minutes = 10, 5
	for _, trouble := range []struct {
		name   string
		change func(*config.Jobs)
		api    func(*cohertest.User, kindOf)
		reason string
	}{
		{"refused", nil, func(u *cohertest.User, k kindOf) {
			k.limit(u, cohertest.Limit{Per: time.Hour, RetryAfter: cohertest.Seconds})
		}, "rate_limited"},
		{"down", nil, func(u *cohertest.User, k kindOf) { u.Fail(k.all, cohertest.Reset) }, "network"},
		{"hanging", nil, func(u *cohertest.User, k kindOf) { u.Fail(k.all, cohertest.Hang) }, "timeout"},
		{"forbidden", nil, func(u *cohertest.User, k kindOf) { u.Fail(k.all, cohertest.Status(403, "not this")) }, "forbidden"},
		{"without budget", func(j *config.Jobs) { j.RequestsPerMinute, j.MaxStaleness = .01, 0 }, nil, "over_budget"},
	} {
		for i, troubled := range bothKinds {
			well := bothKinds[1-i]
			for _, fetch := range []string{config.FetchGet, config.FetchList} {
				t.Run(trouble.name+"/"+troubled.Name+"/"+fetch, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						asked := 4 * jobs * minutes
						b := newBothHarness(t, jobs, func(c *config.Account) {
							for _, k := range bothKinds {
								k.Jobs(c).Fetch = fetch
							}
							if fetch == config.FetchList {
								well.Jobs(c).RequestsPerMinute, asked = 4, 4*minutes
							}
							if trouble.change != nil {
								trouble.change(troubled.Jobs(c))
							}
						})
						if trouble.api != nil {
							trouble.api(b.user, troubled)
						}
						b.every(15*time.Second, 4*minutes, func(i int, s series) {
							if got := well.ups(s); got["up"] != jobs || len(got) != 1 {
								t.Fatalf("scrape %d: of those that are well: %v", i, got)
							}
							if got := s[fmt.Sprintf("cohere_api_requests_per_minute_limit{resource=%q}", well.Name)]; got != float64(asked/minutes) {
								t.Fatalf("scrape %d: their budget is %v", i, got)
							}
							if i == 0 {
								return
							}
							if got := troubled.ups(s); got[trouble.reason] != jobs || len(got) != 1 || s["cohere_up"] != 0 {
								t.Fatalf("scrape %d: cohere_up %v, and in trouble: %v", i, s["cohere_up"], got)
							}
							if fetch == config.FetchList {
								want := []string{
									fmt.Sprintf(`cohere_list_fetch_error{reason=%q,resource=%q} 1`, trouble.reason, troubled.Name),
									fmt.Sprintf(`cohere_list_up{resource=%q} 0`, troubled.Name),
									fmt.Sprintf(`cohere_list_up{resource=%q} 1`, well.Name),
								}
								slices.Sort(want)
								compare(t, "lists", s.text(false, "cohere_list_*"), strings.Join(want, "\n"))
							}
						})
						if n := len(b.requestsFor(well)); n != asked {
							t.Errorf("%d requests for those that are well, not %d", n, asked)
						}
						families, err := b.reg.Gather()
						if err != nil {
							t.Fatal(err)
						}
						counted := seriesOf(families)
						name := fmt.Sprintf(`{code="200",endpoint=%q,resource=%q}`, fetch, well.Name)
						if got := counted["cohere_api_requests_total"+name]; got != float64(asked) {
							t.Errorf("%v counted", got)
						}
						for _, reason := range []string{"over_budget", "rate_limited", "deadline"} {
							name := fmt.Sprintf(`cohere_fetches_skipped_total{reason=%q,resource=%q}`, reason, well.Name)
							if got, ok := counted[name]; got != 0 || !ok {
								t.Errorf("%s is %v", name, got)
							}
						}
					})
				})
			}
		}
	}
}

// Each kind keeps its own budget in any minute, to the request, and uses it up.
func TestBudgetsOfBothKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const minutes = 10
		budgets := []int{7, 3}
		b := newBothHarness(t, 10, func(c *config.Account) {
			for i, k := range bothKinds {
				k.Jobs(c).RequestsPerMinute = float64(budgets[i])
			}
		})
		for i, k := range bothKinds {
			k.limit(b.user, cohertest.Limit{Requests: budgets[i], Per: time.Minute, CountRefused: true})
		}
		b.every(5*time.Second, 12*minutes, nil)
		for i, k := range bothKinds {
			times := b.requestsFor(k)
			if len(times) != budgets[i]*minutes {
				t.Errorf("%d requests for %s", len(times), k.Name)
			}
			for j := budgets[i]; j < len(times); j++ {
				if gap := times[j].Sub(times[j-budgets[i]]); gap < time.Minute {
					t.Errorf("%s: more than %d requests in %v", k.Name, budgets[i], gap)
				}
			}
		}
		if got := b.statuses(); len(got) != 1 {
			t.Errorf("answers %v", got)
		}
		compare(t, "budgets", b.scrape(time.Second).text(false, "cohere_api_requests_per_minute_limit"), `
			cohere_api_requests_per_minute_limit{resource="batches"} 3
			cohere_api_requests_per_minute_limit{resource="embed_jobs"} 7`)
	})
}

// What refusals of one kind teach holds for that kind.
func TestKindsLearnApart(t *testing.T) {
	for i, refused := range bothKinds {
		well := bothKinds[1-i]
		t.Run(refused.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const minutes = 5
				b := newBothHarness(t, 40, nil)
				refused.limit(b.user, cohertest.Limit{Requests: 10, Per: time.Minute, RetryAfter: cohertest.Seconds})
				b.every(time.Minute, minutes, func(i int, s series) {
					budget := func(k kindOf) float64 {
						return s[fmt.Sprintf("cohere_api_requests_per_minute_limit{resource=%q}", k.Name)]
					}
					if got := budget(refused); i == 0 && got != 8 || got >= 40 {
						t.Errorf("scrape %d: the budget of the kind that is refused is %v", i, got)
					}
					if got := budget(well); got != 40 || well.ups(s)["up"] != 40 {
						t.Errorf("scrape %d: that of the other is %v, and %v", i, got, well.ups(s))
					}
				})
				if n := len(b.requestsFor(well)); n != 40*minutes {
					t.Errorf("%d requests for the kind that is well", n)
				}
			})
		})
	}
}

// A kind that an account does not watch has none of its series, not even once
// it did.
func TestSeriesOfWatchedKindsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		discover := config.DefaultDiscover()
		watch := func(c *config.Account) {
			batches := *c.EmbedJobs
			batches.IDs, batches.Discover, batches.RequestsPerMinute = []string{c.Name + "-batch"}, &discover, 40
			c.Batches = &batches
		}
		m := newTeam(t, watch)
		of := func(account string) (words map[string]bool) {
			own, err := m.reg.Gather()
			if err != nil {
				t.Fatal(err)
			}
			words = map[string]bool{}
			for name := range seriesOf(append(own, m.gather(time.Second)...)) {
				if strings.Contains(name, "account=\""+account+"\"") {
					for _, word := range []string{"embed_job", "batch"} {
						words[word] = words[word] || strings.Contains(name, word)
					}
				}
			}
			return words
		}
		expect := func(what string, want ...bool) {
			t.Helper()
			anna, ben := of("anna"), of("ben")
			got := []bool{anna["embed_job"], anna["batch"], ben["embed_job"], ben["batch"]}
			if !slices.Equal(got, want) {
				t.Errorf("%s: series of anna's embed jobs, her batches, ben's jobs, his batches: %v, not %v", what, got, want)
			}
		}
		expect("both kinds", true, true, true, true)
		m.apply(func(a []config.Account) []config.Account {
			a[0].Batches, a[1].EmbedJobs = nil, nil
			return a
		})
		expect("one each", true, false, false, true)
		m.apply(func(a []config.Account) []config.Account {
			a[0].EmbedJobs, a[0].Batches = nil, a[1].Batches
			return a
		})
		expect("batches", false, true, false, true)
	})
}
