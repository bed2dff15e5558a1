package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// exporter is the program under test.
type exporter struct {
	url    string
	cmd    *exec.Cmd
	secret string // part of every key
	found  *findings

	output sync.WaitGroup
	ended  chan error
	lines  atomic.Int64 // of its log
}

// patience is how long the exporter has to start, to reload and to end: however
// busy the machine is.
const patience = 60 * time.Second

func start(binary, config, secret string, found *findings) (*exporter, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	e := &exporter{
		url:    "http://" + address,
		cmd:    exec.Command(binary, "--config.file="+config, "--web.listen-address="+address, "--web.enable-lifecycle", "--log.level=debug"),
		secret: secret,
		found:  found,
		ended:  make(chan error, 1),
	}
	e.cmd.Env = []string{} // no proxy, no key
	for _, pipe := range []func() (io.ReadCloser, error){e.cmd.StdoutPipe, e.cmd.StderrPipe} {
		r, err := pipe()
		if err != nil {
			return nil, err
		}
		e.output.Add(1)
		go e.read(r)
	}
	if err := e.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		e.output.Wait()
		e.ended <- e.cmd.Wait()
	}()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get(e.url + "/-/ready")
		if err == nil {
			resp.Body.Close()
			return e, nil
		}
		select {
		case err := <-e.ended:
			return nil, fmt.Errorf("the exporter ended at once: %w", err)
		default:
		}
		if time.Now().After(deadline) {
			e.kill()
			return nil, fmt.Errorf("the exporter does not start: %w", err)
		}
	}
}

// freePort finds a port that was free a moment ago.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// read judges what the exporter prints.
func (e *exporter) read(r io.Reader) {
	defer e.output.Done()
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		e.printed(lines.Text())
	}
	if err := lines.Err(); err != nil && !errors.Is(err, os.ErrClosed) {
		e.found.add("output", "%v", err)
	}
}

func (e *exporter) printed(line string) {
	e.lines.Add(1)
	switch {
	case strings.Contains(line, e.secret):
		e.found.add("key printed", "%s", strings.ReplaceAll(line, e.secret, "KEY"))
	case strings.Contains(line, "level=error") && !strings.Contains(line, `msg="reloading the configuration failed`),
		!strings.HasPrefix(line, "time="):
		e.found.add("printed", "%s", line)
	}
}

// end has the exporter end.
func (e *exporter) end() {
	_ = e.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-e.ended:
		if err != nil {
			e.found.add("end", "after SIGTERM: %v", err)
		}
	case <-time.After(patience):
		e.found.add("end", "SIGTERM did not end the exporter within %s", patience)
	}
}

func (e *exporter) kill() { _ = e.cmd.Process.Kill() }
