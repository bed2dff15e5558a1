package collector_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/common/model"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
)

// newBatchHarness watches n batches, batch-0000 and so on, the oldest first,
// that discovery finds. Each page of the list has so many.
func newBatchHarness(t *testing.T, n, page int, change func(*config.Jobs)) *harness {
	t.Helper()
	b := newHarness(t, 0, func(c *config.Account) {
		c.Batches, c.EmbedJobs = c.EmbedJobs, nil
		discover := config.DefaultDiscover()
		c.Batches.Discover = &discover
		if change != nil {
			change(c.Batches)
		}
	})
	b.user.PageBatches(page)
	for i := range n {
		b.user.AddBatches(cohertest.Batch{
			ID: batchID(i), Status: "BATCH_STATUS_IN_PROGRESS", InputTokens: int64(i),
			CreatedAt: time.Now().Add(time.Duration(i-n) * time.Second),
		})
	}
	return b
}

func batchID(i int) string { return fmt.Sprintf("batch-%04d", i) }

// asked tells what the API was asked for since the last time: the number of the
// first batch of a page of the list, or an ID.
func (b *harness) asked() string {
	b.t.Helper()
	var all []string
	for _, r := range b.api.Requests() {
		if r.Endpoint == "get" {
			all = append(all, r.ID)
			continue
		}
		query, err := url.ParseQuery(r.Query)
		if err != nil {
			b.t.Fatal(err)
		}
		token, err := base64.StdEncoding.DecodeString(query.Get("page_token"))
		if err != nil {
			b.t.Fatal(err)
		}
		first, _ := strings.CutPrefix(string(token), "batch ")
		if first == "" {
			first = "0"
		}
		all = append(all, first)
	}
	b.api.ResetRequests()
	return strings.Join(all, " ")
}

// listState tells whether the list is up, or why it is not.
func (s series) listState() string {
	for name := range s {
		if reason, ok := strings.CutPrefix(name, `cohere_list_fetch_error{reason="`); ok {
			return strings.TrimSuffix(reason, `",resource="batches"}`)
		}
	}
	return "up " + strconv.FormatFloat(s[`cohere_list_up{resource="batches"}`], 'f', -1, 64)
}

// batchState tells whether a batch is up, or why it is not, and when it was last
// fetched, in seconds since the start of the bubble.
func (s series) batchState(i int) string {
	id := `{batch_id="` + batchID(i) + `"`
	last, ok := s["cohere_batch_last_success_timestamp_seconds"+id+"}"]
	if !ok {
		return "-"
	}
	state := strconv.FormatFloat(last-start, 'f', -1, 64)
	for name := range s {
		if reason, ok := strings.CutPrefix(name, "cohere_batch_fetch_error"+id+`,reason="`); ok {
			return state + " " + strings.TrimSuffix(reason, `"}`)
		}
	}
	return state
}

// Three pages cost three requests in a refresh interval, however many servers
// scrape, and however often.
func TestDiscoveryOverPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const interval = 55 * time.Second
		b := newBatchHarness(t, 2500, 1000, func(j *config.Jobs) {
			j.RefreshInterval, j.Discover.MaxJobs = model.Duration(interval), 1200
		})
		b.api.SetLatency(300 * time.Millisecond)
		var servers sync.WaitGroup
		for i := range 3 {
			servers.Go(func() {
				time.Sleep(time.Duration(i) * 700 * time.Millisecond)
				b.every(5*time.Second, 60, nil)
			})
		}
		servers.Wait()
		requests := b.api.Requests()
		for i := 3; i < len(requests); i++ {
			if gap := requests[i].Time.Sub(requests[i-3].Time); gap < interval {
				t.Errorf("request %d came %v after that three before it", i, gap)
			}
		}
		if got := b.asked(); got != strings.TrimSpace(strings.Repeat("0 1000 2000 ", 6)) {
			t.Errorf("asked for %s", got)
		}
		s := b.scrape(time.Second)
		compare(t, "series", s.text(false, "cohere_batches*", "cohere_list_*", "cohere_up"), `
			cohere_batches 1200
			cohere_batches_dropped 1300
			cohere_list_up{resource="batches"} 1
			cohere_up 1`)
		for i := range 2500 {
			if _, ok := s[`cohere_batch_up{batch_id="`+batchID(i)+`"}`]; ok != (i >= 1300) {
				t.Fatalf("batch %d is watched: %t", i, ok)
			}
		}
	})
}

// What one scrape's budget has no room for, later ones go on with.
func TestListInterruptedByBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBatchHarness(t, 6, 2, func(j *config.Jobs) {
			j.RequestsPerMinute, j.MaxStaleness = 2, model.Duration(2*time.Minute)
		})
		for _, step := range []struct {
			at         time.Duration
			asked      string
			list       string
			first, end string // the first batch of the list, and the last
		}{
			{0, "0 2", "over_budget", "-", "-"},
			{30 * time.Second, "", "over_budget", "-", "-"},
			{60 * time.Second, "4", "up 1", "0", "60"}, // whole, and begun anew by the next scrape
			{75 * time.Second, "0", "up 1", "0", "60"},
			{120 * time.Second, "2", "up 1", "0", "60"},
			{121 * time.Second, "", "over_budget", "0 over_budget", "60"},
			{135 * time.Second, "4", "up 1", "75", "135"},
		} {
			at(step.at)
			s := b.scrape(time.Second)
			got := fmt.Sprintf("asked %q, list %s, batches %s, %s", b.asked(), s.listState(), s.batchState(0), s.batchState(5))
			want := fmt.Sprintf("asked %q, list %s, batches %s, %s", step.asked, step.list, step.first, step.end)
			if got != want {
				t.Errorf("after %v:\n%s, not\n%s", step.at, got, want)
			}
		}
	})
}

// A list that takes longer than values may be served for is over budget, but
// for the scrape that completes it. A page alone makes nothing fresh.
func TestListSlowerThanStaleness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBatchHarness(t, 6, 2, func(j *config.Jobs) {
			j.RequestsPerMinute, j.MaxStaleness = 1, model.Duration(time.Minute)
		})
		for minute, want := range []string{
			"0: over_budget, -, -",
			"2: over_budget, -, -",
			"4: up 1, 0, 120",
			"0: over_budget, 0 over_budget, 120",
			"2: over_budget, 0 over_budget, 120 over_budget",
			"4: up 1, 180, 300",
		} {
			at(time.Duration(minute) * time.Minute)
			s := b.scrape(time.Second)
			if got := fmt.Sprintf("%s: %s, %s, %s", b.asked(), s.listState(), s.batchState(0), s.batchState(5)); got != want {
				t.Errorf("minute %d: %s, not %s", minute, got, want)
			}
		}
	})
}

// What one scrape's deadline has no room for, later ones go on with. A page
// that comes late counts.
func TestListInterruptedByDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBatchHarness(t, 6, 2, nil)
		b.api.SetLatency(4 * time.Second)
		for i, want := range []string{
			"0 2: timeout, -, -",
			"4: up 1, 0, 15",
			"0 2: up 1, 0, 15",
			"4: up 1, 30, 45",
		} {
			at(time.Duration(i) * 15 * time.Second)
			s := b.scrape(5 * time.Second)
			if got := fmt.Sprintf("%s: %s, %s, %s", b.asked(), s.listState(), s.batchState(0), s.batchState(5)); got != want {
				t.Errorf("scrape %d: %s, not %s", i, got, want)
			}
		}
	})
}

// What a refusal keeps from a scrape, later ones go on with, too.
func TestListInterruptedByRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBatchHarness(t, 6, 2, nil)
		b.user.LimitBatches(cohertest.Limit{Requests: 2, Per: time.Minute, RetryAfter: cohertest.Seconds})
		for i, want := range []string{
			"0 2 4: rate_limited, -, -",
			": rate_limited, -, -",
			"4: up 1, 0, 60",
		} {
			at(time.Duration(i) * 30 * time.Second)
			s := b.scrape(time.Second)
			if got := fmt.Sprintf("%s: %s, %s, %s", b.asked(), s.listState(), s.batchState(0), s.batchState(5)); got != want {
				t.Errorf("scrape %d: %s, not %s", i, got, want)
			}
		}
	})
}

// A list in the middle of its pages ranks as an active batch does: it takes
// turns with those that it lacks, and goes before what is not found.
func TestListRanksAsActive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBatchHarness(t, 6, 2, func(j *config.Jobs) {
			j.RequestsPerMinute, j.IDs = 1, []string{"beside", "lost"}
		})
		b.user.AddBatches(cohertest.Batch{ID: "beside"})
		b.user.Fail(cohertest.ListBatches, func(w http.ResponseWriter, _ *http.Request, c *cohertest.Call) {
			page := slices.DeleteFunc(c.Batches(), func(b cohertest.Batch) bool { return b.ID == "beside" })
			next := map[string]string{"": "YmF0Y2ggMg==", "YmF0Y2ggMg==": "YmF0Y2ggNA=="}[c.PageToken]
			c.AnswerWithBatches(w, next, page...)
		})
		b.every(time.Minute, 20, nil)
		if got, want := b.asked(), "0 2 4 beside lost 0 beside 2 beside 4 beside 0 beside 2 beside 4 beside 0 beside 2"; got != want {
			t.Errorf("asked for %s, not %s", got, want)
		}
	})
}

// A list that never ends is no list, and every batch's failure.
func TestListWithoutEnd(t *testing.T) {
	for _, c := range []struct {
		name     string
		fault    cohertest.Fault
		requests int
	}{
		{"repeated token", cohertest.RepeatedToken, 2},
		{"page 1001", cohertest.EndlessPages, 1000},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBatchHarness(t, 2, 1, nil)
				if s := b.scrape(time.Second); s.listState() != "up 1" || b.asked() != "0 1" {
					t.Fatal(s.listState())
				}
				b.user.Fail(cohertest.ListBatches, c.fault)
				s := b.scrape(time.Second)
				compare(t, "series", s.text(false, "cohere_batch_up", "cohere_batch_fetch_error", "cohere_list_*"), `
					cohere_batch_fetch_error{batch_id="batch-0000",reason="invalid_response"} 1
					cohere_batch_fetch_error{batch_id="batch-0001",reason="invalid_response"} 1
					cohere_batch_up{batch_id="batch-0000"} 0
					cohere_batch_up{batch_id="batch-0001"} 0
					cohere_list_fetch_error{reason="invalid_response",resource="batches"} 1
					cohere_list_up{resource="batches"} 0`)
				if n := len(b.api.Requests()); n != c.requests {
					t.Errorf("%d requests", n)
				}
				b.asked()
				b.user.Fail(cohertest.ListBatches, nil)
				if s := b.scrape(time.Second); s.listState() != "up 1" || b.asked() != "0 1" {
					t.Error(s.listState())
				}
			})
		})
	}
}

// Exactly as many pages as are allowed are a list.
func TestListOfThousandPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBatchHarness(t, 1000, 1, func(j *config.Jobs) { j.Discover.MaxJobs = 1000 })
		s := b.scrape(time.Minute)
		if n := len(b.api.Requests()); s.listState() != "up 1" || s["cohere_batches"] != 1000 || n != 1000 {
			t.Errorf("list %s, %v batches, %d requests", s.listState(), s["cohere_batches"], n)
		}
	})
}

// A page that fails makes the list begin anew.
func TestPageFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBatchHarness(t, 4, 2, nil)
		b.user.Fail(cohertest.ListBatches, func(w http.ResponseWriter, r *http.Request, c *cohertest.Call) {
			if c.PageToken != "" {
				cohertest.Status(503, "later")(w, r, c)
				return
			}
			c.Answer(w)
		})
		if s := b.scrape(time.Second); s.listState() != "unavailable" || s["cohere_batches"] != 0 || b.asked() != "0 2" {
			t.Error(s.listState())
		}
		b.user.Fail(cohertest.ListBatches, nil)
		if s := b.scrape(time.Second); s.listState() != "up 1" || s["cohere_batches"] != 4 || b.asked() != "0 2" {
			t.Error(s.listState())
		}
	})
}

// After a reload a list goes on, unless its first pages may say something else
// by now.
func TestReloadBetweenPages(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(*team, *config.Account)
		then    []string // what is asked for, minute by minute
		watched float64
	}{
		{"staleness", func(_ *team, c *config.Account) { c.Batches.MaxStaleness = model.Duration(time.Hour) }, []string{"4"}, 6},
		{"discovery", func(_ *team, c *config.Account) {
			discover := *c.Batches.Discover
			discover.Name = config.MustRegexp("nightly")
			c.Batches.Discover = &discover
		}, []string{"0 2", "4"}, 1},
		{"key", func(m *team, c *config.Account) {
			m.users["anna"].SetKey("another-key")
			*c = withKey(*c, "another-key")
		}, []string{"0 2", "4"}, 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newTeam(t, func(c *config.Account) {
					discover := config.DefaultDiscover()
					c.Batches, c.EmbedJobs = c.EmbedJobs, nil
					c.Batches.IDs, c.Batches.Discover, c.Batches.RequestsPerMinute = nil, &discover, 2
				})
				m.apply(func(a []config.Account) []config.Account { return a[:1] })
				m.users["anna"].PageBatches(2)
				for i := range 6 {
					m.users["anna"].AddBatches(cohertest.Batch{ID: batchID(i), Name: map[int]string{0: "nightly"}[i]})
				}
				m.scrape(time.Second)
				if got := m.asked(); got != "0 2" {
					t.Fatalf("asked for %s", got)
				}
				m.apply(func(a []config.Account) []config.Account {
					c.change(m, &a[0])
					return a
				})
				for i, want := range c.then {
					if i == 0 && m.scrape(time.Second)[`cohere_batches{account="anna"}`] != 0 {
						t.Error("part of a list counts")
					}
					time.Sleep(time.Minute)
					s := m.scrape(time.Second)
					if got := m.asked(); got != want {
						t.Errorf("minute %d: asked for %s, not %s", i, got, want)
					}
					if watched := s[`cohere_batches{account="anna"}`]; i == len(c.then)-1 && watched != c.watched {
						t.Errorf("%v batches", watched)
					}
				}
			})
		})
	}
}

// Where the list tells no tokens, settled batches are asked for them once, and
// active ones never.
func TestBatchTokensBesidesTheList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBatchHarness(t, 4, 2, nil)
		b.user.ListBatchesWithoutTokens(true)
		for i := range 2 {
			b.user.UpdateBatch(batchID(i), func(b *cohertest.Batch) { b.Status = "BATCH_STATUS_COMPLETED" })
		}
		tokens := func(s series) string { return s.text(false, "cohere_batch_input_tokens") }
		compare(t, "first scrape", tokens(b.scrape(time.Second)), `
			cohere_batch_input_tokens{batch_id="batch-0000"} 0
			cohere_batch_input_tokens{batch_id="batch-0001"} 1`)
		if got := b.asked(); got != "0 2 batch-0000 batch-0001" && got != "0 2 batch-0001 batch-0000" {
			t.Errorf("asked for %s", got)
		}
		b.user.UpdateBatch(batchID(3), func(b *cohertest.Batch) { b.Status = "BATCH_STATUS_FAILED" })
		b.every(30*time.Second, 10, nil)
		if got, want := b.asked(), "0 2 0 2 0 2 batch-0003"+strings.Repeat(" 0 2", 7); got != want {
			t.Errorf("asked for %s, not %s", got, want)
		}
		compare(t, "last scrape", tokens(b.scrape(time.Second)), `
			cohere_batch_input_tokens{batch_id="batch-0000"} 0
			cohere_batch_input_tokens{batch_id="batch-0001"} 1
			cohere_batch_input_tokens{batch_id="batch-0003"} 3`)
	})
}

// A page says nothing of a batch that was asked since it came, though it counts
// only once the last page is in.
func TestPageOlderThanAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBatchHarness(t, 3, 2, func(j *config.Jobs) {
			j.Discover, j.Fetch, j.IDs = nil, config.FetchList, []string{batchID(0), batchID(1)}
		})
		b.api.SetLatency(time.Second)
		b.user.Fail(cohertest.ListBatches, func(w http.ResponseWriter, _ *http.Request, c *cohertest.Call) {
			c.AnswerWithBatches(w, "") // lacks all
		})
		b.scrape(time.Minute)
		b.user.Fail(cohertest.ListBatches, func(w http.ResponseWriter, r *http.Request, c *cohertest.Call) {
			if c.PageToken == "" { // it completes just after
				defer b.user.UpdateBatch(batchID(0), func(b *cohertest.Batch) { b.Status = "BATCH_STATUS_COMPLETED" })
				c.Answer(w)
				return
			}
			cohertest.Slow(time.Second)(w, r, c)
		})
		b.user.Fail(batchID(1), cohertest.Status(503, "no"))
		b.asked()
		time.Sleep(time.Until(time.Unix(start+60, 0)))
		s := b.scrape(time.Minute)
		asked := strings.Fields(b.asked())
		slices.Sort(asked)
		if !slices.Equal(asked, []string{"0", "2", "batch-0000", "batch-0001"}) {
			t.Fatalf("asked for %s", asked)
		}
		if got := s.batchState(0); got != "61" || s[`cohere_batch_status{batch_id="batch-0000",status="completed"}`] != 1 {
			t.Errorf("batch 0, last fetched: %s\n%s", got, s.text(true, "cohere_batch_status"))
		}
		if got := s.batchState(1); got != "1 unavailable" {
			t.Errorf("batch 1, last fetched: %s", got)
		}
	})
}
