package web_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cohere-exporter/cohere_exporter/collector/web"
)

// recorder also records when its writing has to end, counted from its making,
// and may be a client that has left.
type recorder struct {
	*httptest.ResponseRecorder
	made      time.Time
	deadlines []time.Duration // 0 is none
	gone      bool
}

func newRecorder() *recorder {
	return &recorder{ResponseRecorder: httptest.NewRecorder(), made: time.Now()}
}

func (r *recorder) SetWriteDeadline(at time.Time) error {
	if at.IsZero() {
		r.deadlines = append(r.deadlines, 0)
	} else {
		r.deadlines = append(r.deadlines, at.Sub(r.made))
	}
	return nil
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.gone {
		return 0, errors.New("broken pipe")
	}
	return r.ResponseRecorder.Write(p)
}

// An answer has 10 s from its first byte, however long it took to get there.
func TestWriteDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := newHandler(t, nil)
		for target, want := range map[string][]time.Duration{
			"/metrics":        {0, 10*time.Second - 500*time.Millisecond + 10*time.Second},
			"/metrics?jobs=0": {0, 10 * time.Second},
			"/":               {0, 10 * time.Second},
			"/nothing":        {0, 10 * time.Second},
			"/?%zz":           {0, 10 * time.Second},
		} {
			rec := newRecorder()
			h.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), "GET", target, nil))
			if !slices.Equal(rec.deadlines, want) {
				t.Errorf("%s: %v, want %v", target, rec.deadlines, want)
			}
		}
	})
}

// A client that left is no error: not in the log, not in the metrics.
func TestClientThatLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		h, _ := newHandler(t, func(o *web.Options) {
			o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{
				Level: slog.LevelDebug,
				ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
					if a.Key == slog.TimeKey {
						return slog.Attr{}
					}
					return a
				},
			}))
		})
		rec := newRecorder()
		rec.gone = true
		h.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
		const want = `level=DEBUG msg="client gave up" path=/metrics err="broken pipe"` + "\n"
		if log.String() != want {
			t.Errorf("logged\n%swant\n%s", log.String(), want)
		}
		expect(t, serve(t, h, "GET", "/metrics?jobs=0"), 200, `promhttp_metric_handler_errors_total{cause="encoding"} 0`)
	})
}

func TestScrapesEndWithTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ending, end := context.WithCancel(t.Context())
		h, _ := newHandler(t, func(o *web.Options) { o.Ending = ending })
		time.AfterFunc(3*time.Second, end)
		started := time.Now()
		rec := serve(t, h, "GET", "/metrics", "X-Prometheus-Scrape-Timeout-Seconds", "60")
		if took := time.Since(started); took != 3*time.Second {
			t.Errorf("answered after %v", took)
		}
		expect(t, rec, 200, "\ncohere_up 0\n", `cohere_embed_job_up{job_id="job-1"} 1`, `cohere_embed_job_up{job_id="job-hangs"} 0`)
	})
}

func TestMethods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reloads := 0
		h, api := newHandler(t, func(o *web.Options) { o.Reload = func(context.Context) error { reloads++; return nil } })
		for _, path := range []string{"/", "/metrics", "/metrics?jobs=0", "/-/healthy", "/-/ready"} {
			for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"} {
				rec := serve(t, h, method, path)
				expect(t, rec, 405)
				if allow := rec.Header().Get("Allow"); allow != "GET, HEAD" {
					t.Errorf("%s %s: %s is allowed", method, path, allow)
				}
			}
			rec := serve(t, h, "HEAD", path)
			expect(t, rec, 200)
			if rec.Body.Len() > 0 || rec.Header().Get("Content-Type") == "" {
				t.Errorf("HEAD %s: %v, %s", path, rec.Header(), rec.Body)
			}
			for _, method := range []string{"GET", "HEAD", "POST"} {
				expect(t, serve(t, h, method, strings.Replace(path, "?jobs=0", "", 1)+"?jobs=%zz"), http.StatusBadRequest)
			}
		}
		for _, method := range []string{"GET", "HEAD", "PUT"} {
			rec := serve(t, h, method, "/-/reload")
			expect(t, rec, 405)
			if allow := rec.Header().Get("Allow"); allow != "POST" {
				t.Errorf("%s /-/reload: %s is allowed", method, allow)
			}
		}
		if n := len(api.Requests()); n != 0 || reloads != 0 {
			t.Errorf("%d requests to the API, %d reloads", n, reloads)
		}
	})
}
