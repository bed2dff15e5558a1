package collector_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
)

// probe probes one embed job of the account.
func (b *harness) probe(id string) series {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 5*time.Second)
	defer cancel()
	job, err := b.set.Probe(ctx, "", "job_id", id)
	if err != nil {
		b.t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(job)
	families, err := reg.Gather()
	if err != nil {
		b.t.Error(err)
	}
	return seriesOf(families)
}

// A probe has the families of its job and a cohere_up that speaks of it only.
func TestProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newHarness(t, 2, nil)
		b.user.Fail("job-001", cohertest.Status(503, ""))
		b.user.Add(cohertest.Job{ID: "other", Status: "failed"})
		for id, want := range map[string]string{
			"job-000": `
				cohere_embed_job_status{job_id="job-000",status="processing"} 1
				cohere_embed_job_up{job_id="job-000"} 1
				cohere_up 1`,
			"job-001": `
				cohere_embed_job_fetch_error{job_id="job-001",reason="unavailable"} 1
				cohere_embed_job_up{job_id="job-001"} 0
				cohere_up 0`,
			"other": `
				cohere_embed_job_status{job_id="other",status="failed"} 1
				cohere_embed_job_up{job_id="other"} 1
				cohere_up 1`,
			"nobody's": `
				cohere_embed_job_fetch_error{job_id="nobody's",reason="not_found"} 1
				cohere_embed_job_up{job_id="nobody's"} 0
				cohere_up 0`,
		} {
			s := b.probe(id)
			got := s.text(true, "cohere_embed_job_status") + s.text(false, "cohere_embed_job_up", "cohere_embed_job_fetch_error", "cohere_up")
			lines := strings.Split(strings.TrimSpace(got), "\n")
			slices.Sort(lines)
			compare(t, id, strings.Join(lines, "\n"), want)
			for name := range s {
				if name != "cohere_up" && !strings.Contains(name, fmt.Sprintf("job_id=%q", id)) {
					t.Errorf("%s: %s", id, name)
				}
			}
		}
		if s := b.scrape(time.Second); s["cohere_embed_jobs"] != 2 || strings.Contains(s.text(false), "other") {
			t.Error("probed jobs are among the watched ones")
		}
	})
}

// Probes and scrapes share what was asked within a minute, and the budget.
func TestProbesShare(t *testing.T) {
	for _, c := range []struct {
		fetch string
		want  []string
	}{
		{config.FetchGet, []string{"0 job-000", "0 job-001", "0 other", "60 job-000", "60 other"}},
		{config.FetchList, []string{"0 list", "0 other", "60 list", "60 other"}},
	} {
		t.Run(c.fetch, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newHarness(t, 2, func(a *config.Account) { a.EmbedJobs.Fetch, a.EmbedJobs.MaxStaleness = c.fetch, 0 })
				b.user.Add(cohertest.Job{ID: "other"})
				b.scrape(time.Second)
				for _, after := range []time.Duration{0, 30 * time.Second, time.Minute, 119 * time.Second} {
					at(after)
					for range 3 {
						for _, id := range []string{"job-000", "other"} {
							if s := b.probe(id); s["cohere_up"] != 1 {
								t.Errorf("after %v: %s", after, s.text(false))
							}
						}
					}
				}
				got := b.times()
				slices.Sort(got)
				if !slices.Equal(got, c.want) {
					t.Errorf("asked %q", got)
				}
			})
		})
	}
}

// What is not watched gets only what the watched jobs leave of the budget.
func TestProbeWithinBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newHarness(t, 3, func(c *config.Account) { c.EmbedJobs.RequestsPerMinute = 4 })
		b.user.Add(cohertest.Job{ID: "one"}, cohertest.Job{ID: "two"})
		b.scrape(time.Second)
		if up := b.probe("one")["cohere_up"]; up != 1 {
			t.Error("not asked within the budget")
		}
		compare(t, "over", b.probe("two").text(false, "cohere_up", "cohere_embed_job_fetch_error"), `
			cohere_embed_job_fetch_error{job_id="two",reason="over_budget"} 1
			cohere_up 0`)
	})
}

// At most a thousand jobs are remembered that are not watched, for an hour.
func TestProbesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newHarness(t, 0, func(c *config.Account) {
			c.EmbedJobs.IDs, c.EmbedJobs.RefreshInterval = []string{"job-000"}, model.Duration(24*time.Hour)
		})
		id := func(i int) string { return fmt.Sprintf("probed-%04d", i) }
		for i := range 1001 {
			b.user.Add(cohertest.Job{ID: id(i)})
			b.probe(id(i))
			time.Sleep(time.Second)
		}
		asked := func(id string) int {
			b.api.ResetRequests()
			b.probe(id)
			return len(b.api.Requests())
		}
		if asked(id(1000)) != 0 || asked(id(1)) != 0 || asked(id(0)) != 1 {
			t.Error("not the oldest was forgotten")
		}
		time.Sleep(time.Hour)
		if asked(id(1000)) != 1 {
			t.Error("remembered after an hour")
		}
	})
}

// What cannot be probed is said in one line.
func TestProbeErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newTeam(t, nil)
		for _, c := range []struct{ account, parameter, id, want string }{
			{"", "job_id", "a", "account: there are several; name one"},
			{"carl", "job_id", "a", `account: there is no "carl"`},
			{"anna", "batch_id", "a", "batch_id: the account watches no jobs of that kind"},
			{"anna", "job_id", "", `job_id: "" is not a job ID`},
			{"anna", "job_id", "https://example.com/v1/embed-jobs/a", `job_id: a URL is not a job ID; write its last part, "a"`},
			{"anna", "job_id", "\xff", `job_id: job ID "\xff" is not valid UTF-8`},
		} {
			if _, err := m.set.Probe(t.Context(), c.account, c.parameter, c.id); err == nil || err.Error() != c.want {
				t.Errorf("%+v: %v", c, err)
			}
		}
		if _, err := m.set.Probe(t.Context(), "anna", "job_id", "anna-job"); err != nil {
			t.Error(err)
		}
	})
}
