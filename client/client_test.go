package client_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cohere-exporter/cohere_exporter/client"
	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
)

const (
	key     = "sk-4711-secret-key-of-the-tests"
	example = "ebd-9f8a7c6d5b4e3a21" // the job of the page "Fetch an Embed Job"
)

// inMemory are the servers that work in the fake time of a bubble. A bubble
// does not end before its goroutines: every test in one is a test for leaks.
var inMemory = map[string]func(*cohertest.API) *cohertest.Server{
	"HTTP/1.1": (*cohertest.API).StartInMemory,
	"HTTP/2.0": (*cohertest.API).StartInMemoryHTTP2,
}

// bench is a client, and the simulated API that it asks.
type bench struct {
	*client.Client
	api    *cohertest.API
	user   *cohertest.User
	server *cohertest.Server
}

// start starts an API that knows the example, and a client with its user's key.
func start(t testing.TB, server func(*cohertest.API) *cohertest.Server, opts ...client.Option) *bench {
	t.Helper()
	b := &bench{api: cohertest.New()}
	b.user = b.api.AddUser(key)
	b.user.Add(exampleJob())
	b.server = server(b.api)
	t.Cleanup(b.server.Close)
	b.Client = b.as(t, client.StaticKey(key), opts...)
	return b
}

// as returns another client of the API, with another key.
func (b *bench) as(t testing.TB, key client.Key, opts ...client.Option) *client.Client {
	t.Helper()
	return client.New(parseURL(t, b.server.URL), authorized(key, b.server.Client.Transport), opts...)
}

// list collects a list, as far as it came.
func (b *bench) list(ctx context.Context) (jobs []client.EmbedJob, err error) {
	err = b.EmbedJobs(ctx, func(job *client.EmbedJob) { jobs = append(jobs, *job) })
	return jobs, err
}

func authorized(key client.Key, next http.RoundTripper) http.RoundTripper {
	return client.Authorize("Bearer", key, next)
}

func parseURL(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := client.ParseBaseURL(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func exampleJob() cohertest.Job {
	return cohertest.Job{
		ID:              example,
		Status:          "complete",
		CreatedAt:       time.Date(2024, 4, 10, 14, 22, 35, 0, time.UTC),
		InputDatasetID:  "ds-1234abcd5678efgh",
		Model:           "embed-multilingual-v2.0",
		Name:            "Customer Reviews Embedding Job",
		OutputDatasetID: "ds-8765hgfedcba4321",
		APIVersion:      "1.0.0",
		InputTokens:     1520,
		OutputTokens:    1520,
	}
}

// roundTripper is a function that stands in for a transport.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func TestHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, (*cohertest.API).StartInMemory,
			client.WithClientName("tests"), client.WithUserAgent("cohere_exporter/1.2.3"))
		if _, err := b.EmbedJob(t.Context(), example); err != nil {
			t.Fatal(err)
		}
		if _, err := b.list(t.Context()); err != nil {
			t.Fatal(err)
		}
		requests := b.api.Requests()
		if len(requests) != 2 || requests[0].Endpoint != "get" || requests[1].Endpoint != "list" {
			t.Fatalf("requests: got %+v", requests)
		}
		for _, r := range requests {
			for name, want := range map[string]string{
				"Accept":          "application/json",
				"Accept-Encoding": "gzip",
				"Authorization":   "Bearer " + key,
				"User-Agent":      "cohere_exporter/1.2.3",
				"X-Client-Name":   "tests",
			} {
				if got := r.Header.Values(name); len(got) != 1 || got[0] != want {
					t.Errorf("%s: %s is %q, want %q", r.Endpoint, name, got, want)
				}
				delete(r.Header, name)
			}
			if len(r.Header) != 0 {
				t.Errorf("%s: also sent %v", r.Endpoint, r.Header)
			}
		}
	})
}

// A client of which nothing was asked but the API's address.
func TestDefaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, (*cohertest.API).StartInMemory)
		b.user.Fail(example, cohertest.Warning("nobody listens"))
		if _, err := b.EmbedJob(t.Context(), example); err != nil {
			t.Fatal(err)
		}
		if got := b.api.Requests()[0].Header; got.Values("X-Client-Name") != nil {
			t.Errorf("headers: got %v", got)
		}
	})
}

func TestIDs(t *testing.T) {
	for id, path := range map[string]string{
		"ebd-1":                                 "ebd-1",
		"a/b":                                   "a%2Fb",
		"/":                                     "%2F",
		"../datasets":                           "..%2Fdatasets",
		"./.":                                   ".%2F.",
		"...":                                   "...",
		".hidden":                               ".hidden",
		"a?b=c":                                 "a%3Fb=c",
		"a#b":                                   "a%23b",
		"100%":                                  "100%25",
		"%2F":                                   "%252F",
		"%zz":                                   "%25zz",
		`a"b'c`:                                 "a%22b%27c",
		"a;b":                                   "a%3Bb",
		"a+b":                                   "a+b",
		"a&b":                                   "a&b",
		`a\b`:                                   "a%5Cb",
		"größe":                                 "gr%C3%B6%C3%9Fe",
		"埋め込み":                                  "%E5%9F%8B%E3%82%81%E8%BE%BC%E3%81%BF",
		"👍":                                     "%F0%9F%91%8D",
		"\uFFFD":                                "%EF%BF%BD",
		"user:pw@host":                          "user:pw@host",
		"<b>[x]{y}|^`~$*":                       "%3Cb%3E%5Bx%5D%7By%7D%7C%5E%60~$%2A",
		strings.Repeat("ö", client.MaxIDLength): strings.Repeat("%C3%B6", client.MaxIDLength),
	} {
		synctest.Test(t, func(t *testing.T) {
			for name, server := range inMemory {
				b := start(t, server)
				b.user.Add(cohertest.Job{ID: id, InputTokens: 7})
				job, err := b.EmbedJob(t.Context(), id)
				if err != nil || job.ID != id || job.Meta.Tokens.InputTokens.Value != 7 {
					t.Errorf("%s %q: got %+v, error %v", name, id, job, err)
				}
				got := b.api.Requests()
				if len(got) != 1 || got[0].Path != "/v1/embed-jobs/"+path || got[0].ID != id {
					t.Errorf("%s %q: got %+v, want %s", name, id, got, path)
				}
			}
		})
	}
}

func second[T any](_ T, err error) error { return err }

func TestBaseURL(t *testing.T) {
	for base, root := range map[string]string{
		"":               "",
		"/":              "",
		"/cohere":        "/cohere",
		"/cohere/":       "/cohere",
		"/a/b//":         "/a/b",
		"/%C3%B6/x%2Fy/": "/%C3%B6/x%2Fy",
		"/with%20blank":  "/with%20blank",
	} {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, (*cohertest.API).StartInMemory)
			u := parseURL(t, b.server.URL+base)
			before := *u
			c := client.New(u, authorized(client.StaticKey(key), b.server.Client.Transport))
			_, _ = c.EmbedJob(t.Context(), "a/b") // the simulated API has no other address than its own
			_, _ = (&bench{Client: c}).list(t.Context())
			var paths []string
			for _, r := range b.api.Requests() {
				paths = append(paths, r.Path)
			}
			want := []string{root + "/v1/embed-jobs/a%2Fb", root + "/v1/embed-jobs"}
			if fmt.Sprint(paths) != fmt.Sprint(want) {
				t.Errorf("%q: got %q, want %q", base, paths, want)
			}
			if *u != before {
				t.Errorf("%q: changed to %v", base, u)
			}
		})
	}
}

// One connection does for requests in sequence, however they end, as long as
// the answer is whole and small.
func TestConnectionReuse(t *testing.T) {
	for name, server := range map[string]func(*cohertest.API) *cohertest.Server{
		"loopback":          (*cohertest.API).Start,
		"TLS":               (*cohertest.API).StartTLS,
		"in memory":         (*cohertest.API).StartInMemory,
		"in memory, HTTP/2": (*cohertest.API).StartInMemoryHTTP2,
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, server)
			for i := range 100 {
				b.user.Add(cohertest.Job{ID: fmt.Sprint("ebd-", i)})
			}
			var connections atomic.Int64
			transport := b.server.Client.Transport.(*http.Transport)
			transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
				connections.Add(1)
				return b.server.DialContext(ctx, network, address)
			}

			for id, fault := range map[string]cohertest.Fault{
				"401":       cohertest.KeyEcho(401),
				"429":       cohertest.Status(429, "slow down"),
				"500":       cohertest.Status(500, strings.Repeat("long ", 1000)),
				"502":       cohertest.BadGateway,
				"302":       cohertest.RedirectTo("http://elsewhere.test"),
				"empty":     cohertest.Empty,
				"not JSON":  cohertest.NotJSON,
				"other job": cohertest.OtherJob,
			} {
				b.user.Fail(id, fault)
				if _, err := b.EmbedJob(t.Context(), id); err == nil {
					t.Errorf("%s: no error", id)
				}
			}
			for range 3 {
				if _, err := b.EmbedJob(t.Context(), example); err != nil {
					t.Error(err)
				}
				if _, err := b.EmbedJob(t.Context(), "unknown"); !errors.Is(err, client.Error{StatusCode: 404}) {
					t.Errorf("got %v", err)
				}
				if jobs, err := b.list(t.Context()); err != nil || len(jobs) != 101 {
					t.Errorf("list: got %d jobs, error %v", len(jobs), err)
				}
			}
			// Blanks behind the list, and members after the jobs.
			b.user.Fail(cohertest.List, cohertest.Body(`{"embed_jobs":[],"next":{"page":[2]}}`+"\n\n"))
			if _, err := b.list(t.Context()); err != nil {
				t.Error(err)
			}
			// And without Content-Length, when the list ends before the answer does.
			b.user.Fail(cohertest.List, func(w http.ResponseWriter, _ *http.Request, c *cohertest.Call) {
				c.Answer(unsized{w})
				_ = http.NewResponseController(w).Flush()
			})
			for range 3 {
				if _, err := b.list(t.Context()); err != nil {
					t.Error(err)
				}
			}
			b.user.Fail(cohertest.List, cohertest.Status(503, ""))
			if _, err := b.list(t.Context()); !errors.Is(err, client.Error{StatusCode: 503}) {
				t.Errorf("list: got %v", err)
			}
			if _, err := b.EmbedJob(t.Context(), example); err != nil {
				t.Error(err)
			}

			if got := connections.Load(); got != 1 {
				t.Errorf("%d requests took %d connections", len(b.api.Requests()), got)
			}
			b.CloseIdleConnections()
			if _, err := b.EmbedJob(t.Context(), example); err != nil {
				t.Error(err)
			}
			if got := connections.Load(); got != 2 {
				t.Errorf("after CloseIdleConnections: %d connections", got)
			}
		})
	}
}

// HTTP/2 where the server offers it, HTTP/1.1 elsewhere.
func TestProtocol(t *testing.T) {
	for want, server := range map[string]func(*cohertest.API) *cohertest.Server{
		"HTTP/1.1": (*cohertest.API).Start,
		"HTTP/2.0": (*cohertest.API).StartTLS,
	} {
		b := start(t, server)
		var got string
		c := client.New(parseURL(t, b.server.URL), authorized(client.StaticKey(key),
			roundTripper(func(req *http.Request) (*http.Response, error) {
				resp, err := b.server.Client.Transport.RoundTrip(req)
				if err == nil {
					got = resp.Proto
				}
				return resp, err
			})))
		if _, err := c.EmbedJob(t.Context(), example); err != nil {
			t.Error(err)
		}
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// A certificate that nobody vouches for.
func TestUntrusted(t *testing.T) {
	b := start(t, (*cohertest.API).StartTLS)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	c := client.New(parseURL(t, b.server.URL), authorized(client.StaticKey(key), transport))
	_, err := c.EmbedJob(t.Context(), example)
	if client.ReasonOf(err) != client.Network || client.StatusCode(err) != 0 {
		t.Errorf("got %v", err)
	}
	if got := b.api.Requests(); len(got) != 0 {
		t.Errorf("sent: %+v", got)
	}
}

// Nobody at home, by name or by number.
func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, (*cohertest.API).StartInMemory)
		elsewhere := client.New(parseURL(t, "http://elsewhere.test"),
			authorized(client.StaticKey(key), b.server.Client.Transport))
		_, err := elsewhere.EmbedJob(t.Context(), example)
		if _, ok := errors.AsType[*net.DNSError](err); !ok || client.ReasonOf(err) != client.Network {
			t.Errorf("got %v", err)
		}
		b.server.Close()
		if _, err := b.EmbedJob(t.Context(), example); client.ReasonOf(err) != client.Network {
			t.Errorf("got %v", err)
		}
		if _, err := b.list(t.Context()); client.ReasonOf(err) != client.Network {
			t.Errorf("list: got %v", err)
		}
	})
}

// A redirect is an answer like any other.
func TestRedirects(t *testing.T) {
	elsewhere := start(t, (*cohertest.API).Start)
	for _, location := range []string{
		elsewhere.server.URL + "/v1/embed-jobs/" + example,
		"/v1/embed-jobs/other",
		"",
		"http://[::1/?key=" + key,
		"http://host/%zz",
		"mailto:nobody",
	} {
		for _, code := range []int{300, 301, 302, 303, 304, 307, 308} {
			b := start(t, (*cohertest.API).Start)
			b.user.Add(cohertest.Job{ID: "other"})
			b.user.Fail(cohertest.All, func(w http.ResponseWriter, _ *http.Request, _ *cohertest.Call) {
				if location != "" {
					w.Header().Set("Location", location)
				}
				w.WriteHeader(code)
			})
			want := client.Error{StatusCode: code}
			_, err := b.EmbedJob(t.Context(), example)
			if apiError(err) != want || client.ReasonOf(err) != client.HTTPError {
				t.Errorf("%d to %s: got %v", code, location, err)
			}
			if _, err := b.list(t.Context()); apiError(err) != want {
				t.Errorf("%d to %s: list: got %v", code, location, err)
			}
			if got := len(b.api.Requests()); got != 2 {
				t.Errorf("%d to %s: got %d requests", code, location, got)
			}
		}
	}
	if got := elsewhere.api.Requests(); len(got) != 0 {
		t.Errorf("redirected: %+v", got)
	}
}

// What stands in for a transport in other people's tests may leave the request
// out of its answer.
func TestBareTransport(t *testing.T) {
	for _, code := range []int{200, 400} {
		c := client.New(parseURL(t, "https://api.cohere.com"), roundTripper(func(*http.Request) (*http.Response, error) {
			return &http.Response{
				StatusCode: code,
				Header:     http.Header{"X-Api-Warning": {"a warning"}},
				Body:       http.NoBody,
			}, nil
		}))
		if _, err := c.EmbedJob(t.Context(), example); client.StatusCode(err) != code || err == nil {
			t.Errorf("%d: got %v", code, err)
		}
		c.CloseIdleConnections() // which this transport has not
	}
}

// Half of the requests are lists, some fail, some are given up.
func TestConcurrentUse(t *testing.T) {
	for name, server := range inMemory {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var warnings atomic.Int64
				b := start(t, server)
				b.Client = b.as(t, client.StaticKey(key), client.WithClientName("tests"),
					client.WithWarningHandler(func(string) { warnings.Add(1) }))

				const n = 20
				b.api.SetLatency(time.Second)
				b.user.Fail("broken", cohertest.CutShort)
				b.user.Fail(cohertest.List, func(w http.ResponseWriter, _ *http.Request, c *cohertest.Call) {
					w.Header().Set("X-API-Warning", "deprecated")
					c.Answer(w)
				})
				for i := range n {
					b.user.Add(cohertest.Job{ID: fmt.Sprint("ebd-", i), InputTokens: float64(i)})
				}
				var wg sync.WaitGroup
				for i := range n {
					wg.Go(func() {
						id := fmt.Sprint("ebd-", i)
						for range 3 {
							job, err := b.EmbedJob(t.Context(), id)
							if err != nil || job.ID != id || job.Meta.Tokens.InputTokens.Value != float64(i) {
								t.Errorf("%s: got %+v, error %v", id, job, err)
							}
							if jobs, err := b.list(t.Context()); err != nil || len(jobs) != n+1 {
								t.Errorf("list: got %d jobs, error %v", len(jobs), err)
							}
						}
						if _, err := b.EmbedJob(t.Context(), "broken"); client.ReasonOf(err) == "" {
							t.Error("broken: no error")
						}
						ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
						defer cancel()
						if _, err := b.EmbedJob(ctx, id); client.ReasonOf(err) != client.Timeout {
							t.Errorf("%s: got %v", id, err)
						}
					})
				}
				wg.Wait()
				if got := warnings.Load(); got != 3*n {
					t.Errorf("got %d warnings, want %d", got, 3*n)
				}
			})
		})
	}
}

// rawServer answers every request with the given bytes, and returns a client of
// it. The connection stays open if hold says so.
func rawServer(t *testing.T, answer string, hold bool) *client.Client {
	t.Helper()
	transport := &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			here, there := net.Pipe()
			go func() {
				defer there.Close()
				r := bufio.NewReader(there)
				if _, err := http.ReadRequest(r); err != nil {
					return
				}
				if _, err := there.Write([]byte(answer)); err == nil && hold {
					_, _ = r.ReadByte() // until the client closes
				}
			}()
			return here, nil
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return client.New(parseURL(t, "http://api.test"), authorized(client.StaticKey(key), transport))
}

// Answers that are no HTTP, or that net/http does not answer for.
func TestRawAnswers(t *testing.T) {
	for _, tt := range []struct {
		answer string
		hold   bool
		reason client.Reason
		status int
		text   string // in the error
	}{
		{"", false, client.Network, 0, "EOF"},
		{"\r\n\r\n", false, client.Network, 0, "malformed HTTP response"},
		{"SSH-2.0-OpenSSH_10.0\r\n", false, client.Network, 0, `"SSH-2.0-OpenSSH_10.0"`},
		{"Bearer " + key + "\r\n\r\n", false, client.Network, 0, `"<secret>"`},
		{"HTTP/1.1 200 OK\r\nBearer " + key + "\r\n\r\n", false, client.Network, 0, `"Bearer <secret>"`},
		{"HTTP/1.1 200 OK\r\n" + strings.Repeat("long ", 1e4) + "\r\n\r\n", false, client.Network, 0, "long long"},
		{"HTTP/1.1 200 OK\r\nContent-Length: " + key + "\r\n\r\n", false, client.Network, 0, `"<secret>"`},
		{"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 12\r\n\r\nnot gzipped.", false, client.InvalidResponse, 200, "gzip"},
		{
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n1\r\n{\r\n0\r\nBearer " + key + "\r\n\r\n",
			false, client.InvalidResponse, 200, `"Bearer <secret>"`,
		},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", false, client.InvalidResponse, 200, "chunk"},
		{"HTTP/1.1 204 No Content\r\n\r\n", true, client.HTTPError, 204, "API answered 204"},
		{"HTTP/1.1 600 Odd\r\nContent-Length: 0\r\n\r\n", true, client.HTTPError, 600, "API answered 600"},
		{"HTTP/1.1 599 Odd\r\nContent-Length: 0\r\n\r\n", true, client.ServerError, 599, "API answered 599"},
		// The deadline reaches an answer that does not come, and one that stops, but not
		// a connection that was handed over.
		{"HTTP/1.1 100 Continue\r\n\r\n", true, client.Timeout, 0, "deadline"},
		{"HTTP/1.1 500 Error\r\nContent-Length: 20\r\n\r\n{", true, client.ServerError, 500, "API answered 500"},
		{
			"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
			true, client.HTTPError, 101, "API answered 101",
		},
		{
			"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Encoding: gzip\r\n\r\n",
			true, client.HTTPError, 101, "API answered 101",
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := &bench{Client: rawServer(t, tt.answer, tt.hold)}
			within := func(ask func(context.Context) error) error {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				return ask(ctx)
			}
			for _, err := range []error{
				within(func(ctx context.Context) error { return second(b.EmbedJob(ctx, example)) }),
				within(func(ctx context.Context) error { return second(b.list(ctx)) }),
			} {
				if client.ReasonOf(err) != tt.reason || client.StatusCode(err) != tt.status {
					t.Errorf("%.80q: got %s, %d: %v", tt.answer, client.ReasonOf(err), client.StatusCode(err), err)
				}
				checkText(t, err)
				if !strings.Contains(err.Error(), tt.text) {
					t.Errorf("%.80q: got %v, want %s in it", tt.answer, err, tt.text)
				}
			}
		})
	}
}
