package collector_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/expfmt"

	"github.com/cohere-exporter/cohere_exporter/collector/config"
)

// checkSecret fails if a key is anywhere in the logs or metrics.
func (b *harness) checkSecret(key string) {
	b.t.Helper()
	if strings.Contains(b.logs.String(), key) {
		b.t.Errorf("the key is in the logs:\n%s", b.logs)
	}
	own, err := b.reg.Gather()
	if err != nil {
		b.t.Fatal(err)
	}
	var text bytes.Buffer
	for _, family := range append(own, b.gather(15*time.Second)...) {
		if _, err := expfmt.MetricFamilyToText(&text, family); err != nil {
			b.t.Fatal(err)
		}
	}
	if strings.Contains(text.String(), key) {
		b.t.Errorf("the key is in the metrics:\n%s", &text)
	}
}

// keyFile has the account read its key from a file, which it returns.
func keyFile(t *testing.T, c *config.Account) (file string) {
	file = filepath.Join(t.TempDir(), "key")
	c.HTTPClientConfig.Authorization = &promconfig.Authorization{CredentialsFile: file}
	return file
}

func TestKeyFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var file string
		b := newHarness(t, 1, func(c *config.Account) { file = keyFile(t, c) })
		write := func(text string) func() {
			return func() {
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, step := range []struct {
			name   string
			change func()
			reason string
			sent   string
		}{
			{"missing", func() {}, "no_key", ""},
			{"written", write(key + "\n"), "", key},
			{"emptied", write(" \n"), "no_key", ""},
			{"two lines", write(key + "\nanother"), "no_key", ""},
			{"wrong", write("wrong-key"), "unauthorized", "wrong-key"},
			{"replaced", func() { b.user.SetKey("new-key"); write("new-key")() }, "", "new-key"},
			{"removed", func() { os.Remove(file) }, "no_key", ""},
		} {
			step.change()
			b.api.ResetRequests()
			got := b.scrape(time.Second).text(false, "cohere_embed_job_up", "cohere_embed_job_fetch_error")
			want := bothKinds[0].upOf("job-000", step.reason)
			slices.Sort(want)
			compare(t, step.name, got, strings.Join(want, "\n"))
			var sent string
			for _, r := range b.api.Requests() {
				sent += r.Key
			}
			if sent != step.sent {
				t.Errorf("%s: sent %q", step.name, sent)
			}
		}
		// Nothing sent, nothing counted.
		compare(t, "counters", b.counters(), `
			cohere_api_request_duration_seconds{endpoint="get",resource="embed_jobs"} 3
			cohere_api_requests_total{code="200",endpoint="get",resource="embed_jobs"} 2
			cohere_api_requests_total{code="401",endpoint="get",resource="embed_jobs"} 1`)
		for _, key := range []string{key, "wrong-key", "new-key"} {
			b.checkSecret(key)
		}
	})
}
