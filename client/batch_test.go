package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cohere-exporter/cohere_exporter/client"
	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
)

const recordedID = "2f6c0f0a-5b1e-4c58-9a77-0d6a3f1c9e42"

// An answer as it was recorded, with other IDs.
const recordedJSON = `{"batch":{"id":"2f6c0f0a-5b1e-4c58-9a77-0d6a3f1c9e42","name":"nightly-batch","creator_id":"7d0c2f6e-94a1-4b0e-8f43-5c1f1f0d2b66","org_id":"c4a9be10-1f7d-4a0c-bb5e-2a3d9e8f7011","status":"BATCH_STATUS_COMPLETED","created_at":"2026-09-09T12:04:47.260345Z","updated_at":"2026-09-09T12:04:52.381823Z","input_dataset_id":"nightly-batch-jsonl-j6v59e","output_dataset_id":"nightly-batch-output-b6bsnn","input_tokens":"10","output_tokens":"30","model":"command-a-03-2025","num_records":2,"num_successful_records":2,"num_failed_records":0,"status_reason":""}}`

// The batch of that answer alone.
var recordedEntry = strings.TrimSuffix(strings.TrimPrefix(recordedJSON, `{"batch":`), "}")

func count(n float64) client.Count { return client.Count{Optional: some(n)} }

func wantRecorded() client.Batch {
	return client.Batch{
		ID:                recordedID,
		Name:              "nightly-batch",
		Status:            client.BatchCompleted,
		CreatedAt:         some(time.Date(2026, 9, 9, 12, 4, 47, 260345000, time.UTC)),
		UpdatedAt:         some(time.Date(2026, 9, 9, 12, 4, 52, 381823000, time.UTC)),
		InputDatasetID:    "nightly-batch-jsonl-j6v59e",
		OutputDatasetID:   "nightly-batch-output-b6bsnn",
		InputTokens:       count(10),
		OutputTokens:      count(30),
		Model:             "command-a-03-2025",
		Records:           count(2),
		SuccessfulRecords: count(2),
		FailedRecords:     count(0),
	}
}

// startBatches is start with the recorded batch.
func startBatches(t testing.TB, server func(*cohertest.API) *cohertest.Server) *bench {
	t.Helper()
	b := start(t, server)
	b.user.AddBatches(cohertest.Batch{
		ID:                recordedID,
		Name:              "nightly-batch",
		Status:            "BATCH_STATUS_COMPLETED",
		CreatedAt:         time.Date(2026, 9, 9, 12, 4, 47, 260345000, time.UTC),
		UpdatedAt:         time.Date(2026, 9, 9, 12, 4, 52, 381823000, time.UTC),
		InputDatasetID:    "nightly-batch-jsonl-j6v59e",
		OutputDatasetID:   "nightly-batch-output-b6bsnn",
		InputTokens:       10,
		OutputTokens:      30,
		Model:             "command-a-03-2025",
		Records:           2,
		SuccessfulRecords: 2,
	})
	return b
}

// page collects a page of the list, as far as it came.
func (b *bench) page(ctx context.Context, token string) (batches []client.Batch, next string, err error) {
	next, err = b.Batches(ctx, token, func(batch *client.Batch) { batches = append(batches, *batch) })
	return batches, next, err
}

// checkBatch fetches the recorded batch, alone and from the list.
func checkBatch(t *testing.T, what string, b *bench, want client.Batch) {
	t.Helper()
	got, err := b.Batch(t.Context(), recordedID)
	if err != nil || !reflect.DeepEqual(got, &want) {
		t.Errorf("%s: got  %+v\nwant %+v\nerror %v", what, got, want, err)
	}
	page, next, err := b.page(t.Context(), "")
	if err != nil || next != "" || !reflect.DeepEqual(page, []client.Batch{want}) {
		t.Errorf("%s: list: got  %+v\nwant %+v\nnext %q, error %v", what, page, want, next, err)
	}
}

func TestRecordedBatch(t *testing.T) {
	for _, server := range inMemory {
		synctest.Test(t, func(t *testing.T) {
			b := startBatches(t, server)
			checkBatch(t, "simulated", b, wantRecorded())
			b.user.UpdateBatch(recordedID, func(b *cohertest.Batch) { b.Raw = recordedEntry })
			checkBatch(t, "recorded", b, wantRecorded())
		})
	}
}

// Every field has a value of its own, so that none can stand for another.
func TestBatchFields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBatches(t, (*cohertest.API).StartInMemory)
		at := func(n int) time.Time { return time.Date(2026, 1, 2, 3, 4, n, 0, time.UTC) }
		b.user.AddBatches(cohertest.Batch{
			ID: recordedID, Status: "BATCH_STATUS_FAILED", Name: "n", Model: "m", InputDatasetID: "in", OutputDatasetID: "out",
			CreatedAt: at(1), UpdatedAt: at(2), InputTokens: 3, OutputTokens: 4, Records: 5, SuccessfulRecords: 6, FailedRecords: 7,
			StatusReason: "why",
		})
		checkBatch(t, "all", b, client.Batch{
			ID: recordedID, Status: client.BatchFailed, Name: "n", Model: "m", InputDatasetID: "in", OutputDatasetID: "out",
			CreatedAt: some(at(1)), UpdatedAt: some(at(2)), InputTokens: count(3), OutputTokens: count(4),
			Records: count(5), SuccessfulRecords: count(6), FailedRecords: count(7), StatusReason: "why",
		})
	})
}

// What the simulated API leaves out or spoils.
func TestSpoiltBatches(t *testing.T) {
	bare := client.Batch{ID: recordedID, Status: client.BatchCompleted}
	noCounts := func(b *client.Batch) {
		b.InputTokens, b.OutputTokens = client.Count{}, client.Count{}
		b.Records, b.SuccessfulRecords, b.FailedRecords = client.Count{}, client.Count{}, client.Count{}
	}
	for _, tt := range []struct {
		name  string
		fault cohertest.Fault
		want  func(*client.Batch)
	}{
		{"MissingFields", cohertest.MissingFields, func(b *client.Batch) { *b = bare }},
		{"WrongTypes", cohertest.WrongTypes, func(b *client.Batch) { *b = bare }},
		{"NullFields", cohertest.NullFields, func(b *client.Batch) {
			noCounts(b)
			b.CreatedAt, b.UpdatedAt, b.OutputDatasetID = client.Optional[time.Time]{}, client.Optional[time.Time]{}, ""
		}},
		{"NullMeta", cohertest.NullMeta, noCounts},
		{"NumbersAsStrings", cohertest.NumbersAsStrings, func(*client.Batch) {}},
		{"NumbersWithFraction", cohertest.NumbersWithFraction, func(*client.Batch) {}},
		{"NumbersWithExponent", cohertest.NumbersWithExponent, func(*client.Batch) {}},
		{"UnknownStatus", cohertest.UnknownStatus, func(b *client.Batch) { b.Status = "hibernating" }},
		{"InvalidUTF8", cohertest.InvalidUTF8, func(b *client.Batch) { b.Name = "caf\uFFFD \uFFFD\uFFFD" }},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := startBatches(t, (*cohertest.API).StartInMemory)
			b.user.Fail(cohertest.AllBatches, tt.fault)
			want := wantRecorded()
			tt.want(&want)
			checkBatch(t, tt.name, b, want)
		})
	}
}

// Each field in turn is missing, null, empty, and of every type that is not its
// own. All the others keep their values.
func TestBatchFieldByField(t *testing.T) {
	values := map[string]string{
		"missing": "", "null": "null", "empty": `""`, "string": `"text"`, "number": "7", "bool": "true", "object": `{"a":1}`, "array": "[1]",
	}
	for _, field := range []struct {
		name  string
		types string // that are its own
		clear func(*client.Batch)
	}{
		{"name", "string", func(b *client.Batch) { b.Name = "" }},
		{"creator_id", "", func(*client.Batch) {}},
		{"org_id", "", func(*client.Batch) {}},
		{"created_at", "", func(b *client.Batch) { b.CreatedAt = client.Optional[time.Time]{} }},
		{"updated_at", "", func(b *client.Batch) { b.UpdatedAt = client.Optional[time.Time]{} }},
		{"input_dataset_id", "string", func(b *client.Batch) { b.InputDatasetID = "" }},
		{"output_dataset_id", "string", func(b *client.Batch) { b.OutputDatasetID = "" }},
		{"input_tokens", "number", func(b *client.Batch) { b.InputTokens = client.Count{} }},
		{"output_tokens", "number", func(b *client.Batch) { b.OutputTokens = client.Count{} }},
		{"model", "string", func(b *client.Batch) { b.Model = "" }},
		{"num_records", "number", func(b *client.Batch) { b.Records = client.Count{} }},
		{"num_successful_records", "number", func(b *client.Batch) { b.SuccessfulRecords = client.Count{} }},
		{"num_failed_records", "number", func(b *client.Batch) { b.FailedRecords = client.Count{} }},
		{"status_reason", "string", func(b *client.Batch) { b.StatusReason = "" }},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := startBatches(t, (*cohertest.API).StartInMemory)
			want := wantRecorded()
			field.clear(&want)
			for what, value := range values {
				if what != field.types {
					b.user.UpdateBatch(recordedID, func(b *cohertest.Batch) { b.Raw = batchWith(t, field.name, value) })
					checkBatch(t, field.name+": "+what, b, want)
				}
			}
		})
	}
}

// batchWith returns the recorded batch with another value for a field, or
// without it.
func batchWith(t *testing.T, name, value string) string {
	t.Helper()
	var batch map[string]json.RawMessage
	if err := json.Unmarshal([]byte(recordedEntry), &batch); err != nil {
		t.Fatal(err)
	}
	batch[name] = json.RawMessage(value)
	if value == "" {
		delete(batch, name)
	}
	text, err := json.Marshal(batch)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBatches(t, (*cohertest.API).StartInMemory)
		for text, want := range map[string]client.Count{
			`"10"`:                  count(10),
			`10`:                    count(10),
			`"0"`:                   count(0),
			`10.0`:                  count(10),
			`"1e3"`:                 count(1000),
			`"-1"`:                  count(-1),
			`"9223372036854775807"`: count(9223372036854775807),
			`""`:                    {},
			`" 10"`:                 {},
			`"10 tokens"`:           {},
			`"ten"`:                 {},
			`"0x10"`:                {},
			`"1_000"`:               {},
			`"Inf"`:                 {},
			`"NaN"`:                 {},
			`"null"`:                {},
			`"true"`:                {},
			`"\u0031"`:              {},
			`"\"1\""`:               {},
			`"1e999"`:               {},
			`1e999`:                 {},
			`null`:                  {},
			`[]`:                    {},
			`["1"]`:                 {},
			`{"1":1}`:               {},
		} {
			for name, field := range map[string]func(*client.Batch) *client.Count{
				"output_tokens": func(b *client.Batch) *client.Count { return &b.OutputTokens },
				"num_records":   func(b *client.Batch) *client.Count { return &b.Records },
			} {
				b.user.UpdateBatch(recordedID, func(b *cohertest.Batch) { b.Raw = batchWith(t, name, text) })
				batch := wantRecorded()
				*field(&batch) = want
				checkBatch(t, name+" "+text, b, batch)
			}
		}
	})
}

func TestBatchStatuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBatches(t, (*cohertest.API).StartInMemory)
		for status, want := range map[string]struct {
			status  client.BatchStatus
			settled bool
		}{
			"BATCH_STATUS_UNSPECIFIED": {"unspecified", false},
			"BATCH_STATUS_QUEUED":      {client.BatchQueued, false},
			"BATCH_STATUS_IN_PROGRESS": {client.BatchInProgress, false},
			"BATCH_STATUS_CANCELING":   {client.BatchCanceling, false},
			"BATCH_STATUS_CANCELLING":  {client.BatchCanceling, false},
			"BATCH_STATUS_COMPLETED":   {client.BatchCompleted, true},
			"BATCH_STATUS_FAILED":      {client.BatchFailed, true},
			"BATCH_STATUS_CANCELED":    {client.BatchCanceled, true},
			"BATCH_STATUS_CANCELLED":   {client.BatchCanceled, true},
			"BATCH_STATUS_PAUSED_LONG": {"paused_long", false},
			"completed":                {client.BatchCompleted, true},
			"CANCELLED":                {client.BatchCanceled, true},
		} {
			b.user.UpdateBatch(recordedID, func(b *cohertest.Batch) { b.Raw = batchWith(t, "status", strconv.Quote(status)) })
			batch := wantRecorded()
			batch.Status = want.status
			checkBatch(t, status, b, batch)
			if got := want.status.Settled(); got != want.settled {
				t.Errorf("%s: settled: %t", status, got)
			}
		}
	})
}

func TestStatusReasons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBatches(t, (*cohertest.API).StartInMemory)
		for reason, want := range map[string]string{
			"record 17 is too long":   "record 17 is too long",
			"first line\nsecond\r\n":  "first line second",
			" \n":                     "",
			"key " + key + " expired": "key <secret> expired",
			strings.Repeat("ö", 201):  strings.Repeat("ö", 200),
			"\x1b[31mred":             "[31mred",
		} {
			text, err := json.Marshal(reason)
			if err != nil {
				t.Fatal(err)
			}
			b.user.UpdateBatch(recordedID, func(b *cohertest.Batch) { b.Raw = batchWith(t, "status_reason", string(text)) })
			batch := wantRecorded()
			batch.StatusReason = want
			checkBatch(t, reason, b, batch)
		}
	})
}

func TestKeyInBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBatches(t, (*cohertest.API).StartInMemory)
		b.user.UpdateBatch(recordedID, func(b *cohertest.Batch) {
			b.Raw = strings.NewReplacer(`"nightly-batch`, `"`+key, `"command`, `"`+key).Replace(recordedEntry)
		})
		batch := wantRecorded()
		batch.Name, batch.Model = "<secret>", "<secret>-a-03-2025"
		batch.InputDatasetID, batch.OutputDatasetID = "<secret>-jsonl-j6v59e", "<secret>-output-b6bsnn"
		checkBatch(t, "key", b, batch)

		b.user.UpdateBatch(recordedID, func(b *cohertest.Batch) { b.Raw = `{"id":"` + key + `","status":"x"}` })
		if page, _, err := b.page(t.Context(), ""); err != nil || len(page) != 1 || page[0].ID != "<secret>" {
			t.Errorf("got %+v, error %v", page, err)
		}
	})
}

func TestBatchAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBatches(t, (*cohertest.API).StartInMemory)
		const noID = `id is ""`
		for _, tt := range []struct{ body, err string }{
			{recordedJSON, ""},
			{" \n" + `{"new":[{}],"batch":` + recordedEntry + `,"id":"x"}` + "\n", ""},
			{recordedEntry, "no batch"}, // without the envelope
			{`{}`, "no batch"},
			{`{"batch":null}`, "no batch"},
			{`null`, "no batch"},
			{`[` + recordedJSON + `]`, "no batch"},
			{`"batch"`, "no batch"},
			{`{"batches":[` + recordedEntry + `]}`, "no batch"},
			{`{"batch":{}}`, noID},
			{`{"batch":7}`, noID},
			{`{"batch":[` + recordedEntry + `]}`, noID},
			{`{"batch":{"id":7,"status":"BATCH_STATUS_FAILED"}}`, noID},
			{`{"batch":{"id":"other","status":"BATCH_STATUS_FAILED"}}`, `id is "other"`},
			{`{"batch":{"id":"` + key + `"}}`, `id is "<secret>"`},
			{`{"batch":{"id":"` + recordedID + `"}}`, "no status"},
			{`{"batch":{"id":"` + recordedID + `","status":null}}`, "no status"},
			{`{"batch":{"id":"` + recordedID + `","status":""}}`, "no status"},
			{`{"batch":{"id":"` + recordedID + `","status":"BATCH_STATUS_"}}`, "no status"},
			{`{"batch":{"id":"` + recordedID + `","status":3}}`, "no status"},
			{``, "unexpected end of JSON input"},
			{recordedJSON[:300], "unexpected end of JSON input"},
			{`<html>`, "invalid character '<' looking for beginning of value"},
		} {
			b.user.Fail(recordedID, cohertest.Body(tt.body))
			batch, err := b.Batch(t.Context(), recordedID)
			if tt.err == "" {
				if want := wantRecorded(); err != nil || !reflect.DeepEqual(batch, &want) {
					t.Errorf("%s: got %+v, error %v", tt.body, batch, err)
				}
				continue
			}
			if err == nil || err.Error() != "invalid response: "+tt.err || batch != nil {
				t.Errorf("%s: got %+v, error %v, want %s", tt.body, batch, err, tt.err)
			}
			if client.ReasonOf(err) != client.InvalidResponse || client.StatusCode(err) != 200 {
				t.Errorf("%s: reason %s, status %d", tt.body, client.ReasonOf(err), client.StatusCode(err))
			}
		}
	})
}

func TestBatchPageAnswers(t *testing.T) {
	const a, b, c = `{"id":"a","status":"BATCH_STATUS_QUEUED"}`, `{"id":"b","status":"BATCH_STATUS_FAILED"}`, `{"id":"c","status":"new"}`
	for _, tt := range []struct{ body, ids, next, err string }{
		{`{"batches":[` + a + `,` + b + `,` + c + `],"next_page_token":"t+/="}`, "a b c", "t+/=", ""},
		{`{"next_page_token":"t","batches":[` + a + `]}`, "a", "t", ""},
		{`{"batches":[` + a + `],"next_page_token":""}`, "a", "", ""},
		{`{"batches":[` + a + `],"next_page_token":null}`, "a", "", ""},
		{`{"batches":[` + a + `]}`, "a", "", ""},
		{`{"batches":[],"next_page_token":"t"}`, "", "t", ""},
		{`{"batches":null}`, "", "", ""},
		{`{"x":{"batches":[` + c + `]},"batches":[` + a + `],"next_page_token":"","y":["]}"]}`, "a", "", ""},
		{`{"batches":[{"status":"BATCH_STATUS_QUEUED"},{"id":"x"},{"id":1,"status":"x"},null,7,[],"a",` + a + `]}`, "a", "", ""},

		{`{}`, "", "", "no batches"},
		{`{"batch":` + a + `}`, "", "", "no batches"},
		{`{"next_page_token":"t"}`, "", "", "no batches"},
		{`{"batches":{"a":1}}`, "", "", "batches is not an array"},
		{`{"batches":[` + a + `],"next_page_token":7}`, "a", "", "next_page_token is not a string"},
		{`{"batches":[` + a + `],"next_page_token":{"t":[]}}`, "a", "", "next_page_token is not a string"},
		{`{"batches":[` + a + `],"next_page_token":"t"`, "a", "", "unexpected EOF"},
		{`{"batches":[` + a + `],"next_page_token":"t`, "a", "", "unexpected EOF"},
		{`{"batches":[` + a + `,`, "a", "", "unexpected EOF"},
		{`[` + a + `]`, "", "", "[ where { should be"},
		{``, "", "", "unexpected EOF"},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, (*cohertest.API).StartInMemory)
			b.user.Fail(cohertest.ListBatches, cohertest.Body(tt.body))
			page, next, err := b.page(t.Context(), "")
			var ids []string
			for _, batch := range page {
				ids = append(ids, batch.ID)
			}
			if got := strings.Join(ids, " "); got != tt.ids || next != tt.next {
				t.Errorf("%s: got %s, next %q", tt.body, got, next)
			}
			if tt.err == "" && err == nil {
				return
			}
			if err == nil || err.Error() != "invalid response: "+tt.err || client.ReasonOf(err) != client.InvalidResponse || client.StatusCode(err) != 200 {
				t.Errorf("%s: got error %v, want %s", tt.body, err, tt.err)
			}
		})
	}
}

// The greatest pages that there are, and the token as it came.
func TestBatchPages(t *testing.T) {
	for name, server := range inMemory {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, server)
			b.api.Compress(true)
			var want, got []string
			for i := range 2500 {
				want = append(want, fmt.Sprint("batch-", i))
				b.user.AddBatches(cohertest.Batch{ID: want[i]})
			}
			token := ""
			for range 3 {
				page, next, err := b.page(t.Context(), token)
				if err != nil || (next == "") != (len(got)+len(page) == 2500) {
					t.Fatalf("%s: after %d: got %d batches, next %q, error %v", name, len(got), len(page), next, err)
				}
				for _, batch := range page {
					got = append(got, batch.ID)
				}
				token = next
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: got %d batches", name, len(got))
			}
			requests := b.api.Requests()
			if len(requests) != 3 || requests[0].Query != "page_size=1000" {
				t.Errorf("%s: got %+v", name, requests)
			}
			for _, r := range requests {
				if r.Path != "/v2/batches" || r.Key != key || r.Status != 200 {
					t.Errorf("%s: got %+v", name, r)
				}
			}
		})
	}
}

// Every way to fail is what it is with embed jobs.
func TestBatchFaults(t *testing.T) {
	for _, tt := range []struct {
		name      string
		fault     cohertest.Fault
		job, page client.Reason
	}{
		{"404", cohertest.Status(404, "no"), "not_found", "not_found"},
		{"429", cohertest.Status(429, "slow down"), "rate_limited", "rate_limited"},
		{"502", func(w http.ResponseWriter, _ *http.Request, _ *cohertest.Call) { w.WriteHeader(http.StatusBadGateway) }, "server_error", "server_error"},
		{"KeyEcho", cohertest.KeyEcho(403), "forbidden", "forbidden"},
		{"RedirectTo", cohertest.RedirectTo("http://elsewhere.test"), "http_error", "http_error"},
		{"NotJSON", cohertest.NotJSON, "invalid_response", "invalid_response"},
		{"Array", cohertest.Array, "invalid_response", "invalid_response"},
		{"CutShort", cohertest.CutShort, "invalid_response", "invalid_response"},
		{"OtherJob", cohertest.OtherJob, "invalid_response", ""},
		{"NoStatus", cohertest.NoStatus, "invalid_response", ""},
		{"Encoded", cohertest.Encoded("br"), "invalid_response", "invalid_response"},
		{"Hang", cohertest.Hang, "timeout", "timeout"},
		{"Drip", cohertest.Drip, "timeout", "timeout"},
		{"Reset", cohertest.Reset, "network", "network"},
		{"Slow", cohertest.Slow(time.Second), "", ""},
		{"Gzip", cohertest.Gzip(nil), "", ""},
	} {
		for name, server := range inMemory {
			synctest.Test(t, func(t *testing.T) {
				b := startBatches(t, server)
				b.user.Fail(cohertest.AllBatches, tt.fault)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				batch, err := b.Batch(ctx, recordedID)
				if got := client.ReasonOf(err); got != tt.job || err != nil && batch != nil {
					t.Errorf("%s: %s: got %+v, error %v", name, tt.name, batch, err)
				}
				ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				_, next, pageErr := b.page(ctx, "")
				if got := client.ReasonOf(pageErr); got != tt.page || next != "" {
					t.Errorf("%s: %s: list: got next %q, error %v", name, tt.name, next, pageErr)
				}
				for _, err := range []error{err, pageErr} {
					if err != nil {
						checkText(t, err)
					}
				}
				if _, err := b.EmbedJob(t.Context(), example); err != nil {
					t.Errorf("%s: %s: an embed job: %v", name, tt.name, err)
				}
			})
		}
	}
}

// Limits hold as they do for embed jobs, and IDs that cannot be asked for are
// not.
func TestBatchLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBatches(t, (*cohertest.API).StartInMemory)
		b.user.Fail(cohertest.AllBatches, cohertest.Gzip(cohertest.Endless))
		if _, err := b.Batch(t.Context(), recordedID); err == nil || err.Error() != "invalid response: too large" {
			t.Errorf("got %v", err)
		}
		b.user.Fail(cohertest.ListBatches, cohertest.Gzip(func(w http.ResponseWriter, _ *http.Request, _ *cohertest.Call) {
			_, _ = io.WriteString(w, `{"batches":[{"id":"a","status":"b","name":"`+strings.Repeat("n", 2<<20)+`"}]}`)
		}))
		if _, _, err := b.page(t.Context(), ""); err == nil || err.Error() != "invalid response: too large" {
			t.Errorf("list: got %v", err)
		}
		b.api.ResetRequests()
		if _, err := b.Batch(t.Context(), ".."); err == nil || err.Error() != `".." is not a job ID` {
			t.Errorf("got %v", err)
		}
		if got := b.api.Requests(); len(got) != 0 {
			t.Errorf("sent: %+v", got)
		}
		b.user.AddBatches(cohertest.Batch{ID: "a/ü"})
		if batch, err := b.Batch(t.Context(), "a/ü"); client.ReasonOf(err) != client.InvalidResponse {
			t.Errorf("got %+v, error %v", batch, err)
		}
		b.user.Fail(cohertest.AllBatches, nil)
		if batch, err := b.Batch(t.Context(), "a/ü"); err != nil || batch.ID != "a/ü" {
			t.Errorf("got %+v, error %v", batch, err)
		}
		no := client.Error{StatusCode: 404, Message: "batch not found: unknown"}
		if _, err := b.Batch(t.Context(), "unknown"); !errors.Is(err, no) {
			t.Errorf("got %v", err)
		}
	})
}

func TestEqualBatches(t *testing.T) {
	checkEqual(t, wantRecorded(), (*client.Batch).Equal)
	batch, other := wantRecorded(), wantRecorded()
	for _, at := range []*client.Optional[time.Time]{&other.CreatedAt, &other.UpdatedAt} {
		at.Value = at.Value.In(time.FixedZone("", 2*60*60))
	}
	if !batch.Equal(&other) {
		t.Error("the same instant elsewhere differs")
	}
}

func batchSeeds() []string {
	return append(seeds(),
		recordedJSON,
		`{"batch":{"id":"`+recordedID+`","status":"BATCH_STATUS_CANCELLED","input_tokens":30,"num_records":"2","created_at":""}}`,
		`{"batch":{"id":"`+recordedID+`","status":"q","output_tokens":"1e999","num_failed_records":"-0","status_reason":"a\nb\u0000"}}`,
		`{"batch":{"id":"`+recordedID+`","status":"BATCH_STATUS_"}}`,
		`{"batch":null}`, `{"batch":[]}`, `{"batch":{}}`,
	)
}

// FuzzBatch holds the decoding of a batch against one into maps, which knows
// nothing of the types.
func FuzzBatch(f *testing.F) {
	for _, seed := range batchSeeds() {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		batch, err := answering(body).Batch(t.Context(), recordedID)
		if err != nil {
			if client.ReasonOf(err) != client.InvalidResponse || client.StatusCode(err) != 200 || batch != nil {
				t.Errorf("got %+v, error %v", batch, err)
			}
			checkText(t, err)
		}
		var answer struct {
			Batch any `json:"batch"`
		}
		dec := json.NewDecoder(strings.NewReader(body))
		dec.UseNumber()
		if !json.Valid([]byte(body)) || dec.Decode(&answer) != nil {
			if err == nil {
				t.Errorf("not an object: got %+v", batch)
			}
			return
		}
		if ambiguous(json.NewDecoder(strings.NewReader(body))) {
			return
		}
		fields, _ := answer.Batch.(map[string]any)
		status, _ := fields["status"].(string)
		isBatch := fields["id"] == recordedID && strings.TrimPrefix(strings.ToLower(status), "batch_status_") != ""
		if isBatch != (err == nil) {
			t.Fatalf("got error %v", err)
		}
		if err == nil {
			checkBatchFields(t, batch, fields)
		}
	})
}

func checkBatchFields(t *testing.T, batch *client.Batch, fields map[string]any) {
	t.Helper()
	for name, got := range map[string]string{
		"id": batch.ID, "name": batch.Name, "input_dataset_id": batch.InputDatasetID,
		"output_dataset_id": batch.OutputDatasetID, "model": batch.Model,
	} {
		if want, _ := fields[name].(string); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if reason := batch.StatusReason; strings.TrimSpace(reason) != reason || strings.ContainsAny(reason, "\n\r\x00") || len([]rune(reason)) > 200 {
		t.Errorf("status_reason: got %q", reason)
	}
	for name, got := range map[string]client.Optional[time.Time]{"created_at": batch.CreatedAt, "updated_at": batch.UpdatedAt} {
		text, _ := fields[name].(string)
		at, err := time.Parse(time.RFC3339, text)
		// The parser takes a few forms that RFC 3339 does not have; JSON does not.
		if got.Valid && (err != nil || !got.Value.Equal(at) || at.Unix() < 0) || !got.Valid && !got.Value.IsZero() {
			t.Errorf("%s: got %+v for %q", name, got, text)
		}
	}
	for name, got := range map[string]client.Count{
		"input_tokens": batch.InputTokens, "output_tokens": batch.OutputTokens, "num_records": batch.Records,
		"num_successful_records": batch.SuccessfulRecords, "num_failed_records": batch.FailedRecords,
	} {
		text := ""
		switch v := fields[name].(type) {
		case string:
			text = v
		case json.Number:
			text = string(v)
		}
		want, err := strconv.ParseFloat(text, 64)
		if got.Valid && (err != nil || got.Value != want) || !got.Valid && got.Value != 0 {
			t.Errorf("%s: got %+v for %q", name, got, text)
		}
		if _, err := strconv.ParseInt(text, 10, 64); err == nil && !got.Valid {
			t.Errorf("%s: got nothing for %q", name, text)
		}
	}
}

// FuzzBatches holds a page against one that is decoded at once.
func FuzzBatches(f *testing.F) {
	f.Add(`{"batches":null,"next_page_token":null}`)
	f.Add(`{"x":[{}],"batches":[1,null,{"id":"a","status":"b"},{"id":"c"}],"next_page_token":"t"}`)
	f.Add(`{"batches":[{"id":"a","status":"b"},`)
	f.Add(`{"batches":[` + recordedEntry + `,{"id":"b","status":"bare"}],"next_page_token":""}`)
	f.Add(`{"batches":[],"next_page_token":7}`)
	for _, seed := range batchSeeds() {
		f.Add(seed)
		f.Add(`{"batches":[` + seed + `]}`)
	}
	f.Fuzz(func(t *testing.T, body string) {
		b := &bench{Client: answering(body)}
		got, next, err := b.page(t.Context(), "")
		if err != nil {
			if client.ReasonOf(err) != client.InvalidResponse || client.StatusCode(err) != 200 || next != "" {
				t.Errorf("got next %q, error %v", next, err)
			}
			checkText(t, err)
		}
		if !json.Valid([]byte(body)) || ambiguous(json.NewDecoder(strings.NewReader(body))) {
			return
		}
		var page struct {
			Batches json.RawMessage `json:"batches"`
			Next    any             `json:"next_page_token"`
		}
		var raw []json.RawMessage
		token, isText := "", true
		whole := json.Unmarshal([]byte(body), &page) == nil && page.Batches != nil && json.Unmarshal(page.Batches, &raw) == nil
		if page.Next != nil {
			token, isText = page.Next.(string)
		}
		if !whole || !isText {
			if err == nil {
				t.Errorf("not a page: got %+v", got)
			}
			return
		}
		var ids []string
		for _, entry := range raw {
			var batch struct {
				ID     string `json:"id"`
				Status string `json:"status"`
			}
			_ = json.Unmarshal(entry, &batch) // as far as it is one
			if batch.ID != "" && strings.TrimPrefix(strings.ToLower(batch.Status), "batch_status_") != "" {
				ids = append(ids, batch.ID)
			}
		}
		if err != nil || next != token || len(got) != len(ids) {
			t.Fatalf("got %+v, next %q, error %v\nwant %q, next %q", got, next, err, ids, token)
		}
		for i, batch := range got {
			if batch.ID != ids[i] {
				t.Errorf("got %q, want %q", batch.ID, ids[i])
			}
		}
	})
}

// BenchmarkBatches reads a page of 1,000, and a batch. The network is left out.
func BenchmarkBatches(b *testing.B) {
	b.Run("get", func(b *testing.B) {
		c := answering(recordedJSON)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Batch(b.Context(), recordedID); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("page", func(b *testing.B) {
		body := `{"batches":[` + strings.Repeat(recordedEntry+",", 999) + recordedEntry + `],"next_page_token":""}`
		c := answering(body)
		b.ReportAllocs()
		b.SetBytes(int64(len(body)))
		for b.Loop() {
			n := 0
			if _, err := c.Batches(b.Context(), "", func(*client.Batch) { n++ }); err != nil || n != 1000 {
				b.Fatalf("got %d batches, error %v", n, err)
			}
		}
	})
	b.Run("equal", func(b *testing.B) {
		one, other := wantRecorded(), wantRecorded()
		b.ReportAllocs()
		for b.Loop() {
			if !one.Equal(&other) {
				b.Fatal("differ")
			}
		}
	})
}
