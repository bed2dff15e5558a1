package collector_test

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
)

// recorded is a batch in the shape of public recordings, with some fields
// replaced: pairs of a name and JSON, or "" to leave the field out.
func recorded(id, status string, replaced ...string) cohertest.Batch {
	fields := []string{
		"id", `"` + id + `"`, "name", `"nightly-` + id + `"`, "creator_id", `"7d0c2f6e"`, "org_id", `"c4a9be10"`,
		"status", `"` + status + `"`,
		"created_at", `"2026-09-09T12:04:47.260345Z"`, "updated_at", `"2026-09-09T12:04:52.381823Z"`,
		"input_dataset_id", `"` + id + `-in"`, "output_dataset_id", `""`,
		"input_tokens", `"0"`, "output_tokens", `"0"`, "model", `"command-a-03-2025"`,
		"num_records", `0`, "num_successful_records", `0`, "num_failed_records", `0`, "status_reason", `""`,
	}
	var text []string
	for i := 0; i < len(fields); i += 2 {
		for j := 0; j < len(replaced); j += 2 {
			if replaced[j] == fields[i] {
				fields[i+1] = replaced[j+1]
			}
		}
		if fields[i+1] != "" {
			text = append(text, `"`+fields[i]+`":`+fields[i+1])
		}
	}
	return cohertest.Batch{ID: id, Raw: "{" + strings.Join(text, ",") + "}"}
}

// recordings are batches in every status, and with all that the API may write
// in place of a value.
func recordings() []cohertest.Batch {
	return []cohertest.Batch{
		recorded("canceled", "BATCH_STATUS_CANCELED"),
		recorded("cancelled", "BATCH_STATUS_CANCELLED"),
		recorded("canceling", "BATCH_STATUS_CANCELING", "updated_at", `""`, "model", `""`),
		recorded("completed", "BATCH_STATUS_COMPLETED", "input_tokens", `"10"`, "output_tokens", `"30"`,
			"output_dataset_id", `"out"`, "num_records", "2", "num_successful_records", "2"),
		recorded("failed", "BATCH_STATUS_FAILED", "status_reason", `"input dataset\n is \"invalid\": line 7"`,
			"input_tokens", `""`, "output_tokens", "null", "num_failed_records", `"12"`),
		recorded("future", "BATCH_STATUS_HIBERNATING", "input_tokens", "10", "output_tokens", "30.0"),
		recorded("incomplete", "BATCH_STATUS_COMPLETED", "input_tokens", `"9223372036854775807"`, "output_tokens", `"1"`,
			"num_records", "30000", "num_successful_records", "29248", "status_reason", "null"),
		recorded("progress", "BATCH_STATUS_IN_PROGRESS", "created_at", `"2026-09-09T14:04:47+02:00"`,
			"num_records", "100", "num_successful_records", "40", "num_failed_records", "1"),
		recorded("queued", "BATCH_STATUS_QUEUED", "name", "null", "created_at", `""`, "updated_at", "null", "input_dataset_id", `""`,
			"output_dataset_id", "", "input_tokens", "", "output_tokens", "", "num_records", "",
			"num_successful_records", "null", "num_failed_records", `""`, "status_reason", ""),
		recorded("unspecified", "BATCH_STATUS_UNSPECIFIED", "input_tokens", `"many"`, "output_tokens", "[1]",
			"num_records", "true", "status_reason", `{"text":"no"}`),
	}
}

// What is exposed of batches, whole: got by ID and from the list it is the same.
func TestBatchExposition(t *testing.T) {
	for _, fetch := range []string{config.FetchGet, config.FetchList} {
		t.Run(fetch, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newHarness(t, 0, func(c *config.Account) {
					c.Batches, c.EmbedJobs = c.EmbedJobs, nil
					c.Batches.Fetch, c.Batches.IDs = fetch, []string{"lost"}
					for _, batch := range recordings() {
						c.Batches.IDs = append(c.Batches.IDs, batch.ID)
					}
				})
				b.user.AddBatches(recordings()...)
				want, err := os.ReadFile("testdata/batches.prom")
				if err != nil {
					t.Fatal(err)
				}
				var names []string // of all that both ways to fetch have in common
				for line := range strings.Lines(string(want)) {
					if after, ok := strings.CutPrefix(line, "# HELP "); ok {
						name, _, _ := strings.Cut(after, " ")
						names = append(names, name)
					}
				}
				if fetch == config.FetchGet {
					names = nil
				}
				if err := testutil.CollectAndCompare(b.set.Collector(t.Context()), bytes.NewReader(want), names...); err != nil {
					t.Error(err)
				}
				hint := `hint="a job is visible only to the user who started it"`
				if logged := b.logs.String(); strings.Count(logged, hint) != 1 {
					t.Errorf("logs:\n%s", logged)
				}
			})
		})
	}
}
