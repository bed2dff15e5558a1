package deploy_test

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
)

// startLarge starts the program with 2,000 jobs, whose IDs have this prefix. With a
// short one an answer has 2.5 MB and just fits in a socket's buffers.
func startLarge(t *testing.T, prefix string, more ...string) (simulated, exporter) {
	t.Helper()
	jobs := make([]string, 2000)
	for i := range jobs {
		jobs[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	s := startSimulated(t, jobs...)
	return s, startExporter(t, nil, s.flags(strings.Join(jobs, ","), append(more, "--cohere.requests-per-minute=0")...)...)
}

func (e exporter) address() string { return e.url[strings.LastIndex(e.url, "/")+1:] }

// dial connects with a small buffer for what is received.
func (e exporter) dial(t *testing.T) net.Conn {
	t.Helper()
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) }); e != nil {
			return e
		}
		return err
	}}
	conn, err := dialer.DialContext(t.Context(), "tcp", e.address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// connections is how many of the program's descriptors are connections of its
// clients.
func (e exporter) connections(t *testing.T) (n int) {
	t.Helper()
	_, port, err := net.SplitHostPort(e.address())
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	inodes := map[string]bool{}
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Skip("there is no /proc/net/tcp")
	}
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); strings.HasSuffix(f[1], fmt.Sprintf(":%04X", number)) && f[3] != "0A" { // listening
			inodes[f[9]] = true
		}
	}
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", e.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		target, _ := os.Readlink(link) // it may be closed by now
		inode, socket := strings.CutPrefix(target, "socket:[")
		if socket && inodes[strings.TrimSuffix(inode, "]")] {
			n++
		}
	}
	return n
}

// awaitConnections waits until the program has so many.
func (e exporter) awaitConnections(t *testing.T, want int, most time.Duration) {
	t.Helper()
	var got int
	for deadline := time.Now().Add(most); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if got = e.connections(t); got == want {
			return
		}
	}
	t.Fatalf("%d connections, want %d", got, want)
}

// goroutines are those that the exporter has of itself, without the request
// that asks.
func (e exporter) goroutines(t *testing.T) int {
	t.Helper()
	for line := range strings.Lines(e.do(t, "GET", "/metrics?jobs=0").body) {
		if value, ok := strings.CutPrefix(line, "go_goroutines "); ok {
			n, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no go_goroutines")
	return 0
}

// A client of one request may find room for all of its answer in buffers, and
// looks idle; one of several blocks the second.
func TestProgramHoldsNothingForClientsThatDoNotRead(t *testing.T) {
	t.Parallel()
	const clients = 10
	for _, requests := range []int{1, 100} {
		t.Run(fmt.Sprintf("%d requests", requests), func(t *testing.T) {
			t.Parallel()
			if requests == 1 && testing.Short() {
				t.Skip("takes most of a minute")
			}
			_, e := startLarge(t, "job-")
			e.must(t, "\ncohere_up 1\n")
			e.awaitConnections(t, 0, patience)
			goroutines := e.goroutines(t)
			for range clients {
				fmt.Fprint(e.dial(t), strings.Repeat("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", requests))
			}
			e.awaitConnections(t, clients, patience)
			e.must(t, "\ncohere_up 1\n") // others are not held up
			e.awaitConnections(t, 0, time.Minute)
			e.awaitOwn(t, "\npromhttp_metric_handler_requests_in_flight 1\n", `promhttp_metric_handler_errors_total{cause="encoding"} 0`)
			if after := e.goroutines(t); after >= goroutines+clients {
				t.Errorf("%d goroutines before, %d after", goroutines, after)
			}
			if logged := e.ended(t); strings.Contains(logged, "level=error") {
				t.Errorf("%s", logged)
			}
		})
	}
}

// What is not answered by the program's own handler has a limit too.
func TestProgramHoldsNothingForClientsItTurnsAway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "web.yml"), "basic_auth_users: {prometheus: $2a$04$gNL/XvqyUrAl2uFZLzaXNuc9rHH8DDRchO0d0k.mOdH1nUuEMI65S}\n")
	e := startExporter(t, nil, "--demo", "--web.config.file="+filepath.Join(dir, "web.yml"))
	conn := e.dial(t)
	go func() { // until it is given up
		for {
			if _, err := io.WriteString(conn, strings.Repeat("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 100)); err != nil {
				return
			}
		}
	}()
	e.awaitConnections(t, 1, patience)
	e.awaitConnections(t, 0, patience)
}

// HTTP/2 has limits of its own: a client that reads nothing blocks its
// connection, one that grants no window blocks its requests.
func TestProgramHoldsNothingForHTTP2ClientsThatDoNotRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	client := writeCertificate(t, dir)
	_, e := startLarge(t, "job-", "--web.config.file="+filepath.Join(dir, "web.yml"))
	e.url, e.client = strings.Replace(e.url, "http:", "https:", 1), client
	e.must(t, "\ncohere_up 1\n")

	const (
		settings, windowUpdate, headers = 4, 8, 1
		initialWindowSize               = 4
		endOfStreamAndHeaders           = 4 | 1
		largest                         = 1<<31 - 1
		requests                        = 5
	)
	frame := func(kind, flags byte, stream uint32, payload []byte) []byte {
		length := binary.BigEndian.AppendUint32(nil, uint32(len(payload)))[1:]
		return slices.Concat(length, []byte{kind, flags}, binary.BigEndian.AppendUint32(nil, stream), payload)
	}
	get := slices.Concat([]byte{0x82, 0x87, 0x01, 9}, []byte("localhost"), []byte{0x04, 8}, []byte("/metrics"))
	connect := func(window uint32) net.Conn {
		conn := tls.Client(e.dial(t), &tls.Config{
			RootCAs: client.Transport.(*http.Transport).TLSClientConfig.RootCAs, ServerName: "127.0.0.1", NextProtos: []string{"h2"},
		})
		send := []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
		send = append(send, frame(settings, 0, 0, binary.BigEndian.AppendUint32([]byte{0, initialWindowSize}, window))...)
		send = append(send, frame(windowUpdate, 0, 0, binary.BigEndian.AppendUint32(nil, largest-1<<16))...)
		for i := range requests {
			send = append(send, frame(headers, endOfStreamAndHeaders, uint32(2*i+1), get)...)
		}
		if _, err := conn.Write(send); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	connect(largest)
	reading := connect(1000)
	go func() { _, _ = io.Copy(io.Discard, reading) }()
	e.awaitOwn(t, fmt.Sprintf("\npromhttp_metric_handler_requests_in_flight %d\n", 2*requests+1))
	e.awaitOwn(t, "\npromhttp_metric_handler_requests_in_flight 1\n")
	e.awaitConnections(t, 1, patience) // that of the client that reads: it is idle
	if logged := e.ended(t); strings.Contains(logged, "level=error") {
		t.Errorf("%s", logged)
	}
}

// startScrape sends a scrape that would wait for long, and returns where its
// answer, or nil, is going to be.
func (e exporter) startScrape(t *testing.T) <-chan *response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, e.url+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", "60")
	scraped := make(chan *response, 1)
	go func() {
		defer close(scraped)
		resp, err := hasty.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Error(err)
		}
		scraped <- &response{resp, string(body)}
	}()
	return scraped
}

// Whatever the API and the clients do: scrapes end within 10 s of SIGTERM, with
// what is known, and the process within 20 s. Both are promised in seconds, so no
// other test of the program runs beside this one.
func TestProgramEndsInTime(t *testing.T) {
	s, e := startLarge(t, strings.Repeat("long-", 10), "--cohere.timeout=1h")
	s.user.Fail(strings.Repeat("long-", 10)+"1999", cohertest.Hang)
	scraped := e.startScrape(t)
	for _, request := range []string{
		strings.Repeat("GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Prometheus-Scrape-Timeout-Seconds: 60\r\n\r\n", 10), // reads nothing
		"GET /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n",
		"GET /metr", "",
	} {
		fmt.Fprint(e.dial(t), request)
	}
	awaitRequests(t, s.api, 2000)
	e.signal(t, syscall.SIGTERM)
	signalled := time.Now()
	resp := <-scraped
	if took := time.Since(signalled); took > 10*time.Second {
		t.Errorf("the scrape ended after %v", took)
	}
	if resp == nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("the scrape got %+v", resp)
	}
	if l := lacking(resp.body, "\ncohere_up 0\n", `long-0"} 1`, `long-1998"} 1`, `long-1999"} 0`); l != "" {
		t.Errorf("the scrape lacks %s", l)
	}
	status := e.status(t)
	if took := time.Since(signalled); status != 0 || took > 20*time.Second {
		t.Errorf("exit status %d after %v", status, took)
	}
}

// A configuration that is slow to read: a pipe, which is read once somebody
// writes to it.
func TestProgramTakesSignalsWhileItReads(t *testing.T) {
	t.Parallel()
	s := startSimulated(t, "job-1", "job-2")
	file := filepath.Join(s.dir, "exporter.yml")
	if err := syscall.Mkfifo(file, 0o600); err != nil {
		t.Fatal(err)
	}
	// open returns once the program reads.
	open := func() *os.File {
		w, err := os.OpenFile(file, os.O_WRONLY, 0)
		if err != nil {
			t.Error(err)
		}
		return w
	}
	configure := func(w *os.File, job string) {
		fmt.Fprintf(w, "accounts:\n  - name: search\n    http_client_config: {authorization: {credentials_file: cohere.key}}\n"+
			"    embed_jobs: {ids: [%s]}\n    base_url: %s\n", job, s.url)
		w.Close()
	}
	p := start(t, builtProgram(t), nil, "--config.file="+file, anyPort)
	w := open()
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	configure(w, "job-1")
	e := exporter{process: p, url: "http://" + p.listening(t)}

	w = open() // it has not forgotten
	e.must(t, `cohere_embed_job_up{account="search",job_id="job-1"} 1`)
	configure(w, "job-2")
	e.until(t, `cohere_embed_job_up{account="search",job_id="job-2"} 1`, `!job_id="job-1"`)

	e.signal(t, syscall.SIGHUP)
	w = open()
	defer w.Close()
	e.ended(t)
}

func TestProgramAnswersGetAndHeadOnly(t *testing.T) {
	t.Parallel()
	s := startSimulated(t, "job-1")
	e := startExporter(t, nil, s.flags("job-1", "--web.enable-lifecycle")...)
	for _, path := range []string{"/", "/metrics", "/-/healthy", "/-/ready"} {
		for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"} {
			if resp := e.do(t, method, path); resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s: %s, allowed is %s", method, path, resp.Status, resp.Header.Get("Allow"))
			}
		}
	}
	for _, method := range []string{"GET", "HEAD", "PUT"} {
		if resp := e.do(t, method, "/-/reload"); resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") != "POST" {
			t.Errorf("%s /-/reload: %s, allowed is %s", method, resp.Status, resp.Header.Get("Allow"))
		}
	}
	for _, path := range []string{"/metrics", "/metrics?jobs=0", "/", "/-/ready"} {
		for _, query := range []string{"%zz", "a;b"} {
			for _, method := range []string{"GET", "HEAD"} {
				at := path + map[bool]string{true: "&", false: "?"}[strings.Contains(path, "?")] + query
				resp := e.do(t, method, at)
				if resp.StatusCode != http.StatusBadRequest || strings.HasPrefix(resp.body, "malformed query: ") != (method == "GET") {
					t.Errorf("%s %s: %s, %s", method, at, resp.Status, resp.body)
				}
			}
		}
	}
	for _, accept := range []string{"text/plain", "application/openmetrics-text;version=1.0.0"} {
		for _, encoding := range []string{"identity", "gzip"} {
			header := []string{"Accept", accept, "Accept-Encoding", encoding}
			head := e.do(t, "HEAD", "/metrics?unknown=1", header...)
			if n := len(s.api.Requests()); head.StatusCode != http.StatusOK || head.body != "" || n != 0 {
				t.Errorf("HEAD: %s, %q, %d requests to the API", head.Status, head.body, n)
			}
			get := e.do(t, "GET", "/metrics?jobs=0", header...)
			for _, h := range []http.Header{head.Header, get.Header} { // which depend on the body, and the time
				h.Del("Date")
				h.Del("Content-Length")
			}
			if !maps.EqualFunc(head.Header, get.Header, slices.Equal) {
				t.Errorf("HEAD has %v, GET %v", head.Header, get.Header)
			}
		}
	}
	e.must(t, "\ncohere_up 1\n")
	if resp := e.do(t, "GET", "/metrics?unknown=1&jobs=1"); lacking(resp.body, "\ncohere_up 1\n") != "" {
		t.Errorf("%s, without the jobs", resp.Status)
	}
}
