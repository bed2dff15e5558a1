package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cohere-exporter/cohere_exporter/client"
	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
)

// checkText fails if an error says more than may be said, or it in a way that
// cannot be shown.
func checkText(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	text := err.Error()
	if text == "" || strings.Contains(text, key) || strings.Contains(text, key[:7]) {
		t.Errorf("text: %s", text)
	}
	// "API answered 503: " and the like come on top.
	if n := utf8.RuneCountInString(text); n > 200+40 {
		t.Errorf("%d characters: %s", n, text)
	}
	if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		t.Errorf("text: %q", text)
	}
}

// apiError is the answer of the API that err is, if it is one. Unlike errors.Is
// it tells an answer without a message from one with any.
func apiError(err error) client.Error {
	e, _ := errors.AsType[client.Error](err)
	return e
}

// The contract's table of reasons, and every other status that there is.
func TestStatuses(t *testing.T) {
	reasons := map[int]client.Reason{
		400: "bad_request",
		401: "unauthorized",
		402: "payment_required",
		403: "forbidden",
		404: "not_found",
		422: "unprocessable",
		429: "rate_limited",
		498: "invalid_token",
		499: "client_closed",
		500: "server_error",
		501: "not_implemented",
		503: "unavailable",
		504: "gateway_timeout",
	}
	synctest.Test(t, func(t *testing.T) {
		b := start(t, (*cohertest.API).StartInMemory)
		for code := 201; code <= 999; code++ {
			reason, documented := reasons[code]
			switch {
			case documented:
			case code/100 == 5:
				reason = "server_error"
			default:
				reason = "http_error"
			}
			b.user.Fail(cohertest.All, cohertest.Status(code, "that is why"))
			message := "that is why"
			if code == 204 || code == 304 { // net/http sends no body with these
				message = ""
			}

			_, err := b.EmbedJob(t.Context(), example)
			_, listErr := b.list(t.Context())
			for _, err := range []error{err, listErr} {
				if got := client.ReasonOf(err); got != reason {
					t.Errorf("%d: reason %s, want %s", code, got, reason)
				}
				if got := client.StatusCode(err); got != code {
					t.Errorf("%d: status %d", code, got)
				}
				want := client.Error{StatusCode: code, Message: message}
				if apiError(err) != want {
					t.Errorf("%d: got %#v", code, err)
				}
				wrapped := fmt.Errorf("job: %w", err)
				if !errors.Is(wrapped, want) || !errors.Is(wrapped, client.Error{StatusCode: code}) {
					t.Errorf("%d: is not itself", code)
				}
				for _, other := range []error{
					client.Error{StatusCode: code + 1},
					client.Error{StatusCode: code, Message: "another"},
					client.Error{StatusCode: code, RetryAfter: time.Second},
					client.ErrInvalidResponse,
					client.ErrNoKey,
				} {
					if errors.Is(wrapped, other) {
						t.Errorf("%d: is %v", code, other)
					}
				}
				if reason := client.ReasonOf(wrapped); reason != client.ReasonOf(err) {
					t.Errorf("%d: wrapped: reason %s", code, reason)
				}
			}
			want := fmt.Sprintf("API answered %d: that is why", code)
			if message == "" {
				want = fmt.Sprintf("API answered %d", code)
			}
			if err.Error() != want {
				t.Errorf("%d: got %q", code, err.Error())
			}
		}
	})
}

// Errors that no request needs to be made for.
func TestReasonOf(t *testing.T) {
	for _, tt := range []struct {
		err    error
		reason client.Reason
		status int
	}{
		{nil, "", 200},
		{context.DeadlineExceeded, "timeout", 0},
		{fmt.Errorf("x: %w", context.DeadlineExceeded), "timeout", 0},
		{&net.OpError{Op: "dial", Err: syscall.ETIMEDOUT}, "timeout", 0},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, "network", 0},
		{&net.DNSError{Err: "no such host", IsNotFound: true}, "network", 0},
		{context.Canceled, "network", 0},
		{io.ErrUnexpectedEOF, "network", 0},
		{client.ErrInvalidResponse, "invalid_response", 0},
		{client.ErrNoKey, "no_key", 0},
		{fmt.Errorf("%w: %w", client.ErrNoKey, syscall.ETIMEDOUT), "no_key", 0},
		{client.Error{StatusCode: 404}, "not_found", 404},
		{client.Error{}, "http_error", 0},
	} {
		if got := client.ReasonOf(tt.err); got != tt.reason {
			t.Errorf("%v: reason %q, want %q", tt.err, got, tt.reason)
		}
		if got := client.StatusCode(tt.err); got != tt.status {
			t.Errorf("%v: status %d, want %d", tt.err, got, tt.status)
		}
	}
}

// Every misbehaviour of the simulated API: what becomes of one job, and of the
// list.
func TestFaults(t *testing.T) {
	const entries = 3
	type result struct {
		reason client.Reason
		status int
		jobs   int // of the list, or 1
	}
	good := result{"", 200, 1}
	all := result{"", 200, entries}
	invalid := result{"invalid_response", 200, 0}
	for _, tt := range []struct {
		name      string
		fault     cohertest.Fault
		job, list result
	}{
		{"NotJSON", cohertest.NotJSON, invalid, invalid},
		{"Empty", cohertest.Empty, invalid, invalid},
		{"gzip of nothing", func(w http.ResponseWriter, r *http.Request, c *cohertest.Call) {
			w.Header().Set("Content-Encoding", "gzip")
			cohertest.Empty(w, r, c)
		}, invalid, invalid},
		{"blanks", cohertest.Body(" \n\t"), invalid, invalid},
		{"Null", cohertest.Null, invalid, invalid},
		{"Array", cohertest.Array, invalid, invalid},
		{"string", cohertest.Body(`"` + example + `"`), invalid, invalid},
		{"number", cohertest.Body(`1520`), invalid, invalid},
		{"object", cohertest.Body(`{}`), invalid, invalid},
		{"error with 200", cohertest.Body(`{"message":"` + key + `"}`), invalid, invalid},
		{"deep", cohertest.Body(`{"x":` + strings.Repeat("[", 20_000)), invalid, invalid},
		{"CutShort", cohertest.CutShort, invalid, result{"invalid_response", 200, entries / 2}},
		{"CutShort in gzip", cohertest.Gzip(cohertest.CutShort), invalid, result{"invalid_response", 200, entries / 2}},
		{"Drip in gzip", cohertest.Gzip(cohertest.Drip), result{"timeout", 200, 0}, result{"timeout", 200, 0}},
		{"Drip", cohertest.Drip, result{"timeout", 200, 0}, result{"timeout", 200, 0}},
		{"Hang", cohertest.Hang, result{"timeout", 0, 0}, result{"timeout", 0, 0}},
		{"Slow", cohertest.Slow(9 * time.Second), good, all},
		{"too slow", cohertest.Slow(11 * time.Second), result{"timeout", 0, 0}, result{"timeout", 0, 0}},
		{"Reset", cohertest.Reset, result{"network", 0, 0}, result{"network", 0, 0}},
		{"RedirectTo", cohertest.RedirectTo("http://elsewhere.test/" + key), result{"http_error", 302, 0}, result{"http_error", 302, 0}},
		{"BadGateway", cohertest.BadGateway, result{"server_error", 502, 0}, result{"server_error", 502, 0}},
		{"KeyEcho", cohertest.KeyEcho(403), result{"forbidden", 403, 0}, result{"forbidden", 403, 0}},
		{"OtherJob", cohertest.OtherJob, invalid, all},
		{"key for ID", func(w http.ResponseWriter, _ *http.Request, c *cohertest.Call) {
			c.AnswerWith(w, cohertest.Job{ID: strings.Repeat("x", 190) + key, Status: "complete"})
		}, invalid, good},
		{"NoStatus", cohertest.NoStatus, invalid, result{"", 200, 0}},
		{"UnknownStatus", cohertest.UnknownStatus, good, all},
		{"NullFields", cohertest.NullFields, good, all},
		{"NullMeta", cohertest.NullMeta, good, all},
		{"MissingFields", cohertest.MissingFields, good, all},
		{"WrongTypes", cohertest.WrongTypes, good, all},
		{"NumbersAsStrings", cohertest.NumbersAsStrings, good, all},
		{"NumbersWithFraction", cohertest.NumbersWithFraction, good, all},
		{"NumbersWithExponent", cohertest.NumbersWithExponent, good, all},
		{"InvalidUTF8", cohertest.InvalidUTF8, good, all},
		{"Warning", cohertest.Warning("soon"), good, all},
		{"Times", cohertest.Times(0, cohertest.Reset), good, all},
		{"Flaky", cohertest.Flaky(1, 1, cohertest.Status(503, "")), result{"unavailable", 503, 0}, result{"unavailable", 503, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for name, server := range inMemory {
				synctest.Test(t, func(t *testing.T) {
					b := start(t, server)
					for i := range entries - 1 {
						b.user.Add(cohertest.Job{ID: fmt.Sprint("ebd-", i), Status: "complete"})
					}
					b.user.Fail(cohertest.All, tt.fault)
					b.user.Fail("ebd-0", func(w http.ResponseWriter, _ *http.Request, c *cohertest.Call) { c.Answer(w) })
					check := func(what string, err error, jobs int, want result) {
						t.Helper()
						got := result{client.ReasonOf(err), client.StatusCode(err), jobs}
						if got != want {
							t.Errorf("%s: %s: got %v, want %v; error %v", name, what, got, want, err)
						}
						if err != nil {
							checkText(t, err)
						}
						if is := errors.Is(err, client.ErrInvalidResponse); is != (want.reason == "invalid_response") {
							t.Errorf("%s: %s: is ErrInvalidResponse: %t", name, what, is)
						}
					}

					for range 2 { // on a new connection, and on one that was used before
						ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
						defer cancel()
						job, err := b.EmbedJob(ctx, example)
						n := 0
						if err == nil {
							n = 1
						} else if job != nil {
							t.Errorf("%s: job beside an error: %+v", name, job)
						}
						check("job", err, n, tt.job)

						ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
						defer cancel()
						jobs, err := b.list(ctx)
						check("list", err, len(jobs), tt.list)

						if _, err := b.EmbedJob(t.Context(), "ebd-0"); err != nil {
							t.Errorf("%s: another job: %v", name, err)
						}
					}
				})
			}
		})
	}
}

// A kept-alive connection that the server closes meanwhile: net/http sends the
// request again by itself.
func TestResetReused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, (*cohertest.API).StartInMemory)
		b.user.Fail(cohertest.All, cohertest.ResetReused)
		for range 3 {
			if _, err := b.EmbedJob(t.Context(), example); err != nil {
				t.Error(err)
			}
			if _, err := b.list(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
}

// An endless job is read as far as the limit, and costs memory in proportion to
// it.
func TestEndless(t *testing.T) {
	for name, server := range inMemory {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, server)
			b.user.Fail(example, cohertest.Endless)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := b.EmbedJob(t.Context(), example)
			runtime.ReadMemStats(&after)
			if client.ReasonOf(err) != client.InvalidResponse || client.StatusCode(err) != 200 {
				t.Errorf("%s: got %v", name, err)
			}
			checkText(t, err)
			if got := after.TotalAlloc - before.TotalAlloc; got > 16<<20 {
				t.Errorf("%s: took %d MiB of memory", name, got>>20)
			}
		})
	}
}

// A job may have 1 MiB, to the byte.
func TestJobLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, (*cohertest.API).StartInMemory)
		body := func(size int) cohertest.Fault {
			const begin, end = `{"job_id":"` + example + `","status":"complete","name":"`, `"}`
			return cohertest.Body(begin + strings.Repeat("n", size-len(begin)-len(end)) + end)
		}
		chunked := func(f cohertest.Fault) cohertest.Fault { // without Content-Length
			return func(w http.ResponseWriter, r *http.Request, c *cohertest.Call) {
				f(unsized{w}, r, c)
			}
		}
		for _, f := range []func(cohertest.Fault) cohertest.Fault{
			func(f cohertest.Fault) cohertest.Fault { return f },
			chunked,
		} {
			b.user.Fail(example, f(body(1<<20)))
			if job, err := b.EmbedJob(t.Context(), example); err != nil || len(job.Name) < 1<<19 {
				t.Errorf("1 MiB: got error %v", err)
			}
			b.user.Fail(example, f(body(1<<20+1)))
			_, err := b.EmbedJob(t.Context(), example)
			if !errors.Is(err, client.ErrInvalidResponse) || err.Error() != "invalid response: too large" {
				t.Errorf("more: got error %v", err)
			}
		}
	})
}

// unsized sends no Content-Length.
type unsized struct{ http.ResponseWriter }

func (u unsized) WriteHeader(code int) {
	u.Header().Del("Content-Length")
	u.ResponseWriter.WriteHeader(code)
	_ = http.NewResponseController(u.ResponseWriter).Flush()
}

func TestMessages(t *testing.T) {
	x := strings.Repeat("x", 180)
	for _, tt := range []struct{ name, body, want string }{
		{"plain", `{"message":"no such job","id":"1"}`, "no such job"},
		{"no message", `{"id":"1"}`, ""},
		{"null", `{"message":null}`, ""},
		{"wrong type", `{"message":{"text":"no"}}`, ""},
		{"other members of a wrong type", `{"id":[1],"message":"no"}`, "no"},
		{"array", `["no"]`, ""},
		{"not JSON", `<html>no</html>`, ""},
		{"cut short", `{"message":"no`, ""},
		{"empty", ``, ""},
		{"control characters", `{"message":"a\nb\r\tc\u0000\u001b[31md\u009b"}`, "a b  c  [31md "},
		{"not UTF-8", "{\"message\":\"caf\xe9\"}", "caf\uFFFD"},
		{"200 characters", `{"message":"` + strings.Repeat("ö", 200) + `"}`, strings.Repeat("ö", 200)},
		{"more", `{"message":"` + strings.Repeat("ö", 201) + `"}`, strings.Repeat("ö", 200)},
		{"beyond 64 KiB", `{"message":"` + strings.Repeat("y", 64<<10) + `"}`, ""},
		{"key", `{"message":"` + key + `"}`, "<secret>"},
		{"key, twice", `{"message":"Bearer ` + key + `: ` + key + `!"}`, "Bearer <secret>: <secret>!"},
		{"key, escaped", `{"message":"` + strings.ReplaceAll(key, "s", `\u0073`) + `"}`, "<secret>"},
		{"key across the cut", `{"message":"` + x + `0123456789` + key + `rest and more"}`, x + "0123456789<secret>re"},
		{"key at the cut", `{"message":"` + x + x[:20] + key + `"}`, x + x[:20]},
		{"key, cut", `{"message":"` + x + x[:17] + key + `"}`, x + x[:17] + "<se"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var warning string
				b := start(t, (*cohertest.API).StartInMemory, client.WithWarningHandler(func(text string) { warning = text }))
				var said struct{ Message string }
				_ = json.Unmarshal([]byte(tt.body), &said)
				// The same text is a warning, where it can be a header.
				warns := len(said.Message) < 1000 && !strings.ContainsFunc(said.Message, unicode.IsControl)
				b.user.Fail(cohertest.All, func(w http.ResponseWriter, _ *http.Request, _ *cohertest.Call) {
					if warns {
						w.Header().Set("X-API-Warning", said.Message)
					}
					w.WriteHeader(http.StatusBadRequest)
					_, _ = io.WriteString(w, tt.body)
				})
				want := client.Error{StatusCode: 400, Message: tt.want}
				_, err := b.EmbedJob(t.Context(), example)
				if apiError(err) != want {
					t.Errorf("got %#v, want %#v", err, want)
				}
				checkText(t, err)
				if _, err := b.list(t.Context()); apiError(err) != want {
					t.Errorf("list: got %#v, want %#v", err, want)
				}
				if warns && warning != tt.want {
					t.Errorf("warning: got %q", warning)
				}
			})
		})
	}
}

// The key is known by what was sent, whoever sent it and however.
func TestKeyOfOthers(t *testing.T) {
	for _, authorization := range []string{key, "Bearer " + key, "Bearer  " + key + " ", "Basic " + key} {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, (*cohertest.API).StartInMemory)
			transport := roundTripper(func(req *http.Request) (*http.Response, error) {
				req = req.Clone(req.Context())
				req.Header.Set("Authorization", authorization)
				resp, err := b.server.Client.Transport.RoundTrip(req)
				if err == nil {
					resp.StatusCode = 403
					resp.Body.Close()
					resp.Body = io.NopCloser(strings.NewReader(`{"message":"token ` + key + ` refused"}`))
				}
				return resp, err
			})
			_, err := client.New(parseURL(t, b.server.URL), transport).EmbedJob(t.Context(), example)
			if apiError(err) != (client.Error{StatusCode: 403, Message: "token <secret> refused"}) {
				t.Errorf("%q: got %v", authorization, err)
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	for name, server := range inMemory {
		synctest.Test(t, func(t *testing.T) {
			var got []string
			b := start(t, server, client.WithWarningHandler(func(text string) { got = append(got, text) }))
			for _, f := range []cohertest.Fault{
				cohertest.Warning("model is deprecated"),
				cohertest.Warning("key " + key + " expires\ttomorrow"),
				cohertest.Warning(strings.Repeat("w", 190) + key),
				cohertest.Warning("caf\xe9"),
				cohertest.StatusHeader(429, "slow down", http.Header{"X-API-Warning": {"last warning"}}),
				cohertest.Warning(""),
				nil,
			} {
				b.user.Fail(cohertest.All, f)
				_, _ = b.EmbedJob(t.Context(), example)
				_, _ = b.list(t.Context())
			}
			want := []string{
				"model is deprecated",
				"key <secret> expires tomorrow",
				strings.Repeat("w", 190) + "<secret>",
				"caf\uFFFD",
				"last warning",
			}
			for i, text := range got {
				if i/2 >= len(want) || text != want[i/2] {
					t.Errorf("%s: got %q", name, text)
				}
			}
			if len(got) != 2*len(want) {
				t.Errorf("%s: got %d warnings: %q", name, len(got), got)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, (*cohertest.API).StartInMemory)
		now := time.Now().UTC() // stands still unless someone sleeps
		for _, tt := range []struct {
			header string
			want   time.Duration
		}{
			{"17", 17 * time.Second},
			{"0", 0},
			{"007", 7 * time.Second},
			{"-1", 0},
			{"1.5", 0},
			{"", 0},
			{"soon", 0},
			{"10s", 0},
			{"86400", 24 * time.Hour},
			{"9999999999", 1 << 30 * time.Second},
			{"99999999999999999999999999", 1 << 30 * time.Second},
			{"-99999999999999999999999999", 0},
			{"99999999999999999999999999s", 0},
			{"+5", 0},
			{now.Add(90 * time.Second).Format(http.TimeFormat), 90 * time.Second},
			{now.Add(90 * time.Second).Format("Monday, 02-Jan-06 15:04:05 GMT"), 90 * time.Second},
			{now.Add(90 * time.Second).Format(time.ANSIC), 90 * time.Second},
			{now.Add(-time.Hour).Format(http.TimeFormat), 0},
			{now.Format(http.TimeFormat), 0},
			{now.Add(time.Hour).Format(time.RFC3339), 0},
			{"Fri, 31 Dec 9999 23:59:59 GMT", 1<<63 - 1},
			{"Mon, 02 Jan 2006 99:99:99 GMT", 0},
		} {
			b.user.Fail(cohertest.All, cohertest.StatusHeader(429, "", http.Header{"Retry-After": {tt.header}}))
			want := client.Error{StatusCode: 429, RetryAfter: tt.want}
			if _, err := b.EmbedJob(t.Context(), example); apiError(err) != want {
				t.Errorf("%q: got %#v, want %v", tt.header, err, tt.want)
			}
			if _, err := b.list(t.Context()); apiError(err) != want {
				t.Errorf("%q: list: got %#v, want %v", tt.header, err, tt.want)
			}
		}

		// Both forms, from a limit that is met; and any status may carry it.
		b.user.Fail(cohertest.All, nil)
		for _, form := range []cohertest.RetryAfter{cohertest.None, cohertest.Seconds, cohertest.Date} {
			b.user.Limit(cohertest.Limit{Requests: 1, Per: time.Minute, RetryAfter: form})
			if _, err := b.EmbedJob(t.Context(), example); err != nil {
				t.Error(err)
			}
			time.Sleep(10 * time.Second)
			_, err := b.EmbedJob(t.Context(), example)
			got := apiError(err)
			want := 50 * time.Second
			if form == cohertest.None {
				want = 0
			}
			if got.StatusCode != http.StatusTooManyRequests || got.RetryAfter != want || !strings.Contains(got.Message, "limited to 1 API calls / minute") {
				t.Errorf("form %d: got %#v", form, err)
			}
		}
		b.user.Limit(cohertest.Limit{})
		b.user.Fail(example, cohertest.StatusHeader(503, "", http.Header{"Retry-After": {"5"}}))
		if _, err := b.EmbedJob(t.Context(), example); apiError(err) != (client.Error{StatusCode: 503, RetryAfter: 5 * time.Second}) {
			t.Errorf("503: got %#v", err)
		}
	})
}

// A caller that leaves, before and during the answer.
func TestCancel(t *testing.T) {
	for name, server := range inMemory {
		for fault, f := range map[string]cohertest.Fault{"hang": cohertest.Hang, "drip": cohertest.Drip} {
			synctest.Test(t, func(t *testing.T) {
				b := start(t, server)
				b.user.Fail(cohertest.All, f)
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Second, cancel)
				_, err := b.EmbedJob(ctx, example)
				_, listErr := b.list(ctx) // had ended by then
				for _, err := range []error{err, listErr} {
					if !errors.Is(err, context.Canceled) || errors.Is(err, client.ErrInvalidResponse) {
						t.Errorf("%s: %s: got %v", name, fault, err)
					}
				}
				if got := len(b.api.Requests()); got != 1 {
					t.Errorf("%s: %s: got %d requests", name, fault, got)
				}
			})
		}
	}
}
