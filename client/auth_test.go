package client_test

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/cohere-exporter/cohere_exporter/client"
	"github.com/cohere-exporter/cohere_exporter/client/cohertest"
)

func TestKeys(t *testing.T) {
	dir := t.TempDir()
	file := func(content string) string {
		f, err := os.CreateTemp(dir, "key")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(content); err != nil {
			t.Fatal(err)
		}
		return f.Name()
	}
	for _, tt := range []struct{ content, key, err string }{
		{"abc", "abc", ""},
		{"abc\n", "abc", ""},
		{"\r\n  abc \t\r\n\n", "abc", ""},
		{"\uFEFFabc\n", "abc", ""},
		{" \uFEFF abc", "abc", ""},
		{"a=b$c%d/e+f-g_h.i~j==", "a=b$c%d/e+f-g_h.i~j==", ""},
		{"bearer", "bearer", ""},
		{"abc" + strings.Repeat("\n", 64<<10-3), "abc", ""}, // the greatest file
		{"a b", "", "holds white space inside the key"},
		{"", "", "is empty"},
		{"\uFEFF\n", "", "is empty"},
		{" \t\r\n", "", "is empty"},
		{"abc\ndef\n", "", "holds several lines"},
		{"abc\rdef", "", "holds several lines"},
		{"abc\n\n# the old one\n", "", "holds several lines"},
		{"a\tb", "", "holds white space inside the key"},
		{"a\x00b", "", "holds control characters"},
		{"a\x7fb", "", "holds control characters"},
		{"\xff\xfea\x00b\x00\n\x00", "", "is UTF-16, which PowerShell writes; save it as UTF-8"},
		{"\xfe\xff\x00a\x00b", "", "is UTF-16, which PowerShell writes; save it as UTF-8"},
		{`"abc"`, "", "is in quotes; leave them out"},
		{"'abc'\n", "", "is in quotes; leave them out"},
		{"`abc`", "", "is in quotes; leave them out"},
		{"“abc”", "", "is in quotes; leave them out"},
		{`"abc`, "", "is in quotes; leave them out"},
		{`abc"`, "", "is in quotes; leave them out"},
		{`"Bearer abc"`, "", "is in quotes; leave them out"},
		{"${CO_API_KEY}", "", "holds a variable that nobody expanded; write its value"},
		{"abc${SUFFIX}", "", "holds a variable that nobody expanded; write its value"},
		{"$(CO_API_KEY)", "", "holds a variable that nobody expanded; write its value"},
		{"$CO_API_KEY", "", "holds a variable that nobody expanded; write its value"},
		{"%CO_API_KEY%", "", "holds a variable that nobody expanded; write its value"},
		{"{{ .Values.key }}", "", "holds a variable that nobody expanded; write its value"},
		{"Bearer ${KEY}", "", "holds a variable that nobody expanded; write its value"},
		{"abc\u200b", "", "holds the invisible character U+200B; leave it out"},
		{"a\u00adbc", "", "holds the invisible character U+00AD; leave it out"},
		{"a\ufeffbc", "", "holds the invisible character U+FEFF; leave it out"},
		{"a\u2060bc", "", "holds the invisible character U+2060; leave it out"},
		{"a\u3164bc", "", "holds the invisible character U+3164; leave it out"},
		{"\u202eabc", "", "holds the invisible character U+202E; leave it out"},
		{"a\u0085bc", "", "holds white space inside the key"},
		{"Bearer abc", "", `begins with "Bearer "; leave that out`},
		{"bearer\tabc", "", `begins with "bearer\t"; leave that out`},
		{"Bearer:abc", "", `begins with "Bearer:"; leave that out`},
		{"Authorization: Bearer abc", "", `begins with "Authorization:"; leave that out`},
		{"CO_API_KEY=abc", "", `begins with "CO_API_KEY="; leave that out`},
		{"export CO_API_KEY=abc", "", `begins with "export CO_API_KEY="; leave that out`},
		{"schlüssel", "", "holds characters that no key has; copy it anew"},
		{"abс", "", "holds characters that no key has; copy it anew"}, // of two alphabets
		{"ab\xff", "", "holds characters that no key has; copy it anew"},
		{"a\u00a0b", "", "holds white space inside the key"},
	} {
		path := file(tt.content)
		for name, key := range map[string]client.Key{"StaticKey": client.StaticKey(tt.content), "KeyFile": client.KeyFile(path)} {
			got, err := key()
			if got != tt.key || (err == nil) != (tt.err == "") {
				t.Errorf("%s %q: got %q, error %v", name, tt.content, got, err)
				continue
			}
			if err == nil {
				continue
			}
			want := tt.err
			if name == "KeyFile" {
				want = path + " " + want
			}
			if err.Error() != want {
				t.Errorf("%s %q: got %v, want %s", name, tt.content, err, want)
			}
		}
	}
}

// Without a key nothing is sent, and the error says what to look at, however
// long its name.
func TestNoKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 200))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	lines := filepath.Join(dir, "lines")
	if err := os.WriteFile(lines, []byte(key+"\n"+key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, []byte(key+strings.Repeat("\n", 64<<10)), 0o600); err != nil {
		t.Fatal(err)
	}
	cause := errors.New("the vault is sealed")
	synctest.Test(t, func(t *testing.T) {
		b := start(t, (*cohertest.API).StartInMemory)
		for _, tt := range []struct {
			key  client.Key
			is   error
			text string
		}{
			{client.StaticKey(""), client.ErrNoKey, "no API key: is empty"},
			{client.StaticKey(key + "\n" + key), client.ErrNoKey, "no API key: holds several lines"},
			{client.KeyFile(filepath.Join(dir, "missing")), fs.ErrNotExist, "no API key: stat " + filepath.Join(dir, "missing") + ": no such file or directory"},
			{client.KeyFile(dir), client.ErrNoKey, "no API key: read " + dir + ": not a regular file"},
			{client.KeyFile(lines), client.ErrNoKey, "no API key: " + lines + " holds several lines"},
			{client.KeyFile(large), client.ErrNoKey, "no API key: read " + large + ": larger than 64 KiB"},
			{client.KeyFile(os.DevNull), client.ErrNoKey, "no API key: read " + os.DevNull + ": not a regular file"},
			{func() (string, error) { return "", cause }, cause, "no API key: the vault is sealed"},
		} {
			b.Client = b.as(t, tt.key)
			_, err := b.EmbedJob(t.Context(), example)
			_, listErr := b.list(t.Context())
			for _, err := range []error{err, listErr} {
				if !errors.Is(err, client.ErrNoKey) || !errors.Is(err, tt.is) ||
					client.ReasonOf(err) != client.NoKey || client.StatusCode(err) != 0 {
					t.Errorf("got %s, %d: %v", client.ReasonOf(err), client.StatusCode(err), err)
				}
				if err == nil || err.Error() != tt.text {
					t.Errorf("got %v, want %s", err, tt.text)
				}
			}
		}
		if got := b.api.Requests(); len(got) != 0 {
			t.Errorf("sent: %+v", got)
		}
	})
}

// A key file is read at every request: a new key needs no restart, and a bad
// moment passes.
func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	write := func(content string) {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		b := start(t, (*cohertest.API).StartInMemory)
		b.Client = b.as(t, client.KeyFile(path))
		ask := func(want client.Reason) {
			t.Helper()
			_, err := b.EmbedJob(t.Context(), example)
			if got := client.ReasonOf(err); got != want {
				t.Errorf("got reason %q, want %q; error %v", got, want, err)
			}
			_, err = b.list(t.Context())
			if got := client.ReasonOf(err); got != want {
				t.Errorf("list: got reason %q, want %q; error %v", got, want, err)
			}
		}
		ask(client.NoKey)
		write(key + "\n")
		ask("")
		b.user.SetKey("another")
		ask(client.Unauthorized)
		write("another")
		ask("")
		write("")
		ask(client.NoKey)
		write("another\r\n")
		ask("")

		var sent []string
		for _, r := range b.api.Requests() {
			sent = append(sent, r.Key)
		}
		if got, want := strings.Join(sent, " "), strings.Join([]string{key, key, key, key, "another", "another", "another", "another"}, " "); got != want {
			t.Errorf("sent %s, want %s", got, want)
		}
	})
}

// Authorize leaves the caller's request alone, whatever it says of itself.
func TestAuthorize(t *testing.T) {
	var got *http.Request
	rt := client.Authorize("Token", client.StaticKey(" abc\n"), roundTripper(func(req *http.Request) (*http.Response, error) {
		got = req
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
	}))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://api.test", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer old")
	resp, err := rt.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := got.Header.Values("Authorization"); len(got) != 1 || got[0] != "Token abc" {
		t.Errorf("sent %q", got)
	}
	if got := req.Header.Get("Authorization"); got != "Bearer old" {
		t.Errorf("changed the request: %q", got)
	}
}

// The error of a transport may quote what it met. Only its text changes.
func TestAuthorizeHidesKey(t *testing.T) {
	for text, want := range map[string]string{
		"malformed answer: Bearer " + key + "; " + key: "malformed answer: Bearer <secret>; <secret>",
		"connection refused":                           "connection refused",
	} {
		cause := errors.New(text)
		rt := client.Authorize("Bearer", client.StaticKey(key), roundTripper(func(*http.Request) (*http.Response, error) {
			return nil, cause
		}))
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://api.test", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := rt.RoundTrip(req)
		if err == nil {
			resp.Body.Close()
		}
		if !errors.Is(err, cause) || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
