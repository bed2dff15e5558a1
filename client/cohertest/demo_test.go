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
		ids := cohertest.Demo(api, key, begin)
		server := api.StartInMemory()
		defer server.Close()

		// at returns the jobs by name, that long after the start.
		at := func(after time.Duration) map[string]demoJob {
			t.Helper()
			time.Sleep(after - time.Since(begin))
			jobs := make(map[string]demoJob)
			for _, id := range ids {
				var j demoJob
				if err := json.Unmarshal([]byte(mustGet(t, server, key, job(id)).body), &j); err != nil {
					t.Fatal(err)
				}
				if j.ID != id || j.Name == "" {
					t.Errorf("job %s: got ID %s, name %q", id, j.ID, j.Name)
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
