package deploy_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// withReceivers returns the shipped configuration after somebody took the
// comment off one way to be notified, in every receiver that has it, and
// deleted the placeholder.
func withReceivers(t *testing.T, way string) string {
	t.Helper()
	text := string(readFile(t, alertmanagerFile))
	placeholder := regexp.MustCompile(`(?m)^    webhook_configs:\n      - url: http://127\.0\.0\.1:9095/.*\n        max_alerts: 10\n`)
	if n := len(placeholder.FindAllString(text, -1)); n != 2 {
		t.Fatalf("%d placeholders, want one in each of two receivers", n)
	}
	text = placeholder.ReplaceAllString(text, "")
	block := regexp.MustCompile(`(?m)^    # ` + way + `_configs:\n(?:    #   .*\n)+`)
	if !block.MatchString(text) {
		t.Fatalf("no %s to take the comment off", way)
	}
	return block.ReplaceAllStringFunc(text, func(commented string) string {
		return regexp.MustCompile(`(?m)^    # `).ReplaceAllString(commented, "    ")
	})
}

var ways = []string{"slack", "pagerduty", "email", "webhook"}

func TestReceivers(t *testing.T) {
	amtool := tool(t, "amtool")
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			dir := t.TempDir()
			copyFile(t, "alertmanager/cohere.tmpl", dir+"/cohere.tmpl")
			write(t, dir+"/alertmanager.yml", withReceivers(t, way))
			run(t, amtool, "check-config", dir+"/alertmanager.yml")
			if text := withReceivers(t, way); regexp.MustCompile(`(?i)(key|password|url|token|credentials): `).
				MatchString(regexp.MustCompile(`\burl: https://\w+\.example\.com`).ReplaceAllString(text, "")) {
				t.Errorf("a secret stands in the configuration:\n%s", text)
			}
		})
	}
}

// Git ignores the secrets, and keeps their folder, which Compose mounts.
func TestReceiverSecretsAreIgnored(t *testing.T) {
	git := tool(t, "git")
	if _, err := os.Stat("../.git"); err != nil {
		t.Skip("no git repository")
	}
	for _, m := range regexp.MustCompile(`/etc/alertmanager/(secrets/[\w-]+)`).FindAllStringSubmatch(string(readFile(t, alertmanagerFile)), -1) {
		run(t, git, "check-ignore", "alertmanager/"+m[1])
	}
	readFile(t, "alertmanager/secrets/.gitignore")
}

// failedJob is an alert as prometheus/tests/job_failed.yml has it.
func failedJob(id string) alert {
	return alert{
		Labels: map[string]string{"alertname": "CohereEmbedJobFailed", "severity": "critical", "resource": "embed_jobs", "account": "search", "job_id": id},
		Annotations: map[string]string{
			"summary":     "Cohere embed job " + id + " failed",
			"description": "Embed job " + id + " (nightly, model embed-english-v3.0) of account search has ended with the status failed. The API gives no reason.",
			"runbook_url": runbookURL + "#cohereembedjobfailed",
		},
	}
}

func failedJobs(n int) (firing []alert) {
	var ids []string
	for i := range n {
		ids = append(ids, fmt.Sprintf("ebd-%02d", i+1))
		firing = append(firing, failedJob(ids[i]))
	}
	if n < 10 {
		return firing
	}
	return append(firing, alert{
		Labels: map[string]string{"alertname": "CohereEmbedJobsFailing", "severity": "critical", "resource": "embed_jobs", "account": "search"},
		Annotations: map[string]string{
			"summary": fmt.Sprintf("%d Cohere embed jobs of account search failed within an hour", n),
			"description": fmt.Sprintf("%d embed jobs of account search failed within an hour: %s and others. They do not page one by one.",
				n, strings.Join(ids[:10], ", ")),
			"runbook_url": runbookURL + "#cohereembedjobsfailing",
		},
	})
}

// What Slack, PagerDuty and mail show for one failed job, for three and for
// fifteen, and for the jobs of an outage.
func TestRenderedNotifications(t *testing.T) {
	if testing.Short() {
		t.Skip("runs Alertmanagers")
	}
	const link = runbookURL + "#cohereembedjob"
	one := func(id string) (title, text string) {
		return "[FIRING] Cohere embed job " + id + " failed",
			"Embed job " + id + " (nightly, model embed-english-v3.0) of account search has ended with the status failed. The API gives no reason.\n\n" +
				"What to do: " + link + "failed\nSilence, and all alerts: http://localhost:9093/#/alerts"
	}
	var cases []renderedCase
	for _, n := range []int{1, 3, 15} {
		c := renderedCase{name: fmt.Sprintf("%d failed", n), firing: failedJobs(n)}
		for i := range n {
			title, text := one(fmt.Sprintf("ebd-%02d", i+1))
			c.want = append(c.want, title+"\n"+text)
		}
		if n == 15 {
			c.want = []string{"[FIRING] 15 Cohere embed jobs of account search failed within an hour\n" +
				"15 embed jobs of account search failed within an hour: ebd-01, ebd-02, ebd-03, ebd-04, ebd-05, ebd-06, ebd-07, ebd-08, ebd-09, ebd-10 and others. They do not page one by one.\n\n" +
				"What to do: " + link + "sfailing\nSilence, and all alerts: http://localhost:9093/#/alerts"}
		}
		cases = append(cases, c)
	}
	const reason = "Batch 2f6c (nightly, model command-a-03-2025) has ended with the status failed. The API's reason: record 7 is \"too long\" & empty"
	cases = append(cases, renderedCase{
		name: "a batch failed for a reason",
		firing: []alert{{
			Labels: map[string]string{"alertname": "CohereBatchFailed", "severity": "critical", "resource": "batches", "batch_id": "2f6c"},
			Annotations: map[string]string{
				"summary": "Cohere batch 2f6c failed", "description": reason, "runbook_url": runbookURL + "#coherebatchfailed",
			},
		}},
		want: []string{"[FIRING] Cohere batch 2f6c failed\n" + reason + "\n\n" +
			"What to do: " + runbookURL + "#coherebatchfailed\nSilence, and all alerts: http://localhost:9093/#/alerts"},
	})
	var outage renderedCase
	outage.name = "12 that cannot be fetched"
	text := "[FIRING] Cohere embed job ebd-01 cannot be fetched and 11 more\n"
	for i := range 12 {
		id := fmt.Sprintf("ebd-%02d", i+1)
		description := "Embed job " + id + " could not be fetched for 10 minutes, so its failure would go unseen. Reason: network."
		outage.firing = append(outage.firing, alert{
			Labels: map[string]string{"alertname": "CohereEmbedJobCannotBeFetched", "severity": "warning", "resource": "embed_jobs", "job_id": id},
			Annotations: map[string]string{
				"summary": "Cohere embed job " + id + " cannot be fetched", "description": description, "runbook_url": link + "cannotbefetched",
			},
		})
		if i < 10 {
			text += description + "\n"
		}
	}
	outage.want = []string{text + "The first ten of 12.\n\nWhat to do: " + link + "cannotbefetched\nSilence, and all alerts: http://localhost:9093/#/alerts"}
	outage.teamOnly = true
	cases = append(cases, outage)

	for _, c := range cases {
		for _, way := range []string{"slack", "pagerduty", "email"} {
			if c.teamOnly && way == "pagerduty" {
				continue
			}
			t.Run(c.name+"/"+way, func(t *testing.T) {
				t.Parallel()
				got := rendered(t, way, c.firing, len(c.want))
				want := slices.Clone(c.want)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Errorf("got\n%s\n\nwant\n%s", strings.Join(got, "\n--\n"), strings.Join(want, "\n--\n"))
				}
				t.Logf("%s", strings.Join(got, "\n--\n"))
			})
		}
	}
}

type renderedCase struct {
	name     string
	firing   []alert
	want     []string // title, and text from the next line on
	teamOnly bool     // a receiver that PagerDuty is not offered for
}

// rendered runs Alertmanager on the shipped configuration with one way taken
// out of the comments, and returns n notifications as its service gets them.
func rendered(t *testing.T, way string, firing []alert, n int) []string {
	t.Helper()
	var mu sync.Mutex
	var got []string
	add := func(title, text string) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, title+"\n"+strings.TrimSpace(text))
	}
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m struct {
			Attachments []struct{ Title, Text string }
			Payload     struct {
				Summary       string            `json:"summary"`
				CustomDetails map[string]string `json:"custom_details"`
			}
		}
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			t.Error(err)
		}
		for _, a := range m.Attachments {
			add(a.Title, a.Text)
		}
		if m.Payload.Summary != "" {
			add(m.Payload.Summary, m.Payload.CustomDetails["text"])
			w.WriteHeader(http.StatusAccepted)
		}
	}))
	t.Cleanup(service.Close)

	dir := t.TempDir()
	write(t, dir+"/slack-url", service.URL)
	write(t, dir+"/pagerduty-key", "key")
	write(t, dir+"/smtp-password", "password")
	text := withReceivers(t, way)
	for from, to := range map[string]string{
		"/etc/alertmanager/secrets": dir,
		"smtp.example.com:587":      mailServer(t, add),
		"\ntemplates:":              "\nglobal: {pagerduty_url: " + service.URL + ", smtp_require_tls: false}\n\ntemplates:",
	} {
		text = strings.ReplaceAll(text, from, to)
	}
	text = regexp.MustCompile(`\b(group_wait|group_interval):( +)\S+`).ReplaceAllString(text, "${1}:${2}1s")
	write(t, dir+"/alertmanager.yml", text)
	copyFile(t, "alertmanager/cohere.tmpl", dir+"/cohere.tmpl")
	address := start(t, tool(t, "prometheus-alertmanager"), nil,
		"--config.file="+dir+"/alertmanager.yml", "--storage.path="+dir+"/data", "--cluster.listen-address=",
		"--web.listen-address=127.0.0.1:0", "--web.external-url=http://localhost:9093").listening(t)
	post(t, address, firing)

	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		mu.Lock()
		enough := len(got) >= n
		mu.Unlock()
		if enough {
			break
		}
	}
	time.Sleep(2 * time.Second) // time for notifications that should not come
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(got)
	return got
}

// mailServer takes mail on loopback and hands on subject and text.
func mailServer(t *testing.T, each func(subject, text string)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go takeMail(t, conn, each)
		}
	}()
	return l.Addr().String()
}

func takeMail(t *testing.T, conn net.Conn, each func(subject, text string)) {
	defer conn.Close()
	say := func(line string) { fmt.Fprintf(conn, "%s\r\n", line) }
	say("220 mail")
	for r := bufio.NewReader(conn); ; {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		switch verb := strings.ToUpper(line[:min(4, len(line))]); verb {
		case "DATA":
			say("354 go on")
			var message strings.Builder
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				message.WriteString(strings.TrimPrefix(line, "."))
			}
			subject, text, err := readMail(message.String())
			if err != nil {
				t.Error(err)
			}
			each(subject, text)
			say("250 taken")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 mail")
		}
	}
}

func readMail(message string) (subject, text string, err error) {
	m, err := mail.ReadMessage(strings.NewReader(message))
	if err != nil {
		return "", "", err
	}
	if subject, err = new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject")); err != nil {
		return "", "", err
	}
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		return "", "", err
	}
	part, err := multipart.NewReader(m.Body, params["boundary"]).NextRawPart()
	if err != nil {
		return "", "", err
	}
	body, err := io.ReadAll(quotedprintable.NewReader(part))
	return subject, strings.ReplaceAll(string(body), "\r\n", "\n"), err
}
