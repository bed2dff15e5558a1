// Package grafanaschema decodes the dashboard into Grafana's own types, so
// that a misspelt or misplaced field is found before Grafana ignores it.
//
// To be run with -count=1: the dashboard lies outside of this module, where
// the test cache does not notice a change.
package grafanaschema

import (
	"os"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

const file = "../../deploy/grafana/dashboards/cohere_exporter.json"

func TestDashboard(t *testing.T) {
	plugins.RegisterDefaultPlugins()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard.Dashboard
	// An error without a text is how the decoder says that there were none.
	if err := d.UnmarshalJSONStrict(raw); err != nil && err.Error() != "" {
		t.Fatalf("%s:\n%v", file, err)
	}
	if d.Uid == nil || len(d.Panels) == 0 || len(d.Templating.List) == 0 {
		t.Fatalf("%s: decoded, but to nothing", file)
	}
}

// Without this a decoder that accepts anything would go unnoticed.
func TestStrict(t *testing.T) {
	plugins.RegisterDefaultPlugins()
	for name, raw := range map[string]string{
		"dashboard": `{"graphTooltip": 1, "schemaVersion": 39, "annotations": {}, "templating": {}, "tilte": "x"}`,
		"panel":     `{"graphTooltip": 1, "schemaVersion": 39, "annotations": {}, "templating": {}, "panels": [{"type": "stat", "descripton": "x"}]}`,
		"option":    `{"graphTooltip": 1, "schemaVersion": 39, "annotations": {}, "templating": {}, "panels": [{"type": "table", "options": {"frameIndex": 0, "showHeader": true, "sortby": []}}]}`,
		"custom":    `{"graphTooltip": 1, "schemaVersion": 39, "annotations": {}, "templating": {}, "panels": [{"type": "timeseries", "fieldConfig": {"defaults": {"custom": {"lineWith": 1}}, "overrides": []}}]}`,
		"target":    `{"graphTooltip": 1, "schemaVersion": 39, "annotations": {}, "templating": {}, "panels": [{"type": "stat", "targets": [{"datasource": {"type": "prometheus"}, "expr": "up", "refId": "A", "legendFormt": "x"}]}]}`,
	} {
		var d dashboard.Dashboard
		if err := d.UnmarshalJSONStrict([]byte(raw)); err == nil || err.Error() == "" {
			t.Errorf("%s: a misspelt field was accepted", name)
		}
	}
}
