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
	jobs      int
	neighbour neighbour
}

func lessons() (all []lesson) {
	for _, requests := range []int{5, 20, 50} {
		for _, fixed := range []bool{false, true} {
			for _, retryAfter := range []cohertest.RetryAfter{cohertest.None, cohertest.Seconds} {
				for _, n := range neighbours {
					for _, jobs := range []int{12, 60} {
						limit := cohertest.Limit{Requests: requests, Per: time.Minute, Fixed: fixed, RetryAfter: retryAfter}
						all = append(all, lesson{limit, jobs, n})
					}
				}
			}
		}
	}
	return all
}

func (l lesson) String() string {
	return fmt.Sprintf("%d a minute, fixed %t, retry-after %d, %s, %d jobs", l.limit.Requests, l.limit.Fixed, l.limit.RetryAfter, l.neighbour.name, l.jobs)
}

// Whatever a key allows, and whoever else uses it: the exporter is refused
// seldom, uses what is free, and no value gets much older than it has to.
func TestLessons(t *testing.T) {
	const (
		every  = 15 * time.Second
		warmUp = 2 * time.Minute
		end    = 22 * time.Minute
	)
	for _, l := range lessons() {
		t.Run(l.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newHarness(t, l.jobs, func(c *config.Account) { c.EmbedJobs.RequestsPerMinute = 0 })
				b.user.Limit(l.limit)
				b.api.KeepRequests(100_000)
				free := l.limit.Requests
				if l.neighbour.pause != nil {
					free -= free / 2
					go l.neighbour.uses(b, l.limit.Requests/2)
				}
				inevitable := time.Duration(l.jobs) * time.Minute / time.Duration(min(free, 4*l.jobs))
				oldest := time.Duration(0)
				for at := time.Duration(0); at < end; at += every {
					_, fetched := b.ages()
					for _, f := range fetched {
						if at > warmUp+2*inevitable {
							oldest = max(oldest, time.Since(f))
						}
					}
					time.Sleep(every)
				}
				start := time.Now().Add(-end)
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
				demand := float64(min(free, 4*l.jobs)) * (end - warmUp).Minutes()
				t.Logf("%d refused, %.0f %% of what is free is used, oldest %v of %v inevitable, the other lost %d of %d",
					len(refused), 100*float64(used)/demand, oldest, inevitable, lost, asked)
				if l.neighbour.name == "at random" {
					return // no bound holds
				}
				for i := 4; i < len(refused); i++ { // two in flight and the one that goes alone after them, twice
					if gap := refused[i].Sub(refused[i-4]); gap < 5*time.Minute {
						t.Errorf("five refusals within %v", gap)
						break
					}
				}
				if share := float64(used) / demand; share < .6 {
					t.Errorf("only %.2f of what is free is used", share)
				}
				// The budget is one for whole minutes, so a job may miss one.
				if most := 2*inevitable + time.Minute; oldest > most {
					t.Errorf("a value got %v old, more than %v", oldest, most)
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
