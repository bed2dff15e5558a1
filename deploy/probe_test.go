package deploy_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
)

// readmeBlock returns the README's block of code in a language that has such a
// text.
func readmeBlock(t *testing.T, language, text string) string {
	t.Helper()
	for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(string(readFile(t, readme)), -1) {
		if strings.Contains(m[1], text) {
			return m[1]
		}
	}
	t.Fatalf("%s has no %s with %s", readme, language, text)
	return ""
}

// A real Prometheus, configured as the README shows, probes jobs of both kinds,
// some of which the exporter watches too and one of which there is not. However
// often: each is asked for once a minute.
func TestProbes(t *testing.T) {
	if testing.Short() {
		t.Skip("runs Prometheus")
	}
	prometheusProgram, promtool := prometheusTool(t, "prometheus"), prometheusTool(t, "promtool")
	const watchedEmbedJobs, watchedBatches, nobodys = 3, 2, "ebd-of-nobody"
	api := cohertest.New()
	jobs := cohertest.Demo(api, testKey, time.Now())
	api.KeepRequests(1000)
	server := api.Start()
	t.Cleanup(server.Close)
	dir := t.TempDir()
	write(t, dir+"/search.key", testKey)
	write(t, dir+"/exporter.yml", fmt.Sprintf(`accounts:
  - name: search
    base_url: %s
    http_client_config: {authorization: {credentials_file: search.key}}
    embed_jobs: {ids: [%s]}
    batches: {ids: [%s]}
`, server.URL, strings.Join(jobs.IDs[cohertest.EmbedJobs][:watchedEmbedJobs], ", "), strings.Join(jobs.IDs[cohertest.Batches][:watchedBatches], ", ")))
	e := startExporter(t, nil, "--config.file="+dir+"/exporter.yml")
	e.scrape(t)

	// The targets are the README's, but for the IDs.
	var targets []struct {
		Targets []string          `json:"targets"`
		Labels  map[string]string `json:"labels"`
	}
	if err := json.Unmarshal([]byte(readmeBlock(t, "json", "batch_id")), &targets); err != nil {
		t.Fatal(err)
	}
	targets[0].Targets, targets[1].Targets = slices.Concat(jobs.IDs[cohertest.EmbedJobs], []string{nobodys}), jobs.IDs[cohertest.Batches]
	text, err := json.Marshal(targets)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/targets.json", string(text))
	write(t, dir+"/readme.yml", readmeBlock(t, "yaml", "/probe"))
	copyFile(t, dir+"/readme.yml", dir+"/prometheus.yml",
		`\A`, "global: {scrape_interval: 1s}\n",
		`scrape_interval: 60s`, "scrape_interval: 1s",
		`targets/\*\.json`, dir+"/targets.json",
		`localhost:10110`, e.address())
	run(t, promtool, "check", "config", dir+"/prometheus.yml")
	p := start(t, prometheusProgram, nil,
		"--config.file="+dir+"/prometheus.yml", "--storage.tsdb.path="+dir+"/data", "--web.listen-address=127.0.0.1:0")
	p.find(t, `msg="Server is ready to receive web requests\."`)
	prometheus := "http://" + p.listening(t)

	awaitSeries(t, prometheus, `min(count_over_time(cohere_up{job="cohere"}[1m])) >= bool 5`, "{} 1")
	var ups, jobUps []string
	for _, group := range targets {
		for _, id := range group.Targets {
			label, up := group.Labels["__tmp_id"], 1
			if id == nobodys {
				up = 0
			}
			ups = append(ups, fmt.Sprintf(`cohere_up{account="search", instance=%q, job="cohere"} %d`, id, up))
			name := map[string]string{"job_id": "cohere_embed_job_up", "batch_id": "cohere_batch_up"}[label]
			labels := []string{`account="search"`, fmt.Sprintf("%s=%q", label, id), fmt.Sprintf("instance=%q", id), `job="cohere"`}
			slices.Sort(labels)
			jobUps = append(jobUps, fmt.Sprintf("%s{%s} %d", name, strings.Join(labels, ", "), up))
		}
	}
	for query, want := range map[string][]string{
		"cohere_up": ups,
		`{__name__=~"cohere_(embed_job|batch)_up"}`: jobUps,
		`{__name__=~"cohere_.*_fetch_error"}`: {fmt.Sprintf(
			`cohere_embed_job_fetch_error{account="search", instance=%q, job="cohere", job_id=%[1]q, reason="not_found"} 1`, nobodys)},
		`count by (job) (up == 1)`: {`{job="cohere"} ` + strconv.Itoa(len(ups)), `{job="cohere_exporter"} 1`},
		`count({__name__=~"cohere_(up|(embed_job|batch|list)_?.*)",job="cohere_exporter"})`: nil,
		`sum by (job, code) (cohere_api_requests_total) > 0`: {
			fmt.Sprintf(`{code="200", job="cohere_exporter"} %d`, len(ups)-1), `{code="404", job="cohere_exporter"} 1`,
		},
	} {
		awaitSeries(t, prometheus, query, want...)
	}
	asked := map[string]time.Time{}
	for _, r := range api.Requests() {
		if ago := r.Time.Sub(asked[r.ID]); ago < time.Minute-time.Second { // which it may take to get there
			t.Errorf("%s %q was asked for %v after the time before", r.Endpoint, r.ID, ago)
		}
		asked[r.ID] = r.Time
	}
	if len(asked) != len(ups) {
		t.Errorf("asked for %d jobs, not %d", len(asked), len(ups))
	}

	// /metrics knows nothing of what is only probed.
	metrics := jobLines(e.scrape(t))
	for _, id := range slices.Concat(targets[0].Targets[watchedEmbedJobs:], targets[1].Targets[watchedBatches:]) {
		if strings.Contains(metrics, id) {
			t.Errorf("%s is on /metrics", id)
		}
	}
	if l := lacking(metrics, `cohere_embed_jobs{account="search"} 3`, `cohere_batches{account="search"} 2`, `cohere_up{account="search"} 1`); l != "" {
		t.Errorf("%s is not on /metrics:\n%s", l, metrics)
	}
}

// awaitSeries waits until Prometheus answers with these series, in any order.
func awaitSeries(t *testing.T, prometheus, query string, want ...string) {
	t.Helper()
	slices.Sort(want)
	var got []string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		var data struct{ Result model.Vector }
		if err := prometheusAPI(t, prometheus, "query?query="+url.QueryEscape(query), &data); err != nil {
			t.Fatal(err)
		}
		got = nil
		for _, s := range data.Result {
			got = append(got, fmt.Sprintf("%s %v", s.Metric, s.Value))
		}
		if slices.Sort(got); slices.Equal(got, want) {
			return
		}
	}
	t.Errorf("%s is\n%s\nnot\n%s", query, strings.Join(got, "\n"), strings.Join(want, "\n"))
}
