package client_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/cohere-exporter/cohere_exporter/client"
	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
)

// What is asked for in gzip reads the same, errors too, and over one connection.
func TestGzip(t *testing.T) {
	for name, server := range inMemory {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, server)
			b.api.Compress(true)
			for i := range 100 {
				b.user.Add(cohertest.Job{ID: fmt.Sprint("ebd-", i)})
			}
			for range 3 {
				if job, err := b.EmbedJob(t.Context(), example); err != nil || job.Meta.BilledUnits.InputTokens.Value != 1520 {
					t.Errorf("%s: got %+v, error %v", name, job, err)
				}
				if jobs, err := b.list(t.Context()); err != nil || len(jobs) != 101 {
					t.Errorf("%s: got %d jobs, error %v", name, len(jobs), err)
				}
				want := client.Error{StatusCode: 404, Message: "job not found: unknown"}
				if _, err := b.EmbedJob(t.Context(), "unknown"); apiError(err) != want {
					t.Errorf("%s: got %#v", name, err)
				}
			}
			b.user.Fail(example, cohertest.Gzip(cohertest.KeyEcho(403)))
			_, err := b.EmbedJob(t.Context(), example)
			want := client.Error{StatusCode: 403, Message: "token <secret> refused (Authorization: Bearer <secret>)"}
			if apiError(err) != want {
				t.Errorf("%s: got %#v", name, err)
			}
			for _, r := range b.api.Requests() {
				if got := r.Header.Values("Accept-Encoding"); len(got) != 1 || got[0] != "gzip" {
					t.Errorf("%s: asked for %q", name, got)
				}
			}
		})
	}
}

// Whoever stands in for the transport: only what was asked for is decoded.
func TestCodings(t *testing.T) {
	const both = `{"job_id":"` + example + `","status":"complete","embed_jobs":[]}`
	coded := func(coding, body string) cohertest.Fault {
		return func(w http.ResponseWriter, _ *http.Request, _ *cohertest.Call) {
			w.Header().Set("Content-Encoding", coding)
			_, _ = io.WriteString(w, body)
		}
	}
	const other = "invalid response: Content-Encoding is "
	for _, tt := range []struct {
		name  string
		fault cohertest.Fault
		err   string
	}{
		{"gzip", cohertest.Gzip(nil), ""},
		{"GZIP", coded("GZIP", zipped(both)), ""},
		{"x-gzip", coded("x-gzip", zipped(both)), ""},
		{"in two parts", coded("gzip", zipped(both[:20])+zipped(both[20:])), ""},
		{"identity", cohertest.Encoded("identity"), ""},
		{"none", cohertest.Encoded(""), ""},
		{"br", cohertest.Encoded("br"), other + `"br"`},
		{"twice", cohertest.Gzip(cohertest.Encoded("gzip")), other + `"gzip, gzip"`},
		{"br within gzip", cohertest.Gzip(cohertest.Encoded("br")), other + `"br, gzip"`},
		{"the key", cohertest.Encoded(key), other + `"<secret>"`},
		{"no gzip", cohertest.Encoded("gzip"), "invalid response: gzip: invalid header"},
		{"cut in the header", coded("gzip", zipped(both)[:5]), "invalid response: unexpected EOF"},
		{"cut in the checksum", coded("gzip", strings.TrimSuffix(zipped(both), zipped(both)[len(zipped(both))-5:])), "invalid response: unexpected EOF"},
		{"another checksum", coded("gzip", zipped(both)[:len(zipped(both))-8]+zipped(both[1:])[len(zipped(both[1:]))-8:]), "invalid response: gzip: invalid checksum"},
		{"spoilt", coded("gzip", zipped(both)[:10]+strings.Repeat("\xff", 20)), "invalid response: flate: corrupt input before offset 1"},
	} {
		for name, server := range inMemory {
			synctest.Test(t, func(t *testing.T) {
				b := start(t, server)
				b.user.Fail(cohertest.All, tt.fault)
				_, err := b.EmbedJob(t.Context(), example)
				_, listErr := b.list(t.Context())
				for _, err := range []error{err, listErr} {
					if tt.err == "" {
						if err != nil {
							t.Errorf("%s: %s: got %v", name, tt.name, err)
						}
						continue
					}
					if !errors.Is(err, client.ErrInvalidResponse) || client.StatusCode(err) != 200 || err.Error() != tt.err {
						t.Errorf("%s: %s: got %v, want %s", name, tt.name, err, tt.err)
					}
				}
			})
		}
	}

	// An error is what its status says, whatever became of its text.
	for name, coding := range map[string]string{"other": "br", "spoilt": "gzip"} {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, (*cohertest.API).StartInMemory)
			b.user.Fail(example, cohertest.StatusHeader(401, "no", http.Header{"Content-Encoding": {coding}}))
			if _, err := b.EmbedJob(t.Context(), example); apiError(err) != (client.Error{StatusCode: 401}) {
				t.Errorf("%s: got %#v", name, err)
			}
		})
	}
}

// zipped is a text in gzip.
func zipped(text string) string {
	var b strings.Builder
	z := gzip.NewWriter(&b)
	_, _ = io.WriteString(z, text)
	_ = z.Close()
	return b.String()
}

// A bomb is read as far as the limit of the decoded size, and costs no more
// memory than what may be kept of it.
func TestBombs(t *testing.T) {
	endless := func(begin, more string) cohertest.Fault {
		return cohertest.Gzip(func(w http.ResponseWriter, r *http.Request, _ *cohertest.Call) {
			_, err := io.WriteString(w, begin)
			for more := bytes.Repeat([]byte(more), 32<<10/len(more)); err == nil && r.Context().Err() == nil; {
				_, err = w.Write(more)
			}
		})
	}
	for what, fault := range map[string]cohertest.Fault{
		"list":          cohertest.Gzip(cohertest.Endless),
		"blanks":        endless("", " "),
		"a text":        endless(`{"job_id":"`+example+`","status":"`, "a"),
		"an entry":      endless(`{"embed_jobs":[{"job_id":"a","status":"`, "a"),
		"between jobs":  endless(`{"embed_jobs":[{"job_id":"a","status":"b"}`, " \n"),
		"another field": endless(`{"x":[`, "[],"),
		"brackets":      endless(`{"x":`, "["),
	} {
		for name, server := range inMemory {
			t.Run(what+", "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := start(t, server)
					b.user.Fail(cohertest.All, fault)
					for endpoint, ask := range map[string]func() error{
						"job":  func() error { return second(b.EmbedJob(t.Context(), example)) },
						"list": func() error { return b.EmbedJobs(t.Context(), func(*client.EmbedJob) {}) },
					} {
						if what == "list" && endpoint == "list" {
							continue // TestListLimit
						}
						var before, after runtime.MemStats
						runtime.ReadMemStats(&before)
						err := ask()
						runtime.ReadMemStats(&after)
						if client.ReasonOf(err) != client.InvalidResponse || client.StatusCode(err) != 200 {
							t.Errorf("%s: got %v", endpoint, err)
						}
						if got := after.TotalAlloc - before.TotalAlloc; got > 16<<20 {
							t.Errorf("%s: took %d MiB of memory", endpoint, got>>20)
						}
					}
				})
			})
		}
	}

	// Also where the bomb is an error.
	synctest.Test(t, func(t *testing.T) {
		b := start(t, (*cohertest.API).StartInMemory)
		b.user.Fail(example, cohertest.Gzip(func(w http.ResponseWriter, r *http.Request, c *cohertest.Call) {
			w.WriteHeader(http.StatusInternalServerError)
			endless(`{"message":"`, "a")(w, r, c)
		}))
		if _, err := b.EmbedJob(t.Context(), example); apiError(err) != (client.Error{StatusCode: 500}) {
			t.Errorf("got %#v", err)
		}
	})
}
