package deploy_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	promconfig "github.com/prometheus/common/config"

	"github.com/cohere-exporter/cohere_exporter/client"
	"github.com/cohere-exporter/cohere_exporter/collector"
	"github.com/cohere-exporter/cohere_exporter/collector/config"
	"github.com/cohere-exporter/cohere_exporter/collector/logging"
)

const readme = "../README.md"

// markdownTables returns the rows of all tables of a file that begin with this
// header. Cells are without the quotes of code.
func markdownTables(t *testing.T, path string, header ...string) (tables [][][]string) {
	t.Helper()
	begins := "| " + strings.Join(header, " | ") + " |"
	within := false
	for line := range strings.Lines(string(readFile(t, path))) {
		line = strings.TrimSpace(line)
		switch {
		case line == begins:
			within = true
			tables = append(tables, nil)
		case !strings.HasPrefix(line, "|"):
			within = false
		case within && !strings.HasPrefix(line, "|--"):
			cells := strings.Split(strings.ReplaceAll(strings.Trim(line, "|"), `\|`, "\x00"), "|")
			for i, cell := range cells {
				cells[i] = strings.TrimSpace(strings.ReplaceAll(cell, "\x00", "|"))
			}
			if len(cells) != len(header) {
				t.Fatalf("%s: not %d cells: %s", path, len(header), line)
			}
			last := len(tables) - 1
			tables[last] = append(tables[last], cells)
		}
	}
	if len(tables) == 0 {
		t.Fatalf("%s: no table %s", path, begins)
	}
	return tables
}

// code returns what stands in quotes of code.
func code(cell string) (words []string) {
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cell, -1) {
		words = append(words, m[1])
	}
	return words
}

// flagOf is what README and --help say of a flag.
type flagOf struct{ value, fallback, variable string }

func TestReadmeFlags(t *testing.T) {
	help := runToEnd(t, "", nil, "--help").stdout
	begin := regexp.MustCompile(`(?m)^  (?:-\w, |    )--(\[no-\])?([\w.-]+)(?:=(\S*))?`)
	starts := begin.FindAllStringSubmatchIndex(help, -1)
	got := map[string]flagOf{}
	for i, at := range starts {
		end := len(help)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		m := begin.FindStringSubmatch(help[at[0]:])
		f := flagOf{fallback: m[3]}
		if m[1] != "" {
			f.fallback = "false"
		}
		if v := regexp.MustCompile(`\(\$(\w+)\)`).FindStringSubmatch(help[at[0]:end]); v != nil {
			f.variable = v[1]
		}
		got[m[2]] = f
	}
	for _, name := range []string{"help", "version"} {
		if _, ok := got[name]; !ok {
			t.Errorf("there is no --%s", name)
		}
		delete(got, name)
	}

	for _, row := range markdownTables(t, readme, "flag", "default", "environment", "meaning")[0] {
		var want flagOf
		if variable := code(row[2]); len(variable) > 0 {
			want.variable = variable[0]
		}
		if row[0] == "" {
			if !strings.Contains(help, want.variable) {
				t.Errorf("--help does not tell of %s", want.variable)
			}
			continue
		}
		var name string
		name, want.value, _ = strings.Cut(strings.TrimPrefix(code(row[0])[0], "--"), "=")
		if fallback := code(row[1]); len(fallback) > 0 {
			want.fallback = fallback[0]
		}
		f, ok := got[name]
		if !ok {
			t.Errorf("there is no --%s", name)
			continue
		}
		delete(got, name)
		// --help shows a word for the value in place of the default where there is
		// none, or one that depends on others.
		if f.fallback == want.value && (want.fallback == "" || name == "cohere.fetch") {
			f.fallback = want.fallback
		}
		f.value = want.value
		if f != want {
			t.Errorf("--%s: the program has %+v, README %+v", name, f, want)
		}
	}
	for name := range got {
		t.Errorf("README does not list --%s", name)
	}
}

// programMetrics returns the labels of every metric that the program may have,
// and those of the exporter's account where there are several.
func programMetrics(t *testing.T) map[string][]string {
	t.Helper()
	account, jobs := config.Default(), config.DefaultJobs()
	account.Name, account.EmbedJobs, account.Batches = "search", &jobs, &jobs
	jobs.IDs = []string{"job"}
	account.HTTPClientConfig.Authorization = &promconfig.Authorization{Credentials: testKey}
	own := prometheus.NewRegistry()
	set, err := collector.New(&config.Config{Accounts: []config.Account{account}, FromFile: true},
		collector.Options{Registerer: own})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set.Close)
	collector.NewReloader("", set, own, log.NewNopLogger())
	lines := logging.NewQueue(io.Discard)
	t.Cleanup(lines.Close)
	own.MustRegister(
		lines.Dropped,
		versioncollector.NewCollector("cohere_exporter"),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	promhttp.InstrumentMetricHandler(own, promhttp.HandlerFor(own, promhttp.HandlerOpts{Registry: own}))

	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		own.Describe(descs)
		set.Collector(t.Context()).Describe(descs)
	}()
	metrics := map[string][]string{}
	for d := range descs {
		m := regexp.MustCompile(`^Desc\{fqName: "(\w+)", help: ".*", constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`).FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("cannot read %s", d)
		}
		labels := []string{}
		for label := range strings.FieldsFuncSeq(m[3], func(r rune) bool { return r == ',' }) {
			labels = append(labels, label)
		}
		for _, l := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(m[2], -1) {
			labels = append(labels, l[1])
		}
		metrics[m[1]] = labels
	}
	return metrics
}

func TestReadmeMetrics(t *testing.T) {
	metrics := programMetrics(t)
	missing := maps.Clone(metrics)
	maps.DeleteFunc(missing, func(name string, _ []string) bool { return !strings.HasPrefix(name, "cohere_") })
	tables := markdownTables(t, readme, "metric", "labels", "meaning")
	labels := [][]string{{"account", "job_id"}, {"account", "batch_id"}, {"account"}}
	if len(tables) != len(labels) {
		t.Fatalf("%d tables of metrics; want those of an embed job, of a batch and of an account", len(tables))
	}
	for i, before := range labels {
		for _, row := range tables[i] {
			name, want := code(row[0])[0], slices.Concat(before, code(row[1]))
			got, ok := metrics[name]
			delete(missing, name)
			if !ok || !slices.Equal(got, want) {
				t.Errorf("%s: the program has it: %v, with labels %v; README has %v", name, ok, got, want)
			}
		}
	}
	_, rest, _ := strings.Cut(string(readFile(t, readme)), "\nOf the exporter: ")
	rest, _, _ = strings.Cut(rest, "\n\n")
	families := map[string]bool{}
	for _, word := range code(rest) {
		if family, ok := strings.CutSuffix(word, "_*"); ok {
			families[family] = true
		} else if metrics[word] == nil {
			t.Errorf("there is no %s", word)
		}
		delete(missing, word)
	}
	for name := range missing {
		t.Errorf("README does not list %s", name)
	}
	for name := range metrics {
		if family, _, _ := strings.Cut(name, "_"); family != "cohere" && !families[family] {
			t.Errorf("README knows nothing of %s", name)
		}
	}

	// What the program itself sends is all of that, and no more.
	exposition := runToEnd(t, "", nil, "--demo", "--once").stdout
	types := regexp.MustCompile(`(?m)^# TYPE (\w+) `).FindAllStringSubmatch(exposition, -1)
	if len(types) == 0 {
		t.Error("--demo --once prints no metrics")
	}
	for _, m := range types {
		family, _, _ := strings.Cut(m[1], "_")
		if metrics[m[1]] == nil && !families[family] || family != "cohere" && !families[family] {
			t.Errorf("README knows nothing of %s", m[1])
		}
	}
}

func TestReadmeReasons(t *testing.T) {
	// The client's reasons are its constants of that type.
	file, err := parser.ParseFile(token.NewFileSet(), "../client/error.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	missing := map[string]bool{"over_budget": true}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Reason" {
				reason, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				missing[reason] = true
			}
		}
		return true
	})
	if len(missing) < 2 {
		t.Fatal("no reasons found")
	}
	for _, row := range markdownTables(t, readme, "reason", "from")[0] {
		reason := code(row[0])[0]
		if !missing[reason] {
			t.Errorf("there is no reason %s, or it is listed twice", reason)
		}
		delete(missing, reason)
		if status, err := strconv.Atoi(regexp.MustCompile(`^\d*`).FindString(row[1])); err == nil && status != 200 {
			if got := client.ReasonOf(client.Error{StatusCode: status}); string(got) != reason {
				t.Errorf("%d is %s, not %s", status, got, reason)
			}
		}
	}
	for reason := range missing {
		t.Errorf("README does not list %s", reason)
	}
}

// promqlBlocks returns the expressions that a document shows: each block of
// code, or each line of those.
func promqlBlocks(t *testing.T, path string, lines bool) (exprs []string) {
	t.Helper()
	for _, m := range regexp.MustCompile("(?s)```promql\n(.*?)```").FindAllStringSubmatch(string(readFile(t, path)), -1) {
		if !lines {
			exprs = append(exprs, m[1])
			continue
		}
		for line := range strings.Lines(m[1]) {
			exprs = append(exprs, line)
		}
	}
	if len(exprs) == 0 {
		t.Fatalf("%s has no queries", path)
	}
	return exprs
}

func TestReadmeQueries(t *testing.T) {
	var rules []map[string]string
	for i, expr := range promqlBlocks(t, readme, false) {
		rules = append(rules, map[string]string{"record": fmt.Sprintf("readme:query:%d", i), "expr": expr})
	}
	text, err := json.Marshal(map[string]any{"groups": []any{map[string]any{"name": "readme", "rules": rules}}}) // JSON is YAML
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "readme.yml")
	write(t, file, string(text))
	run(t, prometheusTool(t, "promtool"), "check", "rules", "--lint=none", file)
}

// The example that explains every key is one that the program accepts, and has
// both kinds of jobs with the same keys, which are all.
func TestExampleConfiguration(t *testing.T) {
	const file = "cohere_exporter.yml"
	dir := t.TempDir()
	for name, content := range map[string]string{
		file: string(readFile(t, file)), "search.key": "key", "research.key": "key",
		"jobs/a.txt": "ebd-1\n", "batches/a.txt": "2f6c0f0a\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), content)
	}
	plan := runToEnd(t, dir, nil, "--config.file="+file, "--config.check")
	if plan.status != 0 || strings.Contains(plan.stdout, "warning") {
		t.Errorf("status %d:\n%s%s", plan.status, plan.stdout, plan.stderr)
	}

	var example struct {
		Accounts []struct {
			EmbedJobs map[string]any `yaml:"embed_jobs"`
			Batches   map[string]any
		}
	}
	unmarshal(t, file, &example)
	var want []string
	for field := range reflect.TypeFor[config.Jobs]().Fields() {
		key, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		want = append(want, key)
	}
	slices.Sort(want)
	for kind, jobs := range map[string]map[string]any{"embed_jobs": example.Accounts[0].EmbedJobs, "batches": example.Accounts[0].Batches} {
		if got := slices.Sorted(maps.Keys(jobs)); !slices.Equal(got, want) {
			t.Errorf("%s has the keys %v, want %v", kind, got, want)
		}
	}
}

// Links lead to files that exist, and to headings that they have.
func TestLinks(t *testing.T) {
	for _, path := range append(glob(t, "*.md"), readme, securityFile, contributingFile, "../CHANGELOG.md", "../.ci/README.md") {
		for _, m := range regexp.MustCompile(`\]\(([^)#\s]*)(?:#([^)\s]*))?\)`).FindAllStringSubmatch(string(readFile(t, path)), -1) {
			to := path
			if strings.Contains(m[1], "://") {
				continue
			}
			if m[1] != "" {
				to = filepath.Join(filepath.Dir(path), m[1])
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: %v", path, err)
			} else if m[2] != "" && !slices.Contains(anchors(t, to), m[2]) {
				t.Errorf("%s: %s has no heading #%s", path, to, m[2])
			}
		}
	}
}

// anchors returns those that GitHub gives the headings of a document.
func anchors(t *testing.T, path string) (names []string) {
	t.Helper()
	text := regexp.MustCompile("(?s)\n```.*?\n```").ReplaceAllString(string(readFile(t, path)), "")
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(text, -1) {
		name := regexp.MustCompile(`[^\w\- ]`).ReplaceAllString(strings.ToLower(m[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}

// vocabulary is what expressions are made of.
type vocabulary struct {
	metrics map[string]bool
	labels  map[string]bool
}

// Every metric and label that rules, dashboard and documents name is one of the
// program's, of Prometheus's own, or recorded.
func TestNamesExist(t *testing.T) {
	known := vocabulary{
		metrics: map[string]bool{"up": true, "scrape_duration_seconds": true, "ALERTS": true},
		labels:  map[string]bool{"job": true, "instance": true, "__name__": true, "le": true, "alertname": true, "alertstate": true, "severity": true},
	}
	program := programMetrics(t)
	for name, labels := range program {
		known.metrics[name] = true
		for _, label := range labels {
			known.labels[label] = true
		}
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		known.metrics["cohere_api_request_duration_seconds"+suffix] = true
	}

	// Where an expression stands, and itself.
	exprs := map[string]string{}
	for _, path := range glob(t, "prometheus/*.yml") {
		if name := filepath.Base(path); name == "prometheus.yml" || name == "compose.yml" {
			continue
		}
		var file ruleFile
		readYAML(t, path, &file)
		for _, group := range file.Groups {
			for _, r := range group.Rules {
				exprs[path+": "+r.Alert+r.Record+r.Labels["resource"]+r.Labels["type"]+r.Labels["model"]] = r.Expr
				if r.Record != "" {
					known.metrics[r.Record] = true
					for label := range r.Labels {
						known.labels[label] = true
					}
				}
			}
		}
	}
	for _, e := range dashboardExpressions(t) {
		exprs[e.where] = e.expr
	}
	for path, lines := range map[string]bool{readme: false, "RUNBOOK.md": true} {
		for i, expr := range promqlBlocks(t, path, lines) {
			exprs[fmt.Sprintf("%s, query %d", path, i)] = expr
		}
	}

	for where, expr := range exprs {
		named := namesIn(t, expr)
		for name := range named.metrics {
			pattern, isPattern := strings.CutPrefix(name, "~")
			switch {
			case isPattern && !slices.ContainsFunc(slices.Collect(maps.Keys(program)), regexp.MustCompile("^(?:"+pattern+")$").MatchString):
				t.Errorf("%s: no metric is like %s", where, pattern)
			case !isPattern && !known.metrics[name]:
				t.Errorf("%s: there is no metric %s", where, name)
			}
		}
		for label := range named.labels {
			if !known.labels[label] {
				t.Errorf("%s: there is no label %s", where, label)
			}
		}
	}

	for _, path := range append(glob(t, "*.md"), readme) {
		for _, word := range regexp.MustCompile(`[\w:]*\bcohere_[\w:]*\w`).FindAllString(string(readFile(t, path)), -1) {
			if word != "cohere_exporter" && !known.metrics[word] {
				t.Errorf("%s: there is no metric %s", path, word)
			}
		}
	}
}

// namesIn takes an expression apart as far as its names need. Patterns of names
// begin with "~".
func namesIn(t *testing.T, expr string) vocabulary {
	t.Helper()
	named := vocabulary{map[string]bool{}, map[string]bool{}}
	cut := func(pattern, with string, each func(m []string)) {
		re := regexp.MustCompile(pattern)
		for _, m := range re.FindAllStringSubmatch(expr, -1) {
			each(m)
		}
		expr = re.ReplaceAllString(expr, with)
	}
	label := func(names string) {
		for _, name := range regexp.MustCompile(`\w+`).FindAllString(names, -1) {
			named.labels[name] = true
		}
	}
	made := map[string]bool{} // labels that the expression itself makes
	cut(`__name__=~"([^"]*)"`, `__name__=""`, func(m []string) { named.metrics["~"+m[1]] = true })
	if strings.Contains(expr, "label_replace(") || strings.Contains(expr, "label_join(") {
		for _, m := range regexp.MustCompile(`, ?"(\w+)", ?"`).FindAllStringSubmatch(expr, -1) {
			made[m[1]] = true
		}
	}
	for _, m := range regexp.MustCompile(`count_values\("(\w+)"`).FindAllStringSubmatch(expr, -1) {
		made[m[1]] = true
	}
	cut(`"[^"]*"`, `""`, func([]string) {})
	cut(`\{([^}]*)\}`, "", func(m []string) { label(m[1]) })
	cut(`\[[^\]]*\]`, "", func([]string) {})
	cut(`\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)`, "", func(m []string) { label(m[2]) })
	cut(`(?:^|[^\w.:])([A-Za-z_:][\w:]*)\s*(\(?)`, " $2", func(m []string) {
		switch m[1] {
		case "and", "or", "unless", "bool", "offset":
			return
		}
		if m[2] == "" {
			named.metrics[m[1]] = true
		}
	})
	for name := range made {
		delete(named.labels, name)
	}
	return named
}
