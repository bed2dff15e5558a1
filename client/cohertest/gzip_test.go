package cohertest_test

import (
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
)

// accepting is get with a header Accept-Encoding, which keeps net/http from decoding.
func accepting(t *testing.T, s *cohertest.Server, coding, path string) response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Accept-Encoding", coding)
	resp, err := s.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return response{Response: resp, body: string(body), err: err}
}

// gunzip decodes a body, as far as it goes.
func gunzip(body string) (string, error) {
	z, err := gzip.NewReader(strings.NewReader(body))
	if err != nil {
		return "", err
	}
	decoded, err := io.ReadAll(z)
	return string(decoded), err
}

func TestCompress(t *testing.T) {
	for name, startServer := range inMemory {
		synctest.Test(t, func(t *testing.T) {
			api := cohertest.New()
			user := api.AddUser(key)
			user.Add(exampleJob())
			server := startServer(api)
			defer server.Close()

			for _, path := range []string{job(exampleJob().ID), job("unknown"), list, "/v1/datasets"} {
				want := accepting(t, server, "gzip", path)
				api.Compress(true)
				got := accepting(t, server, "br, gzip", path)
				plain := accepting(t, server, "identity", path)
				api.Compress(false)

				if plain.Header.Get("Content-Encoding") != "" || want.Header.Get("Content-Encoding") != "" {
					t.Errorf("%s %s: not asked for: got %v, %v", name, path, plain.Header, want.Header)
				}
				body, err := gunzip(got.body)
				if got.Header.Get("Content-Encoding") != "gzip" || got.StatusCode != want.StatusCode || err != nil {
					t.Errorf("%s %s: got %s, %v, %v", name, path, got.Status, got.Header, err)
				}
				if got.StatusCode == http.StatusOK && body != want.body || len(body) != len(want.body) { // errors have an ID of their own
					t.Errorf("%s %s: got %s, want %s", name, path, body, want.body)
				}
			}
			if got := api.MaxConcurrent(); got != 1 {
				t.Errorf("%s: concurrency of one after the other: got %d", name, got)
			}
		})
	}
}

func TestGzip(t *testing.T) {
	for name, startServer := range inMemory {
		synctest.Test(t, func(t *testing.T) {
			api := cohertest.New()
			user := api.AddUser(key)
			user.Add(exampleJob())
			server := startServer(api)
			defer server.Close()
			path := job(exampleJob().ID)
			proper := accepting(t, server, "gzip", path).body

			for _, compress := range []bool{false, true} { // in gzip once all the same
				api.Compress(compress)
				user.Fail(exampleJob().ID, cohertest.Gzip(nil))
				if body, err := gunzip(accepting(t, server, "gzip", path).body); body != proper || err != nil {
					t.Errorf("%s: got %s, %v", name, body, err)
				}
				user.Fail(exampleJob().ID, cohertest.Gzip(cohertest.Status(503, "no")))
				got := accepting(t, server, "gzip", path)
				if body, err := gunzip(got.body); got.StatusCode != http.StatusServiceUnavailable || !strings.HasPrefix(body, `{"message":"no"`) || err != nil {
					t.Errorf("%s: got %s, %s, %v", name, got.Status, body, err)
				}
				user.Fail(exampleJob().ID, cohertest.Gzip(cohertest.CutShort))
				got = accepting(t, server, "gzip", path)
				if body, err := gunzip(got.body); got.err == nil || body != proper[:len(proper)/2] || !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("%s: got %v, %s, %v", name, got.err, body, err)
				}
				user.Fail(exampleJob().ID, cohertest.Gzip(cohertest.Reset))
				if _, err := get(t.Context(), server, key, path); err == nil {
					t.Errorf("%s: reset: no error", name)
				}
				user.Fail(exampleJob().ID, cohertest.Gzip(cohertest.Endless))
				resp, err := server.Client.Do(newRequest(t, server.URL+path))
				if err != nil {
					t.Fatal(err)
				}
				if n, err := io.CopyN(io.Discard, resp.Body, 3<<20); err != nil || !resp.Uncompressed {
					t.Errorf("%s: endless: got %d bytes, %v", name, n, err)
				}
				resp.Body.Close()
			}

			api.Compress(false)
			user.Fail(exampleJob().ID, cohertest.Encoded("br"))
			if got := accepting(t, server, "gzip", path); got.Header.Get("Content-Encoding") != "br" || got.body != proper {
				t.Errorf("%s: got %v, %s", name, got.Header, got.body)
			}
		})
	}
}

func newRequest(t *testing.T, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	return req
}
