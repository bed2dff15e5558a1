package schedule_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cohere-exporter/cohere_exporter/collector/schedule"
)

// inBubble checks a property in fake time.
func inBubble(t *testing.T, property func(*rapid.T)) {
	rapid.Check(t, func(t *rapid.T) { rapid.SyncTest(t, property) })
}

func (w *world) drawIntervals() {
	w.refresh = rapid.SampledFrom([]time.Duration{0, 10 * time.Second, 2 * time.Minute}).Draw(w.t, "refresh")
	w.settled = rapid.SampledFrom([]time.Duration{0, 30 * time.Second, time.Hour}).Draw(w.t, "settled")
}

func drawLimits(t *rapid.T) schedule.Limits {
	return schedule.Limits{
		Concurrent: rapid.SampledFrom([]int{1, 3, 20}).Draw(t, "concurrent"),
		PerMinute:  rapid.SampledFrom([]float64{0, 0.5, 1, 2.5, 10, 40}).Draw(t, "per minute"),
	}
}

func drawWait(t *rapid.T) time.Duration {
	return rapid.SampledFrom([]time.Duration{1, time.Second, 5 * time.Second, 30 * time.Second, time.Minute, 10 * time.Minute}).Draw(t, "wait")
}

// Whatever happens: the order is as specified, there are never more requests
// than the budget in any window, nothing is sent that is not due or was just
// asked, nothing while the gate is closed or nobody waits, and every pass comes
// to its end.
func TestAnyHistory(t *testing.T) {
	inBubble(t, func(t *rapid.T) {
		w := newWorld(t, rapid.IntRange(1, 30).Draw(t, "jobs"), drawLimits(t))
		w.drawIntervals()
		one := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "which") }
		end := func(how ...ending) func(*rapid.T) {
			return func(t *rapid.T) {
				retryAfter := rapid.SampledFrom([]time.Duration{0, time.Second, time.Minute, time.Hour}).Draw(t, "Retry-After")
				how := rapid.SampledFrom(how).Draw(t, "how")
				for range len(w.sendings) { // none, some or all of them
					n := len(w.sendings)
					if n == 0 || rapid.IntRange(0, 2).Draw(t, "stop") == 0 {
						return
					}
					w.finish(w.sendings[one(n)], how, retryAfter)
				}
			}
		}
		actions := map[string]func(*rapid.T){
			"scrape": func(t *rapid.T) { w.scrape(drawWait(t)) },
			"wait": func(t *rapid.T) {
				time.Sleep(drawWait(t))
				w.check()
			},
			"write": func(*rapid.T) {
				if n := len(w.sendings); n > 0 {
					w.write(w.sendings[one(n)])
				}
			},
			"write all": func(*rapid.T) {
				for _, s := range w.sendings {
					if s.writes == 0 {
						w.write(s)
					}
				}
			},
			"succeed": end(seenActive, seenSettled, page),
			"fail":    end(notFound, unavailable, failed),
			"refuse":  end(tooMany),
			"leave": func(*rapid.T) {
				if n := len(w.scrapes); n > 0 {
					w.scrapes[one(n)].leave()
					w.check()
				}
			},
			"drop": func(*rapid.T) {
				j := w.jobs[one(len(w.jobs))]
				w.Do(func() {
					w.Drop(func(t *schedule.Task) bool { return t != &j.Task })
					if j.queued {
						j.queued, j.skipped, j.why = false, w.tick(), schedule.Deadline
					}
				})
				w.check()
			},
			"set limits": func(t *rapid.T) {
				limits := drawLimits(t)
				w.Do(func() { w.limits.set(limits) })
				w.SetLimits(limits)
				w.check()
			},
			"forget": func(*rapid.T) {
				w.Do(func() { w.limits.forget(w.tick()) })
				w.Forget()
				w.check()
			},
		}
		for range 8 { // a history eight times as long as rapid makes them
			t.Repeat(actions)
		}
	})
}

// Under any budget each active job is asked again as soon as the budget
// suffices for all active ones, whatever else there is to ask.
func TestNoActiveJobStarves(t *testing.T) {
	inBubble(t, func(t *rapid.T) {
		draw := func(least, most int, what string) int { return rapid.IntRange(least, most).Draw(t, what) }
		active, settled, dead := draw(1, 12, "active"), draw(0, 12, "settled"), draw(0, 5, "dead")
		budget, step := draw(1, 15, "budget"), time.Duration(draw(10, 90, "scrape interval"))*time.Second
		w := newWorld(t, active+settled+dead, schedule.Limits{Concurrent: 20, PerMinute: float64(budget)})
		w.drawIntervals()
		fate := map[*job]ending{}
		for _, j := range rapid.Permutation(w.jobs).Draw(t, "jobs") {
			switch n := len(fate); {
			case n < active:
				fate[j] = rapid.SampledFrom([]ending{seenActive, seenActive, unavailable, failed}).Draw(t, "fate")
			case n < active+settled:
				fate[j] = seenSettled
			default:
				fate[j] = notFound
			}
		}
		rounds := func(jobs int) time.Duration { // in how long so many can be asked
			minute := (time.Minute + step - 1).Truncate(step) // in scrapes
			return time.Duration((jobs+budget-1)/budget) * minute
		}
		// To begin with, all are asked once, and the settled ones once more
		// like the active ones.
		warm := time.Now().Add(2*rounds(active+settled+dead) + w.refresh + time.Minute + step)
		most := w.refresh + rounds(active) + step
		asked := map[*job]time.Time{}
		check := func(j *job) {
			last := asked[j]
			if last.Before(warm) {
				last = warm
			}
			if gap := time.Since(last); fate[j] != seenSettled && fate[j] != notFound && gap > most {
				t.Fatalf("%s is not asked for %v, more than %v", j.ID, gap, most)
			}
		}
		for end := warm.Add(3 * most); time.Now().Before(end); time.Sleep(step) {
			w.scrape(step)
			for len(w.sendings) > 0 {
				s := w.sendings[0]
				check(s.job)
				asked[s.job] = time.Now()
				w.write(s)
				w.finish(s, fate[s.job], 0)
			}
		}
		for _, j := range w.jobs {
			check(j)
		}
	})
}
