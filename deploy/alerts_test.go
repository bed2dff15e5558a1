package deploy_test

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"text/template"
)

// A kind is what its alerts are made with; they are those of alerts.yml.tmpl
// for each kind.
type kind struct {
	Resource, Family, Count, ID string // cohere_<Family>_*, cohere_<Count>, labels
	Alert, Alerts               string // in names of alerts
	Noun, Nouns, Title          string // in texts
	Settled                     string
}

var kinds = []kind{{
	Resource: "embed_jobs", Family: "embed_job", Count: "embed_jobs", ID: "job_id",
	Alert: "EmbedJob", Alerts: "EmbedJobs",
	Noun: "embed job", Nouns: "embed jobs", Title: "Embed job",
	Settled: "complete|cancelled|failed",
}}

// alertsFile makes prometheus/alerts.yml.
func alertsFile(t *testing.T) []byte {
	t.Helper()
	const file = "prometheus/alerts.yml.tmpl"
	tmpl, err := template.New(file).Delims("[[", "]]").Funcs(template.FuncMap{
		"runbook": func(alert string) string { return runbookURL + "#" + strings.ToLower(alert) },
		"dict": func(pairs ...any) map[string]any {
			m := map[string]any{}
			for i := 0; i < len(pairs); i += 2 {
				m[pairs[i].(string)] = pairs[i+1]
			}
			return m
		},
	}).Parse(string(readFile(t, file)))
	if err != nil {
		t.Fatal(err)
	}
	var made bytes.Buffer
	if err := tmpl.Execute(&made, map[string]any{"Kinds": kinds}); err != nil {
		t.Fatal(err)
	}
	return append(bytes.TrimRight(made.Bytes(), "\n"), '\n')
}

func TestAlertsFile(t *testing.T) {
	const file = "prometheus/alerts.yml"
	want := alertsFile(t)
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(readFile(t, file), want) {
		t.Errorf("%s differs from its template: run go test ./deploy -run 'AlertsFile|KubernetesRules' -update", file)
	}
}
