package client_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cohere-exporter/cohere_exporter/client"
)

// An ID that is accepted stays what it is when it is read again, and is the last
// part of a request's path, whole; for one that is refused nothing is sent.
func FuzzIDs(f *testing.F) {
	for _, seed := range []string{
		example, "\uFEFFa, b\r\n\uFEFFc\t,d\u00a0e\u2028f,", "a\uFEFFb a\u200bb \"c\"", "caf\xe9,.,..,a/../b,a?b#c;d%2F", "${ID} $ID %ID% {{ .ID }}",
		"https://api.cohere.com/v1/embed-jobs/ebd-1", "v2/batches/2f6c", strings.Repeat("€", 513), "a\u202eb,a\x00b,’a",
	} {
		f.Add(seed)
	}
	var sent *http.Request
	c := client.New(parseURL(f, "https://api.cohere.com/team"), recordTo(&sent))
	f.Fuzz(func(t *testing.T, list string) {
		ids := client.SplitIDs(list)
		if again := client.SplitIDs(strings.Join(ids, ", ")); !slices.Equal(again, ids) {
			t.Errorf("%q: then %q", ids, again)
		}
		if apart := client.SplitIDs(strings.Split(list, ",")...); !slices.Equal(apart, ids) {
			t.Errorf("%q: apart %q", ids, apart)
		}
		for _, id := range append(ids, list) {
			err := client.CheckID(id)
			sent = nil
			_, asked := c.Batch(t.Context(), id)
			if err != nil {
				checkLine(t, err)
				if sent != nil || asked.Error() != err.Error() {
					t.Errorf("%q is refused (%v), then %v", id, err, asked)
				}
				continue
			}
			if id == "" || !utf8.ValidString(id) || utf8.RuneCountInString(id) > client.MaxIDLength || strings.Trim(id, `"'`) != id ||
				strings.ContainsFunc(id, func(r rune) bool { return r == ',' || unicode.IsSpace(r) || unicode.IsControl(r) }) {
				t.Errorf("%q is accepted", id)
			}
			if got := client.SplitIDs(id); !slices.Equal(got, []string{id}) {
				t.Errorf("%q is split to %q", id, got)
			}
			got := received(t, sent)
			parts := strings.Split(got.URL.EscapedPath(), "/")
			last, err := url.PathUnescape(parts[len(parts)-1])
			if err != nil || last != id || len(parts) != 5 || got.URL.RawQuery != "" || !strings.HasPrefix(got.RequestURI, "/team/v2/batches/") {
				t.Errorf("%q is sent as %s", id, got.RequestURI)
			}
		}
	})
}

// A base URL that is accepted is the only place that requests go to; what may be
// a password is not repeated.
func FuzzBaseURL(f *testing.F) {
	const password = "hunter2-hunter2"
	for _, seed := range []string{
		"https://api.cohere.com", "\uFEFF http://[::1]:8080/cohere/\n", "https://host/with%2Fslash//a/../b", "https://host/@team", "HTTPS://hôst",
		"https://host/v1", "https://host/v2/batches/2f6c/", "https://host?a=b#c", `"https://host"`, "https://${HOST}/a", "//host", "https:///a", "https://:443",
		"https://user:" + password + "@host", "https:/user:" + password + "@host", "user:" + password + "@host", "https://host/%zz", "http://[fe80::1%25en0]/",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := client.ParseBaseURL(s)
		if err != nil {
			checkLine(t, err)
			read, notURL := url.Parse(s) // a path may hold anything
			inPath := notURL == nil && read.Hostname() != "" && strings.Contains(read.Path, password)
			if at := strings.LastIndex(s, "@"); at >= 0 && strings.Contains(s[:at], password) && !inPath && strings.Contains(err.Error(), password) {
				t.Errorf("tells the password: %v", err)
			}
			return
		}
		if again, err := client.ParseBaseURL(u.String()); err != nil || again.String() != u.String() {
			t.Errorf("%q is %q, then %v, %v", s, u, again, err)
		}
		var sent *http.Request
		c := client.New(u, recordTo(&sent))
		_, err = c.EmbedJob(t.Context(), example)
		got := received(t, sent)
		if sent.URL.Scheme != u.Scheme || sent.URL.Host != u.Host || sent.Host != u.Host || sent.URL.User != nil {
			t.Errorf("%q is asked at %s, Host %q", u, sent.URL, sent.Host)
		}
		asSent := !strings.ContainsFunc(u.Host, func(r rune) bool { return r == '%' || r > unicode.MaxASCII }) // without zone or Punycode
		if asSent && got.Host != u.Host || got.URL.RawQuery != "" || !strings.HasSuffix(got.URL.EscapedPath(), "/v1/embed-jobs/"+example) {
			t.Errorf("%q is asked for %s of %s: %v", u, got.RequestURI, got.Host, err)
		}
	})
}

// A key is sent as it is, or refused, and no error tells it.
func FuzzKey(f *testing.F) {
	for _, seed := range [][2]string{
		{"", ""},
		{" \uFEFF", "\r\n"},
		{"Bearer ", ""},
		{"export  CO_API_KEY=", "\n"},
		{"Authorization: Bearer ", ""},
		{`"`, `"`},
		{"${", "}"},
		{"$", ""},
		{"%", "%"},
		{"\xff\xfe", "\x00"},
		{"a\nb", ""},
		{"", "\u200b"},
		{"a b ", "ü"},
		{"", "<html>"},
		{"", "\x7f"},
		{"", strings.Repeat(" ", 65<<10) + "x"},
	} {
		f.Add(seed[0], seed[1])
	}
	path := filepath.Join(f.TempDir(), "key")
	f.Fuzz(func(t *testing.T, before, after string) {
		text := before + key + after
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		static, err := client.StaticKey(text)()
		read, fileErr := client.KeyFile(path)()
		for _, err := range []error{err, fileErr} {
			if err != nil {
				checkLine(t, err)
				if strings.Contains(err.Error(), key[:7]) {
					t.Errorf("tells the key: %v", err)
				}
			}
		}
		if len(text) > 64<<10 {
			if fileErr == nil {
				t.Errorf("%d bytes are a key", len(text))
			}
			return
		}
		if read != static || (err == nil) != (fileErr == nil) || static != "" && err != nil {
			t.Fatalf("got %q, error %v; from a file %q, error %v", static, err, read, fileErr)
		}
		if err != nil {
			return
		}
		if again, err := client.StaticKey(static)(); again != static || err != nil || !strings.Contains(text, static) {
			t.Errorf("%q is %q, then %q, %v", text, static, again, err)
		}
		var sent *http.Request
		echo := roundTripper(func(req *http.Request) (*http.Response, error) {
			sent = req
			body, err := json.Marshal(map[string]string{"message": "not a key: " + req.Header.Get("Authorization")})
			return answer(req, http.StatusUnauthorized, nil, string(body)), err
		})
		c := client.New(parseURL(t, "https://api.cohere.com"), authorized(client.StaticKey(text), echo))
		_, err = c.EmbedJob(t.Context(), example)
		checkText(t, err)
		if got := received(t, sent).Header.Get("Authorization"); got != "Bearer "+static {
			t.Errorf("%q is sent as %q", static, got)
		}
	})
}

// What the API asks to wait for is never negative, and what it says as far as it
// is a number or a date.
func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{
		"", "17", "007", "-1", "+5", "1.5", "10s", "99999999999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT", "Friday, 31-Dec-99 23:59:59 GMT",
		"Fri Dec 31 23:59:59 2027", "Mon, 02 Jan 2006 99:99:99 GMT", "Sat, 01 Jan 0000 00:00:00 GMT", "2027-01-01T00:00:00Z",
	} {
		f.Add(seed)
	}
	number := regexp.MustCompile(`^[0-9]+$`)
	f.Fuzz(func(t *testing.T, header string) {
		c := client.New(parseURL(t, "https://api.cohere.com"), roundTripper(func(req *http.Request) (*http.Response, error) {
			return answer(req, http.StatusTooManyRequests, http.Header{"Retry-After": {header}}, ""), nil
		}))
		began := time.Now()
		_, err := c.EmbedJob(t.Context(), example)
		got := apiError(err).RetryAfter
		switch date, notDate := http.ParseTime(header); {
		case number.MatchString(header):
			n, _ := new(big.Int).SetString(header, 10)
			want := time.Duration(1<<30) * time.Second
			if n.IsInt64() {
				want = time.Duration(min(n.Int64(), 1<<30)) * time.Second
			}
			if got != want {
				t.Errorf("%q: got %v, want %v", header, got, want)
			}
		case notDate == nil:
			if most := max(date.Sub(began), 0); got < 0 || got > most || got < max(time.Until(date), 0) {
				t.Errorf("%q: got %v, want at most %v", header, got, most)
			}
		case got != 0:
			t.Errorf("%q: got %v", header, got)
		}
	})
}

// answer is an answer to req.
func answer(req *http.Request, status int, header http.Header, body string) *http.Response {
	if header == nil {
		header = http.Header{}
	}
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: req}
}

// recordTo answers every request with {}, and keeps the latest.
func recordTo(sent **http.Request) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		*sent = req
		return answer(req, http.StatusOK, nil, "{}"), nil
	})
}

// received is what a server reads of a request.
func received(t *testing.T, req *http.Request) *http.Request {
	t.Helper()
	if req == nil {
		t.Fatal("nothing is sent")
	}
	var wire bytes.Buffer
	if err := req.Write(&wire); err != nil {
		t.Fatalf("%s cannot be sent: %v", strconv.Quote(req.URL.String()), err)
	}
	got, err := http.ReadRequest(bufio.NewReader(&wire))
	if err != nil {
		t.Fatalf("%s cannot be read: %v", strconv.Quote(req.URL.String()), err)
	}
	return got
}

// checkLine expects a line that can be shown.
func checkLine(t *testing.T, err error) {
	t.Helper()
	text := err.Error()
	if text == "" || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		t.Errorf("text: %q", text)
	}
}
