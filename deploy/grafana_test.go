package deploy_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// What the rules below look at; the shape as a whole is checked against
// Grafana's own types, and the tables with Grafana's own library, under .ci.
type (
	grafanaDashboard struct {
		UID        string
		Title      string
		Panels     []grafanaPanel
		Templating struct {
			List []struct {
				Name, Type string
				Label      string
				Hide       int
				IncludeAll bool
				AllValue   string
				Datasource grafanaSource
				Query      json.RawMessage
			}
		}
		Annotations struct {
			List []struct {
				Name       string
				Datasource grafanaSource
				Expr       string
			}
		}
	}
	grafanaSource struct{ Type, UID string }
	grafanaPos    struct{ X, Y, W, H int }
	grafanaPanel  struct {
		ID          int
		Type        string
		Title       string
		Description string
		Collapsed   bool
		Datasource  grafanaSource
		GridPos     grafanaPos
		Panels      []grafanaPanel
		Targets     []struct {
			RefID      string
			Expr       string
			Datasource grafanaSource
		}
		FieldConfig struct {
			Defaults struct{ Unit string }
		}
		Options struct {
			YAxis      struct{ Unit string }
			CellValues struct{ Unit string }
		}
	}
)

const grafanaFile = "grafana/dashboards/cohere_exporter.json"

func readDashboard(t *testing.T) (d grafanaDashboard, raw []byte) {
	t.Helper()
	raw, err := os.ReadFile(grafanaFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		t.Fatal(err)
	}
	return d, raw
}

// panels are all of them, those in collapsed rows too.
func (d grafanaDashboard) panels() (all []grafanaPanel) {
	for _, p := range d.Panels {
		all = append(append(all, p), p.Panels...)
	}
	return all
}

// queries is how many a refresh sends, with every row opened or as they are at
// first.
func (d grafanaDashboard) queries(opened bool) (n int) {
	panels := d.Panels
	if opened {
		panels = d.panels()
	}
	for _, p := range panels {
		n += len(p.Targets)
	}
	for _, a := range d.Annotations.List {
		if a.Expr != "" {
			n++
		}
	}
	for _, v := range d.Templating.List {
		if v.Type == "query" {
			n++
		}
	}
	return n
}

var theDataSource = grafanaSource{Type: "prometheus", UID: "${datasource}"}

func TestDashboardPanels(t *testing.T) {
	// Others are deprecated (graph, singlestat, table-old), or plugins that not everybody has.
	allowed := []string{"timeseries", "stat", "table", "state-timeline", "heatmap", "bargauge", "piechart"}

	d, _ := readDashboard(t)
	if len(d.Panels) == 0 {
		t.Fatal("no panels")
	}
	ids := map[int]string{}
	titles := map[string]bool{}
	row := ""
	for _, p := range d.panels() {
		name := fmt.Sprintf("panel %d %q", p.ID, p.Title)
		if other, ok := ids[p.ID]; ok || p.ID <= 0 {
			t.Errorf("%s: its ID is no positive number, or that of %q", name, other)
		}
		ids[p.ID] = p.Title
		if p.Type == "row" {
			row = p.Title
			continue
		}
		if title := row + ": " + p.Title; p.Title == "" || titles[title] {
			t.Errorf("%s: its title is missing, or another panel's in its row", name)
		} else {
			titles[title] = true
		}
		if !slices.Contains(allowed, p.Type) {
			t.Errorf("%s: type %q is not allowed", name, p.Type)
		}
		if !strings.HasSuffix(p.Description, ".") {
			t.Errorf("%s: no description, or none in sentences", name)
		}
		if p.FieldConfig.Defaults.Unit == "" {
			t.Errorf("%s: no unit", name)
		}
		if p.Type == "heatmap" && (p.Options.YAxis.Unit == "" || p.Options.CellValues.Unit == "") {
			t.Errorf("%s: no unit of axis or cells", name)
		}
		if p.Datasource != theDataSource {
			t.Errorf("%s: data source is %v", name, p.Datasource)
		}
		if len(p.Targets) == 0 {
			t.Errorf("%s: no queries", name)
		}
		refs := map[string]bool{}
		for _, q := range p.Targets {
			if q.RefID == "" || refs[q.RefID] {
				t.Errorf("%s: refId %q is missing or used twice", name, q.RefID)
			}
			refs[q.RefID] = true
			if q.Datasource != theDataSource {
				t.Errorf("%s, query %s: data source is %v", name, q.RefID, q.Datasource)
			}
		}
	}
}

func TestDashboardLayout(t *testing.T) {
	d, _ := readDashboard(t)
	checkLayout(t, d.Panels)
	for _, row := range d.Panels {
		if row.Collapsed != (len(row.Panels) > 0) {
			t.Errorf("%q: only a collapsed row has its panels within", row.Title)
		}
		checkLayout(t, row.Panels) // room is made for them where the row is opened
	}
}

func checkLayout(t *testing.T, panels []grafanaPanel) {
	t.Helper()
	taken := map[[2]int]string{}
	for _, p := range panels {
		g := p.GridPos
		if g.X < 0 || g.Y < 0 || g.W < 1 || g.H < 1 || g.X+g.W > 24 {
			t.Errorf("%q: %+v is outside of the 24 columns", p.Title, g)
			continue
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other, ok := taken[[2]int{x, y}]; ok {
					t.Fatalf("%q and %q overlap at column %d, line %d", p.Title, other, x, y)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
}

// A kind of jobs has a row of its own, whose title says how many there are. What
// is in none of these rows speaks of both kinds, or of none.
func TestDashboardRows(t *testing.T) {
	type kinds struct{ embedJobs, batches bool }
	rows := map[string]kinds{
		"Embed jobs: $embed_jobs": {embedJobs: true},
		"Batches: $batches":       {batches: true},
	}
	d, _ := readDashboard(t)
	var row grafanaPanel
	for _, p := range d.panels() {
		if p.Type == "row" {
			row = p
			if want := p.Title == "Batches: $batches"; p.Collapsed != want {
				t.Errorf("row %q: collapsed is %v", p.Title, p.Collapsed)
			}
			continue
		}
		for _, q := range p.Targets {
			got := kinds{
				embedJobs: regexp.MustCompile(`embed_job|\bjob_id\b`).MatchString(q.Expr),
				batches:   regexp.MustCompile(`cohere_batch|batches|\bbatch_id\b`).MatchString(q.Expr),
			}
			want, ofKind := rows[row.Title]
			if ofKind && got != want || !ofKind && got.embedJobs != got.batches {
				t.Errorf("row %q, panel %q, query %s speaks of %+v", row.Title, p.Title, q.RefID, got)
			}
		}
	}
}

func TestDashboardVariables(t *testing.T) {
	d, raw := readDashboard(t)
	defined := []string{"__all", "__range", "__range_s", "__interval", "__rate_interval", "__url_time_range"}
	for i, v := range d.Templating.List {
		defined = append(defined, v.Name)
		if v.Label == "" {
			t.Errorf("variable %s: no label", v.Name)
		}
		if i == 0 {
			if v.Name != "datasource" || v.Type != "datasource" {
				t.Errorf("the first variable is %s, a %s", v.Name, v.Type)
			}
			continue
		}
		// .* matches an absent label too: a single account has none. What is hidden nobody chooses.
		if hidden := v.Hide == 2; !hidden && (!v.IncludeAll || v.AllValue != ".*") {
			t.Errorf("variable %s: All is %q, not .*", v.Name, v.AllValue)
		}
		if v.Type == "query" && v.Datasource != theDataSource {
			t.Errorf("variable %s: data source is %v", v.Name, v.Datasource)
		}
	}
	for _, want := range []string{"datasource", "account", "model", "status", "job", "batch_status", "batch", "embed_jobs", "batches"} {
		if !slices.Contains(defined, want) {
			t.Errorf("no variable %s", want)
		}
	}
	for _, a := range d.Annotations.List {
		if a.Expr != "" && a.Datasource != theDataSource {
			t.Errorf("annotation %s: data source is %v", a.Name, a.Datasource)
		}
	}

	// Names of the panel's own values begin with these; $1 is a match in a regular expression.
	own := regexp.MustCompile(`^(__value|__field|__data)\b|^\d$`)
	for _, m := range regexp.MustCompile(`\$\{([^}:]+)[^}]*\}|\$(\w+)`).FindAllSubmatch(raw, -1) {
		name := string(m[1]) + string(m[2])
		if !slices.Contains(defined, name) && !own.MatchString(name) {
			t.Errorf("variable %s is used but not defined", name)
		}
	}
	// A data source of somebody's own would not be found after an import.
	for _, m := range regexp.MustCompile(`"uid": "([^"]*)"`).FindAllSubmatch(raw, -1) {
		if uid := string(m[1]); uid != "${datasource}" && uid != "-- Grafana --" && uid != d.UID {
			t.Errorf("data source %q is named", uid)
		}
	}
	if !strings.Contains(string(raw), "/d/"+d.UID+"?") {
		t.Errorf("no link leads to this dashboard's own address, /d/%s", d.UID)
	}
}

// A job is what account and ID name together, and each job counts once,
// whichever exporters watch it.
func TestDashboardQueries(t *testing.T) {
	var (
		grouping = regexp.MustCompile(`(?:by|on) ?\(([^)]*\b(?:job|batch)_id\b[^)]*)\)`)
		// The exporter's own state, build and configuration belong to no account, prices to a model.
		selector = regexp.MustCompile(`(\bmodel_type:)?\bcohere_[a-z_]+\b(?::\w+)?(\{[^}]*\})?`)
		noLabel  = regexp.MustCompile(`^cohere_exporter_`)
	)
	d, _ := readDashboard(t)
	for _, p := range d.panels() {
		for _, q := range p.Targets {
			name := fmt.Sprintf("%q, query %s", p.Title, q.RefID)
			for _, m := range grouping.FindAllStringSubmatch(q.Expr, -1) {
				if !strings.Contains(m[1], "account") {
					t.Errorf("%s: (%s) takes jobs of different accounts for one", name, m[1])
				}
			}
			// Names in regular expressions and quotes are not selectors.
			bare := regexp.MustCompile(`__name__=~?"[^"]*"|"__name__", "[^"]*"`).ReplaceAllString(q.Expr, "")
			for _, m := range selector.FindAllStringSubmatch(bare, -1) {
				if m[1] == "" && !noLabel.MatchString(m[0]) && !strings.Contains(m[2], `account=~"$account"`) {
					t.Errorf("%s: %s is not limited to the account chosen", name, m[0])
				}
			}
			if strings.Contains(q.Expr, "__name__") && !strings.Contains(q.Expr, `account=~"$account"`) {
				t.Errorf("%s: not limited to the account chosen", name)
			}
		}
	}
}

// promtool reads every query, as rules of a file (JSON is YAML).
func TestDashboardPromQL(t *testing.T) {
	promtool := tool(t, "promtool")
	type rule struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}
	var rules []rule
	add := func(expr string) {
		expr = strings.NewReplacer("$__range_s", "21600", "$__range", "6h", "$__rate_interval", "4m", "$__interval", "1m").Replace(expr)
		expr = regexp.MustCompile(`"\$[a-z]+"`).ReplaceAllString(expr, `".*"`)
		rules = append(rules, rule{fmt.Sprintf("query:%d", len(rules)), expr})
	}
	d, _ := readDashboard(t)
	for _, p := range d.panels() {
		for _, q := range p.Targets {
			add(q.Expr)
		}
	}
	for _, a := range d.Annotations.List {
		if a.Expr != "" {
			add(a.Expr)
		}
	}
	for _, v := range d.Templating.List {
		var q struct{ Query string }
		if json.Unmarshal(v.Query, &q) != nil {
			continue // a custom variable's is text
		}
		if expr, ok := strings.CutPrefix(q.Query, "query_result("); ok {
			// Grafana takes these for one line.
			if strings.Contains(expr, "\n") {
				t.Errorf("variable %s: a query of several lines", v.Name)
			}
			add(strings.TrimSuffix(expr, ")"))
		}
	}
	raw, err := json.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(promtool, "check", "rules", "--lint=none", file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// Panels over time ask for series that are recorded, or for no more than a day
// of the rest, but for the states that few jobs are in: 500 jobs over a month
// would cost Prometheus a minute of CPU for each refresh.
func TestDashboardCost(t *testing.T) {
	perJob := regexp.MustCompile(`\bcohere_(?:embed_job|batch)_[a-z_]+\{`)
	d, _ := readDashboard(t)
	for _, p := range d.panels() {
		if p.Type != "timeseries" && p.Type != "state-timeline" {
			continue
		}
		for _, q := range p.Targets {
			bare := regexp.MustCompile(`account\w*:cohere_(?:embed_job|batch)_\w+:\w+\{`).ReplaceAllString(q.Expr, "recorded{")
			if p.Type == "timeseries" && perJob.MatchString(bare) {
				t.Errorf("%q, query %s asks for all jobs at each point", p.Title, q.RefID)
			}
			for _, m := range regexp.MustCompile(`\bcohere_(?:embed_job|batch)_(?:status|up)\{[^}]*\}`).FindAllString(regexp.MustCompile(`last_over_time\([^)]*\)`).ReplaceAllString(bare, ""), -1) {
				if !strings.Contains(m, `status=~"$shown"`) {
					t.Errorf("%q, query %s: %s is not limited to a day", p.Title, q.RefID, m)
				}
			}
		}
	}
	for _, a := range d.Annotations.List {
		if perJob.MatchString(regexp.MustCompile(`account_job:\w+:\w+\{`).ReplaceAllString(a.Expr, "")) {
			t.Errorf("annotation %s asks for all jobs at each point", a.Name)
		}
	}
}

// A list that works must not hide one that does not: every query over a family
// with the label resource selects one, or keeps it.
func TestDashboardResources(t *testing.T) {
	families := regexp.MustCompile(`\bcohere_(?:list|api|fetches|job_file|refresh)_\w+(\{[^}]*\})?`)
	d, _ := readDashboard(t)
	for _, p := range d.panels() {
		for _, q := range p.Targets {
			for _, m := range families.FindAllStringSubmatch(q.Expr, -1) {
				if !strings.Contains(m[1], `resource="`) && !regexp.MustCompile(`by \([^)]*\bresource\b`).MatchString(q.Expr) {
					t.Errorf("%q, query %s: %s mixes kinds", p.Title, q.RefID, m[0])
				}
			}
		}
	}
}

// Grafana finds what the provisioning names only if the Compose file mounts
// it there, and Prometheus only under its service's name.
func TestGrafanaProvisioning(t *testing.T) {
	read := func(name string) string {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	find := func(pattern, text string) string {
		m := regexp.MustCompile(pattern).FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("%s: not found in\n%s", pattern, text)
		}
		return m[1]
	}
	compose := read("docker-compose.yml")
	dir := find(`(?m)^ +path: (\S+)$`, read("grafana/provisioning/dashboards/cohere_exporter.yml"))
	if !strings.Contains(compose, "./grafana/dashboards:"+dir+":ro") {
		t.Errorf("the dashboards are not mounted at %s", dir)
	}
	if !strings.Contains(compose, "./grafana/provisioning:/etc/grafana/provisioning:ro") {
		t.Error("the provisioning is not mounted")
	}
	host := find(`(?m)^ +url: http://([a-z]+):9090$`, read("grafana/provisioning/datasources/prometheus.yml"))
	if !strings.Contains(compose, "\n  "+host+":\n") {
		t.Errorf("there is no service %s", host)
	}
}
