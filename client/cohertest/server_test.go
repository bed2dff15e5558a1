package cohertest_test

import (
	"crypto/tls"
	"net/http"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
)

var inMemory = map[string]func(*cohertest.API) *cohertest.Server{
	"HTTP/1.1": (*cohertest.API).StartInMemory,
	"HTTP/2.0": (*cohertest.API).StartInMemoryHTTP2,
}

func TestServers(t *testing.T) {
	for _, tt := range []struct {
		name  string
		start func(*cohertest.API) *cohertest.Server
		proto string
		tls   bool
	}{
		{"loopback", (*cohertest.API).Start, "HTTP/1.1", false},
		{"TLS", (*cohertest.API).StartTLS, "HTTP/2.0", true},
		{"in memory", (*cohertest.API).StartInMemory, "HTTP/1.1", false},
		{"in memory HTTP/2", (*cohertest.API).StartInMemoryHTTP2, "HTTP/2.0", false},
		{"in memory TLS", (*cohertest.API).StartInMemoryTLS, "HTTP/2.0", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := runtime.NumGoroutine()
			api := cohertest.New()
			api.AddUser(key).Add(cohertest.Job{ID: "ebd-1"})
			server := tt.start(api)
			defer server.Close()

			for range 3 {
				resp := mustGet(t, server, key, job("ebd-1"))
				if resp.StatusCode != http.StatusOK || resp.Proto != tt.proto {
					t.Errorf("got %s %s, want 200 by %s", resp.Proto, resp.Status, tt.proto)
				}
			}
			if got := server.Certificate() != nil; got != tt.tls {
				t.Errorf("certificate: got %t, want %t", got, tt.tls)
			}

			server.Close()
			if _, err := get(t.Context(), server, key, list); err == nil {
				t.Error("request after the end: no error")
			}
			// Ending is not the same moment for a goroutine as having ended.
			for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
				if time.Now().After(deadline) {
					stacks := make([]byte, 1<<20)
					t.Fatalf("goroutines left:\n%s", stacks[:runtime.Stack(stacks, true)])
				}
			}
		})
	}
}

func TestTLSWithHTTP1(t *testing.T) {
	api := cohertest.New()
	user := api.AddUser(key)
	server := api.StartTLS()
	defer server.Close()

	// Without the server's certificate there is no connection.
	stranger := &http.Transport{TLSClientConfig: &tls.Config{}}
	defer stranger.CloseIdleConnections()
	if resp, err := (&http.Client{Transport: stranger}).Get(server.URL); err == nil {
		resp.Body.Close()
		t.Error("stranger: no error")
	}

	transport := server.Client.Transport.(*http.Transport)
	transport.ForceAttemptHTTP2 = false
	if got := mustGet(t, server, key, list); got.Proto != "HTTP/1.1" {
		t.Errorf("got %s", got.Proto)
	}
	user.Fail(cohertest.All, cohertest.Reset)
	if _, err := get(t.Context(), server, key, list); err == nil {
		t.Error("reset: no error")
	}
}

// Close ends requests that would never end.
func TestCloseEndsRequests(t *testing.T) {
	for name, startServer := range inMemory {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := cohertest.New()
				user := api.AddUser(key)
				user.Fail("hang", cohertest.Hang)
				user.Fail("drip", cohertest.Drip)
				server := startServer(api)

				ended := make(chan error, 2)
				for _, id := range []string{"hang", "drip"} {
					go func() {
						resp, err := get(t.Context(), server, key, job(id))
						if err == nil {
							err = resp.err
						}
						ended <- err
					}()
				}
				time.Sleep(time.Minute)
				server.Close()
				for range 2 {
					if err := <-ended; err == nil {
						t.Error("no error")
					}
				}
				server.Close() // once more does no harm
			})
		})
	}
}

func TestInMemoryReachesNoOtherHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := cohertest.New()
		user := api.AddUser(key)
		user.Fail(cohertest.List, cohertest.RedirectTo("http://elsewhere.test/v1/embed-jobs"))
		server := api.StartInMemory()
		defer server.Close()

		if _, err := get(t.Context(), server, key, list); err == nil {
			t.Error("no error")
		}
		if got := len(api.Requests()); got != 1 {
			t.Errorf("got %d requests", got)
		}
	})
}
