package deploy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// seriesPerJob returns how many series a job can have at most, whose label is
// this: one of each family, but of all statuses.
func seriesPerJob(t *testing.T, label string, statuses int) (series int) {
	t.Helper()
	for name, labels := range programMetrics(t) {
		switch {
		case !slices.Contains(labels, label):
		case strings.HasSuffix(name, "_status"):
			series += statuses
		default:
			series++
		}
	}
	return series
}

// batchEntry is a batch as recorded, with other IDs.
const batchEntry = `{
  "id": "2f6c0f0a-5b1e-4c58-9a77-0d6a3f1c9e42",
  "name": "nightly-batch",
  "creator_id": "7d0c2f6e-94a1-4b0e-8f43-5c1f1f0d2b66",
  "org_id": "c4a9be10-1f7d-4a0c-bb5e-2a3d9e8f7011",
  "status": "BATCH_STATUS_COMPLETED",
  "created_at": "2026-09-09T12:04:47.260345Z",
  "updated_at": "2026-09-09T12:04:52.381823Z",
  "input_dataset_id": "nightly-batch-jsonl-j6v59e",
  "output_dataset_id": "nightly-batch-output-b6bsnn",
  "input_tokens": "10",
  "output_tokens": "30",
  "model": "command-a-03-2025",
  "num_records": 2,
  "num_successful_records": 2,
  "num_failed_records": 0,
  "status_reason": ""
}`

// listEntry is the example of Cohere's page.
const listEntry = `{
  "job_id": "ebd-9f8a7c6d5b4e3a21",
  "status": "complete",
  "created_at": "2024-04-10T14:22:35Z",
  "input_dataset_id": "ds-1234abcd5678efgh",
  "model": "embed-multilingual-v2.0",
  "truncate": "END",
  "name": "Customer Reviews Embedding Job",
  "output_dataset_id": "ds-8765hgfedcba4321",
  "meta": {
    "api_version": {"version": "1.0.0", "is_deprecated": false, "is_experimental": false},
    "billed_units": {
      "images": 0, "input_tokens": 1520, "image_tokens": 0, "output_tokens": 1520, "search_units": 0, "classifications": 0
    },
    "tokens": {"input_tokens": 1520, "output_tokens": 1520},
    "cached_tokens": 0,
    "warnings": []
  }
}`

func TestScalingFigures(t *testing.T) {
	// What SCALING.md reckons with: Cohere's limits, the contract's numbers, and
	// the settings that are shipped.
	const (
		keyLimit      = 50 // requests a minute
		trialLimit    = 5
		trialMonth    = 1000 // requests a month
		budget        = 40
		concurrency   = 20
		maxJobs       = 500
		listLimit     = 64 << 20 // bytes
		page          = 1000     // batches
		timeout       = 10 * time.Second
		scrape        = time.Minute
		scrapeTimeout = 30 * time.Second
		offset        = 500 * time.Millisecond
		latency       = 200 * time.Millisecond
		maxAge        = 15 * time.Minute
		refresh       = 55 * time.Second

		scaleJobs     = 10_000
		scaleAccounts = 100
		jobsEach      = scaleJobs / scaleAccounts
	)

	document := strings.Join(strings.Fields(string(readFile(t, "SCALING.md"))), " ")
	states := func(format string, figures ...any) {
		t.Helper()
		if sentence := fmt.Sprintf(format, figures...); !strings.Contains(document, sentence) {
			t.Errorf("SCALING.md does not say: %s", sentence)
		}
	}

	// API requests.
	states("a budget of %d requests a minute", budget)
	states("a production key %d requests a minute", keyLimit)
	states("The budget of %d leaves %d a minute to those", budget, keyLimit-budget)
	states("of %d as well: an account that has both kinds may send %d requests a minute", budget, 2*budget)
	turn := func(jobs, budget float64) float64 { return jobs / budget } // minutes
	pages := func(batches int) int { return (batches + page - 1) / page }
	states("the %d active jobs of an account | %d | 1 | %d | | until each has had its turn | %v minutes | 1 minute | 1 minute |",
		jobsEach, jobsEach, pages(jobsEach), turn(jobsEach, budget))
	states("%s active jobs of one account | %s | 1 | %d | | until each has had its turn | %v minutes | 1 minute | 1 minute |",
		thousands(scaleJobs), thousands(scaleJobs), pages(scaleJobs), turn(scaleJobs, budget))
	states("values under %v minutes old | %v | no limit | %s |",
		maxAge.Minutes(), budget*maxAge.Minutes(), thousands(budget*page*int(maxAge.Minutes())))
	states("each asked once an hour | %s |", thousands(budget*60))
	states("%d accounts cost %d requests a minute together for embed jobs, and each key 1 of its %d", scaleAccounts, scaleAccounts, budget)
	states("the same up to %s that the key's user ever had, and one more for each further %s", thousands(page), thousands(page))
	states("2,500 are %d requests", pages(2500))
	states("at most %d a scrape: for %d jobs %d scrapes, for the %d that discovery watches by default %d",
		concurrency, jobsEach, jobsEach/concurrency, maxJobs, maxJobs/concurrency)
	states("A scrape then costs %d requests, still within the budget", 1+concurrency)
	if 1+concurrency > budget {
		t.Error("it is not")
	}

	bytesOf := func(entry string) float64 {
		var compact bytes.Buffer
		if err := json.Compact(&compact, []byte(entry)); err != nil {
			t.Fatal(err)
		}
		return math.Round(float64(compact.Len())/10) * 10
	}
	size := bytesOf(listEntry)
	states("An entry is about %v bytes, so %d jobs are %v kB and %s jobs %v MB", size, jobsEach, size*jobsEach/1e3,
		thousands(scaleJobs), size*scaleJobs/1e6)
	states("at the client's limit of %d MiB stand about %s jobs", listLimit>>20,
		thousands(int(math.Floor(listLimit/size/5000)*5000)))
	states("An entry of a batch is about %v bytes, and a page %.1f MB", bytesOf(batchEntry), bytesOf(batchEntry)*page/1e6)
	states("A trial key has %d requests a minute and %s a month, for both kinds together", trialLimit, thousands(trialMonth))
	states("uses up the month in %.1f hours", float64(trialMonth)/60)
	states("have %d requests in a month of 31 days", 31*24)

	// A key belongs to one exporter.
	states("a budget of %d each may send %d requests a minute, beyond the %d", budget, 2*budget, keyLimit)
	states("with %d each they stay below, and each needs %v minutes for the %d jobs that one exporter asks for in %v",
		budget/2, turn(jobsEach, budget/2), jobsEach, turn(jobsEach, budget))
	states("around a restart may see %d requests", 2*budget)

	// Series.
	series, ofBatches := seriesPerJob(t, "job_id", 6), seriesPerJob(t, "batch_id", 7)
	states("An embed job has at most %d series, so %s have %s of them: %s an account, and %s samples a second",
		series, thousands(scaleJobs), thousands(series*scaleJobs), thousands(series*jobsEach), thousands(series*scaleJobs/int(scrape.Seconds())))
	states("A batch has at most %d, so %s have %s", ofBatches, thousands(scaleJobs), thousands(ofBatches*scaleJobs))
	for _, exporters := range []int{1, 4, 10} {
		states("| %d | %d | %s | %s |", exporters, scaleAccounts/exporters, thousands(scaleJobs/exporters),
			thousands(series*scaleJobs/exporters))
	}

	// Scrape time.
	takes := func(requests int, each time.Duration) time.Duration {
		return time.Duration((requests+concurrency-1)/concurrency) * each
	}
	longest := 2 * timeout
	states("%d single jobs at once: at most %v, at a limit of %v a request", concurrency, seconds(longest), seconds(timeout))
	if longest > scrapeTimeout-offset || takes(budget, timeout) > longest {
		t.Error("a scrape may take longer than its timeout")
	}
	states("allows %d requests, %d at once: at most %v as well, and %v at the %d ms", budget, concurrency,
		seconds(takes(budget, timeout)), seconds(takes(budget, latency)), latency.Milliseconds())
	states("the scrape timeout of %v less the %v", seconds(scrapeTimeout), seconds(offset))
	states("%s jobs of one account, %d at once and %d ms each, would take %v", thousands(scaleJobs), concurrency,
		latency.Milliseconds(), seconds(takes(scaleJobs, latency)))

	// Several Prometheus servers.
	states("for `refresh_interval`, %v: the API sees 1 list of each kind a minute", seconds(refresh))
	if refresh >= scrape {
		t.Error("every other scrape would find nothing to fetch")
	}
	d, _ := readDashboard(t)
	states("is %d queries, and %d more while the batches' row is open", d.queries(false), d.queries(true)-d.queries(false))
	states("the %d jobs of an account in `get` mode cost a pair %d requests a minute", budget, 2*budget)
}

// thousands writes 10,000 for 10000.
func thousands(n int) string {
	if n < 1000 {
		return strconv.Itoa(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}

func seconds(d time.Duration) string {
	return fmt.Sprintf("%v s", d.Seconds())
}
