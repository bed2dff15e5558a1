package deploy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"
)

// seriesPerJob has what a job can have at most.
var seriesPerJob = map[string]int{
	"status": 6, "billed_input_tokens": 1, "billed_output_tokens": 1, "billed_images": 1, "billed_image_tokens": 1,
	"billed_search_units": 1, "billed_classifications": 1, "billed_pages": 1, "input_tokens": 1, "output_tokens": 1,
	"cached_tokens": 1, "warnings": 1, "created_timestamp_seconds": 1, "info": 1, "api_info": 1, "up": 1,
	"fetch_error": 1, "last_success_timestamp_seconds": 1, "status_changed_timestamp_seconds": 1,
}

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
	turn := func(jobs, budget float64) float64 { return jobs / budget } // minutes
	states("the %d active jobs of an account | %d | 1 | | until each has had its turn | %v minutes | 1 minute |",
		jobsEach, jobsEach, turn(jobsEach, budget))
	states("%s active jobs of one account | %s | 1 | | until each has had its turn | %v minutes | 1 minute |",
		thousands(scaleJobs), thousands(scaleJobs), turn(scaleJobs, budget))
	states("values under %v minutes old | %v |", maxAge.Minutes(), budget*maxAge.Minutes())
	states("each asked once an hour | %s |", thousands(budget*60))
	states("%d accounts cost %d requests a minute together, and each key 1 of its %d", scaleAccounts, scaleAccounts, budget)
	states("at most %d a scrape: for %d jobs %d scrapes, for the %d that discovery watches by default %d",
		concurrency, jobsEach, jobsEach/concurrency, maxJobs, maxJobs/concurrency)
	states("A scrape then costs %d requests, still within the budget", 1+concurrency)
	if 1+concurrency > budget {
		t.Error("it is not")
	}

	var entry bytes.Buffer
	if err := json.Compact(&entry, []byte(listEntry)); err != nil {
		t.Fatal(err)
	}
	size := math.Round(float64(entry.Len())/10) * 10
	states("An entry is about %v bytes, so %d jobs are %v kB and %s jobs %v MB", size, jobsEach, size*jobsEach/1e3,
		thousands(scaleJobs), size*scaleJobs/1e6)
	states("at the client's limit of %d MiB stand about %s jobs", listLimit>>20,
		thousands(int(math.Floor(listLimit/size/5000)*5000)))
	states("A trial key has %d requests a minute and %s a month", trialLimit, thousands(trialMonth))
	states("uses up the month in %.1f hours", float64(trialMonth)/60)
	states("have %d requests in a month of 31 days", 31*24)

	// A key belongs to one exporter.
	states("a budget of %d each may send %d requests a minute, beyond the %d", budget, 2*budget, keyLimit)
	states("with %d each they stay below, and each needs %v minutes for the %d jobs that one exporter asks for in %v",
		budget/2, turn(jobsEach, budget/2), jobsEach, turn(jobsEach, budget))
	states("around a restart may see %d requests", 2*budget)

	// Series.
	series := 0
	for _, n := range seriesPerJob {
		series += n
	}
	states("at most %d series, so there are %s of them: %s an account, and %s samples a second",
		series, thousands(series*scaleJobs), thousands(series*jobsEach), thousands(series*scaleJobs/int(scrape.Seconds())))
	for _, exporters := range []int{1, 4, 10} {
		states("| %d | %d | %s | %s |", exporters, scaleAccounts/exporters, thousands(scaleJobs/exporters),
			thousands(series*scaleJobs/exporters))
	}

	// Scrape time.
	batches := func(requests int) time.Duration { return time.Duration((requests + concurrency - 1) / concurrency) }
	longest := 2 * timeout
	states("one batch of %d jobs: at most %v, at a limit of %v a request", concurrency, seconds(longest), seconds(timeout))
	if longest > scrapeTimeout-offset || batches(budget)*timeout > longest {
		t.Error("a scrape may take longer than its timeout")
	}
	states("allows %d requests, %d at once: two batches, at most %v as well, and %v at the %d ms", budget, concurrency,
		seconds(batches(budget)*timeout), seconds(batches(budget)*latency), latency.Milliseconds())
	states("the scrape timeout of %v less the %v", seconds(scrapeTimeout), seconds(offset))
	states("%s jobs of one account, %d at once and %d ms each, would take %v", thousands(scaleJobs), concurrency,
		latency.Milliseconds(), seconds(batches(scaleJobs)*latency))

	// Several Prometheus servers.
	states("for `refresh_interval`, %v: the API sees 1 list a minute", seconds(refresh))
	if refresh >= scrape {
		t.Error("every other scrape would find nothing to fetch")
	}
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
