// Package sdk_test lets Cohere's own Go SDK read what the simulated API
// answers: an independent witness that its wire format, and the client's
// reading of it, are Cohere's.
package sdk_test

import (
	"net/http"
	"reflect"
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
	ours := client.New(base, &http.Client{
		Transport: client.Authorize("Bearer", client.StaticKey(key), server.Client.Transport),
	}, client.WithClientName(name))

	for _, job := range jobs() {
		theirs, err := witness.EmbedJobs.Get(t.Context(), job.ID)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ours.EmbedJob(t.Context(), job.ID)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, got, theirs)
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
		_, err := witness.EmbedJobs.Get(t.Context(), "ebd-1")
		if reflect.TypeOf(err) != reflect.TypeOf(want) {
			t.Errorf("%d: the SDK got %T, want %T", code, err, want)
		}
		_, err = witness.EmbedJobs.List(t.Context())
		if reflect.TypeOf(err) != reflect.TypeOf(want) {
			t.Errorf("%d: the SDK got %T for the list, want %T", code, err, want)
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
