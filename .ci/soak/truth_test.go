package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
)

const testKey = "key-of-the-tests"

// scene is an API with one job, of which someone asks and something is shown.
type scene struct {
	*testing.T
	world  *world
	user   *cohertest.User
	server *cohertest.Server
	found  *findings
	judge  *judge
}

var ebd1 = task{"a", cohertest.EmbedJobs, "ebd-1"}

func newScene(t *testing.T) *scene {
	found := newFindings(time.Now())
	w := &world{
		api:      cohertest.New(),
		reloads:  &reloads{},
		known:    map[task]bool{ebd1: true},
		required: map[task]time.Time{},
		accounts: []*account{{name: "a", resources: []*resource{
			{account: "a", name: cohertest.EmbedJobs, refresh: time.Second, staleness: 10 * time.Second},
		}}},
	}
	w.attempts = newAttempts(w.reloads, found)
	w.attempts.addKey(testKey, "a")
	w.attempts.windows[ebd1.list()] = &window{task: ebd1.list(), budget: 10}
	w.api.KeepHistory(true)
	w.api.Observe(w.attempts.observe)
	s := &scene{T: t, world: w, user: w.api.AddUser(testKey), found: found, judge: newJudge(w, found)}
	w.accounts[0].user = s.user
	s.user.Add(cohertest.Job{ID: ebd1.id, Name: "n", CreatedAt: time.Unix(1e9, 0), InputTokens: 1})
	s.server = w.api.StartInMemory()
	return s
}

// ask asks the API for the job, and returns when that was.
func (s *scene) ask() time.Time { return s.get("/v1/embed-jobs/" + ebd1.id) }

// list asks for the list, which the exporter then uses.
func (s *scene) list() time.Time {
	s.world.accounts[0].resources[0].list = true
	return s.get("/v1/embed-jobs")
}

func (s *scene) get(path string) time.Time {
	began := time.Now()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, s.server.URL+path, nil)
	if err != nil {
		s.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+testKey)
	if resp, err := s.server.Client.Do(req); err == nil {
		resp.Body.Close()
	}
	return began
}

func (s *scene) update(tokens float64, status string) {
	s.user.Update(ebd1.id, func(j *cohertest.Job) { j.InputTokens, j.Status = tokens, status })
}

// show judges what an exporter says of the job; a state of nil is no values.
func (s *scene) show(up int, reason string, lastSuccess time.Time, state *cohertest.Job) {
	var b strings.Builder
	if state != nil {
		for _, text := range pictureOfJob(state) {
			name, rest, _ := strings.Cut(text, " ")
			labels := rest[:strings.LastIndex(rest, " ")+1]
			labels = strings.ReplaceAll(strings.TrimSpace(labels), `" `, `",`)
			fmt.Fprintf(&b, "%s{account=\"a\",job_id=\"ebd-1\",%s} %s\n", name, labels, rest[strings.LastIndex(rest, " ")+1:])
		}
	}
	fmt.Fprintf(&b, "cohere_embed_job_up{account=\"a\",job_id=\"ebd-1\"} %d\n", up)
	if reason != "" {
		fmt.Fprintf(&b, "cohere_embed_job_fetch_error{account=\"a\",job_id=\"ebd-1\",reason=%q} 1\n", reason)
	}
	if !lastSuccess.IsZero() {
		fmt.Fprintf(&b, "cohere_embed_job_last_success_timestamp_seconds{account=\"a\",job_id=\"ebd-1\"} %f\n", seconds(lastSuccess))
	}
	fmt.Fprintf(&b, "cohere_up{account=\"a\"} %d\n", up)
	e, err := newParser().parse([]byte(b.String()))
	if err != nil {
		s.Fatal(err)
	}
	now := time.Now()
	s.judge.judge(&answer{began: now, ended: now, oldest: now}, e)
}

// state returns how the job is now.
func (s *scene) state() *cohertest.Job {
	states := s.user.History(ebd1.id)
	return states[len(states)-1].Job
}

func TestTruth(t *testing.T) {
	for name, tt := range map[string]struct {
		play func(*scene)
		want []string // rules that are broken
	}{
		"fresh": {func(s *scene) { s.show(1, "", s.ask(), s.state()) }, nil},
		"changed since": {func(s *scene) {
			last, state := s.ask(), s.state()
			time.Sleep(time.Second)
			s.update(2, "processing")
			time.Sleep(time.Second)
			s.show(1, "", last, state)
		}, nil},
		"older than the last success": {func(s *scene) {
			state := s.state()
			time.Sleep(time.Second)
			s.update(2, "processing")
			time.Sleep(time.Second)
			s.show(1, "", s.ask(), state)
		}, []string{"values"}},
		"two states mixed": {func(s *scene) {
			last, mixed := s.ask(), *s.state()
			s.update(2, "failed")
			mixed.Status = "failed"
			s.show(1, "", last, &mixed)
		}, []string{"values"}},
		"old": {func(s *scene) {
			last := s.ask()
			time.Sleep(12 * time.Second)
			s.show(1, "", last, s.state())
		}, []string{"age", "up"}},
		"old and settled": {func(s *scene) {
			s.update(2, "complete")
			last := s.ask()
			time.Sleep(time.Hour)
			s.show(1, "", last, s.state())
		}, nil},
		"up after a failure": {func(s *scene) {
			last := s.ask()
			time.Sleep(time.Second)
			s.user.Fail(ebd1.id, cohertest.NotJSON)
			s.ask()
			time.Sleep(time.Second)
			s.show(1, "", last, s.state())
		}, []string{"up"}},
		"up after a refusal": {func(s *scene) {
			last := s.ask()
			time.Sleep(time.Second)
			s.user.Fail(ebd1.id, cohertest.Status(429, "no"))
			s.ask()
			time.Sleep(time.Second)
			s.show(1, "", last, s.state())
		}, nil},
		"up and never asked": {func(s *scene) {
			s.show(1, "", time.Now(), s.state())
		}, []string{"up"}},
		"down after a failure": {func(s *scene) {
			last := s.ask()
			time.Sleep(time.Second)
			s.user.Fail(ebd1.id, cohertest.Status(503, "no"))
			s.ask()
			time.Sleep(time.Second)
			s.show(0, "unavailable", last, s.state())
		}, nil},
		"down for another reason": {func(s *scene) {
			last := s.ask()
			time.Sleep(time.Second)
			s.user.Fail(ebd1.id, cohertest.Status(503, "no"))
			s.ask()
			time.Sleep(time.Second)
			s.show(0, "server_error", last, s.state())
		}, []string{"reason"}},
		"down for nothing": {func(s *scene) {
			last := s.ask()
			time.Sleep(time.Second)
			s.show(0, "over_budget", last, s.state())
		}, []string{"reason"}},
		"too old, and nobody could ask": {func(s *scene) {
			last := s.ask()
			time.Sleep(12 * time.Second)
			s.show(0, "over_budget", last, nil)
		}, nil},
		"values after a 404": {func(s *scene) {
			last, state := s.ask(), s.state()
			time.Sleep(time.Second)
			s.user.Remove(ebd1.id)
			s.ask()
			time.Sleep(time.Second)
			s.show(0, "not_found", last, state)
		}, []string{"values"}},
		"listed": {func(s *scene) { s.show(1, "", s.list(), s.state()) }, nil},
		"up after a list that failed": {func(s *scene) {
			last := s.list()
			time.Sleep(time.Second)
			s.user.Fail(cohertest.List, cohertest.Status(503, "no"))
			s.list()
			time.Sleep(time.Second)
			s.show(1, "", last, s.state())
		}, []string{"up"}},
		"up after a list that failed, and one that lacks it": {func(s *scene) {
			last, state := s.list(), s.state()
			time.Sleep(time.Second)
			s.user.Fail(cohertest.List, cohertest.Status(503, "no"))
			s.list()
			time.Sleep(time.Second)
			s.user.Fail(cohertest.List, nil)
			s.user.Remove(ebd1.id)
			s.list()
			time.Sleep(time.Second)
			s.show(1, "", last, state)
		}, nil},
		"known from before another key": {func(s *scene) {
			last := s.ask()
			time.Sleep(time.Second)
			s.world.reloads.begin([]string{"a"})
			s.world.reloads.end()
			time.Sleep(time.Second)
			s.show(1, "", last, s.state())
		}, []string{"another key"}},
		"a configured job is missing": {func(s *scene) {
			s.world.required[task{"a", cohertest.EmbedJobs, "ebd-2"}] = time.Now().Add(-time.Second)
			s.show(1, "", s.ask(), s.state())
		}, []string{"job"}},
		"more than the budget": {func(s *scene) {
			for range 10 {
				s.ask()
			}
			time.Sleep(time.Minute)
			for range 10 {
				s.ask()
			}
			time.Sleep(surely - time.Nanosecond)
			s.ask()
		}, []string{"budget"}},
		"repeated by net/http": {func(s *scene) {
			s.user.Fail(ebd1.id, cohertest.Times(1, cohertest.Reset))
			last := s.ask()
			s.ask()
			time.Sleep(time.Second)
			s.show(1, "", last, s.state())
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t)
				defer s.server.Close()
				tt.play(s)
				if got := slices.Sorted(maps.Keys(s.found.count)); !slices.Equal(got, tt.want) {
					t.Errorf("got findings of %q, want %q:\n%s", got, tt.want, strings.Join(s.found.first, "\n"))
				}
			})
		})
	}
}

func TestParser(t *testing.T) {
	for text, want := range map[string]bool{
		"a 1\n":                         true,
		"# HELP a b\na{x=\"y\"} NaN\n":  true,
		"a{x=\"\\\"}\",z=\"\"} 1e+06\n": true,
		"":                              false,
		"a 1":                           false,
		"a\n":                           false,
		"a{x=\"y\"}\n":                  false,
		"a{x=\"y} 1\n":                  false,
		"a{x=\"y\",x=\"y\"} 1\n":        false,
		"a{x=y} 1\n":                    false,
		"a one\n":                       false,
	} {
		if _, err := newParser().parse([]byte(text)); (err == nil) != want {
			t.Errorf("%q: got error %v", text, err)
		}
	}
}
