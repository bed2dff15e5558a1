package deploy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
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
	GroupKey    string            `json:"groupKey"`
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
// and waits of a second, and returns its address. Of the rest, each pair is a
// regular expression that is found in the configuration and what replaces it.
func startAlertmanager(t *testing.T, w *webhook, replace ...string) string {
	t.Helper()
	program := tool(t, "prometheus-alertmanager")
	dir := t.TempDir()
	copyFile(t, "alertmanager/cohere.tmpl", dir+"/cohere.tmpl")
	copyFile(t, alertmanagerFile, dir+"/alertmanager.yml", slices.Concat(replace, []string{
		`\b(group_wait|group_interval):( +)\S+`, "${1}:${2}1s",
		`http://127\.0\.0\.1:9095`, w.URL,
	})...)
	return start(t, program, nil,
		"--config.file="+dir+"/alertmanager.yml",
		"--storage.path="+dir+"/data",
		"--cluster.listen-address=",
		"--web.listen-address=127.0.0.1:0",
		"--web.external-url=http://localhost:9093",
	).listening(t)
}

// post sends alerts to an Alertmanager.
func post(t *testing.T, address string, alerts []alert) {
	t.Helper()
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
}

// alert is one as Prometheus sends it.
type alert struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

func TestAlertmanagerConfig(t *testing.T) {
	run(t, tool(t, "amtool"), "check-config", alertmanagerFile)
}

// Alerts go where their severity says, and so do those of others.
func TestAlertmanagerRoutes(t *testing.T) {
	amtool := tool(t, "amtool")
	receivers := map[string]string{"critical": "on-call", "warning": "team", "info": "team"}
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
		Templates any `yaml:"templates"`
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
			alerts = append(alerts, fmt.Sprintf("%s account=%s job_id=%d", alert, account, i))
		}
		return alerts
	}
	severity := map[string]string{}
	for _, a := range alerts(t) {
		severity[a.Alert] = a.Labels["severity"]
	}
	type testCase struct {
		firing []string
		want   []string // receiver, group, number of alerts
	}
	cases := map[string]testCase{
		"a refused key is one notification": {
			firing: slices.Concat(
				[]string{"CohereAPIKeyRefused account=search"},
				jobs("CohereEmbedJobCannotBeFetched", "search", 500),
				[]string{"CohereListCannotBeFetched account=search"},
				[]string{"CohereEmbedJobFailed account=search job_id=old"},
				jobs("CohereEmbedJobCannotBeFetched", "other", 3),
			),
			want: []string{
				"on-call CohereAPIKeyRefused search 1",
				"on-call CohereEmbedJobFailed search old 1",
				"team CohereEmbedJobCannotBeFetched other 3",
			},
		},
		"a refused key without accounts": {
			firing: slices.Concat(
				[]string{"CohereAPIKeyRefused"},
				jobs("CohereEmbedJobCannotBeFetched", "", 500),
				[]string{"CohereEmbedJobValuesOld"},
				jobs("CohereEmbedJobCannotBeFetched", "other", 1),
			),
			want: []string{
				"on-call CohereAPIKeyRefused 1",
				"team CohereEmbedJobCannotBeFetched other 1",
			},
		},
		"a list that cannot be fetched is one notification": {
			firing: slices.Concat(
				[]string{"CohereListCannotBeFetched account=search"},
				jobs("CohereEmbedJobCannotBeFetched", "search", 300),
				[]string{"CohereNothingWatched account=search"},
				jobs("CohereEmbedJobCannotBeFetched", "other", 300),
			),
			want: []string{
				"team CohereEmbedJobCannotBeFetched other 10",
				"team CohereListCannotBeFetched search 1",
			},
		},
		"the list of one kind says nothing of another": {
			firing: []string{
				"CohereListCannotBeFetched account=search resource=batches",
				"CohereEmbedJobCannotBeFetched account=search resource=embed_jobs job_id=1",
			},
			want: []string{
				"team CohereEmbedJobCannotBeFetched search 1",
				"team CohereListCannotBeFetched search 1",
			},
		},
		"a key that may not ask for one kind says nothing of another": {
			firing: []string{
				"CohereAPIKeyRefused account=search resource=embed_jobs",
				"CohereEmbedJobCannotBeFetched account=search resource=embed_jobs job_id=1",
				"CohereBatchCannotBeFetched account=search resource=batches batch_id=1",
			},
			want: []string{
				"on-call CohereAPIKeyRefused search 1",
				"team CohereBatchCannotBeFetched search 1",
			},
		},
		"many failed jobs hide no failed batch": {
			firing: []string{
				"CohereEmbedJobsFailing account=search resource=embed_jobs",
				"CohereEmbedJobFailed account=search resource=embed_jobs job_id=1",
				"CohereBatchFailed account=search resource=batches batch_id=1",
			},
			want: []string{
				"on-call CohereBatchFailed search 1 1",
				"on-call CohereEmbedJobsFailing search 1",
			},
		},
		"no exporter answers": {
			firing: slices.Concat(
				[]string{"CohereExporterAbsent"},
				[]string{"CohereExporterDown job=cohere instance=a"},
				[]string{"CohereExporterDown job=cohere instance=b"},
				[]string{"CohereConfigReloadFailed job=cohere instance=a"},
				jobs("CohereEmbedJobCannotBeFetched", "search", 3),
				jobs("CohereEmbedJobFailed", "search", 1),
				[]string{"SomethingElse"},
			),
			want: []string{
				"on-call CohereEmbedJobFailed search 0 1",
				"on-call CohereExporterAbsent 1",
				"team SomethingElse 1",
			},
		},
		"one of two replicas is down": {
			firing: []string{
				"CohereExporterDown job=cohere instance=a",
				"CohereConfigReloadFailed job=cohere instance=a",
				"CohereJobFileFailed account=search job=cohere instance=b",
			},
			want: []string{
				"team CohereExporterDown 1",
				"team CohereJobFileFailed search 1",
			},
		},
		"each failed job is a notification": {
			firing: slices.Concat(
				jobs("CohereEmbedJobFailed", "search", 3),
				[]string{"CohereEmbedJobFailedEarlier account=search"},
			),
			want: []string{
				"on-call CohereEmbedJobFailed search 0 1",
				"on-call CohereEmbedJobFailed search 1 1",
				"on-call CohereEmbedJobFailed search 2 1",
				"team CohereEmbedJobFailedEarlier search 1",
			},
		},
		"many failed jobs of an account are one": {
			firing: slices.Concat(
				[]string{"CohereEmbedJobsFailing account=search"},
				jobs("CohereEmbedJobFailed", "search", 15),
				jobs("CohereEmbedJobFailed", "other", 1),
			),
			want: []string{
				"on-call CohereEmbedJobFailed other 0 1",
				"on-call CohereEmbedJobsFailing search 1",
			},
		},
	}
	for name, test := range maps.Clone(cases) {
		swapped := testCase{slices.Clone(test.firing), slices.Clone(test.want)}
		for _, alerts := range [][]string{swapped.firing, swapped.want} {
			for i := range alerts {
				alerts[i] = swapKinds.Replace(alerts[i])
			}
		}
		slices.Sort(swapped.want)
		cases[name+", kinds swapped"] = swapped
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWebhook(t)
			address := startAlertmanager(t, w)

			var firing []alert
			for _, a := range test.firing {
				alertname, rest, _ := strings.Cut(a, " ")
				labels := map[string]string{"alertname": alertname, "severity": severity[alertname]}
				for label := range strings.FieldsSeq(rest) {
					k, v, _ := strings.Cut(label, "=")
					labels[k] = v
				}
				firing = append(firing, alert{Labels: labels})
			}
			post(t, address, firing)

			for deadline := time.Now().Add(20 * time.Second); len(w.received()) < len(test.want) && time.Now().Before(deadline); {
				time.Sleep(50 * time.Millisecond)
			}
			time.Sleep(2 * time.Second) // time for notifications that should not come
			var got []string
			for _, n := range w.received() {
				group := []string{n.Receiver, n.GroupLabels["alertname"], n.GroupLabels["account"], n.GroupLabels["job_id"], n.GroupLabels["batch_id"], strconv.Itoa(len(n.Alerts))}
				got = append(got, strings.Join(slices.DeleteFunc(group, func(s string) bool { return s == "" }), " "))
			}
			slices.Sort(got)
			if !slices.Equal(got, test.want) {
				t.Errorf("got notifications\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}
