package deploy_test

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
)

const (
	testScrapeInterval     = 2 * time.Second
	testEvaluationInterval = time.Second
	testGroupWait          = time.Second

	dashboardFile = "grafana/dashboards/cohere_exporter.json"
)

// expectedEmpty has the expressions that return nothing in this test, and why.
func expectedEmpty() map[string]string {
	empty := map[string]string{
		"alert CohereEmbedJobProcessingTooLong embed_jobs": "no job of the demo processes for 6 hours; promtool tests it",
		"alert CohereBatchStuck batches":                   "no batch of the demo rests for 12 hours; promtool tests it",
		"alert CohereAPIRefusing":                          "the demo's API refuses nothing; promtool tests it",
		"alert CohereExporterFlapping":                     "the exporters run on; promtool tests it",
	}
	for _, k := range kinds {
		empty["alert Cohere"+k.Alert+"ValuesOld "+k.Resource] = "needs values that are older than 10 minutes; promtool tests it"
		const few = "fewer than ten jobs of the demo fail; promtool tests it"
		empty["alert Cohere"+k.Alerts+"Failing "+k.Resource] = few
		empty["record account_job:cohere_"+k.Family+"_failed_together:since"] = few
	}
	return empty
}

// A real Prometheus and a real Alertmanager run the shipped files, with only
// addresses and intervals changed, on the demo and on an exporter with
// accounts that watches the demo's API and has trouble of every kind.
func TestEndToEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("runs for two minutes")
	}
	prometheusProgram := prometheusTool(t, "prometheus")
	dir := t.TempDir()
	exporter := filepath.Join(dir, "cohere_exporter")
	run(t, "go", "build", "-o", exporter, "..")

	hook := newWebhook(t)
	alertmanager := startAlertmanager(t, hook)
	// All of them together stay below the 50 requests a minute that the demo's API allows.
	demo := start(t, exporter, nil, "--demo", "--cohere.fetch=list", "--cohere.refresh-interval=3s", "--web.listen-address=127.0.0.1:0")
	apiURL, key := demo.find(t, `msg="simulated Cohere API".* url=(\S+)`)[1], cohertest.DemoKey
	failed := make(chan failure, 1)
	go watchForFailure(t, apiURL, key, failed)

	accounts := startAccounts(t, exporter)
	prometheus := "http://" + startPrometheus(t, prometheusProgram, alertmanager, demo.listening(t), accounts.listening(t))

	expressions := append(ruleExpressions(t, prometheus), dashboardExpressions(t)...)
	expected := expectedEmpty()
	running := maps.Clone(expected)
	running["alert CohereExporterDown"] = "the exporters run"
	running["alert CohereExporterAbsent"] = "the exporters run"
	began, spoilt := time.Now(), false
	var fail failure
	var told *notification
	for told == nil {
		select {
		case fail = <-failed:
		default:
		}
		if fail.job.JobID != "" {
			told = hook.find("CohereEmbedJobFailed", fail.job.JobID)
		}
		if time.Since(began) > 3*time.Minute {
			t.Fatalf("no alert after 3 minutes; the job that failed: %+v", fail)
		}
		if !spoilt && time.Since(began) > 20*time.Second {
			accounts.spoil(t)
			spoilt = true
		}
		query(t, prometheus, expressions, running, 0)
		time.Sleep(200 * time.Millisecond)
	}

	took := told.arrived.Sub(fail.at)
	if most := 2*testScrapeInterval + testEvaluationInterval + 2*testGroupWait; took > most {
		t.Errorf("the alert arrived %.1f s after the failure, want at most two scrapes, an evaluation and Alertmanager's wait: %v",
			took.Seconds(), most)
	}
	for _, a := range told.Alerts {
		if a.Labels["job_id"] != fail.job.JobID {
			continue
		}
		text := a.Annotations["summary"] + "\n" + a.Annotations["description"]
		for what, want := range map[string]string{"job ID": fail.job.JobID, "name": fail.job.Name, "model": fail.job.Model} {
			if !strings.Contains(text, want) {
				t.Errorf("the alert's text lacks the %s %q:\n%s", what, want, text)
			}
		}
		t.Logf("%.1f s after the job's failure %s received, at intervals of %v (scrape) and %v (evaluation):\n%s\n%s\n%v",
			took.Seconds(), told.Receiver, testScrapeInterval, testEvaluationInterval, text, a.Annotations["runbook_url"], a.Labels)
	}

	checkBatches(t, prometheus, hook)

	// The rest has its time, and then the exporters end.
	query(t, prometheus, expressions, running, time.Minute)
	t.Run("Grafana", func(t *testing.T) { readDashboardAsGrafana(t, prometheus, began) })
	demo.stop()
	accounts.stop()
	query(t, prometheus, expressions, expected, 20*time.Second)
	for _, e := range expressions {
		reason, listed := expected[e.where]
		switch {
		case e.seen && listed:
			t.Errorf("%s returns data, though it is listed as empty: %s", e.where, reason)
		case !e.seen && !listed:
			t.Errorf("%s never returned data:\n%s", e.where, e.expr)
		case listed:
			t.Logf("%s is empty, as expected: %s", e.where, reason)
		}
	}
	t.Logf("%d expressions asked", len(expressions))
}

// checkBatches waits for what happens to batches of the demo.
func checkBatches(t *testing.T, prometheus string, hook *webhook) {
	for _, want := range []struct{ alert, id, text string }{
		{"CohereBatchFailed", "c20e7a94-15d8-4f6b-8e31-7ab94d02f5c6", "Batch c20e7a94-15d8-4f6b-8e31-7ab94d02f5c6 (invoice-extraction, model command-a-03-2025) " +
			"has ended with the status failed. The API's reason: record 1873 of the input dataset is longer than the context of command-a-03-2025"},
		{"CohereBatchIncomplete", "6b1f0d52-9c3e-4a87-b0d4-2e7f51c8a936", "Batch 6b1f0d52-9c3e-4a87-b0d4-2e7f51c8a936 (catalogue-embeddings, model embed-v4.0) " +
			"has completed, but 752 of its 30000 records were not successful: 0 failed, 752 are missing."},
	} {
		told := hook.wait(t, want.alert, want.id)
		for _, a := range told.Alerts {
			if a.Labels["batch_id"] == want.id && a.Annotations["description"] != want.text {
				t.Errorf("%s received\n%s\nwant\n%s", told.Receiver, a.Annotations["description"], want.text)
			}
		}
		t.Logf("%s received %s: %s", told.Receiver, want.alert, want.text)
	}

	const byStatus = "count by (status) (cohere_batch_status == 1)"
	var data struct {
		Result []struct {
			Metric map[string]string
			Value  [2]any
		}
	}
	if err := prometheusAPI(t, prometheus, "query?query="+url.QueryEscape(byStatus), &data); err != nil {
		t.Fatal(err)
	}
	if len(data.Result) < 5 {
		t.Errorf("%s: %d statuses, want five at least", byStatus, len(data.Result))
	}
	t.Logf("%s: %v", byStatus, data.Result)
}

// Two jobs that fail one after the other are two incidents, and the first one
// stays one when the exporter restarts. So do two batches of the same IDs.
func TestTwoFailuresAreTwoIncidents(t *testing.T) {
	if testing.Short() {
		t.Skip("runs Prometheus and Alertmanager")
	}
	prometheusProgram := prometheusTool(t, "prometheus")
	exporterProgram := filepath.Join(t.TempDir(), "cohere_exporter")
	run(t, "go", "build", "-o", exporterProgram, "..")
	hook := newWebhook(t)
	alertmanager := startAlertmanager(t, hook)

	s := startSimulated(t)
	for _, id := range []string{"first", "second", "third"} {
		s.user.Add(cohertest.Job{ID: id, Status: "processing", CreatedAt: time.Now()})
		s.user.AddBatches(cohertest.Batch{ID: id, CreatedAt: time.Now()})
	}
	flags := s.flags("first,second,third", "--cohere.batch-id=first,second,third", "--web.listen-address=127.0.0.1:0")
	exporter := start(t, exporterProgram, nil, flags...)
	address := exporter.listening(t)
	startPrometheus(t, prometheusProgram, alertmanager, address)

	var groups []string
	fail := func(id string) {
		t.Helper()
		s.user.Update(id, func(j *cohertest.Job) { j.Status = "failed" })
		s.user.UpdateBatch(id, func(b *cohertest.Batch) { b.Status = "BATCH_STATUS_FAILED" })
		groups = append(groups, hook.wait(t, "CohereEmbedJobFailed", id).GroupKey, hook.wait(t, "CohereBatchFailed", id).GroupKey)
	}
	time.Sleep(2 * testScrapeInterval)
	fail("first")
	exporter.stop()
	flags[len(flags)-1] = "--web.listen-address=" + address
	start(t, exporterProgram, nil, flags...).listening(t)
	fail("second")
	time.Sleep(3*testScrapeInterval + 2*testGroupWait) // time for notifications that should not come

	slices.Sort(groups)
	if n := len(slices.Compact(groups)); n != 4 {
		t.Errorf("%d groups: %v", n, groups)
	}
	var got []string
	for _, n := range hook.received() {
		for _, a := range n.Alerts {
			got = append(got, fmt.Sprintf("%s: %s %s %s", n.Receiver, a.Labels["alertname"], cmp.Or(a.Labels["job_id"], a.Labels["batch_id"]), a.Status))
		}
	}
	slices.Sort(got)
	want := []string{
		"on-call: CohereBatchFailed first firing", "on-call: CohereBatchFailed second firing",
		"on-call: CohereEmbedJobFailed first firing", "on-call: CohereEmbedJobFailed second firing",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// readDashboardAsGrafana puts the answers to the dashboard's queries through
// Grafana's own data library, and logs the table of jobs as people read it.
func readDashboardAsGrafana(t *testing.T, prometheus string, began time.Time) {
	const checker = "../.ci/grafana-data"
	node := tool(t, "node")
	if _, err := os.Stat(checker + "/node_modules"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("Grafana's data library is not installed: npm ci in .ci/grafana-data")
	}
	// Panels over time look at whole minutes, of which there has to be one.
	if minute := time.Now().Truncate(time.Minute); minute.Before(began.Add(5 * testScrapeInterval)) {
		time.Sleep(time.Until(minute.Add(time.Minute + testScrapeInterval)))
	}
	t.Log(run(t, node, checker+"/check.mjs", "--range=2m", prometheus))
}

// failure is a job of the demo that failed, and when.
type failure struct {
	job struct {
		JobID  string `json:"job_id"`
		Name   string `json:"name"`
		Model  string `json:"model"`
		Status string `json:"status"`
	}
	at time.Time
}

// watchForFailure asks the simulated API itself for the first job to fail.
func watchForFailure(t *testing.T, apiURL, key string, failed chan<- failure) {
	processing := map[string]bool{}
	for ; t.Context().Err() == nil; time.Sleep(3 * time.Second) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.TrimSuffix(apiURL, "/")+"/v1/embed-jobs", nil)
		if err != nil {
			t.Error(err)
			return
		}
		req.Header.Set("Authorization", "Bearer "+key)
		var list struct {
			EmbedJobs []json.RawMessage `json:"embed_jobs"`
		}
		if err := getJSON(req, &list); err != nil {
			if t.Context().Err() == nil {
				t.Logf("list of the simulated API: %v", err)
			}
			continue
		}
		for _, raw := range list.EmbedJobs {
			f := failure{at: time.Now()}
			if err := json.Unmarshal(raw, &f.job); err != nil {
				t.Errorf("job of the simulated API: %v", err)
				return
			}
			switch {
			case f.job.Status == "processing":
				processing[f.job.JobID] = true
			case f.job.Status == "failed" && processing[f.job.JobID]:
				failed <- f
				return
			}
		}
	}
}

// find returns the first notification with that alert of that job, or nil.
func (w *webhook) find(alert, id string) *notification {
	for _, n := range w.received() {
		for _, a := range n.Alerts {
			if a.Labels["alertname"] == alert && cmp.Or(a.Labels["job_id"], a.Labels["batch_id"]) == id {
				return &n
			}
		}
	}
	return nil
}

// wait is find, within two minutes.
func (w *webhook) wait(t *testing.T, alert, id string) *notification {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if n := w.find(alert, id); n != nil {
			return n
		}
	}
	t.Fatalf("nobody was told %s of %s", alert, id)
	return nil
}

// accounts is an exporter with a configuration file.
type accounts struct {
	*process
	api          simulated
	other        *cohertest.User
	config, jobs string
}

// startAccounts runs an exporter with one account that works, one whose key is
// refused, and one that will lose its jobs. They discover jobs, so that the
// list is asked.
func startAccounts(t *testing.T, exporter string) accounts {
	s := startSimulated(t, "ebd-1", "ebd-2", "ebd-3", "ebd-4", "ebd-5", "ebd-6", "ebd-7")
	a := accounts{api: s, other: s.api.AddUser("another-key"), config: filepath.Join(s.dir, "cohere_exporter.yml"), jobs: filepath.Join(s.dir, "jobs.txt")}
	a.other.Add(cohertest.Job{ID: "ebd-soon-gone"})
	a.other.AddBatches(cohertest.Batch{ID: "bat-soon-gone"})
	for i := range 7 {
		s.user.AddBatches(cohertest.Batch{ID: fmt.Sprintf("bat-%d", i+1), Model: "without-a-price", InputTokens: 1520})
	}
	write(t, filepath.Join(s.dir, "other.key"), "another-key")
	write(t, filepath.Join(s.dir, "refused.key"), "not-the-key")
	write(t, a.jobs, "ebd-not-found\nebd-removed-soon\n")
	write(t, a.config, fmt.Sprintf(`accounts:
  - name: search
    http_client_config: {authorization: {credentials_file: cohere.key}}
    embed_jobs: {id_files: [jobs.txt], discover: {max_jobs: 5}}
    batches: {ids: [bat-not-found], discover: {max_jobs: 5}}
    base_url: %[1]s
  - name: refused
    http_client_config: {authorization: {credentials_file: refused.key}}
    embed_jobs: {discover: {}}
    batches: {discover: {}}
    base_url: %[1]s
  - name: emptied
    http_client_config: {authorization: {credentials_file: other.key}}
    embed_jobs: {discover: {}}
    batches: {discover: {}}
    base_url: %[1]s
`, s.url))
	a.process = start(t, exporter, nil, "--config.file="+a.config, "--web.listen-address=127.0.0.1:0")
	return a
}

// spoil removes jobs, and then breaks the job file and the configuration.
func (a accounts) spoil(t *testing.T) {
	a.other.Remove("ebd-soon-gone")
	a.other.RemoveBatches("bat-soon-gone")
	write(t, a.jobs, "ebd-not-found\n")
	time.Sleep(3 * testScrapeInterval)
	write(t, a.jobs, "ebd-not-\xff\n")
	write(t, a.config, "accounts: none\n")
	if err := a.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Error(err)
	}
}

// startPrometheus runs a copy of the shipped files with the test's addresses
// and intervals, and with the example of a price table as the user's own.
func startPrometheus(t *testing.T, program, alertmanager string, exporters ...string) string {
	t.Helper()
	dir := t.TempDir()
	copyFile(t, "prometheus/prometheus.yml", dir+"/prometheus.yml",
		`job_name: cohere_exporter`, "job_name: monitoring/some-other-name",
		`\b(scrape_interval|scrape_timeout):( +)\S+`, "${1}:${2}"+testScrapeInterval.String(),
		`\bevaluation_interval:( +)\S+`, "evaluation_interval:${1}"+testEvaluationInterval.String(),
		`'localhost:9093'`, "'"+alertmanager+"'",
		`'localhost:10110'`, "'"+strings.Join(exporters, "', '")+"'",
	)
	copyFile(t, "prometheus/alerts.yml", dir+"/alerts.yml", `\bfor: 2m\n`, "for: 2s\n")
	copyFile(t, "prometheus/recording.yml", dir+"/recording.yml")
	copyFile(t, "prometheus/cost.example.yml", dir+"/cost.yml")
	p := start(t, program, nil,
		"--config.file="+dir+"/prometheus.yml",
		"--storage.tsdb.path="+dir+"/data",
		"--web.listen-address=127.0.0.1:0",
	)
	p.find(t, `msg="Server is ready to receive web requests\."`)
	return p.listening(t)
}

// expression is one that a rule or the dashboard asks Prometheus for.
type expression struct {
	where, expr string
	seen        bool
}

// query asks for what has not returned data yet, until all of it has that is
// not expected to be empty, or the time is up. It asks once at least.
func query(t *testing.T, prometheus string, expressions []*expression, empty map[string]string, limit time.Duration) {
	t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(500 * time.Millisecond) {
		missing := 0
		for _, e := range expressions {
			if e.seen {
				continue
			}
			var data struct{ Result []json.RawMessage }
			if err := prometheusAPI(t, prometheus, "query?query="+url.QueryEscape(e.expr), &data); err != nil {
				t.Fatalf("%s: %v\n%s", e.where, err, e.expr)
			}
			e.seen = len(data.Result) > 0
			if _, listed := empty[e.where]; !e.seen && !listed {
				missing++
			}
		}
		if missing == 0 || time.Now().After(end) {
			return
		}
	}
}

// ruleExpressions are those of the rules that Prometheus has loaded.
func ruleExpressions(t *testing.T, prometheus string) (expressions []*expression) {
	t.Helper()
	var data struct {
		Groups []struct {
			Rules []struct {
				Type, Name, Query string
				Labels            map[string]string
			}
		}
	}
	if err := prometheusAPI(t, prometheus, "rules", &data); err != nil {
		t.Fatal(err)
	}
	for _, group := range data.Groups {
		for _, r := range group.Rules {
			kind := map[string]string{"alerting": "alert", "recording": "record"}[r.Type]
			where := strings.Join(slices.DeleteFunc([]string{kind, r.Name, r.Labels["resource"], r.Labels["model"], r.Labels["type"]},
				func(s string) bool { return s == "" }), " ")
			expressions = append(expressions, &expression{where: where, expr: r.Query})
		}
	}
	if len(expressions) < len(alerts(t)) {
		t.Fatalf("Prometheus has %d rules, fewer than there are alerts", len(expressions))
	}
	return expressions
}

// dashboardExpressions are those of the dashboard's panels and variables, for
// all that its variables can be set to.
func dashboardExpressions(t *testing.T) (expressions []*expression) {
	t.Helper()
	b, err := os.ReadFile(dashboardFile)
	if errors.Is(err, fs.ErrNotExist) {
		t.Logf("there is no %s", dashboardFile)
		return nil
	} else if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Templating struct {
			List []struct {
				Name    string          `json:"name"`
				Type    string          `json:"type"`
				Query   json.RawMessage `json:"query"`
				Current struct {
					Value any `json:"value"`
				} `json:"current"`
			} `json:"list"`
		} `json:"templating"`
	}
	var tree any
	if err := errors.Join(json.Unmarshal(b, &dashboard), json.Unmarshal(b, &tree)); err != nil {
		t.Fatalf("%s: %v", dashboardFile, err)
	}

	values := map[string]string{
		"__rate_interval": "30s",
		"__interval":      "10s",
		"__range":         "5m",
		"__range_s":       "300",
	}
	for _, v := range dashboard.Templating.List {
		switch value, isString := v.Current.Value.(string); {
		case v.Type != "query" && isString && value != "$__all":
			values[v.Name] = value
		default:
			values[v.Name] = ".*"
		}
	}
	add := func(where, expr string) {
		variable := regexp.MustCompile(`\$(?:\{(\w+)(?::\w+)?\}|([A-Za-z_]\w*))`)
		expr = variable.ReplaceAllStringFunc(expr, func(v string) string {
			m := variable.FindStringSubmatch(v)
			value, ok := values[cmp.Or(m[1], m[2])]
			if !ok {
				t.Errorf("%s: unknown variable %s", where, v)
			}
			return value
		})
		expressions = append(expressions, &expression{where: where, expr: expr})
	}

	for _, v := range dashboard.Templating.List {
		if v.Type != "query" {
			continue
		}
		var text string
		var object struct{ Query string }
		if json.Unmarshal(v.Query, &text) != nil && json.Unmarshal(v.Query, &object) == nil {
			text = object.Query
		}
		function, argument, _ := strings.Cut(strings.TrimSuffix(strings.TrimSpace(text), ")"), "(")
		switch i := strings.LastIndex(argument, ","); {
		case function == "label_values" && i > 0:
			argument = argument[:i]
		case function == "query_result":
		default:
			t.Errorf("variable %s: no expression in %q", v.Name, text)
			continue
		}
		add("variable "+v.Name, argument)
	}
	var walk func(panel string, node any)
	walk = func(panel string, node any) {
		switch node := node.(type) {
		case []any:
			for _, child := range node {
				walk(panel, child)
			}
		case map[string]any:
			if _, isPanel := node["gridPos"]; isPanel {
				panel, _ = node["title"].(string)
			}
			if expr, ok := node["expr"].(string); ok {
				refID, _ := node["refId"].(string)
				add(fmt.Sprintf("panel %s, %s", strconv.Quote(panel), refID), expr)
			}
			for _, key := range slices.Sorted(maps.Keys(node)) {
				walk(panel, node[key])
			}
		}
	}
	walk("", tree)
	if len(expressions) == 0 {
		t.Errorf("no expressions in %s", dashboardFile)
	}
	return expressions
}

// prometheusAPI gets the data of an answer of Prometheus's API.
func prometheusAPI(t *testing.T, prometheus, path string, data any) error {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, prometheus+"/api/v1/"+path, nil)
	if err != nil {
		return err
	}
	return getJSON(req, &struct {
		Data any `json:"data"`
	}{data})
}

func getJSON(req *http.Request, into any) error {
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// copyFile copies a file. Of the rest, each pair is a regular expression that
// must be found in it and what to replace it with.
func copyFile(t *testing.T, from, to string, replace ...string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	for pair := range slices.Chunk(replace, 2) {
		re := regexp.MustCompile(pair[0])
		if !re.Match(b) {
			t.Fatalf("%s: no %s to replace", from, pair[0])
		}
		b = re.ReplaceAll(b, []byte(pair[1]))
	}
	write(t, to, string(b))
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// process is a program that runs until the test ends.
type process struct {
	cmd  *exec.Cmd
	name string
	stop func()

	mu   sync.Mutex
	log  []string
	ends bool
}

// start runs a program. Its address is one of its own choice.
func start(t *testing.T, program string, env []string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(program, args...), name: filepath.Base(program)}
	p.cmd.Env = append(os.Environ(), env...)
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			p.mu.Lock()
			p.log = append(p.log, lines.Text())
			p.mu.Unlock()
		}
		_ = p.cmd.Wait()
		p.mu.Lock()
		p.ends = true
		p.mu.Unlock()
	}()
	p.stop = sync.OnceFunc(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = p.cmd.Process.Kill()
			<-ended
		}
	})
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			p.mu.Lock()
			defer p.mu.Unlock()
			t.Logf("the end of what %s logged:\n%s", p.name, strings.Join(p.log[max(0, len(p.log)-30):], "\n"))
		}
	})
	return p
}

// find waits for a line of the log that matches and returns its parts.
func (p *process) find(t *testing.T, pattern string) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		p.mu.Lock()
		lines, ends := p.log, p.ends
		p.mu.Unlock()
		for _, line := range lines {
			if m := re.FindStringSubmatch(line); m != nil {
				return m
			}
		}
		if ends {
			break
		}
	}
	t.Fatalf("%s logged no %s", p.name, pattern)
	return nil
}

// listening is the address that the program serves.
func (p *process) listening(t *testing.T) string {
	t.Helper()
	return p.find(t, `msg="Listening on".* address=(\S+)`)[1]
}
