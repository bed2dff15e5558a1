package deploy_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"text/template"
)

// A kind is what its rules are made with; they are those of
// prometheus/*.yml.tmpl for each kind.
type kind struct {
	Resource, Family, Count, ID string            // cohere_<Family>_*, cohere_<Count>, labels
	Alert, Alerts               string            // in names of alerts
	Noun, Nouns, Title          string            // in texts
	First, Cancelling, Settled  string            // statuses; the first is that of a new job
	Latest                      []string          // statuses, of which a later one is right where replicas disagree
	Tokens                      map[string]string // by type, what is billed: cohere_<Family>_<...>
	Records, Versions           bool              // what the API tells of this kind only
}

var kinds = []kind{
	{
		Resource: "embed_jobs", Family: "embed_job", Count: "embed_jobs", ID: "job_id",
		Alert: "EmbedJob", Alerts: "EmbedJobs",
		Noun: "embed job", Nouns: "embed jobs", Title: "Embed job",
		First: "processing", Cancelling: "cancelling", Settled: "complete|cancelled|failed",
		Latest:   []string{"processing|unknown", "cancelling", "complete|cancelled|failed"},
		Tokens:   map[string]string{"input": "billed_input_tokens", "output": "billed_output_tokens", "image": "billed_image_tokens"},
		Versions: true,
	},
	{
		Resource: "batches", Family: "batch", Count: "batches", ID: "batch_id",
		Alert: "Batch", Alerts: "Batches",
		Noun: "batch", Nouns: "batches", Title: "Batch",
		First: "queued", Cancelling: "canceling", Settled: "completed|canceled|failed",
		Latest:  []string{"queued|unknown", "in_progress", "canceling", "completed|canceled|failed"},
		Tokens:  map[string]string{"input": "input_tokens", "output": "output_tokens"},
		Records: true,
	},
}

// madeRules are the files that are made from their templates.
var madeRules = []string{"prometheus/alerts.yml", "prometheus/recording.yml"}

// makeRules makes one of them.
func makeRules(t *testing.T, file string) []byte {
	t.Helper()
	tmpl, err := template.New(file).Delims("[[", "]]").Funcs(template.FuncMap{
		"runbook": func(alert string) string { return runbookURL + "#" + strings.ToLower(alert) },
		"title":   func(word string) string { return strings.ToUpper(word[:1]) + word[1:] },
		"plus":    func(a, b int) int { return a + b },
		// of is the query of an alert's text, in which @job selects the alert's job.
		"of": func(k kind, expr string) string {
			expr = strings.ReplaceAll(expr, "@job", "account=%[1]q,"+k.ID+"=%[2]q")
			return fmt.Sprintf("query (printf %q $labels.account $labels.%s)", expr, k.ID)
		},
		"dict": func(pairs ...any) map[string]any {
			m := map[string]any{}
			for i := 0; i < len(pairs); i += 2 {
				m[pairs[i].(string)] = pairs[i+1]
			}
			return m
		},
	}).Parse(string(readFile(t, file+".tmpl")))
	if err != nil {
		t.Fatal(err)
	}
	var made bytes.Buffer
	if err := tmpl.Execute(&made, map[string]any{"Kinds": kinds}); err != nil {
		t.Fatal(err)
	}
	return append(bytes.TrimRight(made.Bytes(), "\n"), '\n')
}

func TestRuleFiles(t *testing.T) {
	for _, file := range madeRules {
		want := makeRules(t, file)
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(readFile(t, file), want) {
			t.Errorf("%s differs from its template: run go test ./deploy -run 'RuleFiles|KubernetesRules' -update", file)
		}
	}
}
