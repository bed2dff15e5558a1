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

// start is when the clock of a bubble starts, in Unix time.
const start = 946684800

// jobState is what a scrape tells of job-000: its status, "-" without any; up;
// the reason if it is not; and when it last succeeded, in seconds since start.
func (s series) jobState() string {
	status, reason := "-", ""
	for name, value := range s {
		if value != 1 {
			continue
		}
		if after, ok := strings.CutPrefix(name, `cohere_embed_job_status{job_id="job-000",status="`); ok {
			status = strings.TrimSuffix(after, `"}`)
		}
		if after, ok := strings.CutPrefix(name, `cohere_embed_job_fetch_error{job_id="job-000",reason="`); ok {
			reason = " " + strings.TrimSuffix(after, `"}`)
		}
	}
	up, _ := s.job("up", 0)
	text := fmt.Sprintf("%s %v%s", status, up, reason)
	if last, ok := s.job("last_success_timestamp_seconds", 0); ok {
		text += fmt.Sprintf(" %v", last-start)
	}
	return text
}

// at sleeps until so long after the start.
func at(d time.Duration) { time.Sleep(time.Until(time.Unix(start, 0).Add(d))) }

// How old values get, and why there are no newer ones: one success, and then
// the API is gone.
func TestLastKnownValues(t *testing.T) {
	for _, c := range []struct {
		name   string
		status string // "processing" if it is empty
		change func(c *config.Account)
		api    func(u *cohertest.User)
		takes  time.Duration // each scrape
		due    time.Duration // when the job is asked for again
		limit  time.Duration // of the age of values
		within string        // while they may be served
		beyond string
	}{
		{
			name: "network", limit: 5 * time.Minute,
			api:    func(u *cohertest.User) { u.Fail(cohertest.All, cohertest.Reset) },
			within: "processing 0 network 0", beyond: "- 0 network 0",
		},
		{
			name: "longer interval and staleness", due: time.Minute, limit: 11 * time.Minute,
			change: func(c *config.Account) {
				c.EmbedJobs.RefreshInterval, c.EmbedJobs.MaxStaleness = model.Duration(time.Minute), model.Duration(10*time.Minute)
			},
			api:    func(u *cohertest.User) { u.Fail(cohertest.All, cohertest.Status(503, "")) },
			within: "processing 0 unavailable 0", beyond: "- 0 unavailable 0",
		},
		{
			name: "no staleness", due: time.Minute, limit: time.Minute,
			change: func(c *config.Account) {
				c.EmbedJobs.RefreshInterval, c.EmbedJobs.MaxStaleness = model.Duration(time.Minute), 0
			},
			api:    func(u *cohertest.User) { u.Fail(cohertest.All, cohertest.NotJSON) },
			within: "processing 0 invalid_response 0", beyond: "- 0 invalid_response 0",
		},
		{
			name: "refused", limit: 5 * time.Minute,
			api: func(u *cohertest.User) {
				u.Limit(cohertest.Limit{Per: time.Hour, RetryAfter: cohertest.Seconds})
			},
			within: "processing 1 0", beyond: "- 0 rate_limited 0",
		},
		{
			name: "refused again and again", limit: 5 * time.Minute,
			api:    func(u *cohertest.User) { u.Limit(cohertest.Limit{Per: time.Hour}) },
			within: "processing 1 0", beyond: "- 0 rate_limited 0",
		},
		{
			name: "over budget", limit: 5 * time.Minute,
			change: func(c *config.Account) { c.EmbedJobs.RequestsPerMinute = .01 },
			within: "processing 1 0", beyond: "- 0 over_budget 0",
		},
		{
			name: "deadline", takes: time.Second, limit: 5 * time.Minute,
			change: func(c *config.Account) { c.Timeout = model.Duration(time.Hour) },
			api:    func(u *cohertest.User) { u.Fail(cohertest.All, cohertest.Hang) },
			within: "processing 1 0", beyond: "- 0 timeout 0",
		},
		{
			name: "list", limit: 5 * time.Minute,
			change: func(c *config.Account) { c.EmbedJobs.Fetch = config.FetchList },
			api:    func(u *cohertest.User) { u.Fail(cohertest.List, cohertest.Status(500, "")) },
			within: "processing 0 server_error 0", beyond: "- 0 server_error 0",
		},
		{
			name: "list refused", limit: 5 * time.Minute,
			change: func(c *config.Account) { c.EmbedJobs.Fetch = config.FetchList },
			api:    func(u *cohertest.User) { u.Limit(cohertest.Limit{Per: time.Hour}) },
			within: "processing 1 0", beyond: "- 0 rate_limited 0",
		},
		{
			name: "unknown status ages", status: "hibernating", limit: 5 * time.Minute,
			api:    func(u *cohertest.User) { u.Fail(cohertest.All, cohertest.Reset) },
			within: "unknown 0 network 0", beyond: "- 0 network 0",
		},
		{
			name: "settled", status: "failed", limit: 10 * time.Minute,
			api:    func(u *cohertest.User) { u.Fail(cohertest.All, cohertest.Reset) },
			within: "failed 0 network 0", beyond: "failed 0 network 0",
		},
		{
			name: "settled and refused", status: "complete", limit: 10 * time.Minute,
			api:    func(u *cohertest.User) { u.Limit(cohertest.Limit{Per: time.Hour}) },
			within: "complete 1 0", beyond: "complete 1 0",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newHarness(t, 1, c.change)
				b.user.Update("job-000", func(j *cohertest.Job) {
					if c.status != "" {
						j.Status = c.status
					}
				})
				b.every(time.Second, 1, nil)
				if c.api != nil {
					c.api(b.user)
				}
				const interval = 15 * time.Second
				for now := interval; now <= c.limit+2*time.Minute; now += interval {
					at(now)
					want := c.within
					switch {
					case now < c.due:
						want = "processing 1 0"
					case now+c.takes > c.limit:
						want = c.beyond
					}
					timeout := c.takes
					if timeout == 0 {
						timeout = 10 * time.Second
					}
					got := b.scrape(timeout).jobState()
					if got != want {
						t.Errorf("after %v: %s; want %s", now, got, want)
					}
				}
			})
		})
	}
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
			at(time.Duration(i) * 15 * time.Second)
			b.user.Fail("job-000", step.fault)
			if got := b.scrape(5 * time.Second).jobState(); got != step.want {
				t.Errorf("step %d: %s; want %s", i, got, step.want)
			}
		}
	})
}

// A job that is not found loses its values at once, and starts anew.
func TestNotFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newHarness(t, 1, nil)
		job := cohertest.Job{ID: "job-000", Status: "complete", InputTokens: 5}
		step := func(after time.Duration, want string) {
			t.Helper()
			at(after)
			s := b.scrape(time.Second)
			if got := s.jobState(); got != want {
				t.Errorf("after %v: %s; want %s", after, got, want)
			}
			if got := s.text(false, "cohere_embed_job_status_changed*"); got != "" {
				t.Errorf("after %v: %s", after, got)
			}
		}
		step(0, "processing 1 0")
		b.user.Remove("job-000")
		step(15*time.Second, "- 0 not_found 0")
		b.user.Add(job)
		step(30*time.Second, "complete 1 30")
	})
}

func TestStatusChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newHarness(t, 1, nil)
		b.api.SetLatency(2 * time.Second)
		change := func(status string) {
			b.user.Update("job-000", func(j *cohertest.Job) { j.Status = status })
		}
		for i, step := range []struct {
			status string
			want   string
		}{
			{"processing", ""},
			{"processing", ""},
			{"cancelling", "946684830"},
			{"cancelling", "946684830"},
			{"cancelled", "946684860"},
		} {
			at(time.Duration(i) * 15 * time.Second)
			change(step.status)
			want := step.want
			if want != "" {
				want = `cohere_embed_job_status_changed_timestamp_seconds{job_id="job-000"} ` + want
			}
			got := b.scrape(10*time.Second).text(false, "cohere_embed_job_status_changed*")
			compare(t, fmt.Sprintf("scrape %d", i), got, want)
		}
		compare(t, "logs", b.logs.String(), `
			level=info msg="status of job changed" resource=embed_jobs job_id=job-000 from=processing to=cancelling
			level=info msg="status of job changed" resource=embed_jobs job_id=job-000 from=cancelling to=cancelled`)
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

// times returns when the API was asked, in seconds since the start, and for
// what.
func (b *harness) times() (times []string) {
	for _, r := range b.api.Requests() {
		what := r.ID
		if r.Endpoint == "list" {
			what = r.Endpoint
		}
		times = append(times, fmt.Sprintf("%v %s", r.Time.Sub(time.Unix(start, 0)).Seconds(), what))
	}
	return times
}

// Billing may trail the status: a minute later the job is asked once more.
func TestSettledJobs(t *testing.T) {
	for _, c := range []struct {
		fetch string
		want  []string
	}{
		{config.FetchGet, []string{"0 job-000", "30 job-000", "90 job-000", "3690 job-000"}},
		{config.FetchList, []string{"0 list", "30 list", "90 list", "3690 list"}},
	} {
		t.Run(c.fetch, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newHarness(t, 1, func(c2 *config.Account) {
					c2.EmbedJobs.Fetch = c.fetch
					c2.EmbedJobs.RefreshInterval, c2.EmbedJobs.SettledInterval = model.Duration(25*time.Second), model.Duration(time.Hour)
				})
				b.every(15*time.Second, 1, nil)
				b.user.Update("job-000", func(j *cohertest.Job) { j.Status = "complete" })
				b.every(15*time.Second, 250, func(i int, s series) {
					if s["cohere_up"] != 1 {
						t.Fatalf("scrape %d:\n%s", i, s.text(true, "cohere_up", "cohere_list_*", "cohere_embed_job_fetch_error"))
					}
				})
				if got := b.times(); !slices.Equal(got, c.want) {
					t.Errorf("asked %q", got)
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
