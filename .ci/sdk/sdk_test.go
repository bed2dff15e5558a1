// Package sdk_test lets Cohere's own Go SDK read what the simulated API
// answers: an independent witness that its wire format, and the client's
// reading of it, are Cohere's.
package sdk_test

import (
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	cohere "github.com/cohere-ai/cohere-go/v2"
	sdk "github.com/cohere-ai/cohere-go/v2/client"

	"github.com/cohere-exporter/cohere_exporter/client"
	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
)

const (
	key  = "key-of-the-tests"
	name = "tests"
)

// jobs show every documented status, every field with a value of its own, and
// the fields that are left out.
func jobs() []cohertest.Job {
	created := time.Date(2024, 4, 10, 14, 22, 35, 0, time.UTC)
	jobs := []cohertest.Job{{
		ID:              "ebd-9f8a7c6d5b4e3a21",
		Status:          "complete",
		CreatedAt:       created,
		InputDatasetID:  "ds-1234abcd5678efgh",
		Model:           "embed-multilingual-v2.0",
		Name:            "Customer Reviews Embedding Job",
		OutputDatasetID: "ds-8765hgfedcba4321",
		APIVersion:      "1.0.0",
		InputTokens:     1520,
		OutputTokens:    1521,
	}, {
		ID:              "ebd-full",
		Status:          "processing",
		CreatedAt:       created.Add(250 * time.Millisecond).In(time.FixedZone("", 2*60*60)),
		Truncate:        "START",
		InputTokens:     1,
		OutputTokens:    2,
		Images:          3,
		ImageTokens:     4,
		SearchUnits:     5,
		Classifications: 6,
		Pages:           7,
		CachedTokens:    8,
		Warnings:        []string{"one", "t\twö"},
		Deprecated:      true,
		Experimental:    true,
	}}
	for _, status := range []string{"cancelling", "cancelled", "failed"} {
		jobs = append(jobs, cohertest.Job{ID: "ebd-" + status, Status: status, CreatedAt: created, InputTokens: 0.5})
	}
	return jobs
}

func TestSDK(t *testing.T) {
	api := cohertest.New()
	user := api.AddUser(key)
	server := api.Start()
	defer server.Close()
	user.Add(jobs()...)

	clientName := name
	witness := sdk.NewClient(sdk.WithBaseURL(server.URL), sdk.WithHTTPClient(server.Client), sdk.WithToken(key),
		sdk.WithClientName(&clientName), sdk.WithMaxAttempts(1))
	base, err := client.ParseBaseURL(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	ours := client.New(base, client.Authorize("Bearer", client.StaticKey(key), server.Client.Transport), client.WithClientName(name))

	for _, job := range jobs() {
		theirs, err := witness.EmbedJobs.Get(t.Context(), job.ID)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ours.EmbedJob(t.Context(), job.ID)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, *got, theirs)
	}

	for _, withoutMeta := range []bool{false, true} {
		user.ListWithoutMeta(withoutMeta)
		theirs, err := witness.EmbedJobs.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got, want := len(theirs.EmbedJobs), len(jobs()); got != want {
			t.Fatalf("the SDK lists %d jobs, want %d", got, want)
		}
		n := 0
		err = ours.EmbedJobs(t.Context(), func(got *client.EmbedJob) {
			if (theirs.EmbedJobs[n].Meta == nil) != withoutMeta {
				t.Errorf("%s: meta is %v", got.ID, theirs.EmbedJobs[n].Meta)
			}
			compare(t, *got, theirs.EmbedJobs[n])
			n++
		})
		if n != len(jobs()) || err != nil {
			t.Errorf("listed %d jobs, want %d; error %v", n, len(jobs()), err)
		}
	}

	// Both have asked the same.
	asked := map[string]int{}
	for _, r := range api.Requests() {
		if r.Key != key || r.Status != http.StatusOK || r.Header.Get("X-Client-Name") != name {
			t.Errorf("asked %+v", r)
		}
		asked[r.Path]++
	}
	for path, n := range asked {
		if n%2 != 0 {
			t.Errorf("%s was asked for %d times", path, n)
		}
	}
}

// batches show every documented status, every field with a value of its own, and
// what is empty where it is.
func batches() []cohertest.Batch {
	created := time.Date(2026, 9, 9, 12, 4, 47, 260345000, time.UTC)
	batches := []cohertest.Batch{{
		ID:                "2f6c0f0a-5b1e-4c58-9a77-0d6a3f1c9e42",
		Status:            "BATCH_STATUS_COMPLETED",
		Name:              "nightly-batch",
		CreatedAt:         created,
		UpdatedAt:         created.Add(5 * time.Second),
		InputDatasetID:    "nightly-batch-jsonl-j6v59e",
		OutputDatasetID:   "nightly-batch-output-b6bsnn",
		InputTokens:       10,
		OutputTokens:      30,
		Model:             "command-a-03-2025",
		Records:           6,
		SuccessfulRecords: 3,
		FailedRecords:     2,
		StatusReason:      "one is missing",
	}}
	for i, status := range []string{"UNSPECIFIED", "QUEUED", "IN_PROGRESS", "CANCELING", "FAILED", "CANCELED"} {
		batches = append(batches, cohertest.Batch{
			ID: "batch-" + status, Status: "BATCH_STATUS_" + status, CreatedAt: created, InputTokens: int64(i) << 40,
		})
	}
	return batches
}

func TestBatches(t *testing.T) {
	api := cohertest.New()
	user := api.AddUser(key)
	server := api.Start()
	defer server.Close()
	user.AddBatches(batches()...)
	user.PageBatches(3)

	witness := sdk.NewClient(sdk.WithBaseURL(server.URL), sdk.WithHTTPClient(server.Client), sdk.WithToken(key),
		sdk.WithMaxAttempts(1))
	base, err := client.ParseBaseURL(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	ours := client.New(base, client.Authorize("Bearer", client.StaticKey(key), server.Client.Transport))

	for _, batch := range batches() {
		theirs, err := witness.Batches.Retrieve(t.Context(), batch.ID)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ours.Batch(t.Context(), batch.ID)
		if err != nil {
			t.Fatal(err)
		}
		compareBatches(t, *got, theirs.Batch)
	}

	api.ResetRequests()
	size, token, n := 1000, "", 0
	for range 3 {
		request := &cohere.BatchesListBatchesRequest{PageSize: &size}
		if token != "" {
			request.PageToken = &token
		}
		theirs, err := witness.Batches.List(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		i := 0
		next, err := ours.Batches(t.Context(), token, func(got *client.Batch) {
			compareBatches(t, *got, theirs.Batches[i])
			i++
		})
		if err != nil || next != text(theirs.NextPageToken) || i != len(theirs.Batches) {
			t.Fatalf("after %q: listed %d batches, next %q, error %v; the SDK %d, %q", token, i, next, err, len(theirs.Batches), text(theirs.NextPageToken))
		}
		token, n = next, n+i
	}
	if token != "" || n != len(batches()) {
		t.Errorf("listed %d batches, want %d; next %q", n, len(batches()), token)
	}

	// Both have asked the same.
	requests := api.Requests()
	for i := 0; i+1 < len(requests); i += 2 {
		theirs, ours := requests[i], requests[i+1]
		if theirs.Path != ours.Path || !reflect.DeepEqual(query(t, theirs), query(t, ours)) {
			t.Errorf("asked for %s?%s, the SDK for %s?%s", ours.Path, ours.Query, theirs.Path, theirs.Query)
		}
	}
}

// compareBatches holds our batch against the SDK's.
func compareBatches(t *testing.T, ours client.Batch, theirs *cohere.Batch) {
	t.Helper()
	status := string(*theirs.GetStatus())
	want := client.Batch{
		ID:                text(theirs.Id),
		Status:            client.BatchStatus(strings.ToLower(strings.TrimPrefix(status, "BATCH_STATUS_"))),
		Name:              theirs.Name,
		CreatedAt:         optional(theirs.CreatedAt),
		UpdatedAt:         optional(theirs.UpdatedAt),
		InputDatasetID:    theirs.InputDatasetId,
		OutputDatasetID:   text(theirs.OutputDatasetId),
		InputTokens:       tokens(t, theirs.InputTokens),
		OutputTokens:      tokens(t, theirs.OutputTokens),
		Model:             theirs.Model,
		Records:           records(theirs.NumRecords),
		SuccessfulRecords: records(theirs.NumSuccessfulRecords),
		FailedRecords:     records(theirs.NumFailedRecords),
		StatusReason:      text(theirs.StatusReason),
	}
	if !ours.Equal(&want) {
		t.Errorf("got           %+v\nthe SDK reads %+v", ours, want)
	}
	if got := theirs.GetExtraProperties(); len(got) != 0 {
		t.Errorf("%s: the SDK does not know %v", ours.ID, got)
	}
	if _, err := cohere.NewBatchStatusFromString(status); err != nil {
		t.Error(err)
	}
}

func query(t *testing.T, r cohertest.Request) url.Values {
	t.Helper()
	q, err := url.ParseQuery(r.Query)
	if err != nil {
		t.Error(err)
	}
	return q
}

func tokens(t *testing.T, s *string) client.Count {
	t.Helper()
	if s == nil {
		return client.Count{}
	}
	n, err := strconv.ParseInt(*s, 10, 64)
	if err != nil {
		t.Error(err)
	}
	return client.Count{Optional: client.Optional[float64]{Value: float64(n), Valid: true}}
}

func records(n *int) client.Count {
	if n == nil {
		return client.Count{}
	}
	return client.Count{Optional: client.Optional[float64]{Value: float64(*n), Valid: true}}
}

// The errors of the API are the SDK's own types.
func TestErrors(t *testing.T) {
	api := cohertest.New()
	user := api.AddUser(key)
	server := api.Start()
	defer server.Close()
	witness := sdk.NewClient(sdk.WithBaseURL(server.URL), sdk.WithHTTPClient(server.Client), sdk.WithToken(key),
		sdk.WithMaxAttempts(1))

	for code, want := range map[int]error{
		400: new(cohere.BadRequestError),
		401: new(cohere.UnauthorizedError),
		403: new(cohere.ForbiddenError),
		404: new(cohere.NotFoundError),
		422: new(cohere.UnprocessableEntityError),
		429: new(cohere.TooManyRequestsError),
		498: new(cohere.InvalidTokenError),
		499: new(cohere.ClientClosedRequestError),
		500: new(cohere.InternalServerError),
		501: new(cohere.NotImplementedError),
		503: new(cohere.ServiceUnavailableError),
		504: new(cohere.GatewayTimeoutError),
	} {
		user.Fail(cohertest.All, cohertest.Status(code, "no"))
		user.Fail(cohertest.AllBatches, cohertest.Status(code, "no"))
		_, err := witness.EmbedJobs.Get(t.Context(), "ebd-1")
		if reflect.TypeOf(err) != reflect.TypeOf(want) {
			t.Errorf("%d: the SDK got %T, want %T", code, err, want)
		}
		_, err = witness.EmbedJobs.List(t.Context())
		if reflect.TypeOf(err) != reflect.TypeOf(want) {
			t.Errorf("%d: the SDK got %T for the list, want %T", code, err, want)
		}
		_, err = witness.Batches.Retrieve(t.Context(), "2f6c0f0a")
		if reflect.TypeOf(err) != reflect.TypeOf(want) {
			t.Errorf("%d: the SDK got %T for a batch, want %T", code, err, want)
		}
	}
}

// compare holds our job against the SDK's. What its types do not have yet, it
// keeps as extra properties.
func compare(t *testing.T, ours client.EmbedJob, theirs *cohere.EmbedJob) {
	t.Helper()
	meta, billed, tokens := theirs.GetMeta(), theirs.GetMeta().GetBilledUnits(), theirs.GetMeta().GetTokens()
	version := theirs.GetMeta().GetApiVersion()
	want := client.EmbedJob{
		ID:              theirs.JobId,
		Status:          client.Status(theirs.Status),
		CreatedAt:       client.Optional[time.Time]{Value: theirs.CreatedAt, Valid: true},
		InputDatasetID:  theirs.InputDatasetId,
		Model:           theirs.Model,
		Truncate:        string(theirs.Truncate),
		Name:            text(theirs.Name),
		OutputDatasetID: text(theirs.OutputDatasetId),
		Meta: client.Meta{
			APIVersion: client.APIVersion{
				Version:      version.GetVersion(),
				Deprecated:   optional(version.GetIsDeprecated()),
				Experimental: optional(version.GetIsExperimental()),
			},
			BilledUnits: client.BilledUnits{
				Images:          optional(billed.GetImages()),
				InputTokens:     optional(billed.GetInputTokens()),
				ImageTokens:     extra(billed.GetExtraProperties, "image_tokens", billed != nil),
				OutputTokens:    optional(billed.GetOutputTokens()),
				SearchUnits:     optional(billed.GetSearchUnits()),
				Classifications: optional(billed.GetClassifications()),
				Pages:           extra(billed.GetExtraProperties, "pages", billed != nil),
			},
			Tokens: client.Tokens{
				InputTokens:  optional(tokens.GetInputTokens()),
				OutputTokens: optional(tokens.GetOutputTokens()),
			},
			CachedTokens: optional(meta.GetCachedTokens()),
			Warnings:     meta.GetWarnings(),
		},
	}
	if !ours.CreatedAt.Value.Equal(want.CreatedAt.Value) {
		t.Errorf("%s: created at %v, the SDK says %v", ours.ID, ours.CreatedAt, want.CreatedAt)
	}
	ours.CreatedAt.Value, want.CreatedAt.Value = time.Time{}, time.Time{} // but for the location
	if !reflect.DeepEqual(ours, want) {
		t.Errorf("got           %+v\nthe SDK reads %+v", ours, want)
	}
	if got := theirs.GetExtraProperties(); len(got) != 0 {
		t.Errorf("%s: the SDK does not know %v", ours.ID, got)
	}
	if _, err := cohere.NewEmbedJobStatusFromString(string(theirs.Status)); err != nil {
		t.Error(err)
	}
	if _, err := cohere.NewEmbedJobTruncateFromString(string(theirs.Truncate)); err != nil {
		t.Error(err)
	}
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func optional[T any](v *T) client.Optional[T] {
	if v == nil {
		return client.Optional[T]{}
	}
	return client.Optional[T]{Value: *v, Valid: true}
}

func extra(properties func() map[string]any, name string, ok bool) client.Optional[float64] {
	if !ok {
		return client.Optional[float64]{}
	}
	v, ok := properties()[name].(float64)
	return client.Optional[float64]{Value: v, Valid: ok}
}
