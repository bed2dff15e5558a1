package deploy_test

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
)

const (
	anyPort = "--web.listen-address=127.0.0.1:0"
	testKey = "sk-5ecret-of/the+program=tests"

	// patience is how long to wait for what takes no time on a machine that is
	// not busy with something else.
	patience = 30 * time.Second
)

// program builds cohere_exporter, once. TestMain removes it.
var (
	programDir string
	program    = sync.OnceValue(func() error {
		var err error
		if programDir, err = os.MkdirTemp("", "cohere_exporter"); err != nil {
			return err
		}
		if out, err := exec.Command("go", "build", "-o", programDir+"/cohere_exporter", "..").CombinedOutput(); err != nil {
			return fmt.Errorf("go build: %w\n%s", err, out)
		}
		return nil
	})
)

func TestMain(m *testing.M) {
	// What the user set for an exporter of their own is not for these.
	for _, name := range []string{
		"COHERE_JOB_IDS", "COHERE_BATCH_IDS", "COHERE_API_KEY_FILE", "CO_API_KEY", "CO_API_URL", "COHERE_DISCOVER", "COHERE_EXPORTER_CONFIG_FILE",
	} {
		os.Unsetenv(name)
	}
	code := m.Run()
	if programDir != "" {
		os.RemoveAll(programDir)
	}
	os.Exit(code)
}

func builtProgram(t *testing.T) string {
	t.Helper()
	if err := program(); err != nil {
		t.Fatal(err)
	}
	return programDir + "/cohere_exporter"
}

// result is what a program that ended by itself left behind.
type result struct {
	stdout, stderr string
	status         int
}

// runToEnd runs the program in a directory until it ends.
func runToEnd(t *testing.T, dir string, env []string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, builtProgram(t), args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && (!exited || ctx.Err() != nil) {
		t.Fatalf("%v: %v\n%s", args, cmp.Or(ctx.Err(), err), stderr.String())
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// exitError is what an error line on standard error says: a line of the log, or
// a plain one where the flags did not even say how to log.
func exitError(stderr string) string {
	line := stderr[strings.LastIndex(strings.TrimSuffix(stderr, "\n"), "\n")+1:]
	if text, plain := strings.CutPrefix(line, "cohere_exporter: error: "); plain {
		return strings.TrimSuffix(text, "\n")
	}
	m := regexp.MustCompile(`^time=\S+ level=error msg=exiting err=(.*)\n$`).FindStringSubmatch(line)
	if m == nil {
		return ""
	}
	if text, err := strconv.Unquote(m[1]); err == nil {
		return text
	}
	return m[1]
}

// status waits for the end that a signal or the test's own request brought
// about, and returns the exit status.
func (p *process) status(t *testing.T) int {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		p.mu.Lock()
		ends := p.ends
		p.mu.Unlock()
		if ends {
			return p.cmd.ProcessState.ExitCode()
		}
	}
	t.Fatalf("%s does not end", p.name)
	return 0
}

func (p *process) logged() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.log, "\n")
}

// exporter is the program, serving.
type exporter struct {
	*process
	url    string
	client *http.Client // nil: hasty
}

func startExporter(t *testing.T, env []string, args ...string) exporter {
	t.Helper()
	p := start(t, builtProgram(t), env, append(args, anyPort)...)
	return exporter{process: p, url: "http://" + p.listening(t)}
}

// response is an answer whose body has been read.
type response struct {
	*http.Response
	body string
}

var hasty = &http.Client{Timeout: patience}

func (e exporter) do(t *testing.T, method, path string, header ...string) response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, e.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	req.Close = true // so that the connections which are left are the test's own
	resp, err := cmp.Or(e.client, hasty).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return response{resp, string(body)}
}

// scrape returns the series as text.
func (e exporter) scrape(t *testing.T) string {
	t.Helper()
	resp := e.do(t, http.MethodGet, "/metrics")
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("/metrics answers %s: %s", resp.Status, resp.body)
	}
	return resp.body
}

// until scrapes until all that is wanted is there. A word that begins with !
// must not be.
func (e exporter) until(t *testing.T, want ...string) {
	t.Helper()
	var last string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if last = e.scrape(t); lacking(last, want...) == "" {
			return
		}
	}
	t.Fatalf("%s\nis not as wanted in\n%s", lacking(last, want...), jobLines(last))
}

// lacking returns the first of what is wanted that is not true of the text.
func lacking(text string, want ...string) string {
	for _, w := range want {
		if unwanted, not := strings.CutPrefix(w, "!"); strings.Contains(text, strings.TrimPrefix(unwanted, "!")) == not {
			return w
		}
	}
	return ""
}

func (e exporter) must(t *testing.T, want ...string) {
	t.Helper()
	if text := e.scrape(t); lacking(text, want...) != "" {
		t.Errorf("%s\nis not as wanted in\n%s", lacking(text, want...), jobLines(text))
	}
}

// jobLines is an exposition without comments and Go's own series.
func jobLines(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "cohere_") && !strings.Contains(line, "_bucket{") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// simulated is an API on loopback with one user, whose key is testKey and in a
// file.
type simulated struct {
	api     *cohertest.API
	user    *cohertest.User
	url     string
	dir     string
	keyFile string
}

func startSimulated(t *testing.T, jobs ...string) simulated {
	t.Helper()
	s := simulated{api: cohertest.New(), dir: t.TempDir()}
	s.user = s.api.AddUser(testKey)
	for _, id := range jobs {
		s.user.Add(cohertest.Job{ID: id})
	}
	server := s.api.Start()
	t.Cleanup(server.Close)
	s.url = server.URL
	s.keyFile = filepath.Join(s.dir, "cohere.key")
	write(t, s.keyFile, testKey+"\n")
	return s
}

// flags make the exporter watch jobs of the simulated API.
func (s simulated) flags(jobs string, more ...string) []string {
	return append([]string{"--cohere.base-url=" + s.url, "--cohere.api-key-file=" + s.keyFile, "--cohere.job-id=" + jobs}, more...)
}

func TestProgramRefusesBadUsage(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	dir := t.TempDir()
	for name, text := range map[string]string{
		"good.key": testKey + "\n", "bad.yml": "accounts:\n  - nme: search\n", "web.yml": "tls_server_config: {cert_file: x}\n",
	} {
		write(t, filepath.Join(dir, name), text)
	}
	const help = "; see --help"
	for _, c := range []struct {
		args string // separated by white space
		env  string
		want string
	}{
		{args: "", want: "nothing to watch: set --cohere.job-id, --cohere.batch-id or --cohere.discover, or try --demo"},
		{args: "--cohere.job-id=a", env: "CO_API_KEY=" + testKey + "\nb", want: "CO_API_KEY holds several lines; set it to the API key, or set --cohere.api-key-file"},
		{args: "KEY --cohere.timeout=5", want: `--cohere.timeout takes a duration such as 30s, 5m or 7d, not "5"` + help},
		{args: "--demo=true", want: `--demo takes no value, not even "true"; give it alone, or leave it out` + help},
		{args: "--config.file=bad.yml --config.check", want: "--config.file: bad.yml:2: unknown key nme"},
		{args: "--demo --web.telemetry-path=metrics", want: `--web.telemetry-path: "metrics" is not a path like /metrics`},
		{args: "--demo --web.telemetry-path=/metrics/", want: `--web.telemetry-path: "/metrics/" is not a path like /metrics`},
		{args: "--demo --web.telemetry-path=/-/ready", want: "--web.telemetry-path: /-/ready is another page's path"},
		{args: "--demo --web.config.file=missing.yml", want: "--web.config.file: open missing.yml: no such file or directory"},
		{args: "--demo --web.config.file=web.yml", want: "--web.config.file: missing one of key or key_file"},
		{args: "KEY --web.listen-address=" + taken.Addr().String(), want: "--web.listen-address: listen tcp " + taken.Addr().String() + ": bind: address already in use; choose another"},
		{args: "KEY --web.listen-address=nonsense", want: "--web.listen-address: listen tcp: address nonsense: missing port in address; choose another"},
		{args: "KEY --web.systemd-socket", want: "--web.systemd-socket: no socket activation file descriptors found; leave it out, or have systemd pass sockets"},
	} {
		t.Run(c.args+" "+c.env, func(t *testing.T) {
			t.Parallel()
			args := strings.Fields(strings.Replace(c.args, "KEY", "--cohere.job-id=a --cohere.api-key-file=good.key", 1))
			var env []string
			if c.env != "" {
				env = []string{c.env}
			}
			if !strings.Contains(c.args, "listen-address") {
				args = append(args, anyPort)
			}
			got := runToEnd(t, dir, env, args...)
			if got.stdout != "" || exitError(got.stderr) != c.want || strings.Count(got.stderr, "level=error") > 1 || got.status != 1 {
				t.Errorf("got\n%+v\nwant\n%s", got, c.want)
			}
			if plain := strings.HasPrefix(got.stderr, "cohere_exporter: "); plain != strings.HasSuffix(c.want, help) {
				t.Errorf("not as the log's flags say: %s", got.stderr)
			}
		})
	}
}

func TestProgramHelpAndVersion(t *testing.T) {
	for flag, want := range map[string]string{"--help": "usage: cohere_exporter", "-h": "usage: cohere_exporter", "--version": "cohere_exporter, version devel"} {
		if got := runToEnd(t, "", nil, flag); got.status != 0 || !strings.HasPrefix(got.stdout, want) || got.stderr != "" {
			t.Errorf("%s: %+v", flag, got)
		}
	}
}

func TestProgramOnce(t *testing.T) {
	t.Run("demo", func(t *testing.T) {
		got := runToEnd(t, "", nil, "--demo", "--once")
		if got.status != 0 || !strings.Contains(got.stdout, "\ncohere_up 1\n") {
			t.Errorf("%+v", got)
		}
		cmd := exec.Command(prometheusTool(t, "promtool"), "check", "metrics")
		cmd.Stdin = strings.NewReader(got.stdout)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%v: %s", err, out)
		}
	})
	t.Run("not up", func(t *testing.T) {
		s := startSimulated(t, "job-1")
		got := runToEnd(t, "", nil, s.flags("job-1,job-2", "--once")...)
		const want = "2 of the series whose name ends in _up are 0; the fetch_error series tell why"
		if got.status != 1 || exitError(got.stderr) != want {
			t.Errorf("status %d, stderr %s", got.status, got.stderr)
		}
		if l := lacking(got.stdout, `cohere_embed_job_up{job_id="job-1"} 1`, `cohere_embed_job_fetch_error{job_id="job-2",reason="not_found"} 1`); l != "" {
			t.Errorf("no %s", l)
		}
	})
	t.Run("log as JSON", func(t *testing.T) {
		got := runToEnd(t, "", nil, "--demo", "--once", "--log.format=json")
		var line struct{ Level, Msg, URL string }
		first, _, _ := strings.Cut(got.stderr, "\n")
		if err := json.Unmarshal([]byte(first), &line); err != nil || line.Level != "info" || line.Msg != "simulated Cohere API" || line.URL == "" {
			t.Errorf("%v: %s", err, got.stderr)
		}
	})
	t.Run("nothing about the process", func(t *testing.T) {
		got := runToEnd(t, "", nil, "--demo", "--once")
		if l := lacking(got.stdout, "cohere_exporter_build_info", "!\ngo_", "!\nprocess_", "!promhttp_"); l != "" || got.status != 0 {
			t.Errorf("%s; status %d, stderr %s", l, got.status, got.stderr)
		}
	})
	t.Run("until SIGTERM", func(t *testing.T) {
		s := startSimulated(t, "job-1", "job-2")
		p := start(t, builtProgram(t), nil, s.flags("job-1,job-2", "--once", "--cohere.requests-per-minute=1")...)
		p.find(t, `msg="waiting until more may be asked" resource=embed_jobs requests_left=1 wait=(\S+)`)
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if status := p.status(t); status != 1 {
			t.Errorf("status %d", status)
		}
	})
	t.Run("as long as it takes", func(t *testing.T) {
		s := startSimulated(t, "job-1", "job-2", "job-3")
		s.api.SetLatency(100 * time.Millisecond)
		got := runToEnd(t, "", nil, s.flags("job-1,job-2,job-3", "--once", "--cohere.max-concurrent-requests=1", "--log.level=debug")...)
		if got.status != 0 || strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, `level=info msg="watching jobs" resource=embed_jobs jobs=3 due_a_minute=3 budget=40`) {
			t.Errorf("status %d, stderr %s", got.status, got.stderr)
		}
	})
}

func TestProgramEnvironment(t *testing.T) {
	s := startSimulated(t, "job-1", "job-2", "job-3", "job-4")
	got := runToEnd(t, s.dir, []string{"CO_API_URL=" + s.url, "CO_API_KEY=" + testKey, "COHERE_JOB_IDS= job-1,job-2  job-3\n\njob-4,,\tjob-1 "}, "--once")
	if l := lacking(got.stdout, "\ncohere_embed_jobs 4\n", "\ncohere_up 1\n", `cohere_api_requests_total{code="200",endpoint="get",resource="embed_jobs"} 4`); l != "" {
		t.Errorf("no %s; stderr %s", l, got.stderr)
	}
	if n := strings.Count(got.stderr, "level=warn"); n != 1 || !strings.Contains(got.stderr, `msg="job ID is given more than once" resource=embed_jobs job_id=job-1`) {
		t.Errorf("%s", got.stderr)
	}
}

func TestProgramDemo(t *testing.T) {
	e := startExporter(t, nil, "--demo")
	e.find(t, `level=info msg="simulated Cohere API" url=http://127\.0\.0\.1:\d+$`)
	for _, status := range []string{"processing", "complete", "cancelling", "cancelled", "failed", "unknown"} {
		if !regexp.MustCompile(`cohere_embed_job_status\{job_id="[^"]+",status="` + status + `"\} 1\n`).MatchString(e.scrape(t)) {
			t.Errorf("no job is %s", status)
		}
	}
	if strings.Contains(e.logged(), cohertest.DemoKey) {
		t.Errorf("the key shows in the log:\n%s", e.logged())
	}
	e.must(t, "\ncohere_up 1\n", "go_goroutines ", "process_resident_memory_bytes ", "promhttp_metric_handler_requests_total")

	for _, c := range []struct {
		method, path string
		status       int
		contentType  string
		want         []string
	}{
		{"GET", "/", 200, "text/html", []string{`href="./metrics"`, `href="./metrics?jobs=0"`, `href="./-/healthy"`, `href="./-/ready"`}},
		{"GET", "/-/healthy", 200, "text/plain", []string{"healthy"}},
		{"GET", "/-/ready", 200, "text/plain", []string{"ready"}},
		{"GET", "/metrics?jobs=0", 200, "text/plain", []string{"cohere_exporter_build_info", "cohere_api_requests_total", "!cohere_embed_job_", "!cohere_up"}},
		{"HEAD", "/metrics", 200, "text/plain", nil},
		{"HEAD", "/", 200, "text/html", nil},
		{"GET", "/metrics/", 404, "text/plain", nil},
		{"GET", "/-/", 404, "text/plain", nil},
		{"GET", "/favicon.ico", 404, "text/plain", nil},
		{"GET", "/debug/pprof/", 404, "text/plain", nil},
		{"POST", "/-/reload", 404, "text/plain", nil}, // only with --web.enable-lifecycle
		{"POST", "/metrics", 405, "text/plain", nil},
		{"GET", "/metrics?jobs=%zz", 400, "text/plain", []string{"malformed query", "!cohere_up"}},
	} {
		resp := e.do(t, c.method, c.path)
		if resp.StatusCode != c.status || !strings.HasPrefix(resp.Header.Get("Content-Type"), c.contentType+";") {
			t.Errorf("%s %s: %s, %s", c.method, c.path, resp.Status, resp.Header.Get("Content-Type"))
		}
		if l := lacking(resp.body, c.want...); l != "" {
			t.Errorf("%s %s: %s is not as wanted in\n%s", c.method, c.path, l, resp.body)
		}
		if c.method == "HEAD" && resp.body != "" {
			t.Errorf("%s %s has a body", c.method, c.path)
		}
	}

	open := e.do(t, "GET", "/metrics", "Accept", "application/openmetrics-text;version=1.0.0")
	if !strings.HasPrefix(open.Header.Get("Content-Type"), "application/openmetrics-text;") || !strings.HasSuffix(open.body, "# EOF\n") {
		t.Errorf("OpenMetrics: %s", open.Header.Get("Content-Type"))
	}
	if protobuf := e.do(t, "GET", "/metrics", "Accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"); !strings.HasPrefix(protobuf.Header.Get("Content-Type"), "application/vnd.google.protobuf;") {
		t.Errorf("protobuf: %s", protobuf.Header.Get("Content-Type"))
	}
	zipped := e.do(t, "GET", "/metrics", "Accept-Encoding", "gzip")
	if r, err := gzip.NewReader(strings.NewReader(zipped.body)); err != nil {
		t.Errorf("gzip: %v", err)
	} else if text, err := io.ReadAll(r); err != nil || lacking(string(text), "\ncohere_up 1\n") != "" {
		t.Errorf("gzip: %v", err)
	}
}

func TestProgramDemoWatchesGivenJobs(t *testing.T) {
	e := startExporter(t, nil, "--demo", "--cohere.job-id=ebd-9b20ce74a1f85d63,ebd-none")
	e.must(t, "\ncohere_embed_jobs 2\n", `cohere_embed_job_up{job_id="ebd-9b20ce74a1f85d63"} 1`,
		`cohere_embed_job_fetch_error{job_id="ebd-none",reason="not_found"} 1`)
}

func (e exporter) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := e.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

func TestProgramAnswersScrapesBeforeItEnds(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			s := startSimulated(t, "job-1", "job-2", "job-3")
			s.api.SetLatency(time.Second)
			e := startExporter(t, nil, s.flags("job-1,job-2,job-3")...)
			scraped := make(chan response, 1)
			go func() {
				defer close(scraped)
				resp, err := hasty.Get(e.url + "/metrics")
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				if err != nil {
					t.Error(err)
				}
				scraped <- response{resp, string(body)}
			}()
			awaitRequests(t, s.api, 3)
			e.signal(t, sig)
			resp := <-scraped
			if resp.Response == nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("the scrape got %+v", resp.Response)
			}
			if l := lacking(resp.body, "\ncohere_up 1\n", `job_up{job_id="job-1"} 1`, `job_up{job_id="job-2"} 1`, `job_up{job_id="job-3"} 1`); l != "" {
				t.Errorf("the scrape lacks %s", l)
			}
			if status := e.status(t); status != 0 {
				t.Errorf("exit status %d", status)
			}
		})
	}
}

// awaitRequests waits until the API has got n requests.
func awaitRequests(t *testing.T, api *cohertest.API, n int) {
	t.Helper()
	for deadline := time.Now().Add(patience); len(api.Requests()) < n; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the API got %d requests, not %d", len(api.Requests()), n)
		}
	}
}

func TestProgramKeepsTheScrapeTimeout(t *testing.T) {
	s := startSimulated(t, "job-1", "job-2", "job-3")
	s.user.Fail("job-2", cohertest.Hang)
	e := startExporter(t, nil, s.flags("job-1,job-2,job-3", "--cohere.timeout=1h")...)
	started := time.Now()
	resp := e.do(t, "GET", "/metrics", "X-Prometheus-Scrape-Timeout-Seconds", "2")
	// Package web's tests have the exact time. Without the header it is longer
	// than this.
	if took := time.Since(started); took > 9*time.Second {
		t.Errorf("answered after %v", took)
	}
	if l := lacking(resp.body, "\ncohere_up 0\n", `job_up{job_id="job-1"} 1`, `job_up{job_id="job-3"} 1`,
		`cohere_embed_job_fetch_error{job_id="job-2",reason="timeout"} 1`,
		`cohere_embed_job_status{job_id="job-1",status="processing"} 1`); resp.StatusCode != http.StatusOK || l != "" {
		t.Errorf("%s, no %s", resp.Status, l)
	}
}

func TestProgramShowsTheKeyNowhere(t *testing.T) {
	const part = "5ecret"
	for name, source := range map[string]func(s simulated) (env, args []string){
		"file":     func(s simulated) ([]string, []string) { return nil, []string{"--cohere.api-key-file=" + s.keyFile} },
		"variable": func(simulated) ([]string, []string) { return []string{"CO_API_KEY=" + testKey}, nil },
		"configuration": func(s simulated) ([]string, []string) {
			file := filepath.Join(s.dir, "exporter.yml")
			text := "accounts:\n  - name: search\n    http_client_config: {authorization: {credentials: '" + testKey + "'}}\n" +
				"    embed_jobs: {ids: [job-1, job-2], discover: {}}\n    base_url: " + s.url + "\n"
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				panic(err)
			}
			return nil, []string{"--config.file=" + file}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSimulated(t, "job-1", "job-2")
			s.user.Fail("job-1", cohertest.KeyEcho(401))
			s.user.Fail("job-2", cohertest.Times(1, cohertest.Warning("beware of "+testKey)))
			s.user.Fail(cohertest.List, cohertest.KeyEcho(500))
			env, args := source(s)
			if name != "configuration" {
				args = append(args, "--cohere.base-url="+s.url, "--cohere.job-id=job-1,job-2", "--cohere.discover=embed-jobs", "--cohere.fetch=get")
			}
			args = append(args, "--log.level=debug", "--web.enable-lifecycle")
			e := startExporter(t, env, args...)
			seen := map[string]string{}
			for i := range 2 {
				seen[fmt.Sprintf("/metrics, %d", i)] = e.scrape(t)
			}
			for _, path := range []string{"/", "/metrics?jobs=0", "/-/healthy", "/-/ready"} {
				seen[path] = e.do(t, "GET", path).body
			}
			seen["reload"] = e.do(t, "POST", "/-/reload").body
			if cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", e.cmd.Process.Pid)); err == nil {
				seen["the list of processes"] = string(cmdline)
			}
			e.find(t, `reason=(unauthorized|server_error).*<secret>`) // the echo has arrived
			e.stop()
			seen["the log"] = e.logged()
			for _, more := range []string{"--once", "--config.check"} {
				got := runToEnd(t, "", env, append(args, more)...)
				seen[more] = got.stdout + got.stderr
			}
			for where, text := range seen {
				if text == "" {
					t.Errorf("%s: nothing to look at", where)
				}
				if strings.Contains(text, part) {
					t.Errorf("the key shows in %s:\n%s", where, text)
				}
			}
		})
	}
}

func TestProgramReloads(t *testing.T) {
	s := startSimulated(t, "job-1", "job-2")
	file := filepath.Join(s.dir, "exporter.yml")
	configure := func(jobs string) {
		write(t, file, "accounts:\n  - name: search\n    http_client_config: {authorization: {credentials_file: cohere.key}}\n"+
			"    embed_jobs: {ids: ["+jobs+"]}\n    base_url: "+s.url+"\n")
	}
	configure("job-1")
	e := startExporter(t, nil, "--config.file="+file, "--web.enable-lifecycle")
	job := func(id string) string { return fmt.Sprintf(`cohere_embed_job_up{account="search",job_id=%q} 1`, id) }
	const good, bad = "\ncohere_exporter_config_last_reload_successful 1\n", "\ncohere_exporter_config_last_reload_successful 0\n"
	e.must(t, job("job-1"), "!"+job("job-2"), good)

	configure("job-2")
	if resp := e.do(t, "POST", "/-/reload"); resp.StatusCode != http.StatusOK {
		t.Errorf("%s: %s", resp.Status, resp.body)
	}
	e.must(t, "!"+job("job-1"), job("job-2"), good)

	reason := file + ":1: accounts: must be a list"
	write(t, file, "accounts: none\n")
	if resp := e.do(t, "POST", "/-/reload"); resp.StatusCode != http.StatusInternalServerError || resp.body != "failed to reload: "+reason+"\n" {
		t.Errorf("%s: %s", resp.Status, resp.body)
	}
	e.find(t, `level=error msg="reloading the configuration failed; the old one stays" err="`+regexp.QuoteMeta(reason)+`"`)
	e.must(t, "!"+job("job-1"), job("job-2"), bad)

	configure("job-1, job-2")
	e.signal(t, syscall.SIGHUP)
	e.until(t, job("job-1"), job("job-2"), good)
	write(t, file, "accounts: none\n")
	e.signal(t, syscall.SIGHUP)
	e.until(t, job("job-1"), job("job-2"), bad)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if resp := e.do(t, "POST", "/-/reload"); resp.StatusCode != http.StatusInternalServerError || !strings.Contains(resp.body, "no such file") {
		t.Errorf("%s: %s", resp.Status, resp.body)
	}
	if resp := e.do(t, "GET", "/-/reload"); resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET /-/reload: %s", resp.Status)
	}
}

func TestProgramHasNothingToReload(t *testing.T) {
	e := startExporter(t, nil, "--demo", "--web.enable-lifecycle")
	e.find(t, `msg="started cohere_exporter"`)
	e.signal(t, syscall.SIGHUP)
	e.find(t, `level=warn msg="nothing to reload" err="there is no --config.file to reload"`)
	if resp := e.do(t, "POST", "/-/reload"); resp.StatusCode != http.StatusInternalServerError || !strings.Contains(resp.body, "there is no --config.file to reload") {
		t.Errorf("%s: %s", resp.Status, resp.body)
	}
	e.must(t, "\ncohere_up 1\n", "\ncohere_exporter_config_last_reload_successful 1\n")
}

func TestProgramFollowsJobFiles(t *testing.T) {
	s := startSimulated(t, "job-1", "job-2")
	config, jobs := filepath.Join(s.dir, "exporter.yml"), filepath.Join(s.dir, "jobs.txt")
	write(t, jobs, "job-1 # the first\n")
	write(t, config, "accounts:\n  - name: search\n    http_client_config: {authorization: {credentials_file: cohere.key}}\n"+
		"    embed_jobs: {id_files: [jobs*.txt], requests_per_minute: 0}\n    base_url: "+s.url+"\n")
	e := startExporter(t, nil, "--config.file="+config)
	job := func(id string) string { return fmt.Sprintf(`cohere_embed_job_up{account="search",job_id=%q}`, id) }
	e.must(t, job("job-1")+" 1", "!"+job("job-2"))
	// Its news takes the kernel a moment, in which a test scrapes more than
	// twice.
	write(t, jobs, "job-1 # the first\njob-2\n")
	e.until(t, job("job-1")+" 1", job("job-2")+" 1", fmt.Sprintf(`cohere_job_file_read_success{account="search",file=%q,resource="embed_jobs"} 1`, jobs))
	write(t, jobs, "job-2\n")
	e.until(t, "!"+job("job-1"), job("job-2")+" 1")
}

func TestProgramFollowsTheKeyFile(t *testing.T) {
	s := startSimulated(t, "job-1")
	e := startExporter(t, nil, s.flags("job-1")...)
	e.must(t, "\ncohere_up 1\n")
	const other = "sk-another-key"
	s.user.SetKey(other)
	e.must(t, `cohere_embed_job_fetch_error{job_id="job-1",reason="unauthorized"} 1`)
	write(t, s.keyFile, other+"\n")
	e.must(t, "\ncohere_up 1\n")
	sent := len(s.api.Requests())
	write(t, s.keyFile, "\n")
	e.must(t, `cohere_embed_job_fetch_error{job_id="job-1",reason="no_key"} 1`,
		`cohere_embed_job_status{job_id="job-1",status="processing"} 1`) // remembered
	if now := len(s.api.Requests()); now != sent {
		t.Errorf("%d requests without a key", now-sent)
	}
	write(t, s.keyFile, other)
	e.must(t, "\ncohere_up 1\n")
}

// writeCertificate writes a web.yml for TLS with a certificate for loopback,
// and returns a client that trusts it.
func writeCertificate(t *testing.T, dir string, more ...string) *http.Client {
	t.Helper()
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	certificate := server.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "tls.crt"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]})))
	write(t, filepath.Join(dir, "tls.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	write(t, filepath.Join(dir, "web.yml"), "tls_server_config: {cert_file: tls.crt, key_file: tls.key}\n"+strings.Join(more, "\n"))
	client := server.Client()
	client.Timeout = patience
	return client
}

// The web configuration file covers every path, and wins over the headers that
// pages have by themselves.
func TestProgramTLSAndBasicAuth(t *testing.T) {
	dir := t.TempDir()
	client := writeCertificate(t, dir,
		"basic_auth_users: {prometheus: $2a$04$gNL/XvqyUrAl2uFZLzaXNuc9rHH8DDRchO0d0k.mOdH1nUuEMI65S}", // correct horse
		"http_server_config: {headers: {Content-Security-Policy: default-src 'self'}}")
	e := startExporter(t, nil, "--demo", "--web.enable-lifecycle", "--web.config.file="+filepath.Join(dir, "web.yml"))
	secure := exporter{e.process, strings.Replace(e.url, "http:", "https:", 1), client}
	for path, want := range map[string]string{
		"/":                                  "cohere_exporter",
		"/jobs":                              "Every job",
		"/metrics":                           "cohere_up 1",
		"/metrics?jobs=0":                    "cohere_api_requests_total",
		"/probe?job_id=ebd-3f1c8a90b7d24e65": "cohere_up 1",
		"/-/healthy":                         "healthy",
		"/-/ready":                           "ready",
		"/-/reload":                          "Method Not Allowed",
		"/nothing":                           "not found",
	} {
		for _, password := range []string{"", "wrong", "correct horse"} {
			var header []string
			if password != "" {
				header = []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("prometheus:"+password))}
			}
			resp, head := secure.do(t, http.MethodGet, path, header...), secure.do(t, http.MethodHead, path, header...)
			for _, resp := range []response{resp, head} {
				if policy, sniff := resp.Header.Get("Content-Security-Policy"), resp.Header.Get("X-Content-Type-Options"); policy != "default-src 'self'" || sniff != "nosniff" {
					t.Errorf("%s %s: the policy is %q, %q", resp.Request.Method, path, policy, sniff)
				}
			}
			if head.StatusCode != resp.StatusCode || head.body != "" {
				t.Errorf("HEAD %s: %s, %q; GET: %s", path, head.Status, head.body, resp.Status)
			}
			if password != "correct horse" {
				if resp.StatusCode != http.StatusUnauthorized || resp.body != "Unauthorized\n" {
					t.Errorf("%s with password %q: %s, %s", path, password, resp.Status, resp.body)
				}
			} else if !strings.Contains(resp.body, want) {
				t.Errorf("%s: %s without %q: %s", path, resp.Status, want, resp.body)
			}
		}
		if resp := e.do(t, http.MethodGet, path); resp.StatusCode != http.StatusBadRequest || !strings.Contains(resp.body, "HTTPS server") {
			t.Errorf("%s without TLS: %s, %s", path, resp.Status, resp.body)
		}
	}
}

func TestProgramLimitsRequests(t *testing.T) {
	e := startExporter(t, nil, "--demo")
	if resp := e.do(t, http.MethodGet, "/jobs", "Cookie", strings.Repeat("x", 20<<10)); resp.StatusCode != http.StatusOK {
		t.Errorf("headers of 20 KiB: %s", resp.Status)
	}
	if resp := e.do(t, http.MethodGet, "/jobs", "Cookie", strings.Repeat("x", 40<<10)); resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("headers of 40 KiB: %s", resp.Status)
	}
	if resp := e.do(t, http.MethodGet, "/jobs?q="+strings.Repeat("x", 40<<10)); resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("an address of 40 KiB: %s", resp.Status)
	}
}

// Neither may keep the program from ending: a client that never finishes its
// request, and a key file that could be waited for.
func TestProgramWaitsForNothing(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "key")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	got := runToEnd(t, "", nil, "--cohere.job-id=a", "--cohere.api-key-file="+fifo)
	const want = "--cohere.api-key-file: not a regular file; name a file that holds the API key in one line"
	if exitError(got.stderr) != want || got.status != 1 {
		t.Errorf("got %+v", got)
	}

	e := startExporter(t, nil, "--demo")
	conn, err := net.Dial("tcp", strings.TrimPrefix(e.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n")
	e.must(t, "cohere_up 1")
	e.signal(t, syscall.SIGTERM)
	if status := e.status(t); status != 0 {
		t.Errorf("exit status %d", status)
	}
}
