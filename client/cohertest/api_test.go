package cohertest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
)

const key = "k-4711"

// response is an answer, as far as it came.
type response struct {
	*http.Response
	body string
	err  error // of reading the body
}

func get(ctx context.Context, s *cohertest.Server, key, path string) (response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path, nil)
	if err != nil {
		return response{}, err
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := s.Client.Do(req)
	if err != nil {
		return response{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return response{Response: resp, body: string(body), err: err}, nil
}

// mustGet is get where nothing may go wrong.
func mustGet(t *testing.T, s *cohertest.Server, key, path string) response {
	t.Helper()
	resp, err := get(t.Context(), s, key, path)
	if err != nil {
		t.Fatal(err)
	}
	if resp.err != nil {
		t.Fatal(resp.err)
	}
	return resp
}

func job(id string) string { return "/v1/embed-jobs/" + id }

const list = "/v1/embed-jobs"

// start starts an API with one user on a loopback port.
func start(t *testing.T) (*cohertest.API, *cohertest.User, *cohertest.Server) {
	t.Helper()
	api := cohertest.New()
	user := api.AddUser(key)
	server := api.Start()
	t.Cleanup(server.Close)
	return api, user, server
}

// The example of the page "Fetch an Embed Job".
const example = `{
 "job_id": "ebd-9f8a7c6d5b4e3a21",
 "status": "complete",
 "created_at": "2024-04-10T14:22:35Z",
 "input_dataset_id": "ds-1234abcd5678efgh",
 "model": "embed-multilingual-v2.0",
 "truncate": "END",
 "name": "Customer Reviews Embedding Job",
 "output_dataset_id": "ds-8765hgfedcba4321",
 "meta": {
  "api_version": {
   "version": "1.0.0",
   "is_deprecated": false,
   "is_experimental": false
  },
  "billed_units": {
   "images": 0,
   "input_tokens": 1520,
   "image_tokens": 0,
   "output_tokens": 1520,
   "search_units": 0,
   "classifications": 0
  },
  "tokens": {
   "input_tokens": 1520,
   "output_tokens": 1520
  },
  "cached_tokens": 0,
  "warnings": []
 }
}`

func exampleJob() cohertest.Job {
	return cohertest.Job{
		ID:              "ebd-9f8a7c6d5b4e3a21",
		Status:          "complete",
		CreatedAt:       time.Date(2024, 4, 10, 14, 22, 35, 0, time.UTC),
		InputDatasetID:  "ds-1234abcd5678efgh",
		Model:           "embed-multilingual-v2.0",
		Name:            "Customer Reviews Embedding Job",
		OutputDatasetID: "ds-8765hgfedcba4321",
		APIVersion:      "1.0.0",
		InputTokens:     1520,
		OutputTokens:    1520,
	}
}

// compact removes the blanks between tokens.
func compact(t *testing.T, text string) string {
	t.Helper()
	var b strings.Builder
	inString := false
	for i, c := range text {
		if c == '"' && (i == 0 || text[i-1] != '\\') {
			inString = !inString
		}
		if inString || c != ' ' && c != '\n' {
			b.WriteRune(c)
		}
	}
	return b.String()
}

func TestWireFormat(t *testing.T) {
	_, user, server := start(t)
	j := exampleJob()
	user.Add(j)
	want := compact(t, example)

	resp := mustGet(t, server, key, job(j.ID))
	if resp.StatusCode != http.StatusOK || resp.body != want {
		t.Errorf("job: got %s\n%s\nwant\n%s", resp.Status, resp.body, want)
	}
	if got := resp.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("content type: got %q", got)
	}

	if got := mustGet(t, server, key, list).body; got != `{"embed_jobs":[`+want+`]}` {
		t.Errorf("list: got %s", got)
	}

	bare, _, _ := strings.Cut(want, `,"meta"`)
	bare = `{"embed_jobs":[` + bare + `}]}`
	user.ListWithoutMeta(true)
	if got := mustGet(t, server, key, list).body; got != bare {
		t.Errorf("list without meta: got %s", got)
	}
	if got := mustGet(t, server, key, job(j.ID)).body; got != want {
		t.Errorf("job of a list without meta: got %s", got)
	}
	user.ListWithoutMeta(false)
	user.Update(j.ID, func(j *cohertest.Job) { j.ListWithoutMeta = true })
	if got := mustGet(t, server, key, list).body; got != bare {
		t.Errorf("list with an entry without meta: got %s", got)
	}
}

func TestDefaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := cohertest.New()
		user := api.AddUser(key)
		user.Add(cohertest.Job{ID: "ebd-1"}, cohertest.Job{ID: "ebd-2", Status: "complete", Pages: 3})
		server := api.StartInMemory()
		defer server.Close()

		const meta = `"meta":{"api_version":{"version":"1","is_deprecated":false,"is_experimental":false},` +
			`"billed_units":{"images":0,"input_tokens":0,"image_tokens":0,"output_tokens":0,` +
			`"search_units":0,"classifications":0%s},"tokens":{"input_tokens":0,"output_tokens":0},` +
			`"cached_tokens":0,"warnings":[]}}`
		want := `{"job_id":"ebd-1","status":"processing","created_at":"1999-12-31T23:00:00Z",` +
			`"input_dataset_id":"ds-1-in","model":"embed-multilingual-v3.0","truncate":"END",` +
			fmt.Sprintf(meta, "")
		if got := mustGet(t, server, key, job("ebd-1")).body; got != want {
			t.Errorf("processing: got %s\nwant %s", got, want)
		}
		want = `{"job_id":"ebd-2","status":"complete","created_at":"1999-12-31T23:00:00Z",` +
			`"input_dataset_id":"ds-2-in","model":"embed-multilingual-v3.0","truncate":"END",` +
			`"output_dataset_id":"ds-2-out",` + fmt.Sprintf(meta, `,"pages":3`)
		if got := mustGet(t, server, key, job("ebd-2")).body; got != want {
			t.Errorf("complete: got %s\nwant %s", got, want)
		}
	})
}

func TestValues(t *testing.T) {
	_, user, server := start(t)
	user.Add(cohertest.Job{
		ID:           `odd/"é%? id`,
		Name:         "a \"quoted\"\\\n<name> \u2028é",
		CreatedAt:    time.Date(2026, 8, 1, 10, 0, 0, 500e6, time.FixedZone("", 2*60*60)),
		Images:       1,
		InputTokens:  1520.5,
		OutputTokens: 1e9,
		Warnings:     []string{"one", "t\two"},
		Experimental: true,
		Deprecated:   true,
		CachedTokens: 7,
	})

	resp := mustGet(t, server, key, job("odd%2F%22%C3%A9%25%3F%20id"))
	var got struct {
		JobID     string    `json:"job_id"`
		Name      string    `json:"name"`
		CreatedAt time.Time `json:"created_at"`
		Meta      struct {
			APIVersion  map[string]any     `json:"api_version"`
			BilledUnits map[string]float64 `json:"billed_units"`
			Warnings    []string           `json:"warnings"`
		} `json:"meta"`
	}
	if err := json.Unmarshal([]byte(resp.body), &got); err != nil {
		t.Fatalf("%v in %s", err, resp.body)
	}
	if got.JobID != `odd/"é%? id` || got.Name != "a \"quoted\"\\\n<name> \u2028é" {
		t.Errorf("strings: got %q, %q", got.JobID, got.Name)
	}
	if !strings.Contains(resp.body, `"2026-08-01T10:00:00.5+02:00"`) {
		t.Errorf("created_at: got %s", resp.body)
	}
	if got := got.Meta.BilledUnits; got["images"] != 1 || got["input_tokens"] != 1520.5 || got["output_tokens"] != 1e9 {
		t.Errorf("billed units: got %v", got)
	}
	if !slices.Equal(got.Meta.Warnings, []string{"one", "t\two"}) {
		t.Errorf("warnings: got %q", got.Meta.Warnings)
	}
	if v := got.Meta.APIVersion; v["is_deprecated"] != true || v["is_experimental"] != true {
		t.Errorf("API version: got %v", v)
	}
}

func TestErrors(t *testing.T) {
	_, user, server := start(t)
	user.Add(cohertest.Job{ID: "ebd-1"})

	for _, tt := range []struct {
		name, method, key, path string
		code                    int
		message                 string
	}{
		{"no key", "GET", "", job("ebd-1"), 401, "invalid api token"},
		{"wrong key", "GET", "wrong", list, 401, "invalid api token"},
		{"unknown job", "GET", key, job(`ebd-%22`), 404, `job not found: ebd-"`},
		{"no job", "GET", key, job(""), 404, "not found: /v1/embed-jobs/"},
		{"below a job", "GET", key, job("ebd-1/cancel"), 404, "not found: /v1/embed-jobs/ebd-1/cancel"},
		{"another path", "GET", key, "/v1/datasets", 404, "not found: /v1/datasets"},
		{"another method", "POST", key, list, 405, "method not allowed: POST"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), tt.method, server.URL+tt.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+tt.key)
			resp, err := server.Client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var body struct{ Message, ID string }
			if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != tt.code || body.Message != tt.message || body.ID == "" {
				t.Errorf("got %s, %+v", resp.Status, body)
			}
		})
	}
}

func TestTwoUsers(t *testing.T) {
	api, one, server := start(t)
	two := api.AddUser("k-two")
	one.Add(cohertest.Job{ID: "shared", Name: "of one"}, cohertest.Job{ID: "ebd-1"})
	two.Add(cohertest.Job{ID: "shared", Name: "of two"}, cohertest.Job{ID: "ebd-2"})
	two.Limit(cohertest.Limit{Requests: 3, Per: time.Hour})

	if got := mustGet(t, server, "k-two", job("ebd-1")); got.StatusCode != http.StatusNotFound {
		t.Errorf("another user's job: got %s", got.Status)
	}
	if got := mustGet(t, server, "k-two", job("shared")); !strings.Contains(got.body, "of two") {
		t.Errorf("own job: got %s", got.body)
	}
	got := mustGet(t, server, "k-two", list).body
	if !strings.Contains(got, "ebd-2") || strings.Contains(got, "ebd-1") {
		t.Errorf("own list: got %s", got)
	}
	if got := mustGet(t, server, "k-two", list); got.StatusCode != http.StatusTooManyRequests {
		t.Errorf("own limit: got %s", got.Status)
	}
	if got := mustGet(t, server, key, list); got.StatusCode != http.StatusOK {
		t.Errorf("another user's limit: got %s", got.Status)
	}

	one.SetKey("k-new")
	if got := mustGet(t, server, key, list); got.StatusCode != http.StatusUnauthorized {
		t.Errorf("old key: got %s", got.Status)
	}
	if got := mustGet(t, server, "k-new", list); got.StatusCode != http.StatusOK {
		t.Errorf("new key: got %s", got.Status)
	}
}

func TestChanges(t *testing.T) {
	_, user, server := start(t)
	ids := func() (ids []string) {
		t.Helper()
		var body struct {
			Jobs []struct {
				ID string `json:"job_id"`
			} `json:"embed_jobs"`
		}
		if err := json.Unmarshal([]byte(mustGet(t, server, key, list).body), &body); err != nil {
			t.Fatal(err)
		}
		for _, j := range body.Jobs {
			ids = append(ids, j.ID)
		}
		return ids
	}

	if got := mustGet(t, server, key, list).body; got != `{"embed_jobs":[]}` {
		t.Errorf("empty list: got %s", got)
	}
	user.Add(cohertest.Job{ID: "a"}, cohertest.Job{ID: "b"}, cohertest.Job{ID: "c"})
	user.Add(cohertest.Job{ID: "b", Name: "replaced"})
	user.Update("c", func(j *cohertest.Job) { j.Status, j.ID = "failed", "d" })
	user.Remove("a", "unknown")
	if got, want := ids(), []string{"b", "c"}; !slices.Equal(got, want) {
		t.Errorf("list: got %q, want %q", got, want)
	}
	if got := mustGet(t, server, key, job("b")).body; !strings.Contains(got, `"name":"replaced"`) {
		t.Errorf("replaced job: got %s", got)
	}
	if got := mustGet(t, server, key, job("c")).body; !strings.Contains(got, `"status":"failed"`) {
		t.Errorf("updated job: got %s", got)
	}

	user.Add(cohertest.Job{ID: "raw", Raw: "{ not JSON"})
	if got := mustGet(t, server, key, job("raw")).body; got != "{ not JSON" {
		t.Errorf("raw job: got %s", got)
	}
	if got := mustGet(t, server, key, list).body; !strings.HasSuffix(got, ",{ not JSON]}") {
		t.Errorf("raw entry: got %s", got)
	}

	defer func() {
		if recover() == nil {
			t.Error("update of an unknown job: no panic")
		}
	}()
	user.Update("unknown", func(*cohertest.Job) {})
}

func TestScript(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := cohertest.New()
		user := api.AddUser(key)
		begin := time.Now()
		user.Add(cohertest.Job{ID: "ebd-1", InputTokens: 100, Script: func(now time.Time, j *cohertest.Job) {
			j.InputTokens += now.Sub(begin).Seconds()
			j.Warnings = append(j.Warnings, "shaped")
		}}, cohertest.Job{ID: "ebd-2"})
		server := api.StartInMemory()
		defer server.Close()

		for _, want := range []string{"100", "110", "120"} {
			for _, path := range []string{job("ebd-1"), list} {
				got := mustGet(t, server, key, path).body
				if !strings.Contains(got, `"tokens":{"input_tokens":`+want) || strings.Count(got, "shaped") != 1 {
					t.Errorf("%s: got %s, want %s tokens", path, got, want)
				}
			}
			time.Sleep(10 * time.Second)
		}
	})
}

func TestRequests(t *testing.T) {
	api, user, server := start(t)
	user.Add(cohertest.Job{ID: "a/b"})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+job("a%2Fb"), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Client-Name", "tests")
	req.Header.Set("Authorization", "bearer wrong")
	resp, err := server.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	mustGet(t, server, key, list+"?x=y")
	mustGet(t, server, key, "/v2/chat")

	got := api.Requests()
	if len(got) != 3 {
		t.Fatalf("got %d requests", len(got))
	}
	if name := got[0].Header.Get("X-Client-Name"); name != "tests" {
		t.Errorf("header: got %q", name)
	}
	for i := range got {
		if got[i].Time.IsZero() || i > 0 && got[i].Time.Before(got[i-1].Time) {
			t.Errorf("time of request %d: got %v", i, got[i].Time)
		}
		if got[i].Ended.Before(got[i].Time) {
			t.Errorf("end of request %d: got %v", i, got[i].Ended)
		}
		got[i].Time, got[i].Ended, got[i].Header = time.Time{}, time.Time{}, nil
	}
	for i, want := range []cohertest.Request{
		{Resource: "embed_jobs", Endpoint: "get", ID: "a/b", Key: "wrong", Path: "/v1/embed-jobs/a%2Fb", Status: 401},
		{Resource: "embed_jobs", Endpoint: "list", Key: key, Path: "/v1/embed-jobs", Query: "x=y", Status: 200, Proper: true},
		{Key: key, Path: "/v2/chat", Status: 404},
	} {
		if fmt.Sprint(got[i]) != fmt.Sprint(want) {
			t.Errorf("request %d: got %+v, want %+v", i, got[i], want)
		}
	}

	api.ResetRequests()
	if got := api.Requests(); len(got) != 0 {
		t.Errorf("after a reset: got %d requests", len(got))
	}
	api.KeepRequests(10)
	for range 45 {
		mustGet(t, server, key, list)
	}
	if got := len(api.Requests()); got < 10 || got > 20 {
		t.Errorf("of 45 requests with the newest 10 kept: got %d", got)
	}
}

func TestConcurrencyAndLatency(t *testing.T) {
	for name, startServer := range inMemory {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := cohertest.New()
				api.AddUser(key).Add(cohertest.Job{ID: "ebd-1"})
				api.SetLatency(50 * time.Millisecond)
				server := startServer(api)
				defer server.Close()

				begin := time.Now()
				var wg sync.WaitGroup
				for range 7 {
					wg.Go(func() {
						if _, err := get(t.Context(), server, key, job("ebd-1")); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				if got := api.MaxConcurrent(); got != 7 {
					t.Errorf("concurrency: got %d, want 7", got)
				}
				if got := time.Since(begin); got != 50*time.Millisecond {
					t.Errorf("latency: got %v, want 50ms", got)
				}

				api.ResetRequests()
				for range 3 {
					mustGet(t, server, key, job("ebd-1"))
				}
				if got := api.MaxConcurrent(); got != 1 {
					t.Errorf("concurrency of one after the other: got %d", got)
				}
			})
		})
	}
}

// A client must not be seen as concurrent that waits for one long answer after the other.
func TestConcurrencyOfLongLists(t *testing.T) {
	api, user, server := start(t)
	for i := range 1000 {
		user.Add(cohertest.Job{ID: fmt.Sprint("ebd-", i)})
	}
	for range 20 {
		mustGet(t, server, key, list)
	}
	if got := api.MaxConcurrent(); got != 1 {
		t.Errorf("got %d, want 1", got)
	}
}

func TestLatencyEndsWithRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := cohertest.New()
		api.AddUser(key)
		api.SetLatency(time.Hour)
		server := api.StartInMemory()
		defer server.Close()

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		if _, err := get(ctx, server, key, list); err == nil {
			t.Error("no error")
		}
		server.Close() // returns when the handler has
		if got := time.Since(begin); got != time.Second {
			t.Errorf("took %v", got)
		}
		if got := api.Requests(); len(got) != 1 || got[0].Status != 0 {
			t.Errorf("requests: got %+v", got)
		}
	})
}

// The API is a handler on its own.
func TestHandler(t *testing.T) {
	api := cohertest.New()
	api.AddUser(key).Add(exampleJob())
	r := httptest.NewRequest(http.MethodGet, job(exampleJob().ID), nil)
	r.Header.Set("Authorization", "Bearer "+key)
	w := httptest.NewRecorder()
	api.ServeHTTP(w, r)
	if got := w.Body.String(); got != compact(t, example) {
		t.Errorf("got %s", got)
	}
}

func BenchmarkGet(b *testing.B) {
	api := cohertest.New()
	api.AddUser(key).Add(exampleJob())
	api.KeepRequests(1)
	r := httptest.NewRequest(http.MethodGet, job(exampleJob().ID), nil)
	r.Header.Set("Authorization", "Bearer "+key)
	w := discard{make(http.Header)}
	b.ReportAllocs()
	for b.Loop() {
		api.ServeHTTP(w, r)
	}
}

func BenchmarkList(b *testing.B) {
	api := cohertest.New()
	user := api.AddUser(key)
	for i := range 10_000 {
		user.Add(cohertest.Job{ID: fmt.Sprint("ebd-", i)})
	}
	api.KeepRequests(1)
	r := httptest.NewRequest(http.MethodGet, list, nil)
	r.Header.Set("Authorization", "Bearer "+key)
	w := discard{make(http.Header)}
	b.ReportAllocs()
	for b.Loop() {
		api.ServeHTTP(w, r)
	}
}

type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}
