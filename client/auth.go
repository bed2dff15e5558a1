package client

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"strings"
	"unicode"
)

const maxKeyBytes = 64 << 10 // of a file

// Key returns an API key, or why there is none. It is called for every
// request.
type Key func() (string, error)

// StaticKey is a key that does not change.
func StaticKey(key string) Key {
	key, err := checkKey(key)
	return func() (string, error) { return key, err }
}

// KeyFile is the key in a file, which is read anew for every request.
func KeyFile(path string) Key {
	return func() (string, error) {
		data, err := readFile(path)
		if err != nil {
			return "", err
		}
		key, err := checkKey(string(data))
		if err != nil {
			return "", fmt.Errorf("%s %w", path, err)
		}
		return key, nil
	}
}

// readFile reads a small file. Anything but a regular one could keep its reader
// waiting, whatever the time limit of the request.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &os.PathError{Op: "read", Path: path, Err: errors.New("not a regular file")}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKeyBytes+1))
	if len(data) > maxKeyBytes {
		return nil, &os.PathError{Op: "read", Path: path, Err: errors.New("larger than 64 KiB")}
	}
	return data, err
}

// checkKey strips white space and a byte order mark around a key, and refuses
// what is none. It never repeats it.
func checkKey(key string) (string, error) {
	key = stripped(key)
	what, prefix := damage(key), keyPrefix.FindString(key)
	switch {
	case key == "":
		return "", errors.New("is empty")
	case strings.HasPrefix(key, "\xFF\xFE"), strings.HasPrefix(key, "\xFE\xFF"):
		return "", errors.New("is UTF-16, which PowerShell writes; save it as UTF-8")
	case strings.ContainsAny(key, "\r\n"):
		return "", errors.New("holds several lines")
	case strings.ContainsFunc(key, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
		return "", errors.New("holds control characters")
	case what != "":
		return "", errors.New(what)
	case prefix != "":
		return "", fmt.Errorf("begins with %q; leave that out", prefix)
	case strings.ContainsFunc(key, unicode.IsSpace):
		return "", errors.New("holds white space inside the key")
	case strings.ContainsFunc(key, func(r rune) bool { return r > unicode.MaxASCII }):
		return "", errors.New("holds characters that no key has; copy it anew")
	}
	return key, nil
}

// keyPrefix matches what a key is copied with.
var keyPrefix = regexp.MustCompile(`^(?i:authorization:|bearer\s|bearer:|(export\s+)?co_api_key=)`)

// Authorize returns a RoundTripper that sends "Authorization: scheme key" with
// every request, and nothing at all without a key: the error matches
// ErrNoKey.
func Authorize(scheme string, key Key, next http.RoundTripper) http.RoundTripper {
	return &authorizer{scheme, key, next}
}

type authorizer struct {
	scheme string
	key    Key
	next   http.RoundTripper
}

func (a *authorizer) RoundTrip(req *http.Request) (*http.Response, error) {
	key, err := a.key()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoKey, err)
	}
	req = req.WithContext(req.Context()) // a copy, whose headers only are new
	req.Header = maps.Clone(req.Header)
	req.Header.Set("Authorization", a.scheme+" "+key)
	resp, err := a.next.RoundTrip(req)
	if err != nil {
		// A malformed answer is quoted, and may be an echo.
		if text := err.Error(); strings.Contains(text, key) {
			return nil, failure{0, err, hide(key, text)}
		}
	}
	return resp, err
}

// hide takes the key out of a text.
func hide(key, text string) string {
	if key == "" {
		return text
	}
	return strings.ReplaceAll(text, key, "<secret>")
}

// CloseIdleConnections reaches the connections below, as http.Client would.
func (a *authorizer) CloseIdleConnections() { closeIdleConnections(a.next) }

func closeIdleConnections(rt http.RoundTripper) {
	if c, ok := rt.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}
