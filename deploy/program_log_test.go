package deploy_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
)

// noKey sees to it that a text does not show testKey, not even a part of it.
func noKey(t *testing.T, where, text string) {
	t.Helper()
	if text == "" {
		t.Errorf("%s: nothing to look at", where)
	}
	if strings.Contains(text, "5ecret") || strings.Contains(text, cohertest.DemoKey) {
		t.Errorf("the key shows in %s:\n%s", where, text)
	}
}

// jsonLines are the messages of a log of which each line must be as
// --log.format=json has it.
func jsonLines(t *testing.T, text string) (msgs []string) {
	t.Helper()
	for line := range strings.Lines(text) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Errorf("%v: %s", err, line)
			continue
		}
		at, _ := fields["time"].(string)
		level, _ := fields["level"].(string)
		msg, _ := fields["msg"].(string)
		if _, err := time.Parse(time.RFC3339Nano, at); err != nil || !strings.HasSuffix(at, "Z") || level == "" || msg == "" {
			t.Errorf("not a line of the log: %s", line)
		}
		msgs = append(msgs, level+": "+msg)
	}
	return msgs
}

func (e exporter) ended(t *testing.T) string {
	t.Helper()
	e.signal(t, syscall.SIGTERM)
	if status := e.status(t); status != 0 {
		t.Errorf("exit status %d", status)
	}
	return e.logged() + "\n"
}

// startJSON starts the program, which logs all that it can as JSON.
func startJSON(t *testing.T, program string, args ...string) exporter {
	t.Helper()
	p := start(t, program, nil, append(args, "--log.format=json", "--log.level=debug", anyPort)...)
	return exporter{process: p, url: "http://" + p.find(t, `"address":"([^"]+)".*"msg":"Listening on"`)[1]}
}

// What a server sends after its answer is quoted by net/http, by way of the
// standard logger; here it echoes the request.
func TestProgramLogsNoEchoOfTheKey(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				req, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				const body = `{"job_id":"job-1","status":"processing"}`
				fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
				fmt.Fprintf(conn, "HTTP/1.1 400 Bad Request\r\nX-Echo: %s\r\n\r\n", req.Header.Get("Authorization"))
			}()
		}
	}()
	key := filepath.Join(t.TempDir(), "cohere.key")
	write(t, key, testKey)
	e := startJSON(t, builtProgram(t), "--cohere.base-url=http://"+l.Addr().String(), "--cohere.api-key-file="+key, "--cohere.job-id=job-1")
	e.must(t, `cohere_embed_job_up{job_id="job-1"} 1`)
	e.find(t, `"level":"warn","msg":"Unsolicited response received on idle HTTP channel starting with"`)
	logged := e.ended(t)
	jsonLines(t, logged)
	noKey(t, "the log", logged)
}

func TestProgramLogsTLSErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeCertificate(t, dir)
	e := startJSON(t, builtProgram(t), "--demo", "--web.config.file="+filepath.Join(dir, "web.yml"))
	address := strings.TrimPrefix(e.url, "http://")
	if resp, err := hasty.Get(e.url); err == nil {
		resp.Body.Close()
	}
	if _, err := tls.Dial("tcp", address, &tls.Config{MinVersion: tls.VersionTLS12}); err == nil { // does not trust it
		t.Error("the certificate is trusted")
	}
	e.find(t, `"level":"warn","msg":"http: TLS handshake error from \S+: client sent an HTTP request to an HTTPS server"`)
	e.find(t, `"level":"warn","msg":"http: TLS handshake error from \S+: remote error: tls: bad certificate"`)
	logged := e.ended(t)
	jsonLines(t, logged)
	noKey(t, "the log", logged)
}

func TestProgramLogsAcceptErrors(t *testing.T) {
	t.Parallel()
	e := startJSON(t, "/bin/sh", "-c", `ulimit -n 24; exec "$0" "$@"`, builtProgram(t), "--demo")
	for range 30 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(e.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	e.find(t, `"level":"warn","msg":"http: Accept error: accept tcp 127.0.0.1:\d+: accept4: too many open files; retrying in \w+"`)
	logged := e.ended(t)
	jsonLines(t, logged)
	noKey(t, "the log", logged)
}

// logPipe is a pipe for the log that holds no more than a page.
func logPipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	const setPipeSize = 1031 // F_SETPIPE_SZ
	if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, w.Fd(), setPipeSize, uintptr(pageSize)); errno != 0 {
		t.Fatal(errno)
	}
	return r, w
}

var pageSize = os.Getpagesize()

// startLoggingTo starts the program with a log of which only the address is
// read.
func startLoggingTo(t *testing.T, r io.Reader, w *os.File, args ...string) (e exporter, rest *bufio.Reader) {
	t.Helper()
	p := &process{cmd: exec.Command(builtProgram(t), append(args, anyPort)...), name: "cohere_exporter"}
	p.cmd.Stderr = w
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = p.cmd.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.ends = true
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-ended
	})
	rest = bufio.NewReader(r)
	for {
		line, err := rest.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if m := regexp.MustCompile(`msg="Listening on" address=(\S+)`).FindStringSubmatch(line); m != nil {
			return exporter{process: p, url: "http://" + m[1]}, rest
		}
	}
}

// manyFailures has every scrape log a line for each of 300 jobs.
func manyFailures(t *testing.T) (simulated, []string) {
	t.Helper()
	jobs := make([]string, 300)
	for i := range jobs {
		jobs[i] = fmt.Sprintf("job-%d", i)
	}
	s := startSimulated(t, jobs...)
	s.user.Fail(cohertest.All, cohertest.Status(503, "overloaded"))
	return s, s.flags(strings.Join(jobs, ","), "--log.level=debug", "--cohere.requests-per-minute=0")
}

func TestProgramWithALogThatNobodyDrains(t *testing.T) {
	t.Parallel()
	_, flags := manyFailures(t)
	r, w := logPipe(t)
	e, rest := startLoggingTo(t, r, w, flags...)
	w.Close()
	for range 5 { // 1,500 lines, of which the queue has 1,000
		e.must(t, "\ncohere_up 0\n")
	}
	e.must(t, "!\ncohere_exporter_log_lines_dropped_total 0\n", "\ncohere_exporter_log_lines_dropped_total ")
	if resp := e.do(t, "GET", "/-/healthy"); resp.StatusCode != http.StatusOK {
		t.Errorf("%s", resp.Status)
	}
	e.ended(t)
	logged, err := io.ReadAll(rest)
	if err != nil {
		t.Fatal(err)
	}
	noKey(t, "the log", string(logged))
}

// The last lines are written if somebody begins to read then.
func TestProgramWritesItsLastLines(t *testing.T) {
	t.Parallel()
	_, flags := manyFailures(t)
	r, w := logPipe(t)
	e, rest := startLoggingTo(t, r, w, flags...)
	w.Close()
	e.must(t, "\ncohere_up 0\n", "\ncohere_exporter_log_lines_dropped_total 0\n")
	e.signal(t, syscall.SIGTERM)
	logged, err := io.ReadAll(rest)
	if err != nil {
		t.Fatal(err)
	}
	if status := e.status(t); status != 0 {
		t.Errorf("exit status %d", status)
	}
	if n := bytes.Count(logged, []byte(`msg="fetching failed"`)); n != 300 {
		t.Errorf("%d of 300 lines", n)
	}
	if !regexp.MustCompile(`level=info msg="shutting down"\n$`).Match(logged) {
		t.Errorf("the log ends in %s", logged[max(0, len(logged)-500):])
	}
	noKey(t, "the log", string(logged))
}

// An error at start is lost where nobody drains the log, and nothing else.
func TestProgramEndsWithALogThatNobodyDrains(t *testing.T) {
	t.Parallel()
	r, w := logPipe(t)
	full := strings.Repeat("x", pageSize)
	if _, err := w.WriteString(full); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"configuration": {"--cohere.job-id=job-1", "--cohere.api-key-file=missing.key"},
		"once":          {"--demo", "--once"},
	} {
		cmd := exec.CommandContext(t.Context(), builtProgram(t), args...)
		cmd.Stderr = w
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		hangs := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		hangs.Stop()
		want := map[string]int{"configuration": 1, "once": 0}[name]
		if status := cmd.ProcessState.ExitCode(); status != want {
			t.Errorf("%s: exit status %d, want %d", name, status, want)
		}
	}
	w.Close()
	if rest, err := io.ReadAll(r); err != nil || string(rest) != full {
		t.Errorf("%v: %s", err, rest)
	}
}

// As when journald restarts, or `cohere_exporter 2>&1 | head` has had enough.
func TestProgramWithALogWhoseReaderIsGone(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T) (r, w *os.File){
		"pipe": logPipe,
		"socket": func(t *testing.T) (r, w *os.File) {
			t.Helper()
			fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			return os.NewFile(uintptr(fds[0]), "r"), os.NewFile(uintptr(fds[1]), "w")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSimulated(t, "job-1")
			r, w := open(t)
			e, _ := startLoggingTo(t, r, w, s.flags("job-1")...)
			w.Close()
			r.Close()
			s.user.Fail("job-1", cohertest.Status(503, "overloaded")) // which is news
			e.must(t, "\ncohere_up 0\n")
			e.until(t, "!\ncohere_exporter_log_lines_dropped_total 0\n", "\ncohere_exporter_log_lines_dropped_total ")
			s.user.Fail("job-1", nil)
			e.must(t, "\ncohere_up 1\n")
			e.ended(t)
		})
	}
}

// A scrape that its client gives up is no error, whenever it does.
func TestProgramLogsNoErrorForAClientThatLeaves(t *testing.T) {
	t.Parallel()
	s := startSimulated(t, "job-1")
	s.user.Fail("job-1", cohertest.Hang)
	e := startExporter(t, nil, s.flags("job-1", "--cohere.timeout=1h", "--log.level=debug")...)
	conn, err := net.Dial("tcp", strings.TrimPrefix(e.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
	awaitRequests(t, s.api, 1)
	_ = conn.(*net.TCPConn).SetLinger(0) // a reset, so that writing fails at once
	conn.Close()

	e.awaitOwn(t, "\npromhttp_metric_handler_requests_in_flight 1\n", `promhttp_metric_handler_errors_total{cause="encoding"} 0`)
	s.user.Fail("job-1", nil)
	e.find(t, `level=debug msg="client gave up" path=/metrics err=`)
	logged := e.ended(t)
	if n := strings.Count(logged, `msg="client gave up"`); n != 1 || strings.Contains(logged, "level=error") {
		t.Errorf("%d lines say that the client gave up:\n%s", n, logged)
	}
	noKey(t, "the log", logged)
}

// awaitOwn waits for what the exporter says of itself.
func (e exporter) awaitOwn(t *testing.T, want ...string) {
	t.Helper()
	var last string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if last = e.do(t, "GET", "/metrics?jobs=0").body; lacking(last, want...) == "" {
			return
		}
	}
	t.Fatalf("%s\nis not as wanted in\n%s", lacking(last, want...), last)
}
