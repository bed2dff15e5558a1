package cohertest_test

import (
	"encoding/json"
	"math"
	"regexp"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
)

type demoJob struct {
	ID       string  `json:"job_id"`
	Name     string  `json:"name"`
	Status   string  `json:"status"`
	OutputID *string `json:"output_dataset_id"`
	Meta     struct {
		APIVersion struct {
			Deprecated bool `json:"is_deprecated"`
		} `json:"api_version"`
		BilledUnits map[string]float64 `json:"billed_units"`
		Warnings    []string           `json:"warnings"`
	} `json:"meta"`
}

func TestDemo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := cohertest.New()
		begin := time.Now()
		ids := cohertest.Demo(api, key, begin).IDs[cohertest.EmbedJobs]
		server := api.StartInMemory()
		defer server.Close()

		// at returns the jobs by name, that long after the start.
		at := func(after time.Duration) map[string]demoJob {
			t.Helper()
			time.Sleep(after - time.Since(begin))
			jobs := make(map[string]demoJob)
			var answer struct {
				Jobs []demoJob `json:"embed_jobs"`
			}
			if err := json.Unmarshal([]byte(mustGet(t, server, key, list).body), &answer); err != nil || len(answer.Jobs) != len(ids) {
				t.Fatalf("got %d jobs, error %v", len(answer.Jobs), err)
			}
			for i, j := range answer.Jobs {
				if j.ID != ids[i] || j.Name == "" {
					t.Errorf("job %s: got ID %s, name %q", ids[i], j.ID, j.Name)
				}
				for unit, n := range j.Meta.BilledUnits {
					if n != math.Trunc(n) {
						t.Errorf("job %s has %v %s", j.Name, n, unit)
					}
				}
				jobs[j.Name] = j
			}
			return jobs
		}

		first := at(0)
		if len(first) < 9 {
			t.Errorf("got %d jobs", len(first))
		}
		statuses, warned := make(map[string]bool), false
		for _, j := range first {
			statuses[j.Status] = true
			warned = warned || j.Meta.APIVersion.Deprecated && len(j.Meta.Warnings) > 0
		}
		for _, status := range []string{"processing", "complete", "cancelling", "cancelled", "failed", "paused"} {
			if !statuses[status] {
				t.Errorf("no job is %s", status)
			}
		}
		if !warned {
			t.Error("no job has warnings and a deprecated API version")
		}
		for _, id := range ids {
			if !regexp.MustCompile(`^ebd-[0-9a-f]{16}$`).MatchString(id) {
				t.Errorf("ID %s", id)
			}
		}

		for _, tt := range []struct {
			name, before, after string
			at                  time.Duration
		}{
			{"contracts-archive", "processing", "failed", 45 * time.Second},
			{"knowledge-base-nightly", "processing", "complete", 75 * time.Second},
			{"wiki-crawl", "cancelling", "cancelled", 100 * time.Second},
		} {
			before := at(tt.at - time.Millisecond)[tt.name]
			after := at(tt.at)[tt.name]
			if before.Status != tt.before || after.Status != tt.after {
				t.Errorf("%s: got %s, then %s", tt.name, before.Status, after.Status)
			}
			if before.OutputID != nil || (after.OutputID != nil) != (tt.after == "complete") {
				t.Errorf("%s: got output datasets %v, then %v", tt.name, before.OutputID, after.OutputID)
			}
		}

		previous, last := at(2*time.Minute), at(3*time.Minute)
		growing := 0
		for name, j := range last {
			delta := j.Meta.BilledUnits["input_tokens"] - previous[name].Meta.BilledUnits["input_tokens"]
			if (delta > 0) != (j.Status == "processing") {
				t.Errorf("%s, %s: %v tokens in the third minute", name, j.Status, delta)
			}
			if delta > 0 {
				growing++
			}
		}
		if growing < 2 {
			t.Errorf("the tokens of %d jobs grow", growing)
		}
	})
}

// What the batches of the demonstration are, and become.
func TestDemoBatches(t *testing.T) {
	type demoBatch struct {
		ID, Name, Status string
		UpdatedAt        time.Time `json:"updated_at"`
		CreatedAt        time.Time `json:"created_at"`
		StatusReason     string    `json:"status_reason"`
		Records          int       `json:"num_records"`
		Successful       int       `json:"num_successful_records"`
		Failed           int       `json:"num_failed_records"`
		OutputDataset    string    `json:"output_dataset_id"`
		InputTokens      int64     `json:"input_tokens,string"`
	}
	synctest.Test(t, func(t *testing.T) {
		api := cohertest.New()
		begin := time.Now()
		ids := cohertest.Demo(api, key, begin).IDs[cohertest.Batches]
		server := api.StartInMemory()
		defer server.Close()

		// at returns the batches by name, that long after the start.
		at := func(after time.Duration) map[string]demoBatch {
			t.Helper()
			time.Sleep(after - time.Since(begin))
			found := make(map[string]demoBatch)
			for _, id := range ids {
				var answer struct{ Batch demoBatch }
				if err := json.Unmarshal([]byte(mustGet(t, server, key, batch(id)).body), &answer); err != nil {
					t.Fatal(err)
				}
				b := answer.Batch
				if b.ID != id || b.Name == "" || b.UpdatedAt.Before(b.CreatedAt) || b.UpdatedAt.After(time.Now()) ||
					b.Successful+b.Failed > b.Records {
					t.Errorf("got %+v", b)
				}
				found[b.Name] = b
			}
			return found
		}

		statuses := make(map[string]bool)
		for _, b := range at(0) {
			statuses[b.Status] = true
		}
		for _, status := range []string{"QUEUED", "IN_PROGRESS", "CANCELING", "COMPLETED", "FAILED", "CANCELED", "PAUSED"} {
			if !statuses["BATCH_STATUS_"+status] {
				t.Errorf("none is %s", status)
			}
		}
		for _, id := range ids {
			if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(id) {
				t.Errorf("ID %s", id)
			}
		}

		for _, tt := range []struct {
			at                  time.Duration
			name, before, after string
		}{
			{20 * time.Second, "ticket-summaries", "QUEUED", "IN_PROGRESS"},
			{time.Minute, "invoice-extraction", "IN_PROGRESS", "FAILED"},
			{90 * time.Second, "catalogue-embeddings", "IN_PROGRESS", "COMPLETED"},
			{2 * time.Minute, "forum-moderation", "CANCELING", "CANCELED"},
			{3 * time.Minute, "ticket-summaries", "IN_PROGRESS", "COMPLETED"},
		} {
			before := at(tt.at - time.Millisecond)[tt.name]
			after := at(tt.at)[tt.name]
			if before.Status != "BATCH_STATUS_"+tt.before || after.Status != "BATCH_STATUS_"+tt.after || !after.UpdatedAt.Equal(begin.Add(tt.at)) {
				t.Errorf("got %+v, then %+v", before, after)
			}
			if before.Records != 0 || before.InputTokens != 0 || before.StatusReason != "" {
				t.Errorf("before its end: got %+v", before)
			}
		}
		last := at(time.Hour)
		if b := last["catalogue-embeddings"]; b.Successful >= b.Records || b.Failed != 0 || b.OutputDataset != "" {
			t.Errorf("no records are missing: %+v", b)
		}
		if b := last["invoice-extraction"]; b.StatusReason == "" {
			t.Errorf("without a reason: %+v", b)
		}
		if b := last["archive-translation"]; b.Status != "BATCH_STATUS_QUEUED" || time.Since(b.CreatedAt) < 8*time.Hour {
			t.Errorf("not queued for long: %+v", b)
		}
	})
}

// What a demonstration keeps would look like a leak of the exporter around it.
func TestDemoKeepsNoRequests(t *testing.T) {
	api := cohertest.New()
	cohertest.Demo(api, key, time.Now())
	server := api.StartInMemory()
	defer server.Close()
	for range 50 {
		mustGet(t, server, key, batches)
	}
	if got := len(api.Requests()); got > 2 {
		t.Errorf("got %d requests", got)
	}
}

// The demonstration limits as Cohere does.
func TestDemoLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := cohertest.New()
		cohertest.Demo(api, key, time.Now())
		server := api.StartInMemory()
		defer server.Close()
		for path, limit := range map[string]int{list: 50, batches: 500} {
			for n := range limit + 1 {
				want := 200
				if n == limit {
					want = 429
				}
				if got := mustGet(t, server, key, path).StatusCode; got != want {
					t.Fatalf("%s: got %d for request %d", path, got, n+1)
				}
			}
		}
	})
}
