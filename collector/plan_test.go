package collector

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cohere-exporter/cohere_exporter/client"
)

// The turns of the scrape that plans are made for, and of what came before,
// while the oldest scrape was under way, and since.
const (
	earlier = iota + 1
	longest // since last asked, but for earlier
	before2
	oldest
	meanwhile
	began
	since
)

func TestPlan(t *testing.T) {
	const (
		sec  = time.Second
		list = "" // the list's ID
	)
	age := func(d time.Duration) time.Time { return epoch.Add(-d) }
	active := func(id string, asked uint64, d time.Duration) known {
		return known{id: id, asked: asked, fetched: age(d)}
	}
	settled := func(id string, asked uint64, d time.Duration) known {
		return known{id: id, asked: asked, fetched: age(d), settled: true, settledAt: age(time.Hour), confirmed: true}
	}
	once := func(k known) known { // seen settled only once
		k.settledAt, k.confirmed = k.fetched, false
		return k
	}
	lost := func(id string, asked uint64) known {
		return known{id: id, asked: asked, reason: client.NotFound}
	}
	passed := func(k known, turn uint64) known {
		k.passed = turn
		return k
	}
	pending := func(k known) known {
		k.pending = true
		return k
	}
	listed := func(k known) known {
		k.listed = true
		return k
	}
	lacking := func(k known) known { // what the list lacks
		k.listed, k.lacksUnits = true, true
		return k
	}
	failed := func(k known) known {
		k.reason = client.Unavailable
		return k
	}
	var (
		byList    = policy{list: true, units: 3}
		patient   = policy{refresh: 25 * sec, settled: time.Hour}
		patiently = policy{refresh: 25 * sec, settled: time.Hour, list: true, units: 3}
		discover  = policy{discover: true}
		young     = active(list, earlier, 24*sec)
		old       = active(list, earlier, 25*sec)
	)

	for _, tc := range []struct {
		name   string
		policy policy
		list   known
		jobs   []known
		want   string // in order; the list as "list"
	}{
		{name: "nothing"},
		{
			name: "rank comes before time",
			jobs: []known{lost("a", earlier), settled("b", earlier, sec), active("c", before2, sec), {id: "d"}},
			want: "d c b a",
		},
		{
			name: "the longest since last asked first",
			jobs: []known{
				active("a", longest, sec), active("b", earlier, sec), active("c", before2, sec),
				settled("d", before2, sec), settled("e", longest, sec), settled("f", earlier, sec),
				lost("g", longest), lost("h", before2), lost("i", earlier),
				{id: "k"},
				{id: "j"},
			},
			want: "j k b a c f e d i g h",
		},
		{
			name: "last asked counts, not last success",
			jobs: []known{failed(active("a", before2, time.Hour)), active("b", earlier, sec)},
			want: "b a",
		},
		{
			name: "failures other than not_found change no rank",
			jobs: []known{failed(settled("a", earlier, sec)), failed(known{id: "b", asked: before2}), active("c", longest, sec)},
			want: "c b a",
		},
		{
			name: "seen settled once ranks as active",
			jobs: []known{active("a", before2, sec), once(settled("b", longest, sec)), settled("c", earlier, sec)},
			want: "b a c",
		},
		{
			name:   "due",
			policy: patient,
			jobs: []known{
				active("a", earlier, 25*sec-1), active("b", earlier, 25*sec),
				settled("c", earlier, time.Hour-1), settled("d", earlier, time.Hour),
				{id: "e"},
				lost("f", earlier),
			},
			want: "e b d f",
		},
		{
			name:   "the longer interval holds for settled jobs",
			policy: policy{refresh: time.Hour, settled: sec},
			jobs:   []known{settled("a", earlier, time.Hour-1), settled("b", earlier, time.Hour)},
			want:   "b",
		},
		{
			name:   "a minute after being seen settled",
			policy: patient,
			jobs:   []known{once(settled("a", earlier, time.Minute-1)), once(settled("b", earlier, time.Minute))},
			want:   "b",
		},
		{
			name:   "a minute, though the refresh interval is longer",
			policy: policy{refresh: time.Hour},
			jobs:   []known{once(settled("a", earlier, time.Minute)), active("b", earlier, time.Minute)},
			want:   "a",
		},
		{
			name:   "shorter intervals are not made a minute",
			policy: policy{refresh: 5 * sec, settled: 10 * sec},
			jobs:   []known{once(settled("a", earlier, 10*sec-1)), once(settled("b", earlier, 10*sec))},
			want:   "b",
		},
		{
			name: "asked since the oldest scrape began",
			jobs: []known{active("a", meanwhile, sec), failed(known{id: "b", asked: meanwhile}), lost("c", since), active("d", before2, sec)},
			want: "d",
		},
		{
			name: "passed over in this scrape, or in one before",
			jobs: []known{passed(known{id: "a"}, since), passed(known{id: "b"}, meanwhile), passed(active("c", earlier, sec), before2)},
			want: "b c",
		},
		{
			name: "refused before, and in this scrape",
			jobs: []known{passed(active("a", earlier, sec), longest), passed(active("b", meanwhile, sec), since)},
			want: "a",
		},
		{
			name:   "what is pending is joined",
			policy: patient,
			jobs: []known{
				pending(active("a", meanwhile, sec)), pending(active("b", since, time.Hour)),
				pending(known{id: "c"}), pending(passed(known{id: "d", asked: earlier}, since)),
			},
			want: "c d a b",
		},

		{
			name:   "list: it comes first, with nothing but what is under way",
			policy: byList,
			jobs:   []known{{id: "a"}, lost("b", earlier), lacking(settled("c", 0, sec)), pending(active("d", meanwhile, sec))},
			want:   "list d",
		},
		{
			name:   "list: what it lacked and has waited longer goes with it",
			policy: byList,
			list:   active(list, before2, time.Hour),
			jobs:   []known{active("a", earlier, sec), listed(active("b", earlier, sec)), {id: "c"}},
			want:   "list a",
		},
		{
			name:   "list: then what it lacks",
			policy: byList,
			list:   active(list, since, 0),
			jobs: []known{
				listed(active("a", 0, 0)), active("b", earlier, sec), listed(settled("c", 0, 0)),
				{id: "d"},
				lost("e", earlier),
				lacking(settled("f", 0, 0)),
			},
			want: "d b f e",
		},
		{
			name:   "list: what it lacks is asked only when due",
			policy: patiently,
			list:   young,
			jobs:   []known{active("a", earlier, 24*sec), active("b", earlier, 25*sec), {id: "c"}},
			want:   "c b",
		},
		{
			name:   "list: it is pending",
			policy: byList,
			list:   pending(active(list, meanwhile, sec)),
			jobs:   []known{{id: "a"}},
			want:   "list",
		},
		{
			name:   "list: it failed in this scrape",
			policy: byList,
			list:   failed(active(list, since, time.Minute)),
			jobs:   []known{{id: "a"}, active("b", earlier, time.Minute), lacking(settled("c", 0, sec))},
		},
		{
			name:   "list: it failed in the one before",
			policy: byList,
			list:   failed(active(list, earlier, time.Minute)),
			jobs:   []known{listed(active("a", 0, time.Minute)), {id: "b"}},
			want:   "list",
		},
		{
			name:   "list: it was passed over in this scrape",
			policy: byList,
			list:   passed(known{id: list}, since),
			jobs:   []known{{id: "a"}},
		},
		{
			name:   "list: it was refused in this scrape",
			policy: byList,
			list:   passed(active(list, meanwhile, time.Minute), since),
			jobs:   []known{{id: "a"}, active("b", earlier, time.Minute), lacking(settled("c", 0, sec))},
		},
		{
			name:   "list: it was passed over in one before",
			policy: byList,
			list:   passed(known{id: list}, earlier),
			jobs:   []known{{id: "a"}},
			want:   "list",
		},
		{
			name:   "list: it was passed over, and then answered",
			policy: byList,
			list:   passed(active(list, since, 0), meanwhile),
			jobs:   []known{{id: "a"}},
			want:   "a",
		},
		{
			name:   "list: too young",
			policy: patiently,
			list:   young,
			jobs:   []known{listed(active("a", 0, 24*sec))},
		},
		{
			name:   "list: old enough for an active job",
			policy: patiently,
			list:   old,
			jobs:   []known{listed(active("a", 0, 25*sec)), listed(settled("b", 0, 25*sec))},
			want:   "list",
		},
		{
			name:   "list: settled jobs do not need it",
			policy: patiently,
			list:   active(list, earlier, time.Hour-sec),
			jobs:   []known{listed(settled("a", 0, time.Hour-sec))},
		},
		{
			name:   "list: settled jobs need it after an hour",
			policy: patiently,
			list:   active(list, earlier, time.Hour),
			jobs:   []known{listed(settled("a", 0, time.Hour))},
			want:   "list",
		},
		{
			name:   "list: a minute after a job is seen settled",
			policy: patiently,
			list:   active(list, earlier, time.Minute),
			jobs:   []known{once(listed(settled("a", 0, time.Minute)))},
			want:   "list",
		},
		{
			name:   "list: it may have a new job",
			policy: patiently,
			list:   old,
			jobs:   []known{{id: "a"}, listed(settled("b", 0, 25*sec))},
			want:   "list",
		},
		{
			name:   "list: it may have new jobs to discover",
			policy: policy{refresh: 25 * sec, settled: time.Hour, list: true, discover: true},
			list:   old,
			jobs:   []known{listed(settled("a", 0, 25*sec))},
			want:   "list",
		},

		{
			name:   "units: at most so many a scrape, the longest since last asked first",
			policy: patiently,
			list:   young,
			jobs: []known{
				failed(lacking(settled("a", earlier, sec))), failed(lacking(settled("b", longest, sec))),
				lacking(settled("c", 0, sec)), lacking(settled("d", 0, sec)), active("e", longest, time.Minute),
			},
			want: "e c d a",
		},
		{
			name:   "units: scrapes that overlap share the number",
			policy: patiently,
			list:   young,
			jobs: []known{
				{id: "a", asked: meanwhile, unitsAsked: meanwhile, fetched: age(sec), settled: true, confirmed: true, listed: true},
				pending(lacking(settled("c", 0, sec))), lacking(settled("b", 0, sec)), lacking(settled("d", 0, sec)),
			},
			want: "b c",
		},
		{
			name:   "units: not before their time",
			policy: patiently,
			list:   young,
			jobs: []known{
				{id: "a", fetched: age(sec), settled: true, listed: true, lacksUnits: true, unitsFrom: epoch.Add(1)},
				{id: "b", fetched: age(sec), settled: true, listed: true, lacksUnits: true, unitsFrom: epoch},
			},
			want: "b",
		},
		{
			name:   "units: they do not keep an active job waiting",
			policy: patiently,
			list:   young,
			jobs:   []known{lacking(settled("a", 0, sec)), active("b", earlier, time.Minute)},
			want:   "b a",
		},
		{
			name:   "units: not while the list is needed",
			policy: patiently,
			list:   old,
			jobs:   []known{lacking(settled("a", 0, 25*sec)), listed(active("b", 0, 25*sec))},
			want:   "list",
		},
		{
			name:   "units: not in get mode",
			policy: patient,
			jobs:   []known{lacking(settled("a", earlier, sec))},
		},

		{
			name:   "discover: beside single requests",
			policy: discover,
			jobs:   []known{{id: "a"}, active("b", earlier, sec)},
			want:   "list a b",
		},
		{
			name:   "discover: not within a minute",
			policy: discover,
			list:   active(list, earlier, time.Minute-1),
			jobs:   []known{listed(active("a", earlier, sec))},
			want:   "a",
		},
		{
			name:   "discover: after a minute, whatever is due",
			policy: policy{discover: true, refresh: time.Minute},
			list:   active(list, earlier, time.Minute),
			jobs:   []known{active("a", earlier, sec)},
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
			list:   failed(known{id: list, asked: since}),
			jobs:   []known{active("a", earlier, sec)},
			want:   "a",
		},
		{
			name:   "discover: passed over",
			policy: discover,
			list:   passed(known{id: list}, since),
			jobs:   []known{active("a", earlier, sec)},
			want:   "a",
		},
		{
			name:   "discover: pending",
			policy: discover,
			list:   pending(active(list, meanwhile, sec)),
			jobs:   []known{active("a", earlier, sec)},
			want:   "list a",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var jobs []*known
			for i := range tc.jobs {
				jobs = append(jobs, &tc.jobs[i])
			}
			askList, ask := plan(&tc.list, jobs, epoch, round{began: began, since: oldest}, tc.policy)
			var got []string
			if askList {
				got = append(got, "list")
			}
			for _, k := range ask {
				got = append(got, k.id)
			}
			if got := strings.Join(got, " "); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
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

// world drives plan and limit the way an account does, but one step at a time,
// and holds what they do against the contract. For that it keeps its own
// account of things, in the contract's words.
type world struct {
	t           *rapid.T
	policy      policy
	limit       limit
	concurrency int

	now      time.Time
	turn     uint64
	jobs     []*watched
	scrapes  []round // under way, the oldest first
	queue    []*watched
	underWay []*flight

	budget   int // 0: none
	window   time.Duration
	written  []time.Time // requests
	closed   uint64      // the turn in which the gate last closed
	closedAt time.Time
	opens    time.Time
	proved   bool // it has opened since
}

// watched is a job, and what the contract has to know of it.
type watched struct {
	job
	last    uint64 // the turn in which it was last asked
	success time.Time
	settled int // how often it was seen settled, in a row
	lost    bool
}

// flight is a request under way.
type flight struct {
	job     *watched
	ticket  *ticket
	turn    uint64
	began   time.Time
	written bool
}

// ending is how a request ends.
type ending int

const (
	seenActive ending = iota
	seenSettled
	notFound
	unavailable
	noAnswer
	refused
)

func newWorld(t *rapid.T, jobs int, p policy, perMinute float64) *world {
	w := &world{t: t, policy: p, limit: newLimit(perMinute), concurrency: 20, now: epoch, budget: int(perMinute), window: time.Minute, proved: true}
	if 0 < perMinute && perMinute < 1 {
		w.budget, w.window = 1, time.Duration(float64(time.Minute)/perMinute)
	}
	for i := range jobs {
		w.jobs = append(w.jobs, &watched{job: job{known: known{id: fmt.Sprintf("job-%03d", i)}}})
	}
	return w
}

// scrape begins one.
func (w *world) scrape() {
	w.turn++
	r := round{began: w.turn, since: w.turn}
	if len(w.scrapes) > 0 {
		r.since = w.scrapes[0].began
	}
	w.scrapes = append(w.scrapes, r)
	w.request(r)
}

// request queues what a scrape needs, and sends what it may. It returns false
// if that is nothing.
func (w *world) request(r round) bool {
	ids := map[string]*watched{}
	var all []*known
	for _, j := range w.jobs {
		ids[j.id] = j
		all = append(all, &j.known)
	}
	_, ask := plan(&known{}, all, w.now, r, w.policy)
	for _, k := range ask {
		if !k.pending {
			k.pending = true
			w.queue = append(w.queue, ids[k.id])
		}
	}
	for _, j := range w.jobs {
		if !j.pending && w.due(j) && j.last <= r.since && j.passed <= r.began {
			w.t.Fatalf("%s is due and left out", j.id)
		}
	}
	slices.SortStableFunc(w.queue, func(x, y *watched) int { return before(&x.known, &y.known) })
	w.send()
	return len(ask) > 0
}

// send asks as many as may be asked now.
func (w *world) send() {
	for len(w.queue) > 0 && len(w.underWay) < w.concurrency {
		ticket, verdict := w.limit.take(w.now)
		w.judge(verdict)
		switch verdict {
		case tooSoon:
			return
		case overBudget, rateLimited:
			w.skip()
			return
		}
		j := w.queue[0]
		w.queue = w.queue[1:]
		w.judgeRequest(j)
		w.turn++
		j.asked, j.last = w.turn, w.turn
		w.underWay = append(w.underWay, &flight{job: j, ticket: ticket, turn: w.turn, began: w.now})
	}
}

// skip leaves what is queued for a later scrape.
func (w *world) skip() {
	for _, j := range w.queue {
		w.turn++
		j.pending, j.passed = false, w.turn
	}
	w.queue = nil
}

// leave ends a scrape.
func (w *world) leave(i int) {
	w.scrapes = slices.Delete(w.scrapes, i, i+1)
	if len(w.scrapes) == 0 {
		w.skip()
	}
}

// write writes a request, for the first time or again, if it may be.
func (w *world) write(f *flight) {
	closed := w.now.Before(w.opens)
	if !w.limit.send(f.ticket, w.now) {
		if !f.written && !closed {
			w.t.Fatalf("%s had leave and may not be sent", f.job.id)
		}
		return
	}
	if closed {
		w.t.Fatalf("%s is sent while the gate is closed", f.job.id)
	}
	f.written = true
	w.written = append(w.written, w.now)
	if n := w.spent(); w.budget > 0 && n > w.budget {
		w.t.Fatalf("%d requests within %v", n, w.window)
	}
}

// spent counts the requests of the last window.
func (w *world) spent() (n int) {
	for i := len(w.written); i > 0 && w.now.Sub(w.written[i-1]) < w.window; i-- {
		n++
	}
	return n
}

// end ends a request, if need be unsent.
func (w *world) end(f *flight, how ending, retryAfter time.Duration) {
	w.underWay = slices.DeleteFunc(w.underWay, func(other *flight) bool { return other == f })
	w.limit.done(f.ticket)
	w.turn++
	j := f.job
	j.pending = false
	if !f.written {
		how = noAnswer
	}
	if how != refused && how != noAnswer {
		if opened := w.limit.answered(f.ticket); opened != (f.turn > w.closed && !w.proved) {
			w.t.Fatalf("an answer to %s opens the gate: %v", j.id, opened)
		}
		w.proved = w.proved || f.turn > w.closed
	}
	switch how {
	case seenActive, seenSettled:
		j.reason, j.fetched = "", f.began
		j.settle(how == seenSettled, true, f.began, w.policy)
		j.success, j.lost = f.began, false
		if j.settled++; how == seenActive {
			j.settled = 0
		}
	case notFound:
		j.fail(client.NotFound)
		j.success, j.settled, j.lost = time.Time{}, 0, true
	case unavailable:
		j.fail(client.Unavailable)
		j.lost = false
	case noAnswer:
		j.fail(client.Network)
		j.lost = false
	case refused:
		j.passed = w.turn
		wait, closed := w.limit.refused(f.ticket, w.now, retryAfter)
		if closed != (f.turn > w.closed) {
			w.t.Fatalf("a refusal of %s closes the gate: %v", j.id, closed)
		}
		if closed {
			w.closed, w.closedAt, w.opens, w.proved = w.turn, w.now, w.now.Add(wait), false
		}
	}
	w.send()
	if len(w.underWay) == 0 { // scrapes look whether there is more, and else leave
		for i := 0; i < len(w.scrapes); {
			if w.request(w.scrapes[i]) {
				i++
			} else {
				w.leave(i)
			}
		}
	}
}

// judge holds a verdict against gate and budget.
func (w *world) judge(v verdict) {
	unwritten := 0
	provers := 0
	for _, f := range w.underWay {
		if !f.written {
			unwritten++
		}
		if f.turn > w.closed {
			provers++
		}
	}
	most := fewAtOnce
	switch {
	case !w.proved:
		most = 1
	case w.closed == 0 || w.now.Sub(w.closedAt) >= maxBackOff:
		most = math.MaxInt
	}
	closed := w.now.Before(w.opens)
	used := w.budget > 0 && w.spent()+unwritten >= w.budget
	wrong := false
	switch v {
	case allowed:
		wrong = closed || used || provers >= most
	case tooSoon:
		wrong = closed || used || provers < most
	case overBudget:
		wrong = closed || !used
	case rateLimited:
		wrong = !closed
	}
	if wrong {
		w.t.Fatalf("verdict %d: gate closed %v, proved %v, %d under way since, budget used %v", v, closed, w.proved, provers, used)
	}
}

// class and due say in which order the contract wants jobs to be asked, and when.
func (w *world) class(j *watched) int {
	switch {
	case j.last == 0:
		return 0
	case j.lost:
		return 3
	case j.settled > 1:
		return 2
	}
	return 1
}

func (w *world) due(j *watched) bool {
	interval := w.policy.refresh
	if j.settled > 0 {
		interval = max(interval, w.policy.settled)
	}
	if j.settled == 1 {
		interval = min(interval, time.Minute)
	}
	return j.success.IsZero() || w.now.Sub(j.success) >= interval
}

// judgeRequest holds the next request, for j, against what else is queued.
func (w *world) judgeRequest(j *watched) {
	for _, other := range w.queue {
		if c := cmp.Or(cmp.Compare(w.class(j), w.class(other)), cmp.Compare(j.last, other.last)); c > 0 {
			w.t.Fatalf("%s is asked before %s", j.id, other.id)
		}
	}
	switch {
	case !w.due(j):
		w.t.Fatalf("%s is asked, but not due", j.id)
	case len(w.scrapes) == 0:
		w.t.Fatalf("%s is asked, but nobody waits", j.id)
	case j.last > w.scrapes[0].began:
		w.t.Fatalf("%s is asked again, though scrapes overlap", j.id)
	}
}

func drawPolicy(t *rapid.T) policy {
	return policy{
		refresh: rapid.SampledFrom([]time.Duration{0, 10 * time.Second, 2 * time.Minute}).Draw(t, "refresh"),
		settled: rapid.SampledFrom([]time.Duration{0, 30 * time.Second, time.Hour}).Draw(t, "settled"),
	}
}

// Whatever happens: the order is as specified, there are never more requests
// than the budget in any window, nothing is asked that is not due or was just
// asked, and nothing while the gate is closed.
func TestPlanAndLimitAnyHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		budget := rapid.SampledFrom([]float64{0, 0.5, 1, 2.5, 10, 40}).Draw(t, "budget")
		w := newWorld(t, rapid.IntRange(1, 30).Draw(t, "jobs"), drawPolicy(t), budget)
		w.concurrency = rapid.SampledFrom([]int{1, 3, 20}).Draw(t, "concurrency")
		one := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "which") }
		wait := func(t *rapid.T) {
			w.now = w.now.Add(rapid.SampledFrom([]time.Duration{1, time.Second, 5 * time.Second, 30 * time.Second, time.Minute, 10 * time.Minute}).Draw(t, "wait"))
		}
		write := func(*rapid.T) {
			if n := len(w.underWay); n > 0 {
				w.write(w.underWay[one(n)])
			}
		}
		end := func(how ...ending) func(*rapid.T) {
			return func(t *rapid.T) {
				retryAfter := rapid.SampledFrom([]time.Duration{0, time.Second, time.Minute, time.Hour}).Draw(t, "Retry-After")
				how := rapid.SampledFrom(how).Draw(t, "how")
				for range len(w.underWay) { // none, some or all of them
					n := len(w.underWay)
					if n == 0 || rapid.IntRange(0, 5).Draw(t, "stop") == 0 {
						return
					}
					w.end(w.underWay[one(n)], how, retryAfter)
				}
			}
		}
		actions := map[string]func(*rapid.T){
			"scrape": func(*rapid.T) { w.scrape() },
			"wait":   wait,
			"write":  write,
			"write all": func(*rapid.T) {
				for _, f := range w.underWay {
					if !f.written {
						w.write(f)
					}
				}
			},
			"succeed": end(seenActive, seenSettled),
			"fail":    end(notFound, unavailable, noAnswer),
			"refuse":  end(refused),
			"leave": func(*rapid.T) {
				if n := len(w.scrapes); n > 0 {
					w.leave(one(n))
				}
			},
		}
		for range 4 { // a history four times as long as rapid makes them
			t.Repeat(actions)
		}
	})
}

// Under any budget each active job is asked again as soon as the budget
// suffices for all active ones, whatever else there is to ask.
func TestPlanNoActiveJobStarves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(least, most int, what string) int { return rapid.IntRange(least, most).Draw(t, what) }
		active, settled, dead := draw(1, 12, "active"), draw(0, 12, "settled"), draw(0, 5, "dead")
		budget, step := draw(1, 15, "budget"), time.Duration(draw(10, 90, "scrape interval"))*time.Second
		w := newWorld(t, active+settled+dead, drawPolicy(t), float64(budget))
		fate := map[*watched]ending{}
		for _, j := range rapid.Permutation(w.jobs).Draw(t, "jobs") {
			switch n := len(fate); {
			case n < active:
				fate[j] = rapid.SampledFrom([]ending{seenActive, seenActive, unavailable, noAnswer}).Draw(t, "fate")
			case n < active+settled:
				fate[j] = seenSettled
			default:
				fate[j] = notFound
			}
		}
		turns := func(jobs int) time.Duration { // in how long so many can be asked
			minute := (time.Minute + step - 1).Truncate(step) // in scrapes
			return time.Duration((jobs+budget-1)/budget) * minute
		}
		// To begin with, all are asked once, and the settled ones once more
		// like the active ones.
		warm := epoch.Add(2*turns(active+settled+dead) + w.policy.refresh + time.Minute + step)
		most := w.policy.refresh + turns(active) + step
		asked := map[*watched]time.Time{}
		check := func(j *watched) {
			last := asked[j]
			if last.Before(warm) {
				last = warm
			}
			if gap := w.now.Sub(last); fate[j] != seenSettled && fate[j] != notFound && gap > most {
				t.Fatalf("%s is not asked for %v, more than %v", j.id, gap, most)
			}
		}
		for ; w.now.Before(warm.Add(3 * most)); w.now = w.now.Add(step) {
			w.scrape()
			for len(w.underWay) > 0 {
				f := w.underWay[0]
				check(f.job)
				asked[f.job] = w.now
				w.write(f)
				w.end(f, fate[f.job], 0)
			}
		}
		for _, j := range w.jobs {
			check(j)
		}
	})
}
