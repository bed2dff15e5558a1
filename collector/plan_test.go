package collector

import (
	"cmp"
	"context"
	"net/http/httptrace"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cohere-exporter/cohere_exporter/client"
	"github.com/cohere-exporter/cohere_exporter/collector/schedule"
)

var epoch = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)

// moment is when something happened to a task, in order. A pass that overlaps
// the one that a plan is made for begins after before2, and that one itself
// before since.
type moment int

const (
	never   moment = iota
	earlier        // what is sent first comes before what is sent later
	longest
	before2
	meanwhile
	since
)

// state is a job, or the list, and what the scheduler knows of its task.
type state struct {
	*known
	sent, skipped moment
	pending       bool
}

// history has a scheduler go through what states say, as its source.
type history struct {
	scheduler *schedule.Scheduler
	wishes    []schedule.Wish                 // of the next pass that begins
	hang      map[string]bool                 // tasks whose requests do, by ID
	end       map[string]chan schedule.Result // of requests
	passes    []schedule.Pass                 // that began
	plan      func(schedule.Pass)             // for the latest, once it is set
}

func (h *history) Due(p schedule.Pass) []schedule.Wish {
	if !slices.Contains(h.passes, p) {
		h.passes = append(h.passes, p)
		return h.wishes
	}
	if h.plan != nil && p == h.passes[0] {
		h.plan(p)
	}
	return nil
}

func (h *history) Prepare(t *schedule.Task) schedule.Request {
	end := make(chan schedule.Result, 1)
	h.end[t.ID] = end
	if !h.hang[t.ID] {
		end <- schedule.Result{Accepted: true}
	}
	return func(ctx context.Context) schedule.Answer {
		httptrace.ContextClientTrace(ctx).GotConn(httptrace.GotConnInfo{})
		select {
		case r := <-end:
			return answer{r}
		case <-ctx.Done():
			return answer{}
		}
	}
}

func (*history) Skipped(schedule.Why, int) {}
func (*history) Resent(*schedule.Task)     {}

type answer struct{ result schedule.Result }

func (a answer) Remember() schedule.Result { return a.result }
func (a answer) Report(schedule.Change)    {}

// pass begins a pass that wants some tasks, and waits for it for no time.
func (h *history) pass(t *testing.T, timeout time.Duration, tasks ...*schedule.Task) {
	h.wishes = nil
	for _, task := range tasks {
		h.wishes = append(h.wishes, schedule.Wish{Task: task})
	}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	go func() {
		defer cancel()
		h.scheduler.Wait(ctx, func(schedule.Pass) {})
	}()
	synctest.Wait()
}

// planWith calls f in a pass for which the states hold.
func planWith(t *testing.T, states []*state, f func(schedule.Pass)) {
	h := &history{hang: map[string]bool{}, end: map[string]chan schedule.Result{}}
	h.scheduler = schedule.New(h, schedule.Limits{})
	defer h.scheduler.Close()
	limits := func(concurrent int, perMinute float64) {
		h.scheduler.SetLimits(schedule.Limits{Concurrent: concurrent, PerMinute: perMinute})
	}
	const short = time.Nanosecond
	at := func(m moment) {
		for _, s := range states {
			refused := s.skipped > s.sent && s.sent == meanwhile // what was sent meanwhile is skipped only by a refusal
			h.hang[s.task.ID] = s.pending || refused
			if s.sent == m {
				limits(100, 0)
				h.pass(t, short, &s.task)
			}
			if s.pending && s.sent == never && m == since {
				limits(0, 0)
				h.pass(t, short, &s.task)
			}
			if s.skipped == m && refused {
				h.end[s.task.ID] <- schedule.Result{Refused: true}
				synctest.Wait()
			} else if s.skipped == m {
				limits(100, 1e-6)
				h.pass(t, short, &s.task)
			}
			time.Sleep(short)
		}
	}
	open := func(id string) { // a pass that goes on
		limits(100, 0)
		h.hang[id] = true
		h.pass(t, time.Hour, &schedule.Task{ID: id})
	}

	limits(100, 0)
	h.pass(t, short, &schedule.Task{ID: "so that a budget can be used up"})
	for m := earlier; m <= before2; m++ {
		at(m)
	}
	open("overlapping")
	at(meanwhile)
	h.passes = nil // the next one is that of the plan
	open("present")
	at(since)
	called := false
	h.scheduler.Do(func() { h.plan = func(p schedule.Pass) { f(p); called = true } })
	h.end["present"] <- schedule.Result{}
	synctest.Wait()
	if !called {
		t.Error("no plan was made")
	}
}

func TestPlan(t *testing.T) {
	const (
		sec  = time.Second
		list = "" // the list's ID
	)
	age := func(d time.Duration) time.Time { return epoch.Add(-d) }
	task := func(id string) *known { return &known{task: schedule.Task{ID: id}} }
	unknown := func(id string) state { return state{known: task(id)} }
	active := func(id string, sent moment, d time.Duration) state {
		s := state{known: task(id), sent: sent}
		s.fetched = age(d)
		return s
	}
	settled := func(id string, sent moment, d time.Duration) state {
		s := active(id, sent, d)
		s.settled, s.settledAt, s.confirmed = true, age(time.Hour), true
		return s
	}
	once := func(k state) state { // seen settled only once
		k.settledAt, k.confirmed = k.fetched, false
		return k
	}
	lost := func(id string, sent moment) state {
		s := state{known: task(id), sent: sent}
		s.reason = client.NotFound
		return s
	}
	passed := func(k state, m moment) state {
		k.skipped = m
		return k
	}
	asked := func(k state, m moment) state {
		k.sent = m
		return k
	}
	pending := func(k state) state {
		k.pending = true
		return k
	}
	unlisted := func(k state) state {
		k.unlisted = true
		return k
	}
	listed := func(k state) state {
		k.listed = true
		return k
	}
	lacking := func(k state) state { // what the list lacks
		k.listed, k.lacksTokens = true, true
		return k
	}
	tokensFrom := func(at time.Time, k state) state {
		k.tokensFrom = at
		return k
	}
	failed := func(k state) state {
		k.reason = client.Unavailable
		return k
	}
	var (
		byList    = policy{list: true, tokens: 3}
		patient   = policy{refresh: 25 * sec, settled: time.Hour}
		patiently = policy{refresh: 25 * sec, settled: time.Hour, list: true, tokens: 3}
		discover  = policy{discover: true}
		young     = active(list, earlier, 24*sec)
		old       = active(list, earlier, 25*sec)
	)

	for _, tc := range []struct {
		name   string
		policy policy
		list   state
		token  string // of the list's next page
		jobs   []state
		want   string // in order; the list as "list"
	}{
		{name: "nothing"},
		{
			name: "rank comes before time",
			jobs: []state{lost("a", earlier), settled("b", earlier, sec), active("c", before2, sec), unknown("d")},
			want: "d c b a",
		},
		{
			name: "the longest since last asked first",
			jobs: []state{
				active("a", longest, sec), active("b", earlier, sec), active("c", before2, sec),
				settled("d", before2, sec), settled("e", longest, sec), settled("f", earlier, sec),
				lost("g", longest), lost("h", before2), lost("i", earlier),
				unknown("k"),
				unknown("j"),
			},
			want: "j k b a c f e d i g h",
		},
		{
			name: "last asked counts, not last success",
			jobs: []state{failed(active("a", before2, time.Hour)), active("b", earlier, sec)},
			want: "b a",
		},
		{
			name: "failures other than not_found change no rank",
			jobs: []state{failed(settled("a", earlier, sec)), failed(asked(unknown("b"), before2)), active("c", longest, sec)},
			want: "c b a",
		},
		{
			name: "seen settled once ranks as active",
			jobs: []state{active("a", before2, sec), once(settled("b", longest, sec)), settled("c", earlier, sec)},
			want: "b a c",
		},
		{
			name:   "due",
			policy: patient,
			jobs: []state{
				active("a", earlier, 25*sec-1), active("b", earlier, 25*sec),
				settled("c", earlier, time.Hour-1), settled("d", earlier, time.Hour),
				unknown("e"),
				lost("f", earlier),
			},
			want: "e b d f",
		},
		{
			name:   "the longer interval holds for settled jobs",
			policy: policy{refresh: time.Hour, settled: sec},
			jobs:   []state{settled("a", earlier, time.Hour-1), settled("b", earlier, time.Hour)},
			want:   "b",
		},
		{
			name:   "a minute after being seen settled",
			policy: patient,
			jobs:   []state{once(settled("a", earlier, time.Minute-1)), once(settled("b", earlier, time.Minute))},
			want:   "b",
		},
		{
			name:   "a minute, though the refresh interval is longer",
			policy: policy{refresh: time.Hour},
			jobs:   []state{once(settled("a", earlier, time.Minute)), active("b", earlier, time.Minute)},
			want:   "a",
		},
		{
			name:   "shorter intervals are not made a minute",
			policy: policy{refresh: 5 * sec, settled: 10 * sec},
			jobs:   []state{once(settled("a", earlier, 10*sec-1)), once(settled("b", earlier, 10*sec))},
			want:   "b",
		},
		{
			name: "asked since the oldest scrape began",
			jobs: []state{active("a", meanwhile, sec), failed(asked(unknown("b"), meanwhile)), lost("c", since), active("d", before2, sec)},
			want: "d",
		},
		{
			name: "passed over in this scrape, or in one before",
			jobs: []state{passed(unknown("a"), since), passed(unknown("b"), meanwhile), passed(active("c", earlier, sec), before2)},
			want: "b c",
		},
		{
			name: "refused before, and in this scrape",
			jobs: []state{passed(active("a", earlier, sec), longest), passed(active("b", meanwhile, sec), since)},
			want: "a",
		},
		{
			name:   "what is pending is joined",
			policy: patient,
			jobs: []state{
				pending(active("a", meanwhile, sec)), pending(active("b", since, time.Hour)),
				pending(unknown("c")), pending(asked(unknown("d"), earlier)),
			},
			want: "c d a b",
		},

		{
			name:   "list: it comes first, with nothing but what is under way",
			policy: byList,
			jobs:   []state{unknown("a"), lost("b", earlier), lacking(settled("c", never, sec)), pending(active("d", meanwhile, sec))},
			want:   "list d",
		},
		{
			name:   "list: what it lacked and has waited longer goes with it",
			policy: byList,
			list:   active(list, before2, time.Hour),
			jobs: []state{
				unlisted(active("a", earlier, sec)), listed(active("b", earlier, sec)), unknown("c"),
				unlisted(unknown("d")), unlisted(active("e", since, 0)),
			},
			want: "d a list",
		},
		{
			name:   "list: then what it lacks",
			policy: byList,
			list:   active(list, since, 0),
			jobs: []state{
				listed(active("a", never, 0)), active("b", earlier, sec), listed(settled("c", never, 0)),
				unknown("d"),
				lost("e", earlier),
				lacking(settled("f", never, 0)),
			},
			want: "d b f e",
		},
		{
			name:   "list: what it lacks is asked only when due",
			policy: patiently,
			list:   young,
			jobs:   []state{active("a", earlier, 24*sec), active("b", earlier, 25*sec), unknown("c")},
			want:   "c b",
		},
		{
			name:   "list: it is pending",
			policy: byList,
			list:   pending(active(list, meanwhile, sec)),
			jobs:   []state{unknown("a")},
			want:   "list",
		},
		{
			name:   "list: it failed in this scrape",
			policy: byList,
			list:   failed(active(list, since, time.Minute)),
			jobs:   []state{unknown("a"), active("b", earlier, time.Minute), lacking(settled("c", never, sec))},
		},
		{
			name:   "list: it failed in the one before",
			policy: byList,
			list:   failed(active(list, earlier, time.Minute)),
			jobs:   []state{listed(active("a", never, time.Minute)), unknown("b")},
			want:   "list",
		},
		{
			name:   "list: it was passed over in this scrape",
			policy: byList,
			list:   passed(unknown(list), since),
			jobs:   []state{unknown("a")},
		},
		{
			name:   "list: it was refused in this scrape",
			policy: byList,
			list:   passed(active(list, meanwhile, time.Minute), since),
			jobs:   []state{unknown("a"), active("b", earlier, time.Minute), lacking(settled("c", never, sec))},
		},
		{
			name:   "list: it was passed over in one before",
			policy: byList,
			list:   passed(unknown(list), earlier),
			jobs:   []state{unknown("a")},
			want:   "list",
		},
		{
			name:   "list: it was passed over, and then answered",
			policy: byList,
			list:   passed(active(list, since, 0), meanwhile),
			jobs:   []state{unknown("a")},
			want:   "a",
		},
		{
			name:   "list: it was never there, though all jobs are young",
			policy: patiently,
			jobs:   []state{active("a", earlier, sec)},
			want:   "list",
		},
		{
			name:   "list: it goes on, though it is young",
			policy: patiently,
			list:   young,
			token:  "page 2",
			jobs:   []state{listed(active("a", never, sec))},
			want:   "list",
		},
		{
			name:   "list: too young",
			policy: patiently,
			list:   young,
			jobs:   []state{listed(active("a", never, 24*sec))},
		},
		{
			name:   "list: old enough for an active job",
			policy: patiently,
			list:   old,
			jobs:   []state{listed(active("a", never, 25*sec)), listed(settled("b", never, 25*sec))},
			want:   "list",
		},
		{
			name:   "list: settled jobs do not need it",
			policy: patiently,
			list:   active(list, earlier, time.Hour-sec),
			jobs:   []state{listed(settled("a", never, time.Hour-sec))},
		},
		{
			name:   "list: settled jobs need it after an hour",
			policy: patiently,
			list:   active(list, earlier, time.Hour),
			jobs:   []state{listed(settled("a", never, time.Hour))},
			want:   "list",
		},
		{
			name:   "list: a minute after a job is seen settled",
			policy: patiently,
			list:   active(list, earlier, time.Minute),
			jobs:   []state{once(listed(settled("a", never, time.Minute)))},
			want:   "list",
		},
		{
			name:   "list: it may have a new job",
			policy: patiently,
			list:   old,
			jobs:   []state{unknown("a"), listed(settled("b", never, 25*sec))},
			want:   "list",
		},
		{
			name:   "list: it may have new jobs to discover",
			policy: policy{refresh: 25 * sec, settled: time.Hour, list: true, discover: true},
			list:   old,
			jobs:   []state{listed(settled("a", never, 25*sec))},
			want:   "list",
		},

		{
			name:   "tokens: at most so many a scrape, the longest since last asked first",
			policy: patiently,
			list:   young,
			jobs: []state{
				failed(lacking(settled("a", earlier, sec))), failed(lacking(settled("b", longest, sec))),
				lacking(settled("c", never, sec)), lacking(settled("d", never, sec)), active("e", longest, time.Minute),
			},
			want: "e c d a",
		},
		{
			name:   "tokens: scrapes that overlap share the number",
			policy: patiently,
			list:   young,
			jobs: []state{
				listed(settled("a", meanwhile, sec)),
				pending(lacking(settled("c", never, sec))), lacking(settled("b", never, sec)), lacking(settled("d", never, sec)),
			},
			want: "b c",
		},
		{
			name:   "tokens: what the list lacks whole does not count",
			policy: patiently,
			list:   young,
			jobs: []state{
				active("a", meanwhile, sec), lacking(settled("b", never, sec)), lacking(settled("c", never, sec)), lacking(settled("d", never, sec)),
			},
			want: "b c d",
		},
		{
			name:   "tokens: not before their time",
			policy: patiently,
			list:   young,
			jobs: []state{
				tokensFrom(epoch.Add(1), lacking(settled("a", never, sec))), tokensFrom(epoch, lacking(settled("b", never, sec))),
			},
			want: "b",
		},
		{
			name:   "tokens: they do not keep an active job waiting",
			policy: patiently,
			list:   young,
			jobs:   []state{lacking(settled("a", never, sec)), active("b", earlier, time.Minute)},
			want:   "b a",
		},
		{
			name:   "tokens: not while the list is needed",
			policy: patiently,
			list:   old,
			jobs:   []state{lacking(settled("a", never, 25*sec)), listed(active("b", never, 25*sec))},
			want:   "list",
		},
		{
			name:   "tokens: not in get mode",
			policy: patient,
			jobs:   []state{lacking(settled("a", earlier, sec))},
		},

		{
			name:   "discover: beside single requests",
			policy: discover,
			jobs:   []state{unknown("a"), active("b", earlier, sec)},
			want:   "list a b",
		},
		{
			name:   "discover: once asked for, it has no precedence",
			policy: discover,
			list:   failed(asked(unknown(list), longest)),
			jobs:   []state{unknown("a"), active("b", earlier, sec)},
			want:   "a b list",
		},
		{
			name:   "discover: not within a minute",
			policy: discover,
			list:   active(list, earlier, time.Minute-1),
			jobs:   []state{listed(active("a", earlier, sec))},
			want:   "a",
		},
		{
			name:   "discover: after a minute, whatever is due",
			policy: policy{discover: true, refresh: time.Minute},
			list:   active(list, earlier, time.Minute),
			jobs:   []state{active("a", earlier, sec)},
			want:   "list",
		},
		{
			name:   "discover: not within the refresh interval",
			policy: policy{discover: true, refresh: time.Hour},
			list:   active(list, earlier, time.Hour-1),
		},
		{
			name:   "discover: the list's failure is no job's",
			policy: discover,
			list:   failed(asked(unknown(list), since)),
			jobs:   []state{active("a", earlier, sec)},
			want:   "a",
		},
		{
			name:   "discover: passed over",
			policy: discover,
			list:   passed(unknown(list), since),
			jobs:   []state{active("a", earlier, sec)},
			want:   "a",
		},
		{
			name:   "discover: pending",
			policy: discover,
			list:   pending(active(list, meanwhile, sec)),
			jobs:   []state{active("a", earlier, sec)},
			want:   "a list",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				list := &listKnown{token: tc.token}
				if tc.list.known != nil {
					list.known = *tc.list.known
				}
				tc.list.known = &list.known
				jobs, states := []*known{}, []*state{&tc.list}
				for i := range tc.jobs {
					jobs, states = append(jobs, tc.jobs[i].known), append(states, &tc.jobs[i])
				}
				planWith(t, states, func(p schedule.Pass) {
					wishes := plan(list, jobs, epoch, p, tc.policy)
					slices.SortFunc(wishes, schedule.Wish.Compare)
					var got []string
					for _, w := range wishes {
						got = append(got, cmp.Or(w.Task.ID, "list"))
					}
					if got := strings.Join(got, " "); got != tc.want {
						t.Errorf("got %q, want %q", got, tc.want)
					}
				})
			})
		})
	}
}

func TestPlanServable(t *testing.T) {
	for _, tc := range []struct {
		policy  policy
		settled bool
		age     time.Duration
		want    bool
	}{
		{policy{}, false, 0, true},
		{policy{}, false, 1, false},
		{policy{staleness: time.Minute}, false, time.Minute, true},
		{policy{staleness: time.Minute}, false, time.Minute + 1, false},
		{policy{staleness: time.Minute, refresh: time.Hour}, false, 61 * time.Minute, true},
		{policy{staleness: time.Minute, refresh: time.Hour}, false, 61*time.Minute + 1, false},
		{policy{}, true, 1000 * time.Hour, true},
	} {
		k := known{fetched: epoch.Add(-tc.age), settled: tc.settled}
		if got := tc.policy.servable(&k, epoch); got != tc.want {
			t.Errorf("%+v: got %v", tc, got)
		}
	}
}
