package collector_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/common/model"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
)

// A list that fails is every job's failure, and no reason for single requests.
func TestListFailures(t *testing.T) {
	for _, k := range bothKinds {
		for _, f := range faults {
			t.Run(k.Name+"/"+f.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBothHarness(t, 2, func(c *config.Account) {
						jobs := *k.Jobs(c)
						jobs.Fetch, jobs.IDs = config.FetchList, []string{"a", "b"}
						c.EmbedJobs, c.Batches = nil, nil
						k.Watch(c, &jobs)
					})
					b.user.Add(cohertest.Job{ID: "a"}, cohertest.Job{ID: "b"})
					b.user.AddBatches(cohertest.Batch{ID: "a"}, cohertest.Batch{ID: "b"})
					b.user.Fail(k.list, f.fault)
					want := []string{`cohere_list_up{resource="` + k.Name + `"} 1`, "cohere_up 1"}
					if f.reason != "" {
						want = []string{
							`cohere_list_up{resource="` + k.Name + `"} 0`, "cohere_up 0",
							`cohere_list_fetch_error{reason="` + f.reason + `",resource="` + k.Name + `"} 1`,
						}
					}
					want = append(want, k.upOf("a", f.reason)...)
					want = append(want, k.upOf("b", f.reason)...)
					slices.Sort(want)
					got := b.scrape(15*time.Second).text(false, "cohere_list_*", "cohere_up", "cohere_"+k.name+"_up", "cohere_"+k.name+"_fetch_error")
					compare(t, "series", got, strings.Join(want, "\n"))
					if n := len(b.api.Requests()); n != 1 {
						t.Errorf("%d requests", n)
					}
					b.checkSecret(key)
				})
			})
		}
	}
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

// A list takes its turn among the jobs that it lacks, however small the budget.
func TestListStarvesNoJob(t *testing.T) {
	for name, change := range map[string]func(*config.Account){
		"list":        func(c *config.Account) { c.EmbedJobs.Fetch, c.EmbedJobs.RequestsPerMinute = config.FetchList, 4 },
		"list, least": func(c *config.Account) { c.EmbedJobs.Fetch, c.EmbedJobs.RequestsPerMinute = config.FetchList, 1 },
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

// A list may come without what a job answers by itself.
func TestListErasesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newHarness(t, 1, func(c *config.Account) { c.EmbedJobs.Fetch = config.FetchList })
		b.user.Update("job-000", func(j *cohertest.Job) {
			j.Name, j.InputTokens, j.Warnings = "nightly", 7, []string{"careful"}
		})
		values := func() string {
			return b.scrape(time.Second).text(true, "cohere_embed_job_info", "cohere_embed_job_api_info",
				"cohere_embed_job_billed_*", "cohere_embed_job_input_tokens", "cohere_embed_job_warnings")
		}
		before := values()
		if strings.Count(before, "\n") != 5 {
			t.Fatal(before)
		}
		b.user.ListWithoutMeta(true)
		b.user.Update("job-000", func(j *cohertest.Job) { j.Name = "" })
		compare(t, "afterwards", values(), before)
	})
}

// What the list lacks of settled jobs is asked for once, a few a scrape.
func TestBilledUnitsBesidesTheList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const jobs = 50
		b := newHarness(t, jobs, func(c *config.Account) { c.EmbedJobs.Fetch = config.FetchList })
		b.user.ListWithoutMeta(true)
		for i := range jobs - 1 { // the last is active
			b.user.Update(fmt.Sprintf("job-%03d", i), func(j *cohertest.Job) { j.Status, j.InputTokens = "complete", 7 })
		}
		asked := map[string]int{}
		b.every(15*time.Second, 10, func(i int, s series) {
			n := len(b.api.Requests())
			for _, r := range b.api.Requests() {
				asked[r.ID]++
			}
			b.api.ResetRequests()
			want := []int{21, 21, 10, 1}[min(i, 3)]
			if n != want {
				t.Errorf("scrape %d: %d requests", i, n)
			}
			if got := strings.Count(s.text(true, "cohere_embed_job_billed_input_tokens"), "\n"); got != min(20*(i+1), jobs-1) {
				t.Errorf("scrape %d: %d jobs with tokens", i, got)
			}
		})
		for i := range jobs - 1 {
			if n := asked[fmt.Sprintf("job-%03d", i)]; n != 1 {
				t.Errorf("job %d was asked for %d times", i, n)
			}
		}
		if n := asked["job-049"]; n != 0 {
			t.Errorf("the active job was asked for %d times", n)
		}
	})
}

// A job that was lost has to be asked again for what the list lacks.
func TestBilledUnitsOfJobThatComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newHarness(t, 2, func(c *config.Account) { c.EmbedJobs.Fetch = config.FetchList })
		b.user.ListWithoutMeta(true)
		job := cohertest.Job{ID: "job-000", Status: "complete", InputTokens: 7}
		for i, there := range []bool{true, false, true} {
			b.user.Remove(job.ID)
			if there {
				b.user.Add(job)
			}
			b.every(15*time.Second, 1, func(_ int, s series) {
				if tokens, ok := s.job("billed_input_tokens", 0); ok != there || ok && tokens != 7 {
					t.Errorf("step %d: tokens %v %v", i, tokens, ok)
				}
			})
		}
	})
}

// What is not in the list is asked for by ID.
func TestJobsBesidesTheList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newHarness(t, 2, func(c *config.Account) {
			c.EmbedJobs.Fetch, c.EmbedJobs.IDs = config.FetchList, append(c.EmbedJobs.IDs, "old")
		})
		b.user.Fail("old", func(w http.ResponseWriter, _ *http.Request, c *cohertest.Call) {
			c.AnswerWith(w, cohertest.Job{ID: "old", Status: "complete"})
		})
		if s := b.scrape(time.Second); s["cohere_up"] != 1 {
			t.Error(s.text(true, "cohere_up", "cohere_list_*", "cohere_embed_job_fetch_error"))
		}
		if got := b.times(); !slices.Equal(got, []string{"0 list", "0 old"}) {
			t.Errorf("asked %q", got)
		}
	})
}

// A job that was not found is not, whatever becomes of the list.
func TestNotFoundWhileListFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newHarness(t, 1, func(c *config.Account) {
			c.EmbedJobs.Fetch = config.FetchList
			c.EmbedJobs.IDs = append(c.EmbedJobs.IDs, "nobodys")
		})
		b.scrape(time.Second)
		b.user.Fail(cohertest.List, cohertest.Status(503, ""))
		compare(t, "series", b.scrape(time.Second).ups(), `
			cohere_embed_job_fetch_error{job_id="job-000",reason="unavailable"} 1
			cohere_embed_job_fetch_error{job_id="nobodys",reason="not_found"} 1
			cohere_embed_job_up{job_id="job-000"} 0
			cohere_embed_job_up{job_id="nobodys"} 0
			cohere_list_fetch_error{reason="unavailable",resource="embed_jobs"} 1
			cohere_list_up{resource="embed_jobs"} 0
			cohere_up 0`)
	})
}
