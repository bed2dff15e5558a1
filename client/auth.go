package client

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"strings"
)

// Key returns an API key, or why there is none. It is called for every
// request.
type Key func() (string, error)

// StaticKey is a key that does not change.
func StaticKey(key string) Key {
	return func() (string, error) { return checkKey(key) }
}

// KeyFile is the key in a file, which is read anew for every request.
func KeyFile(path string) Key {
	return func() (string, error) {
		data, err := os.ReadFile(path)
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

// checkKey strips white space around a key and refuses what is none. It never
// repeats it.
func checkKey(key string) (string, error) {
	key = strings.TrimSpace(key)
	switch {
	case key == "":
		return "", errors.New("is empty")
	case strings.ContainsAny(key, "\r\n"):
		return "", errors.New("holds several lines")
	case strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "", errors.New("holds control characters")
	}
	return key, nil
}

// Authorize returns a RoundTripper that sends "Authorization: scheme key" with
// every request, and nothing at all without a key: the error answers to
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

// CloseIdleConnections lets http.Client reach the connections below.
func (a *authorizer) CloseIdleConnections() { closeIdleConnections(a.next) }

func closeIdleConnections(rt http.RoundTripper) {
	if c, ok := rt.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}
