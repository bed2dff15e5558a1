package logging_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/cohere-exporter/cohere_exporter/collector/logging"
)

const now = "2000-01-01T00:00:00Z" // in a bubble of synctest

// lines returns what a logger of this level is made to write.
func lines(t *testing.T, lowest, format string, write func(log.Logger)) (text string) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		var b bytes.Buffer
		write(logging.New(&b, lowest, format))
		text = b.String()
	})
	return text
}

func expect(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// Who speaks does not show.
func TestShape(t *testing.T) {
	err := errors.New("it is \"broken\"")
	for _, c := range []struct {
		name, want string
		write      func(log.Logger)
	}{
		{
			"go-kit", `level=warn msg="fetching failed" account=search job_id=ebd-1 err="it is \"broken\""`,
			func(l log.Logger) {
				level.Warn(log.With(l, "account", "search")).Log("err", err, "msg", "fetching failed", "job_id", "ebd-1")
			},
		},
		{
			"a field without a value", `level=info msg=odd field=(MISSING)`,
			func(l log.Logger) { level.Info(l).Log("msg", "odd", "field") },
		},
		{
			"slog", `level=warn msg="fetching failed" account=search tls.version=1.3 tls.alpn=h2 wait=5s enabled=true err="it is \"broken\""`,
			func(l log.Logger) {
				slog.New(logging.Handler(l)).With("account", "search").Warn("fetching failed", "err", err,
					slog.Group("tls", "version", "1.3", slog.Group("", "alpn", "h2")), "wait", 5*time.Second, "enabled", true)
			},
		},
		{
			"slog with groups", `level=error msg=failed web.a=1 web.tls.b=2 web.tls.c=3`,
			func(l log.Logger) {
				slog.New(logging.Handler(l)).WithGroup("").WithGroup("web").With("a", 1).WithGroup("tls").With("b", 2).Error("failed", "c", 3)
			},
		},
		{
			"slog by way of a standard logger", `level=error msg="error gathering metrics: no"`,
			func(l log.Logger) {
				slog.NewLogLogger(logging.Handler(l), slog.LevelError).Println("error gathering metrics:", "no")
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			expect(t, lines(t, "info", "logfmt", c.write), "time="+now+" "+c.want+"\n")

			var line map[string]any
			text := lines(t, "info", "json", c.write)
			if err := json.Unmarshal([]byte(text), &line); err != nil || strings.Count(text, "\n") != 1 {
				t.Errorf("%v: %s", err, text)
			}
			if line["time"] != now || !strings.HasPrefix(c.want, fmt.Sprintf("level=%s msg=", line["level"])) {
				t.Errorf("%s", text)
			}
		})
	}
}

func TestLevels(t *testing.T) {
	all := []string{"debug", "info", "warn", "error"}
	for i, lowest := range all {
		var want strings.Builder
		for _, name := range all[i:] {
			for _, from := range []string{"go-kit", "slog"} {
				fmt.Fprintf(&want, "time=%s level=%s msg=%s\n", now, name, from)
			}
		}
		expect(t, lines(t, lowest, "logfmt", func(l log.Logger) {
			s := slog.New(logging.Handler(l))
			for j, at := range []func(log.Logger) log.Logger{level.Debug, level.Info, level.Warn, level.Error} {
				at(l).Log("msg", "go-kit")
				[]func(string, ...any){s.Debug, s.Info, s.Warn, s.Error}[j]("slog")
			}
		}), want.String())
	}
}

func TestCapture(t *testing.T) {
	flags, output, logger := stdlog.Flags(), stdlog.Writer(), slog.Default()
	t.Cleanup(func() {
		slog.SetDefault(logger)
		stdlog.SetFlags(flags)
		stdlog.SetOutput(output)
	})
	stdlog.SetFlags(stdlog.LstdFlags | stdlog.Lshortfile)
	for _, c := range []struct{ name, want string }{
		{"info", `level=warn msg="Unsolicited response received on idle HTTP channel starting with"
level=warn msg="http: panic serving 127.0.0.1:1: oops\n\ngoroutine 1 [running]:"
level=info msg="by slog" key=value
`},
		{"error", ""},
	} {
		got := lines(t, c.name, "logfmt", func(l log.Logger) {
			logging.Capture(l)
			stdlog.Printf("Unsolicited response received on idle HTTP channel starting with %q; err=%v", "HTTP/1.1 400 Bearer sk-5ec", io.EOF)
			stdlog.Print("http: panic serving 127.0.0.1:1: oops\n\ngoroutine 1 [running]:\n")
			slog.Info("by slog", "key", "value")
		})
		expect(t, strings.ReplaceAll(got, "time="+now+" ", ""), c.want)
	}
}

// blocked is a writer that nobody drains until it is closed.
type blocked struct {
	opened chan struct{}
	got    bytes.Buffer
}

func (b *blocked) Write(p []byte) (int, error) {
	<-b.opened
	return b.got.Write(p)
}

// Nobody who logs waits, and what there is no room for is counted.
func TestNobodyDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &blocked{opened: make(chan struct{})}
		q := logging.NewQueue(w)
		fmt.Fprintln(q, "line")
		synctest.Wait() // until the writer has it
		for range 1003 {
			if n, err := fmt.Fprintln(q, "line"); n != 5 || err != nil {
				t.Fatalf("%d, %v", n, err)
			}
		}
		if n := testutil.ToFloat64(q.Dropped); n != 3 {
			t.Errorf("%v lines are dropped", n)
		}
		if err := testutil.CollectAndCompare(q.Dropped, strings.NewReader(`
# HELP cohere_exporter_log_lines_dropped_total Lines of the log that were lost because nobody drained it in time, or at all.
# TYPE cohere_exporter_log_lines_dropped_total counter
cohere_exporter_log_lines_dropped_total 3
`)); err != nil {
			t.Error(err)
		}

		closed := time.Now()
		time.AfterFunc(time.Second/2, func() { close(w.opened) })
		q.Close()
		if took := time.Since(closed); took != time.Second/2 {
			t.Errorf("Close took %v", took)
		}
		expect(t, w.got.String(), strings.Repeat("line\n", 1001))
	})
}

func TestCloseGivesUp(t *testing.T) {
	for _, queued := range []int{2, 2000} {
		synctest.Test(t, func(t *testing.T) {
			w := &blocked{opened: make(chan struct{})}
			q := logging.NewQueue(w)
			for range queued {
				fmt.Fprintln(q, "line")
			}
			closed := time.Now()
			q.Close()
			if took := time.Since(closed); took != time.Second {
				t.Errorf("Close took %v", took)
			}
			close(w.opened)
			q.Close()
		})
	}
}

func TestLinesAreInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got bytes.Buffer
		q := logging.NewQueue(&got)
		logger := logging.New(q, "info", "logfmt")
		var want strings.Builder
		for i := range 500 {
			level.Info(logger).Log("msg", i)
			fmt.Fprintf(&want, "time=%s level=info msg=%d\n", now, i)
		}
		q.Close()
		expect(t, got.String(), want.String())
	})
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

// A log whose reader is gone loses its lines, and that shows.
func TestReaderIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := logging.NewQueue(failing{})
		for range 3 {
			fmt.Fprintln(q, "line")
		}
		q.Close()
		if n := testutil.ToFloat64(q.Dropped); n != 3 {
			t.Errorf("%v lines are dropped", n)
		}
	})
}
