package deploy_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"
)

const runbookURL = "https://github.com/cohere-exporter/cohere_exporter/blob/main/deploy/RUNBOOK.md"

// ruleFile is a file of alerts and recording rules.
type ruleFile struct {
	Groups []struct {
		Name  string `yaml:"name"`
		Rules []rule `yaml:"rules"`
	} `yaml:"groups"`
}

type rule struct {
	Record      string            `yaml:"record"`
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         model.Duration    `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

// prometheusTool returns promtool or prometheus: the one that the variable
// PROMTOOL or PROMETHEUS names, or the one on the path.
func prometheusTool(t *testing.T, name string) string {
	t.Helper()
	if path := os.Getenv(strings.ToUpper(name)); path != "" {
		return path
	}
	return tool(t, name)
}

// run runs a program and fails the test with its output if it fails.
func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(program), strings.Join(args, " "), err, out)
	}
	return string(out)
}

func readYAML(t *testing.T, path string, into any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	strictly(t, b, into)
}

// strictly decodes YAML, all of whose keys have to be known.
func strictly(t *testing.T, b []byte, into any) {
	t.Helper()
	decoder := yaml.NewDecoder(bytes.NewReader(b))
	decoder.KnownFields(true)
	if err := decoder.Decode(into); err != nil {
		t.Fatal(err)
	}
}

func alerts(t *testing.T) []rule {
	t.Helper()
	var file ruleFile
	readYAML(t, "prometheus/alerts.yml", &file)
	var alerts []rule
	for _, group := range file.Groups {
		for _, r := range group.Rules {
			if r.Alert != "" {
				alerts = append(alerts, r)
			}
		}
	}
	return alerts
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no files %s (%v)", pattern, err)
	}
	return files
}

func TestPrometheusConfig(t *testing.T) {
	run(t, prometheusTool(t, "promtool"), "check", "config", "--lint=all", "--lint-fatal", "prometheus/prometheus.yml")

	var config struct {
		Global struct {
			ScrapeInterval model.Duration `yaml:"scrape_interval"`
		} `yaml:"global"`
	}
	b, err := os.ReadFile("prometheus/prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(b, &config); err != nil {
		t.Fatal(err)
	}
	if got := time.Duration(config.Global.ScrapeInterval); got != time.Minute {
		t.Errorf("scrape interval is %v, want the minute that Cohere counts requests in", got)
	}
}

// The file for Compose differs in addresses only.
func TestPrometheusConfigOfCompose(t *testing.T) {
	run(t, prometheusTool(t, "promtool"), "check", "config", "--lint=all", "--lint-fatal", "prometheus/compose.yml")
	var want, got any
	unmarshal(t, "prometheus/prometheus.yml", &want)
	text := string(readFile(t, "prometheus/compose.yml"))
	for name, port := range map[string]string{"exporter": "10110", "alertmanager": "9093"} {
		text = strings.ReplaceAll(text, "'"+name+":"+port+"'", "'localhost:"+port+"'")
	}
	if err := yaml.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("compose.yml is\n%v\nprometheus.yml is\n%v", got, want)
	}
}

// What the comments offer is valid out of them.
func TestPrometheusConfigUncommented(t *testing.T) {
	text := string(readFile(t, "prometheus/prometheus.yml"))
	for comment, plain := range map[string]string{
		`      #   - targets: ['search-exporter:10110']`:  `      - targets: ['search-exporter:10110']`,
		`      #     labels: {account: search}`:           `        labels: {account: search}`,
		`    #   metric_relabel_configs:`:                 `    metric_relabel_configs:`,
		`    #     - {source_labels: [account], regex: (`: `      - {source_labels: [account], regex: (`,
	} {
		if !strings.Contains(text, comment) {
			t.Fatalf("no %s", comment)
		}
		text = strings.ReplaceAll(text, comment, plain)
	}
	file := filepath.Join(t.TempDir(), "prometheus.yml")
	write(t, file, text)
	run(t, prometheusTool(t, "promtool"), "check", "config", "--syntax-only", "--lint=none", file)
}

func TestPrometheusRules(t *testing.T) {
	run(t, prometheusTool(t, "promtool"), "check", "rules", "--lint=all", "--lint-fatal",
		"prometheus/alerts.yml", "prometheus/recording.yml", "prometheus/cost.example.yml")
}

// swapKinds says of batches what is said of embed jobs, and the other way
// round. Where a word has several forms, those of names come first, and before
// them what contains them.
var swapKinds = func() *strings.Replacer {
	var both []string
	for _, words := range [][2]string{
		{"embed_job_billed_input_tokens", "batch_input_tokens"},
		{"embed_job_billed_output_tokens", "batch_output_tokens"},
		{"job_id", "batch_id"},
		{"embed_jobs", "batches"},
		{"embed jobs", "batches"},
		{"embedjobsfailing", "batchesfailing"},
		{"EmbedJobs", "Batches"},
		{"embed_job", "batch"},
		{"embed job", "batch"},
		{"embedjob", "batch"},
		{"EmbedJob", "Batch"},
		{"Embed job", "Batch"},
		{"processing", "queued"},
		{"Processing", "Queued"},
		{`"complete"`, `"completed"`},
		{"cancelling", "canceling"},
		{"Cancelling", "Canceling"},
		{"cancelled", "canceled"},
	} {
		both = append(both, words[0], words[1], words[1], words[0])
	}
	return strings.NewReplacer(both...)
}()

// ruleTests returns the files for promtool by name: as they are, and with the
// kinds swapped, but for those of what a single kind, or none, has.
func ruleTests(t *testing.T) map[string]string {
	t.Helper()
	rules, err := filepath.Abs("prometheus")
	if err != nil {
		t.Fatal(err)
	}
	dir, files := t.TempDir(), map[string]string{}
	for _, file := range glob(t, "prometheus/tests/*.yml") {
		name := strings.TrimSuffix(filepath.Base(file), ".yml")
		files[name] = file
		if slices.Contains([]string{"embed_jobs", "batches", "exporter"}, name) {
			continue
		}
		swapped := filepath.Join(dir, name+".yml")
		write(t, swapped, strings.ReplaceAll(swapKinds.Replace(string(readFile(t, file))), "../", rules+"/"))
		files[name+"_swapped"] = swapped
	}
	return files
}

func TestPrometheusRuleTests(t *testing.T) {
	promtool := prometheusTool(t, "promtool")
	for name, file := range ruleTests(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, promtool, "test", "rules", file)
		})
	}
}

// Every alert has been seen to fire for each kind, with all of its text, and to
// be silent.
func TestPrometheusRuleTestsAreComplete(t *testing.T) {
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, file := range ruleTests(t) {
		var tests struct {
			Tests []struct {
				AlertRuleTest []struct {
					Alertname string `yaml:"alertname"`
					ExpAlerts []struct {
						Labels map[string]string `yaml:"exp_labels"`
					} `yaml:"exp_alerts"`
				} `yaml:"alert_rule_test"`
			} `yaml:"tests"`
		}
		unmarshal(t, file, &tests)
		for _, test := range tests.Tests {
			for _, at := range test.AlertRuleTest {
				for _, a := range at.ExpAlerts {
					fires[at.Alertname+" "], fires[at.Alertname+" "+a.Labels["resource"]] = true, true
				}
				if len(at.ExpAlerts) == 0 {
					silent[at.Alertname] = true
				}
			}
		}
	}
	for _, a := range alerts(t) {
		if name := a.Alert + " " + a.Labels["resource"]; !fires[name] {
			t.Errorf("no test in which %s fires", name)
		}
		if !silent[a.Alert] {
			t.Errorf("no test in which %s is silent", a.Alert)
		}
	}
}

func TestAlerts(t *testing.T) {
	sections := map[string]bool{}
	b, err := os.ReadFile("RUNBOOK.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^## (\w+)$`).FindAllSubmatch(b, -1) {
		sections[strings.ToLower(string(m[1]))] = true
	}

	without := maps.Clone(sections)

	names := map[string]bool{}
	for _, a := range alerts(t) {
		if name := a.Alert + " " + a.Labels["resource"]; names[name] {
			t.Errorf("more than one alert %s", name)
		} else {
			names[name] = true
		}
		if s := a.Labels["severity"]; !slices.Contains([]string{"critical", "warning", "info"}, s) {
			t.Errorf("%s: severity is %q, want critical, warning or info", a.Alert, s)
		}
		for _, annotation := range []string{"summary", "description"} {
			if a.Annotations[annotation] == "" {
				t.Errorf("%s: no %s", a.Alert, annotation)
			}
		}
		anchor := strings.ToLower(a.Alert)
		if got, want := a.Annotations["runbook_url"], runbookURL+"#"+anchor; got != want {
			t.Errorf("%s: runbook_url is %s, want %s", a.Alert, got, want)
		}
		if !sections[anchor] {
			t.Errorf("%s: no section in RUNBOOK.md", a.Alert)
		}
		delete(without, anchor)
	}
	for anchor := range without {
		t.Errorf("RUNBOOK.md has a section %q and there is no such alert", anchor)
	}
}

// A window bridges two missed scrapes if it holds four of them.
func TestRuleWindows(t *testing.T) {
	window := regexp.MustCompile(`\[(\w+)[\]:]`)
	for _, path := range []string{"prometheus/alerts.yml", "prometheus/recording.yml"} {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range window.FindAllSubmatch(b, -1) {
			d, err := model.ParseDuration(string(m[1]))
			if err != nil {
				continue // group_by and the like
			}
			if time.Duration(d) < 4*time.Minute {
				t.Errorf("%s: the window %s is shorter than four scrapes", path, m[0])
			}
		}
	}
}

// A list that works must not hide one that does not: every expression over a
// family with the label resource selects one, keeps it, or aggregates nothing.
func TestRuleResources(t *testing.T) {
	exprs := map[string]string{}
	for _, path := range []string{"prometheus/alerts.yml", "prometheus/recording.yml"} {
		var file ruleFile
		readYAML(t, path, &file)
		for _, group := range file.Groups {
			for _, r := range group.Rules {
				exprs[path+": "+r.Alert+r.Record+r.Labels["resource"]+r.Labels["type"]] = r.Expr
			}
		}
	}
	for i, expr := range promqlBlocks(t, "RUNBOOK.md", true) {
		exprs[fmt.Sprintf("RUNBOOK.md, query %d", i)] = expr
	}
	families := regexp.MustCompile(`\bcohere_(?:list|api_(?:requests|request|warnings)|fetches|job_file|refresh)_\w+(\{[^}]*\})?`)
	aggregation := regexp.MustCompile(`\b(?:sum|max|min|count|avg|group|topk|quantile)\b(?: by \(([^)]*)\))?`)
	for where, expr := range exprs {
		keeps := true
		for _, m := range aggregation.FindAllStringSubmatch(expr, -1) {
			keeps = keeps && strings.Contains(m[1], "resource")
		}
		for _, m := range families.FindAllStringSubmatch(expr, -1) {
			if !keeps && !strings.Contains(m[1], `resource="`) {
				t.Errorf("%s: %s mixes kinds", where, m[0])
			}
		}
	}
}

// Every line of a promql block in the runbook is an expression.
func TestRunbookQueries(t *testing.T) {
	promtool := prometheusTool(t, "promtool")
	b, err := os.ReadFile("RUNBOOK.md")
	if err != nil {
		t.Fatal(err)
	}
	rules := "groups:\n  - name: runbook\n    rules:\n"
	n := 0
	for _, block := range regexp.MustCompile("(?s)```promql\n(.*?)```").FindAllSubmatch(b, -1) {
		for expr := range strings.Lines(string(block[1])) {
			n++
			rules += fmt.Sprintf("      - {record: 'runbook:line:%d', expr: '%s'}\n", n,
				strings.ReplaceAll(strings.TrimSpace(expr), "'", "''"))
		}
	}
	file := filepath.Join(t.TempDir(), "runbook.yml")
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, promtool, "check", "rules", file)
}

// The example of a price table has each price once, none of them real.
func TestCostExample(t *testing.T) {
	var file ruleFile
	readYAML(t, "prometheus/cost.example.yml", &file)
	var seen []string
	for _, r := range file.Groups[0].Rules {
		if r.Expr != "vector(1.00)" {
			t.Errorf("%v: %s is not the example's price", r.Labels, r.Expr)
		}
		key := r.Labels["model"] + " " + r.Labels["type"]
		if slices.Contains(seen, key) {
			t.Errorf("%s is listed twice", key)
		}
		seen = append(seen, key)
	}
}
