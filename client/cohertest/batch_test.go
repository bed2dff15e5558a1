package cohertest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
)

const batches = "/v2/batches"

func batch(id string) string { return batches + "/" + id }

// An answer of the API as it was recorded, with other IDs.
const recorded = `{"batch":{"id":"2f6c0f0a-5b1e-4c58-9a77-0d6a3f1c9e42","name":"nightly-batch","creator_id":"7d0c2f6e-94a1-4b0e-8f43-5c1f1f0d2b66","org_id":"c4a9be10-1f7d-4a0c-bb5e-2a3d9e8f7011","status":"BATCH_STATUS_COMPLETED","created_at":"2026-09-09T12:04:47.260345Z","updated_at":"2026-09-09T12:04:52.381823Z","input_dataset_id":"nightly-batch-jsonl-j6v59e","output_dataset_id":"nightly-batch-output-b6bsnn","input_tokens":"10","output_tokens":"30","model":"command-a-03-2025","num_records":2,"num_successful_records":2,"num_failed_records":0,"status_reason":""}}`

func recordedBatch() cohertest.Batch {
	return cohertest.Batch{
		ID:                "2f6c0f0a-5b1e-4c58-9a77-0d6a3f1c9e42",
		Name:              "nightly-batch",
		Status:            "BATCH_STATUS_COMPLETED",
		CreatedAt:         time.Date(2026, 9, 9, 14, 4, 47, 260345000, time.FixedZone("", 2*60*60)),
		UpdatedAt:         time.Date(2026, 9, 9, 12, 4, 52, 381823000, time.UTC),
		InputDatasetID:    "nightly-batch-jsonl-j6v59e",
		OutputDatasetID:   "nightly-batch-output-b6bsnn",
		InputTokens:       10,
		OutputTokens:      30,
		Model:             "command-a-03-2025",
		Records:           2,
		SuccessfulRecords: 2,
	}
}

func TestBatchWireFormat(t *testing.T) {
	_, user, server := start(t)
	b := recordedBatch()
	user.AddBatches(b)
	if got := mustGet(t, server, key, batch(b.ID)); got.StatusCode != http.StatusOK || got.body != recorded {
		t.Errorf("got %s\n%s\nwant\n%s", got.Status, got.body, recorded)
	}
	entry := strings.TrimSuffix(strings.TrimPrefix(recorded, `{"batch":`), "}")
	want := `{"batches":[` + entry + `],"next_page_token":""}`
	if got := mustGet(t, server, key, batches).body; got != want {
		t.Errorf("list: got %s\nwant %s", got, want)
	}

	user.ListBatchesWithoutTokens(true)
	want = strings.Replace(want, `,"input_tokens":"10","output_tokens":"30"`, "", 1)
	if got := mustGet(t, server, key, batches).body; got != want {
		t.Errorf("list without tokens: got %s\nwant %s", got, want)
	}
	if got := mustGet(t, server, key, batch(b.ID)).body; got != recorded {
		t.Errorf("batch of a list without tokens: got %s", got)
	}
}

func TestBatchDefaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := cohertest.New()
		user := api.AddUser(key)
		server := api.StartInMemory()
		defer server.Close()

		if got := mustGet(t, server, key, batches).body; got != `{"batches":[],"next_page_token":""}` {
			t.Errorf("empty list: got %s", got)
		}
		user.AddBatches(cohertest.Batch{ID: "a"})
		want := `{"batch":{"id":"a","name":"","creator_id":"7d0c2f6e-94a1-4b0e-8f43-5c1f1f0d2b66",` +
			`"org_id":"c4a9be10-1f7d-4a0c-bb5e-2a3d9e8f7011","status":"BATCH_STATUS_QUEUED",` +
			`"created_at":"1999-12-31T23:00:00.000000Z","updated_at":"1999-12-31T23:00:00.000000Z",` +
			`"input_dataset_id":"a-in","output_dataset_id":"","input_tokens":"0","output_tokens":"0","model":"embed-v4.0",` +
			`"num_records":0,"num_successful_records":0,"num_failed_records":0,"status_reason":""}}`
		if got := mustGet(t, server, key, batch("a")).body; got != want {
			t.Errorf("got %s\nwant %s", got, want)
		}
	})
}

// batchPage asks for a page, and returns the IDs and the token.
func batchPage(t *testing.T, server *cohertest.Server, query string) (ids []string, token string) {
	t.Helper()
	var page struct {
		Batches []struct{ ID string }
		Token   string `json:"next_page_token"`
	}
	if err := json.Unmarshal([]byte(mustGet(t, server, key, batches+query).body), &page); err != nil {
		t.Fatal(err)
	}
	for _, b := range page.Batches {
		ids = append(ids, b.ID)
	}
	return ids, page.Token
}

func TestPages(t *testing.T) {
	_, user, server := start(t)
	var all []string
	for i := range 2500 {
		all = append(all, fmt.Sprint("b", i))
		user.AddBatches(cohertest.Batch{ID: all[i]})
	}
	for _, tt := range []struct {
		query string
		most  int // of the user's pages
		sizes []int
	}{
		{"?page_size=1000", 0, []int{1000, 1000, 500}},
		{"?page_size=1250", 0, []int{1000, 1000, 500}}, // cut
		{"?page_size=500", 0, []int{500, 500, 500, 500, 500}},
		{"?page_size=1000", 900, []int{900, 900, 700}},
		{"?x=y", 0, slices.Repeat([]int{50}, 50)},
		{"?page_size=0", 0, slices.Repeat([]int{50}, 50)},
	} {
		user.PageBatches(tt.most)
		var got []string
		var sizes []int
		token := ""
		for len(sizes) == 0 || token != "" {
			var ids []string
			ids, token = batchPage(t, server, tt.query+"&page_token="+url.QueryEscape(token))
			got, sizes = append(got, ids...), append(sizes, len(ids))
		}
		if !slices.Equal(sizes, tt.sizes) || !slices.Equal(got, all) {
			t.Errorf("%s: got %d batches in pages of %v, want %v", tt.query, len(got), sizes, tt.sizes)
		}
	}
	user.RemoveBatches(all[1:]...)
	if ids, token := batchPage(t, server, ""); len(ids) != 1 || token != "" {
		t.Errorf("after the rest was removed: got %q, token %q", ids, token)
	}
}

// Lists that never end.
func TestPagesWithoutEnd(t *testing.T) {
	_, user, server := start(t)
	user.AddBatches(cohertest.Batch{ID: "a"}, cohertest.Batch{ID: "b"}, cohertest.Batch{ID: "c"})

	user.Fail(cohertest.ListBatches, cohertest.RepeatedToken)
	_, first := batchPage(t, server, "")
	if ids, again := batchPage(t, server, "?page_token="+url.QueryEscape(first)); first == "" || again != first || len(ids) != 3 {
		t.Errorf("repeated: got %q, tokens %q, %q", ids, first, again)
	}

	user.Fail(cohertest.ListBatches, cohertest.EndlessPages)
	seen := map[string]bool{}
	token := ""
	for range 20 {
		if _, token = batchPage(t, server, "?page_token="+url.QueryEscape(token)); token == "" || seen[token] {
			t.Fatalf("endless: got token %q after %d pages", token, len(seen))
		}
		seen[token] = true
	}
}

func TestBatchChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := cohertest.New()
		user := api.AddUser(key)
		server := api.StartInMemory()
		defer server.Close()
		begin := time.Now()
		user.AddBatches(cohertest.Batch{ID: "a"}, cohertest.Batch{ID: "b", Script: func(now time.Time, b *cohertest.Batch) {
			b.InputTokens = int64(now.Sub(begin).Seconds())
		}})
		user.AddBatches(cohertest.Batch{ID: "a", Name: "replaced"})
		user.UpdateBatch("a", func(b *cohertest.Batch) { b.Status, b.ID = "BATCH_STATUS_FAILED", "c" })
		if got := mustGet(t, server, key, batch("a")).body; !strings.Contains(got, `"name":"replaced"`) || !strings.Contains(got, "FAILED") {
			t.Errorf("got %s", got)
		}
		for _, want := range []string{"0", "10", "20"} {
			for _, path := range []string{batch("b"), batches} {
				if got := mustGet(t, server, key, path).body; !strings.Contains(got, `"input_tokens":"`+want+`","output`) {
					t.Errorf("%s: got %s, want %s tokens", path, got, want)
				}
			}
			time.Sleep(10 * time.Second)
		}
		user.UpdateBatch("b", func(b *cohertest.Batch) { b.Raw = "{raw" })
		if got := mustGet(t, server, key, batches).body; !strings.HasSuffix(got, `,{raw],"next_page_token":""}`) {
			t.Errorf("raw: got %s", got)
		}
		for name, misuse := range map[string]func(){
			"update of an unknown batch": func() { user.UpdateBatch("unknown", func(*cohertest.Batch) {}) },
			"batch without ID":           func() { user.AddBatches(cohertest.Batch{}) },
		} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s: no panic", name)
					}
				}()
				misuse()
			}()
		}
	})
}

// Embed jobs and batches know nothing of each other, nor do users.
func TestKindsApart(t *testing.T) {
	api, user, server := start(t)
	other := api.AddUser("k-two")
	user.Add(cohertest.Job{ID: "job"})
	user.AddBatches(cohertest.Batch{ID: "batch"})
	other.AddBatches(cohertest.Batch{ID: "others"})
	for path, want := range map[string]int{
		job("job"): 200, job("batch"): 404, batch("batch"): 200, batch("job"): 404, batch("others"): 404,
		batch("batch:cancel"): 404, batch(""): 404, "/v1/batches": 404, "/v2/embed-jobs": 404,
	} {
		if got := mustGet(t, server, key, path).StatusCode; got != want {
			t.Errorf("%s: got %d, want %d", path, got, want)
		}
	}
	if got := mustGet(t, server, key, batch("job")).body; !strings.Contains(got, `"message":"batch not found: job"`) {
		t.Errorf("got %s", got)
	}

	kinds := map[string]struct {
		limit     func(cohertest.Limit)
		list, all string
		paths     [2]string
	}{
		"embed jobs": {user.Limit, cohertest.List, cohertest.All, [2]string{job("job"), list}},
		"batches":    {user.LimitBatches, cohertest.ListBatches, cohertest.AllBatches, [2]string{batch("batch"), batches}},
	}
	check := func(what, broken string, code int) {
		t.Helper()
		for kind, k := range kinds {
			for i, path := range k.paths {
				want := code
				if kind != broken || what == "list" && i == 0 {
					want = http.StatusOK
				}
				if got := mustGet(t, server, key, path).StatusCode; got != want {
					t.Errorf("%s of %s: %s: got %d, want %d", what, broken, path, got, want)
				}
			}
		}
	}
	for kind, k := range kinds {
		k.limit(cohertest.Limit{Per: time.Hour})
		check("limit", kind, 429)
		k.limit(cohertest.Limit{})
		user.Fail(k.all, cohertest.Status(503, ""))
		check("all", kind, 503)
		user.Fail(k.all, nil)
		user.Fail(k.list, cohertest.Status(503, ""))
		check("list", kind, 503)
		user.Fail(k.list, nil)
	}
}

func TestBatchFaults(t *testing.T) {
	contains := func(parts ...string) func(string) bool {
		return func(body string) bool {
			return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(body, part) })
		}
	}
	for _, tt := range []struct {
		name    string
		fault   cohertest.Fault
		invalid bool // JSON
		check   func(body string) bool
	}{
		{"Array", cohertest.Array, false, func(body string) bool { return strings.HasPrefix(body, "[{") }},
		{"OtherJob", cohertest.OtherJob, false, contains(`"id":"2f6c0f0a-5b1e-4c58-9a77-0d6a3f1c9e42-other"`, `"input_tokens":"10"`)},
		{"UnknownStatus", cohertest.UnknownStatus, false, contains(`"status":"BATCH_STATUS_HIBERNATING"`)},
		{"NoStatus", cohertest.NoStatus, false, func(body string) bool { return !strings.Contains(body, `"status":`) }},
		{"NullFields", cohertest.NullFields, false, contains(`"created_at":null`, `"input_tokens":null`, `"num_records":null`, `"name":"nightly-batch"`)},
		{"NullMeta", cohertest.NullMeta, false, contains(`"input_tokens":null`, `"num_records":null`, `"created_at":"`)},
		{"MissingFields", cohertest.MissingFields, false, contains(`{"id":"2f6c0f0a-5b1e-4c58-9a77-0d6a3f1c9e42","status":"BATCH_STATUS_COMPLETED"}`)},
		{"WrongTypes", cohertest.WrongTypes, false, contains(`"status":"BATCH_STATUS_COMPLETED"`, `"input_tokens":["10"]`)},
		{"NumbersAsStrings", cohertest.NumbersAsStrings, false, contains(`"input_tokens":"10"`, `"num_records":"2"`)},
		{"NumbersWithFraction", cohertest.NumbersWithFraction, false, contains(`"input_tokens":10.0`, `"num_records":2.0`)},
		{"NumbersWithExponent", cohertest.NumbersWithExponent, false, contains(`"input_tokens":1e+01`, `"num_records":2e+00`)},
		{"InvalidUTF8", cohertest.InvalidUTF8, false, func(body string) bool { return !utf8.ValidString(body) }},
		{"Warning", cohertest.Warning("soon"), false, contains("nightly-batch")},
		{"Gzip", cohertest.Gzip(nil), false, contains("nightly-batch")},
		{"Times", cohertest.Times(0, cohertest.Empty), false, contains("nightly-batch")},
		{"Empty", cohertest.Empty, true, func(body string) bool { return body == "" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, user, server := start(t)
			b := recordedBatch()
			user.AddBatches(b)
			user.Fail(cohertest.AllBatches, tt.fault)
			for _, path := range []string{batch(b.ID), batches} {
				got := mustGet(t, server, key, path).body
				if !tt.check(got) || json.Valid([]byte(got)) == tt.invalid {
					t.Errorf("%s: got %s", path, got)
				}
			}
		})
	}
}

func TestOwnBatchFault(t *testing.T) {
	_, user, server := start(t)
	user.AddBatches(cohertest.Batch{ID: "a"}, cohertest.Batch{ID: "b"}, cohertest.Batch{ID: "c"})
	user.Fail(cohertest.AllBatches, func(w http.ResponseWriter, _ *http.Request, c *cohertest.Call) {
		if c.Resource != cohertest.Batches {
			t.Errorf("asked for %s", c.Resource)
		}
		if c.List {
			c.AnswerWithBatches(w, c.PageToken+"+", c.Batches()[1:]...)
			return
		}
		c.AnswerWithBatches(w, "", cohertest.Batch{ID: "other than " + c.Batches()[0].ID})
	})
	if ids, token := batchPage(t, server, "?page_token=x"); !slices.Equal(ids, []string{"b", "c"}) || token != "x+" {
		t.Errorf("got %q, token %q", ids, token)
	}
	if got := mustGet(t, server, key, batch("a")).body; !strings.Contains(got, `"id":"other than a"`) {
		t.Errorf("got %s", got)
	}
}
