package cohertest_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
)

// Faults that come as an answer: the same over every transport, and the list alike.
func TestFaults(t *testing.T) {
	contains := func(parts ...string) func(*testing.T, response) {
		return func(t *testing.T, resp response) {
			for _, part := range parts {
				if !strings.Contains(resp.body, part) {
					t.Errorf("got %s, want %s in it", resp.body, part)
				}
			}
		}
	}
	body := func(want string) func(*testing.T, response) {
		return func(t *testing.T, resp response) {
			if resp.body != want {
				t.Errorf("got %s, want %s", resp.body, want)
			}
		}
	}
	for _, tt := range []struct {
		name    string
		fault   cohertest.Fault
		code    int
		invalid bool // JSON
		check   func(*testing.T, response)
	}{
		{"Status", cohertest.Status(503, `"over"`), 503, false, contains(`{"message":"\"over\"","id":"`)},
		{"Status 498", cohertest.Status(498, "no"), 498, false, contains(`"no"`)},
		{"StatusHeader", cohertest.StatusHeader(429, "wait", http.Header{"retry-after": {"7"}}), 429, false, func(t *testing.T, resp response) {
			if got := resp.Header.Get("Retry-After"); got != "7" {
				t.Errorf("Retry-After: got %q", got)
			}
		}},
		{"KeyEcho", cohertest.KeyEcho(401), 401, false, contains(key, "Bearer "+key)},
		{"BadGateway", cohertest.BadGateway, 502, true, contains("502")},
		{"Body", cohertest.Body(`{"x": 1}`), 200, false, body(`{"x": 1}`)},
		{"Empty", cohertest.Empty, 200, true, body("")},
		{"Null", cohertest.Null, 200, false, body("null")},
		{"NotJSON", cohertest.NotJSON, 200, true, contains("<html>")},
		{"Array", cohertest.Array, 200, false, func(t *testing.T, resp response) {
			if !strings.HasPrefix(resp.body, "[{") || !strings.HasSuffix(resp.body, "}]") {
				t.Errorf("got %s", resp.body)
			}
		}},
		{"OtherJob", cohertest.OtherJob, 200, false, contains(`"job_id":"ebd-9f8a7c6d5b4e3a21-other"`, `"input_tokens":1520`)},
		{"UnknownStatus", cohertest.UnknownStatus, 200, false, contains(`"status":"hibernating"`)},
		{"NoStatus", cohertest.NoStatus, 200, false, func(t *testing.T, resp response) {
			if strings.Contains(resp.body, "status") {
				t.Errorf("got %s", resp.body)
			}
		}},
		{"NullFields", cohertest.NullFields, 200, false, contains(`"name":null,"output_dataset_id":null,"meta":null`, `"truncate":"END"`)},
		{"NullMeta", cohertest.NullMeta, 200, false, contains(`"input_tokens":null`, `"warnings":null`, `"version":null`, `"name":"C`)},
		{"MissingFields", cohertest.MissingFields, 200, false, contains(`{"job_id":"ebd-9f8a7c6d5b4e3a21","status":"complete"}`)},
		{"WrongTypes", cohertest.WrongTypes, 200, false, contains(`"status":"complete"`, `"tokens":"1520"`)},
		{"NumbersAsStrings", cohertest.NumbersAsStrings, 200, false, contains(`"input_tokens":"1520"`, `"images":"0"`)},
		{"NumbersWithFraction", cohertest.NumbersWithFraction, 200, false, contains(`"input_tokens":1520.0`)},
		{"NumbersWithExponent", cohertest.NumbersWithExponent, 200, false, contains(`"input_tokens":1.52e+03`)},
		{"InvalidUTF8", cohertest.InvalidUTF8, 200, false, func(t *testing.T, resp response) {
			if utf8.ValidString(resp.body) {
				t.Errorf("got %s", resp.body)
			}
		}},
		{"Warning", cohertest.Warning("soon gone"), 200, false, func(t *testing.T, resp response) {
			if got := resp.Header.Get("X-API-Warning"); got != "soon gone" {
				t.Errorf("X-API-Warning: got %q", got)
			}
			contains(compact(t, example))(t, resp)
		}},
		{"Slow", cohertest.Slow(time.Hour), 200, false, contains(compact(t, example))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for name, startServer := range inMemory {
				synctest.Test(t, func(t *testing.T) {
					api := cohertest.New()
					user := api.AddUser(key)
					user.Add(exampleJob())
					server := startServer(api)
					defer server.Close()

					for id, path := range map[string]string{exampleJob().ID: job(exampleJob().ID), cohertest.List: list} {
						user.Fail(id, tt.fault)
						resp := mustGet(t, server, key, path)
						if resp.StatusCode != tt.code {
							t.Errorf("%s %s: got %s, want %d", name, path, resp.Status, tt.code)
						}
						if got := !json.Valid([]byte(resp.body)); got != tt.invalid {
							t.Errorf("%s %s: got %s", name, path, resp.body)
						}
						tt.check(t, resp)

						user.Fail(id, nil)
						if got := mustGet(t, server, key, path).body; !strings.Contains(got, compact(t, example)) {
							t.Errorf("%s %s: after the fault: got %s", name, path, got)
						}
					}
				})
			}
		})
	}
}

// Faults of the connection, as a client sees them that waits for ten seconds.
func TestConnectionFaults(t *testing.T) {
	for _, tt := range []struct {
		name     string
		fault    cohertest.Fault
		answered bool // there is an answer at all
		timeout  bool
		check    func(*testing.T, response)
	}{
		{"CutShort", cohertest.CutShort, true, false, func(t *testing.T, resp response) {
			if !strings.HasPrefix(resp.body, "{") || int64(len(resp.body)) >= resp.ContentLength {
				t.Errorf("got %d bytes of %d", len(resp.body), resp.ContentLength)
			}
		}},
		{"Drip", cohertest.Drip, true, true, func(t *testing.T, resp response) {
			if got := len(resp.body); got < 99 || got > 101 {
				t.Errorf("got %d bytes in ten seconds", got)
			}
		}},
		{"Hang", cohertest.Hang, false, true, nil},
		{"Reset", cohertest.Reset, false, false, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for name, startServer := range inMemory {
				synctest.Test(t, func(t *testing.T) {
					api := cohertest.New()
					user := api.AddUser(key)
					user.Add(exampleJob(), cohertest.Job{ID: "sound"})
					user.Fail(exampleJob().ID, tt.fault)
					user.Fail(cohertest.List, tt.fault)
					server := startServer(api)
					defer server.Close()

					for _, path := range []string{job(exampleJob().ID), list} {
						ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
						defer cancel()
						resp, err := get(ctx, server, key, path)
						if (err == nil) != tt.answered {
							t.Errorf("%s %s: got error %v", name, path, err)
						}
						if err == nil {
							err = resp.err
							tt.check(t, resp)
						}
						if err == nil || errors.Is(err, context.DeadlineExceeded) != tt.timeout {
							t.Errorf("%s %s: got error %v", name, path, err)
						}
						status := 0
						if tt.answered {
							status = 200
						}
						got := api.Requests()
						if got := got[len(got)-1].Status; got != status {
							t.Errorf("%s %s: recorded status %d, want %d", name, path, got, status)
						}
						mustGet(t, server, key, job("sound"))
					}
				})
			}
		})
	}
}

func TestEndless(t *testing.T) {
	for name, startServer := range inMemory {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := cohertest.New()
				user := api.AddUser(key)
				user.Fail(cohertest.All, cohertest.Endless)
				server := startServer(api)
				defer server.Close()

				for _, path := range []string{job("ebd-1"), list} {
					req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
					if err != nil {
						t.Fatal(err)
					}
					req.Header.Set("Authorization", "Bearer "+key)
					resp, err := server.Client.Do(req)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := io.CopyN(io.Discard, resp.Body, 3<<20); err != nil {
						t.Errorf("%s: %v", path, err)
					}
					resp.Body.Close()
				}
			})
		})
	}
}

// Also over a real connection, and with a certificate.
func TestResetOnNetwork(t *testing.T) {
	for name, startServer := range map[string]func(*cohertest.API) *cohertest.Server{
		"TCP": (*cohertest.API).Start,
		"TLS": (*cohertest.API).StartTLS,
	} {
		t.Run(name, func(t *testing.T) {
			api := cohertest.New()
			user := api.AddUser(key)
			user.Add(exampleJob())
			user.Fail("ebd-1", cohertest.Reset)
			user.Fail("ebd-2", cohertest.CutShort)
			user.Fail(exampleJob().ID, cohertest.Times(1, cohertest.CutShort))
			server := startServer(api)
			defer server.Close()

			if _, err := get(t.Context(), server, key, job("ebd-1")); err == nil {
				t.Error("reset: no error")
			}
			if resp, err := get(t.Context(), server, key, job(exampleJob().ID)); err != nil || resp.err == nil {
				t.Errorf("cut short: got errors %v, %v", err, resp.err)
			}
			if got := mustGet(t, server, key, job(exampleJob().ID)).body; got != compact(t, example) {
				t.Errorf("afterwards: got %s", got)
			}
		})
	}
}

// net/http sends a request again if a kept-alive connection ends without an answer.
func TestResetReused(t *testing.T) {
	for name, startServer := range map[string]func(*cohertest.API) *cohertest.Server{
		"TCP":       (*cohertest.API).Start,
		"in memory": (*cohertest.API).StartInMemory,
	} {
		t.Run(name, func(t *testing.T) {
			api := cohertest.New()
			user := api.AddUser(key)
			user.Add(exampleJob(), cohertest.Job{ID: "sound"})
			user.Fail(exampleJob().ID, cohertest.ResetReused)
			server := startServer(api)
			defer server.Close()

			mustGet(t, server, key, job("sound"))
			if got := mustGet(t, server, key, job(exampleJob().ID)).body; got != compact(t, example) {
				t.Errorf("got %s", got)
			}
			var statuses []int
			for _, r := range api.Requests() {
				statuses = append(statuses, r.Status)
			}
			if len(statuses) != 3 || statuses[1] != 0 || statuses[2] != 200 {
				t.Errorf("recorded statuses: got %v, want [200 0 200]", statuses)
			}
		})
	}
}

func TestRedirect(t *testing.T) {
	_, user, server := start(t)
	elsewhere, _, other := start(t)
	user.Fail(cohertest.All, cohertest.RedirectTo(other.URL+list))

	if got := mustGet(t, server, key, list); got.StatusCode != http.StatusOK {
		t.Errorf("same address but for the port: got %s", got.Status)
	}
	if got := len(elsewhere.Requests()); got != 1 {
		t.Errorf("got %d requests elsewhere", got)
	}
}

func TestFaultsInPart(t *testing.T) {
	_, user, server := start(t)
	user.Add(exampleJob(), cohertest.Job{ID: "flaky"})
	codes := func(path string, n int) (codes []int) {
		t.Helper()
		for range n {
			codes = append(codes, mustGet(t, server, key, path).StatusCode)
		}
		return codes
	}

	user.Fail(cohertest.All, cohertest.Times(2, cohertest.Status(500, "")))
	if got := codes(list, 4); got[0] != 500 || got[1] != 500 || got[2] != 200 || got[3] != 200 {
		t.Errorf("Times: got %v", got)
	}

	count := func(codes []int) (n int) {
		for _, code := range codes {
			if code != 200 {
				n++
			}
		}
		return n
	}
	user.Fail("flaky", cohertest.Flaky(0.25, 1, cohertest.Status(500, "")))
	first := codes(job("flaky"), 100)
	if got := count(first); got < 10 || got > 40 {
		t.Errorf("Flaky: %d of 100 failed", got)
	}
	user.Fail("flaky", cohertest.Flaky(0.25, 1, cohertest.Status(500, "")))
	for i, code := range codes(job("flaky"), 100) {
		if code != first[i] {
			t.Fatalf("Flaky: request %d differs with the same seed", i)
		}
	}
}

func TestOwnFault(t *testing.T) {
	_, user, server := start(t)
	user.Add(cohertest.Job{ID: "a"}, cohertest.Job{ID: "b"}, cohertest.Job{ID: "c"})
	user.Fail(cohertest.All, func(w http.ResponseWriter, _ *http.Request, c *cohertest.Call) {
		if c.List {
			c.AnswerWith(w, c.Jobs()[:1]...)
			return
		}
		w.Header().Set("X-Job", c.ID)
		c.Answer(w)
	})

	if got := mustGet(t, server, key, list).body; strings.Count(got, "job_id") != 1 {
		t.Errorf("list: got %s", got)
	}
	if got := mustGet(t, server, key, job("b")).Header.Get("X-Job"); got != "b" {
		t.Errorf("job: got %q", got)
	}
	if got := mustGet(t, server, key, job("d")).StatusCode; got != http.StatusNotFound {
		t.Errorf("unknown job: got %d", got)
	}
}
