package deploy_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
)

// openInBrowser runs the checker of pages.
func openInBrowser(t *testing.T, args ...string) string {
	t.Helper()
	const checker = "../.ci/pages"
	node := tool(t, "node")
	args = append([]string{checker + "/check.mjs", "--chromium=" + tool(t, "chromium")}, args...)
	if _, err := os.Stat(checker + "/node_modules"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("what drives the browser is not installed: npm ci in .ci/pages")
	}
	return run(t, node, args...)
}

// Pages are legible, and can be used, on phones and desktops, in light and dark.
func TestPagesInBrowser(t *testing.T) {
	for name, start := range map[string]func(*testing.T) exporter{
		"demo":  func(t *testing.T) exporter { return startExporter(t, nil, "--demo") },
		"empty": startEmpty,
		"teams": startTeams,
	} {
		t.Run(name, func(t *testing.T) {
			e := start(t)
			if name == "empty" { // a page says that nobody scraped
				t.Log(openInBrowser(t, e.url+"/jobs"))
			}
			e.scrape(t)
			t.Log(openInBrowser(t, e.url+"/", e.url+"/jobs"))
			if name == "demo" {
				t.Log(openInBrowser(t, e.url+"/jobs?refresh=3600&status=failed", e.url+"/jobs?job_id=ebd-3f1c8a90b7d24e65"))
			}
		})
	}
}

// startEmpty discovers jobs where there are none.
func startEmpty(t *testing.T) exporter {
	api := cohertest.New()
	api.AddUser(testKey)
	server := api.Start()
	t.Cleanup(server.Close)
	return startExporter(t, []string{"CO_API_KEY=" + testKey}, "--cohere.base-url="+server.URL, "--cohere.discover=embed-jobs,batches")
}

// startTeams watches 5 accounts and discovers 500 jobs: in every status, one
// account whose key is refused, one over its limit, and names that hurt.
func startTeams(t *testing.T) exporter {
	const accounts, jobs = 5, 125 // of which one account's are not found
	api := cohertest.New()
	names := []string{
		"nightly-catalogue", `"><script>alert(1)</script>`, `=HYPERLINK("x")`, "\u202eמשימת לילה", strings.Repeat("long", 2500),
		strings.Repeat("a b ", 100), "",
	}
	statuses := []string{"complete", "processing", "complete", "failed", "cancelling", "cancelled", "complete", "paused", "complete"}
	var cfg strings.Builder
	cfg.WriteString("accounts:\n")
	for a := range accounts {
		key := fmt.Sprintf("%s-%d", testKey, a)
		user := api.AddUser(key)
		for i := range jobs {
			name := names[i%len(names)]
			user.Add(cohertest.Job{
				ID: fmt.Sprintf("ebd-%02d%014x", a, i), Name: name, Status: statuses[i%len(statuses)],
				CreatedAt: time.Now().Add(-time.Duration(i*i) * time.Minute), InputTokens: float64(i * i * i * 1234), Warnings: names[1:2],
			})
		}
		user.AddBatches(cohertest.Batch{
			ID: fmt.Sprintf("b-%d", a), Name: names[a], Status: "BATCH_STATUS_FAILED", StatusReason: names[4],
			Records: 1000, SuccessfulRecords: 600, FailedRecords: 100,
		})
		if a == 3 {
			key = "wrong"
		}
		if a == 4 {
			user.Limit(cohertest.Limit{Requests: 1, Per: time.Hour})
		}
		fmt.Fprintf(&cfg, "  - name: team-%d%s\n    base_url: URL\n    http_client_config: {authorization: {credentials: %s}}\n"+
			"    embed_jobs: {discover: {max_age: 30d}, ids: [ebd-0000-of-nobody-%d]}\n    batches: {discover: {max_age: 30d}}\n",
			a, strings.Repeat("-with-a-long-name", a), key, a)
	}
	server := api.Start()
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "exporter.yml")
	write(t, file, strings.ReplaceAll(cfg.String(), "URL", server.URL))
	return startExporter(t, nil, "--config.file="+file)
}

// The README's picture shows the page as it is: what people read first in it
// stands in the file beside.
func TestPicture(t *testing.T) {
	api := cohertest.New()
	ids := cohertest.Demo(api, testKey, time.Now().Add(-95*time.Second))
	server := api.Start()
	t.Cleanup(server.Close)
	e := startExporter(t, []string{"CO_API_KEY=" + testKey}, "--cohere.base-url="+server.URL,
		"--cohere.job-id="+strings.Join(append(ids.IDs[cohertest.EmbedJobs], "ebd-6f02c9d1e4b85a37"), ","), "--cohere.batch-id="+strings.Join(ids.IDs[cohertest.Batches], ","))
	e.scrape(t)
	const picture, words = "jobs.png", "jobs.txt"
	drawn := filepath.Join(t.TempDir(), picture)
	read := openInBrowser(t, "--screenshot="+drawn, e.url+"/jobs")
	if *update {
		write(t, picture, string(readFile(t, drawn)))
		write(t, words, read)
	}
	if want := string(readFile(t, words)); read != want {
		t.Errorf("the page no longer looks as in the README; run this test with -update. It has\n%s\nand the picture\n%s", read, want)
	}
	for _, file := range []string{picture, drawn} {
		if size := len(readFile(t, file)); size > 150_000 || size < 10_000 {
			t.Errorf("%s has %d bytes", file, size)
		}
	}
}
