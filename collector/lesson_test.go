package collector_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
)

// neighbour is somebody else who uses the same key, for half of what it allows.
type neighbour struct {
	name string

	// pause is how long to wait before the next of so many requests a minute.
	pause func(i, perMinute int) time.Duration
}

var neighbours = []neighbour{
	{name: "nobody"},
	{"evenly", func(_, n int) time.Duration { return time.Minute / time.Duration(n) }},
	{"at once", func(i, n int) time.Duration {
		if (i+1)%n != 0 {
			return 0
		}
		return time.Minute
	}},
	{"at random", func(_, n int) time.Duration {
		return time.Duration(rand.ExpFloat64() * float64(time.Minute) / float64(n))
	}},
}

// uses asks the API until the test ends.
func (n neighbour) uses(b *harness, perMinute int) {
	req := httptest.NewRequest(http.MethodGet, "/v1/embed-jobs/job-000", nil)
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("X-Client-Name", "neighbour")
	for i := 0; b.t.Context().Err() == nil; i++ {
		b.api.ServeHTTP(httptest.NewRecorder(), req)
		select {
		case <-time.After(n.pause(i, perMinute)):
		case <-b.t.Context().Done():
		}
	}
}

// lesson is a key that nobody said the limit of.
type lesson struct {
	limit     cohertest.Limit
	budget    int // configured
	jobs      int
	neighbour neighbour
}

func lessons() (all []lesson) {
	budgets := map[int][]int{5: {40}, 20: {40}, 50: {40, 0}} // smaller keys refuse the first scrape with either
	for _, requests := range []int{5, 20, 50} {
		for _, fixed := range []bool{false, true} {
			for _, retryAfter := range []cohertest.RetryAfter{cohertest.None, cohertest.Seconds} {
				for _, n := range neighbours {
					for _, jobs := range []int{12, 60} {
						for _, budget := range budgets[requests] {
							limit := cohertest.Limit{Requests: requests, Per: time.Minute, Fixed: fixed, RetryAfter: retryAfter}
							all = append(all, lesson{limit, budget, jobs, n})
						}
					}
				}
			}
		}
	}
	return all
}

func (l lesson) String() string {
	return fmt.Sprintf("%d a minute, fixed %t, retry-after %d, %s, %d jobs, budget %d",
		l.limit.Requests, l.limit.Fixed, l.limit.RetryAfter, l.neighbour.name, l.jobs, l.budget)
}

// Whatever a key allows, and whoever else uses it: after two minutes the exporter
// is refused at most twice in any five, uses what is free, and no value gets older
// than twice what the limit makes inevitable, and a scrape interval.
func TestLessons(t *testing.T) {
	const (
		every  = 15 * time.Second
		warmUp = 2 * time.Minute
	)
	for _, l := range lessons() {
		t.Run(l.String(), func(t *testing.T) {
			random := l.neighbour.name == "at random"
			if random && !testing.Verbose() {
				t.Skip("no bound holds; -v prints the figures")
			}
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newHarness(t, l.jobs, func(c *config.Account) { c.EmbedJobs.RequestsPerMinute = float64(l.budget) })
				b.user.Limit(l.limit)
				b.api.KeepRequests(100_000)
				start := time.Now()

				free := l.limit.Requests
				if l.neighbour.pause != nil {
					free -= free / 2
					go l.neighbour.uses(b, l.limit.Requests/2)
				}
				usable := min(free, 4*l.jobs)
				if l.budget > 0 {
					usable = min(usable, l.budget)
				}
				inevitable := time.Duration(l.jobs) * time.Minute / time.Duration(usable)
				end := warmUp + max(20*time.Minute, 5*inevitable)
				oldest, judged := time.Duration(0), 0
				for time.Since(start) < end {
					_, fetched := b.ages()
					for _, f := range fetched {
						if time.Since(start) > warmUp+2*inevitable {
							oldest = max(oldest, time.Since(f))
							judged++
						}
					}
					time.Sleep(every)
				}

				var refused []time.Time
				used, lost, asked := 0, 0, 0
				for _, r := range b.api.Requests() {
					ours := r.Header.Get("X-Client-Name") != "neighbour"
					switch late := r.Time.Sub(start) > warmUp; {
					case !late:
					case !ours && r.Status == 429:
						lost++
						asked++
					case !ours:
						asked++
					case r.Status == 429:
						refused = append(refused, r.Time)
					default:
						used++
					}
				}
				share := float64(used) / float64(usable) / (end - warmUp).Minutes()
				t.Logf("%d refused, %.0f %% of what is free is used, oldest %v of %v inevitable, the other lost %d of %d",
					len(refused), 100*share, oldest, inevitable, lost, asked)
				if random {
					return
				}
				for i := 2; i < len(refused); i++ {
					if gap := refused[i].Sub(refused[i-2]); gap < 5*time.Minute {
						t.Errorf("three refusals within %v", gap)
						break
					}
				}
				if share < .6 {
					t.Errorf("only %.2f of what is free is used", share)
				}
				if most := 2*inevitable + every; judged == 0 || oldest > most {
					t.Errorf("the oldest of %d values is %v old, at most %v expected", judged, oldest, most)
				}
			})
		})
	}
}

// A key that is allowed more is used more, whenever that begins: a learned budget
// of a small key rises and falls in the course of nine minutes.
func TestLessonGrows(t *testing.T) {
	for minute := range 9 {
		synctest.Test(t, func(t *testing.T) {
			b := newHarness(t, 60, func(c *config.Account) { c.EmbedJobs.RequestsPerMinute = 0 })
			b.user.Limit(cohertest.Limit{Requests: 5, Per: time.Minute})
			b.every(15*time.Second, (5+minute)*4, nil)
			b.user.Limit(cohertest.Limit{Requests: 50, Per: time.Minute})
			b.every(15*time.Second, 49*4, nil)
			b.api.ResetRequests()
			b.every(15*time.Second, 4, nil)
			if n := len(b.api.Requests()); n < 30 {
				t.Errorf("raised after %d minutes: %d requests in the 50th minute", 5+minute, n)
			}
		})
	}
}
