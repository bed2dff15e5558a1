package deploy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const alertmanagerFile = "alertmanager/alertmanager.yml"

// notification is what Alertmanager sends to a webhook.
type notification struct {
	Receiver    string            `json:"receiver"`
	Status      string            `json:"status"`
	GroupLabels map[string]string `json:"groupLabels"`
	Alerts      []struct {
		Status      string            `json:"status"`
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
		StartsAt    time.Time         `json:"startsAt"`
	} `json:"alerts"`

	arrived time.Time
}

// webhook is where the notifications of a test arrive.
type webhook struct {
	*httptest.Server
	mu            sync.Mutex
	notifications []notification
}

func newWebhook(t *testing.T) *webhook {
	w := &webhook{}
	w.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		n := notification{arrived: time.Now()}
		if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
			t.Errorf("notification: %v", err)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.notifications = append(w.notifications, n)
	}))
	t.Cleanup(w.Close)
	return w
}

func (w *webhook) received() []notification {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.notifications)
}

// startAlertmanager runs the shipped configuration, with the webhook's address
// and waits of a second, and returns its address.
func startAlertmanager(t *testing.T, w *webhook) string {
	t.Helper()
	program := tool(t, "prometheus-alertmanager")
	dir := t.TempDir()
	copyFile(t, alertmanagerFile, dir+"/alertmanager.yml",
		`\b(group_wait|group_interval):( +)\S+`, "${1}:${2}1s",
		`http://127\.0\.0\.1:9095`, w.URL,
	)
	return start(t, program, nil,
		"--config.file="+dir+"/alertmanager.yml",
		"--storage.path="+dir+"/data",
		"--cluster.listen-address=",
		"--web.listen-address=127.0.0.1:0",
	).listening(t)
}

func TestAlertmanagerConfig(t *testing.T) {
	run(t, tool(t, "amtool"), "check-config", alertmanagerFile)
}

// Alerts go where their severity says, and so do those of others.
func TestAlertmanagerRoutes(t *testing.T) {
	amtool := tool(t, "amtool")
	receivers := map[string]string{"critical": "on-call", "warning": "team"}
	for _, a := range alerts(t) {
		run(t, amtool, "config", "routes", "test", "--config.file="+alertmanagerFile,
			"--verify.receivers="+receivers[a.Labels["severity"]],
			"alertname="+a.Alert, "severity="+a.Labels["severity"], "account=search")
	}
	run(t, amtool, "config", "routes", "test", "--config.file="+alertmanagerFile,
		"--verify.receivers=team", "alertname=SomethingElse")
}

// Every alert that the inhibition rules name exists.
func TestAlertmanagerNames(t *testing.T) {
	var config struct {
		Route     any `yaml:"route"`
		Receivers any `yaml:"receivers"`
		Inhibit   []struct {
			Source []string `yaml:"source_matchers"`
			Target []string `yaml:"target_matchers"`
			Equal  []string `yaml:"equal"`
		} `yaml:"inhibit_rules"`
	}
	readYAML(t, alertmanagerFile, &config)
	var names []string
	for _, a := range alerts(t) {
		names = append(names, a.Alert)
	}
	for _, inhibit := range config.Inhibit {
		for _, matcher := range slices.Concat(inhibit.Source, inhibit.Target) {
			for _, name := range regexp.MustCompile(`Cohere\w+`).FindAllString(matcher, -1) {
				if !slices.Contains(names, name) {
					t.Errorf("%s: there is no alert %s", matcher, name)
				}
			}
		}
	}
}

func TestAlertmanagerNotifications(t *testing.T) {
	if testing.Short() {
		t.Skip("runs an Alertmanager")
	}
	jobs := func(alert, account string, n int) (alerts []string) {
		for i := range n {
			alerts = append(alerts, fmt.Sprintf("%s severity=warning account=%s job_id=%d", alert, account, i))
		}
		return alerts
	}
	for name, test := range map[string]struct {
		firing []string
		want   []string // receiver, group, number of alerts
	}{
		"a refused key is one notification": {
			firing: slices.Concat(
				[]string{"CohereAPIKeyRefused severity=critical account=search"},
				jobs("CohereEmbedJobCannotBeFetched", "search", 500),
				[]string{"CohereListCannotBeFetched severity=warning account=search"},
				[]string{"CohereEmbedJobFailed severity=critical account=search job_id=old"},
				jobs("CohereEmbedJobCannotBeFetched", "other", 3),
			),
			want: []string{
				"on-call CohereAPIKeyRefused search 1",
				"on-call CohereEmbedJobFailed search 1",
				"team CohereEmbedJobCannotBeFetched other 3",
			},
		},
		"a refused key without accounts": {
			firing: slices.Concat(
				[]string{"CohereAPIKeyRefused severity=critical"},
				jobs("CohereEmbedJobCannotBeFetched", "", 500),
				[]string{"CohereEmbedJobValuesOld severity=warning"},
				jobs("CohereEmbedJobCannotBeFetched", "other", 1),
			),
			want: []string{
				"on-call CohereAPIKeyRefused  1",
				"team CohereEmbedJobCannotBeFetched other 1",
			},
		},
		"no exporter answers": {
			firing: slices.Concat(
				[]string{"CohereExporterAbsent severity=critical"},
				[]string{"CohereExporterDown severity=critical job=cohere_exporter instance=a"},
				[]string{"CohereExporterDown severity=critical job=cohere_exporter instance=b"},
				[]string{"CohereAPIKeyRefused severity=critical account=search"},
				[]string{"CohereConfigReloadFailed severity=warning job=cohere_exporter instance=a"},
				jobs("CohereEmbedJobCannotBeFetched", "search", 3),
				[]string{"SomethingElse severity=warning"},
			),
			want: []string{
				"on-call CohereExporterAbsent  1",
				"team SomethingElse  1",
			},
		},
		"one of two replicas is down": {
			firing: []string{
				"CohereExporterDown severity=critical job=cohere_exporter instance=a",
				"CohereConfigReloadFailed severity=warning job=cohere_exporter instance=a",
				"CohereJobFileFailed severity=warning account=search job=cohere_exporter instance=b",
				"CohereEmbedJobFailed severity=critical account=search job_id=1",
				"CohereEmbedJobFailed severity=critical account=search job_id=2",
			},
			want: []string{
				"on-call CohereEmbedJobFailed search 2",
				"on-call CohereExporterDown  1",
				"team CohereJobFileFailed search 1",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWebhook(t)
			address := startAlertmanager(t, w)

			var alerts []map[string]any
			for _, a := range test.firing {
				alertname, rest, _ := strings.Cut(a, " ")
				labels := map[string]string{"alertname": alertname}
				for label := range strings.FieldsSeq(rest) {
					k, v, _ := strings.Cut(label, "=")
					labels[k] = v
				}
				alerts = append(alerts, map[string]any{"labels": labels})
			}
			body, err := json.Marshal(alerts)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.Post("http://"+address+"/api/v2/alerts", "application/json", bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Fatalf("Alertmanager answers %s", resp.Status)
			}

			for deadline := time.Now().Add(20 * time.Second); len(w.received()) < len(test.want) && time.Now().Before(deadline); {
				time.Sleep(50 * time.Millisecond)
			}
			time.Sleep(2 * time.Second) // time for notifications that should not come
			var got []string
			for _, n := range w.received() {
				got = append(got, fmt.Sprintf("%s %s %s %d", n.Receiver, n.GroupLabels["alertname"], n.GroupLabels["account"], len(n.Alerts)))
			}
			slices.Sort(got)
			if !slices.Equal(got, test.want) {
				t.Errorf("got notifications\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}
