package deploy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"text/template"

	"go.yaml.in/yaml/v3"
)

const dashboardSource = "grafana/cohere_exporter.yml.tmpl"

// A dashboardKind is a kind of jobs with what its panels are made of.
type dashboardKind struct {
	kind
	Row            int
	Var, StatusVar string           // variables
	States         []dashboardState // those that need attention first
	Columns        []dashboardColumn
	Longest        []dashboardLongest
}

// A dashboardState is a status, or one of the two below. Where replicas of the
// exporter disagree, it yields to others.
type dashboardState struct {
	Name, Color string
	Rank        int
	Yields      string
}

// A dashboardColumn shows cohere_<Family>_<Metric>, in the color Bad from 1 on.
type dashboardColumn struct {
	Metric, Title string
	Width         int
	Unit, Bad     string
}

// A dashboardLongest shows the jobs that have been in a status for longest.
type dashboardLongest struct {
	ID                       int
	Title, Description, None string
	Since, Status, Unless    string // cohere_<Family>_<Since>_timestamp_seconds
	Orange, Red              int    // seconds
	Width                    int
}

var dashboardKinds = []dashboardKind{
	{
		kind: kinds[0], Row: 1, Var: "job", StatusVar: "status",
		States: kinds[0].states(
			"failed", "red", noData, "#808080", "unknown", "purple", "cancelling", "yellow",
			"processing", "blue", "cancelled", "orange", "complete", "green"),
		Columns: []dashboardColumn{
			{"billed_input_tokens", "Input tokens", 115, "short", ""},
			{"billed_output_tokens", "Output tokens", 125, "short", ""},
			{"billed_images", "Images", 90, "short", ""},
			{"warnings", "Warnings", 95, "short", "orange"},
		},
		Longest: []dashboardLongest{{
			ID: 14, Title: "Longest running", Width: 12, None: "none running",
			Description: "The ten embed jobs that have been processing or cancelling for longest, by time since creation. Red from 6 hours, as in the alert.",
			Since:       "created", Status: "processing|cancelling", Unless: "complete|cancelled|failed",
			Orange: 3 * 3600, Red: 6 * 3600,
		}},
	},
	{
		kind: kinds[1], Row: 2, Var: "batch", StatusVar: "batch_status",
		States: kinds[1].states(
			"failed", "red", incomplete, "light-red", noData, "#808080", "unknown", "purple", "canceling", "yellow",
			"in_progress", "blue", "queued", "light-blue", "canceled", "orange", "completed", "green"),
		Columns: []dashboardColumn{
			{"records", "Records", 90, "locale", ""},
			{"records_successful", "Successful", 100, "locale", ""},
			{"records_failed", "Failed", 80, "locale", "red"},
			{"input_tokens", "Input tokens", 115, "short", ""},
			{"output_tokens", "Output tokens", 125, "short", ""},
		},
		Longest: []dashboardLongest{
			{
				ID: 14, Title: "Longest queued", Width: 6, None: "none queued",
				Description: "The ten batches that have been queued for longest, by time since creation. Red from 6 hours, as in the alert.",
				Since:       "created", Status: "queued", Unless: "in_progress|canceling|completed|canceled|failed",
				Orange: 3 * 3600, Red: 6 * 3600,
			},
			{
				ID: 15, Title: "Longest unchanged", Width: 6, None: "none in progress",
				Description: "The ten batches in progress or canceling of which nothing has changed for longest. Red from 12 hours, as in the alert.",
				Since:       "(created|updated|status_changed)", Status: "in_progress|canceling", Unless: "completed|canceled|failed",
				Orange: 6 * 3600, Red: 12 * 3600,
			},
		},
	},
}

// States that are no statuses: nothing is known of a job; a batch was completed,
// but not all of its records were successful.
const (
	noData     = "no data"
	incomplete = "incomplete"
)

// IsStatus reports whether the API knows the state.
func (s dashboardState) IsStatus() bool { return s.Name != noData && s.Name != incomplete }

// states takes names and colors, those that need attention first. Where replicas
// of the exporter disagree, a settled status is right, else the one that comes
// first.
func (k kind) states(namesAndColors ...string) (states []dashboardState) {
	var active []string
	for pair := range slices.Chunk(namesAndColors, 2) {
		s := dashboardState{Name: pair[0], Color: pair[1], Rank: len(namesAndColors)/2 - len(states)}
		if s.IsStatus() && !k.settled(s) {
			s.Yields = strings.Join(append([]string{k.Settled}, active...), "|")
			active = append(active, s.Name)
		}
		states = append(states, s)
	}
	return states
}

func (k kind) settled(s dashboardState) bool {
	return slices.Contains(strings.Split(k.Settled, "|"), s.Name)
}

func (k dashboardKind) only(which func(dashboardState) bool) []dashboardState {
	return slices.DeleteFunc(slices.Clone(k.States), func(s dashboardState) bool { return !which(s) })
}

func (k dashboardKind) named(name string) dashboardState {
	return k.only(func(s dashboardState) bool { return s.Name == name })[0]
}

// Settling are the settled states, and Active those that may yet become one.
func (k dashboardKind) Settling() []dashboardState { return k.only(k.settled) }

func (k dashboardKind) Active() []dashboardState {
	return k.only(func(s dashboardState) bool { return s.Yields != "" })
}

func (k dashboardKind) NoData() dashboardState     { return k.named(noData) }
func (k dashboardKind) Incomplete() dashboardState { return k.named(incomplete) }

// Done is how a job ends that needs no attention.
func (k dashboardKind) Done() string { return k.States[len(k.States)-1].Name }

// Billed is what is billed, as a pattern: cohere_<Family>_<...>.
func (k dashboardKind) Billed() string {
	return "(" + strings.Join(slices.Sorted(maps.Values(k.Tokens)), "|") + ")"
}

// Statuses are those to choose from.
func (k dashboardKind) Statuses() string {
	var names []string
	for _, s := range k.only(dashboardState.IsStatus) {
		names = append(names, s.Name)
	}
	return strings.Join(names, ",")
}

// Mappings show a state's rank as its name, in its color.
func (k dashboardKind) Mappings() string {
	var triples []any
	for _, s := range k.States {
		triples = append(triples, s.Rank, s.Name, s.Color)
	}
	return mappings(triples...)
}

// mappings takes values, the texts to show for them, and colors.
func mappings(triples ...any) string {
	options := object{}
	for triple := range slices.Chunk(triples, 3) {
		options[fmt.Sprint(triple[0])] = object{"text": triple[1], "color": triple[2], "index": len(options)}
	}
	return inline([]any{object{"type": "value", "options": options}})
}

// thresholds takes the color of what is below, then values and colors from there.
func thresholds(base string, from ...any) string {
	steps := []any{object{"color": base, "value": nil}}
	for pair := range slices.Chunk(from, 2) {
		steps = append(steps, object{"value": pair[0], "color": pair[1]})
	}
	return inline(object{"mode": "absolute", "steps": steps})
}

// inline is a value as JSON, which is YAML too.
func inline(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

type object = map[string]any

// merge adds what is in one object, or in objects within, to another, in which it
// may replace what is there.
func merge(into, from object) object {
	into = maps.Clone(into)
	for key, value := range from {
		old, ok := into[key].(object)
		if inner, both := value.(object); ok && both {
			value = merge(old, inner)
		}
		into[key] = value
	}
	return into
}

// The short form of dashboardSource.
type (
	shortDashboard struct {
		Types     map[string]object
		Dashboard object
		Variables []shortVariable
		Rows      []struct {
			Title     string
			Collapsed bool
			Panels    []shortPanel
		}
	}
	shortVariable struct{ Name, Label, Description, Type, Query, Ask, Regex, Initially string }
	shortPanel    struct {
		ID                       int
		Type, Title, Description string
		Size                     [2]int
		MaxDataPoints            int `yaml:"maxDataPoints"`
		Links                    []object
		Defaults, Options        object
		Overrides                map[string]object
		Queries                  []shortQuery
		Columns                  []map[string]string
		Transformations          []object
	}
	shortQuery struct {
		RefID                  string `yaml:"refId"`
		Legend, Interval, Expr string
	}
)

// makeDashboard makes the dashboard from its source.
func makeDashboard(t *testing.T) []byte {
	t.Helper()
	tmpl := template.New(dashboardSource).Delims("[[", "]]").Option("missingkey=error")
	indent := func(n int, text string) string { return strings.ReplaceAll(text, "\n", "\n"+strings.Repeat(" ", n)) }
	tmpl.Funcs(template.FuncMap{
		"include": func(name string, data any) (string, error) {
			var text strings.Builder
			err := tmpl.ExecuteTemplate(&text, name, data)
			return text.String(), err
		},
		"indent":   indent,
		"nindent":  func(n int, text string) string { return indent(n, "\n"+text) },
		"id":       func(k dashboardKind, n int) int { return 100*k.Row + n },
		"list":     func(items ...string) []string { return items },
		"mappings": mappings,
		"runbook": func(alert ...string) string {
			if len(alert) == 0 {
				return runbookURL
			}
			return runbookURL + "#" + strings.ToLower(alert[0])
		},
		"source":     func() string { return inline(theDataSource.object()) },
		"thresholds": thresholds,
		"title":      func(word string) string { return strings.ToUpper(word[:1]) + word[1:] },
	})
	if _, err := tmpl.Parse(string(readFile(t, dashboardSource))); err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := tmpl.Execute(&text, map[string]any{"Kinds": dashboardKinds}); err != nil {
		t.Fatal(err)
	}
	var short shortDashboard
	decoder := yaml.NewDecoder(&text)
	decoder.KnownFields(true)
	if err := decoder.Decode(&short); err != nil {
		t.Fatalf("%s: %v", dashboardSource, err)
	}

	dashboard, variables := short.Dashboard, []object{}
	for _, v := range short.Variables {
		variables = append(variables, v.object())
	}
	dashboard["templating"] = object{"list": variables}

	panels, y := []object{}, 0
	for i, r := range short.Rows {
		row := object{
			"id": 1000 + i, "type": "row", "title": r.Title, "collapsed": r.Collapsed,
			"gridPos": object{"x": 0, "y": y, "w": 24, "h": 1},
		}
		y++
		within, below := place(short.Types, r.Panels, y)
		if panels = append(panels, row); r.Collapsed {
			row["panels"] = within // Grafana makes room for them when the row is opened
		} else {
			row["panels"] = []object{}
			panels, y = append(panels, within...), below
		}
	}
	dashboard["panels"] = panels

	var made bytes.Buffer
	encoder := json.NewEncoder(&made)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(dashboard); err != nil {
		t.Fatal(err)
	}
	return made.Bytes()
}

// place puts panels side by side, as far as there is room, from a line on. It
// returns the line below them.
func place(types map[string]object, panels []shortPanel, y int) (placed []object, below int) {
	x, below := 0, y
	for _, p := range panels {
		w, h := p.Size[0], p.Size[1]
		if x+w > 24 {
			x, y = 0, below
		}
		object := p.object(types)
		object["gridPos"] = map[string]any{"x": x, "y": y, "w": w, "h": h}
		placed = append(placed, object)
		x, below = x+w, max(below, y+h)
	}
	return placed, below
}

func (s grafanaSource) object() object { return object{"type": s.Type, "uid": s.UID} }

// object is the variable as Grafana has it: one that may be several, and all at
// first, or one that nobody chooses.
func (v shortVariable) object() object {
	o := object{
		"name": v.Name, "label": v.Label, "description": v.Description, "type": v.Type, "query": v.Query, "hide": 0,
		"skipUrlSync": false, "options": []any{}, "regex": v.Regex, "refresh": 1, "includeAll": false, "multi": false,
		"current": object{"text": "", "value": ""},
	}
	if v.Ask != "" {
		kind := 1
		if strings.HasPrefix(v.Ask, "query_result(") {
			kind = 3
		}
		o = merge(o, object{
			"type": "query", "datasource": theDataSource.object(), "definition": v.Ask, "sort": 1, "refresh": 2,
			"query": object{"qryType": kind, "query": v.Ask, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
		})
	}
	switch {
	case v.Initially != "":
		return merge(o, object{"hide": 2, "current": object{"selected": true, "text": v.Initially, "value": v.Initially}})
	case v.Type == "datasource":
		return o
	default:
		return merge(o, object{
			"includeAll": true, "allValue": ".*", "multi": true,
			"current": object{"selected": true, "text": []string{"All"}, "value": []string{"$__all"}},
		})
	}
}

// object is the panel as Grafana has it, but for its place.
func (p shortPanel) object(types map[string]object) object {
	o := merge(types[p.Type], object{
		"id": p.ID, "type": p.Type, "title": p.Title, "description": p.Description, "datasource": theDataSource.object(),
		"fieldConfig": object{"defaults": p.Defaults, "overrides": p.overrides()},
		"options":     p.Options,
		"targets":     p.targets(),
	})
	if p.MaxDataPoints > 0 {
		o["maxDataPoints"] = p.MaxDataPoints
	}
	if len(p.Links) > 0 {
		o["links"] = p.Links
	}
	if steps := append(p.table(), p.Transformations...); len(steps) > 0 {
		o["transformations"] = steps
	}
	return o
}

func (p shortPanel) overrides() []object {
	all := []object{}
	for _, name := range slices.Sorted(maps.Keys(p.Overrides)) {
		matcher := object{"id": "byName", "options": name}
		if strings.HasPrefix(name, "/") {
			matcher["id"] = "byRegexp"
		}
		properties := []object{}
		for _, id := range slices.Sorted(maps.Keys(p.Overrides[name])) {
			properties = append(properties, object{"id": id, "value": p.Overrides[name][id]})
		}
		all = append(all, object{"matcher": matcher, "properties": properties})
	}
	return all
}

func (p shortPanel) targets() (targets []object) {
	overTime := slices.Contains([]string{"timeseries", "state-timeline", "heatmap"}, p.Type)
	for _, q := range p.Queries {
		o := object{
			"refId": q.RefID, "expr": strings.TrimSpace(q.Expr), "datasource": theDataSource.object(), "editorMode": "code",
			"range": overTime, "instant": !overTime,
		}
		if p.Type == "table" || p.Type == "heatmap" {
			o["format"] = p.Type
		}
		if q.Legend != "" {
			o["legendFormat"] = q.Legend
		}
		if q.Interval != "" {
			o["interval"] = q.Interval
		} else if overTime {
			o["interval"] = "1m"
		}
		targets = append(targets, o)
	}
	return targets
}

// table makes one table of the queries' answers, with the panel's columns.
func (p shortPanel) table() (steps []object) {
	if len(p.Columns) == 0 {
		return nil
	}
	value := func(string) string { return "Value" }
	if len(p.Queries) > 1 {
		value = func(refID string) string { return "Value #" + refID }
		steps = append(steps, object{"id": "merge", "options": object{}}, object{"id": "filterByValue", "options": object{
			"type": "include", "match": "all",
			"filters": []object{{"fieldName": value(p.Queries[0].RefID), "config": object{"id": "isNotNull", "options": object{}}}},
		}})
	}
	hidden, order, titles := object{"Time": true}, object{}, object{}
	for _, q := range p.Queries {
		hidden[value(q.RefID)] = true
	}
	for _, column := range p.Columns {
		for field, title := range column {
			if refID, ok := strings.CutPrefix(field, "#"); ok {
				field = value(refID)
			}
			delete(hidden, field)
			order[field], titles[field] = len(order), title
		}
	}
	return append(steps, object{"id": "organize", "options": object{
		"excludeByName": hidden, "includeByName": object{}, "indexByName": order, "renameByName": titles,
	}})
}

func TestDashboardFile(t *testing.T) {
	want := makeDashboard(t)
	if *update {
		if err := os.WriteFile(grafanaFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(readFile(t, grafanaFile), want) {
		t.Errorf("%s differs from %s: run go test ./deploy -run DashboardFile -update", grafanaFile, dashboardSource)
	}
}
