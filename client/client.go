// Package client speaks to Cohere's APIs of embed jobs and batches.
//
// It makes exactly one request for each call: when to ask, and when to ask
// again, is up to the caller.
package client

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Limits of what is read, and of what is said about it.
const (
	maxJobBytes     = 1 << 20
	maxListBytes    = 64 << 20
	maxKeptBytes    = 64 << 10 // of a buffer, for the next body
	maxMessageRunes = 200
)

// Client fetches embed jobs and batches. It is safe for concurrent use.
type Client struct {
	embedJobs *url.URL // of the list; a job is below it
	batches   *url.URL // likewise
	transport http.RoundTripper
	request   http.Request // what all requests have in common
	onWarning func(text string)
}

// Option changes what New returns.
type Option func(*Client)

// WithClientName sets the header X-Client-Name, the name of the project that
// asks.
func WithClientName(name string) Option {
	return func(c *Client) { c.request.Header.Set("X-Client-Name", name) }
}

// WithUserAgent sets the header User-Agent.
func WithUserAgent(agent string) Option {
	return func(c *Client) { c.request.Header.Set("User-Agent", agent) }
}

// WithWarningHandler sets what is called with the X-API-Warning of every
// answer that carries one, failed ones included.
func WithWarningHandler(handle func(text string)) Option {
	return func(c *Client) { c.onWarning = handle }
}

// New returns a client of the API at base, such as https://api.cohere.com.
// transport has to authenticate requests, as Authorize does. There is no
// http.Client: it would follow redirects, which carry the key away.
func New(base *url.URL, transport http.RoundTripper, opts ...Option) *Client {
	root := *base
	root.Path = cmp.Or(base.Path, "/") // JoinPath keeps a relative path relative
	c := &Client{
		embedJobs: root.JoinPath("v1", "embed-jobs"),
		batches:   root.JoinPath("v2", "batches"),
		transport: transport,
		request:   http.Request{Method: http.MethodGet, Host: root.Host, Header: http.Header{"Accept": {"application/json"}, "Accept-Encoding": {"gzip"}}},
		onWarning: func(string) {},
	}
	for _, opt := range opts {
		opt(c)
	}
	return c
}

// CloseIdleConnections closes the connections that no request uses.
func (c *Client) CloseIdleConnections() { closeIdleConnections(c.transport) }

// get asks for the job with that ID below u, and decodes the answer into v. check
// then says what is wrong with that.
func (c *Client) get(ctx context.Context, u *url.URL, id string, v any, check func(*http.Response) error) error {
	if err := CheckID(id); err != nil {
		return err
	}
	job := *u
	job.Path += "/" + id
	job.RawPath = u.EscapedPath() + "/" + url.PathEscape(id)
	resp, err := c.do(ctx, &job)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body := &cappedReader{r: resp.Body, left: maxJobBytes}
	buf := buffers.Get().(*bytes.Buffer)
	buf.Reset()
	if _, err = buf.ReadFrom(body); err != nil {
		err = body.explain(err)
	} else if err = unmarshal(buf.Bytes(), v); err == nil {
		err = check(resp)
	}
	if buf.Cap() <= maxKeptBytes { // what was decoded is a copy
		buffers.Put(buf)
	}
	if err != nil {
		return failed(resp, err)
	}
	return nil
}

// checkJob says what is wrong with an answer about a job.
func checkJob(resp *http.Response, wanted, field, id, status string) error {
	switch {
	case id != wanted:
		return fmt.Errorf("%w: %s is %s", ErrInvalidResponse, field, strconv.Quote(clean(id, resp)))
	case status == "":
		return fmt.Errorf("%w: no status", ErrInvalidResponse)
	}
	return nil
}

// list asks for u, a list, and calls each for its entries, those of the array
// of that name, as they are decoded. An entry is each's until it returns. What
// comes in pages has the token of the next one, or "", written to token.
func list[T any](ctx context.Context, c *Client, u *url.URL, name string, token *string, each func(*T, *http.Response)) error {
	resp, err := c.do(ctx, u)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body := &cappedReader{r: resp.Body, left: maxListBytes}
	if err := decodeList(body, name, token, func(entry *T) { each(entry, resp) }); err != nil {
		return failed(resp, body.explain(err))
	}
	return nil
}

// do asks for u and returns the answer if it is 200 OK.
func (c *Client) do(ctx context.Context, u *url.URL) (*http.Response, error) {
	req := c.request.WithContext(ctx)
	req.URL = u
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		if errors.Is(err, ErrNoKey) {
			return nil, err
		}
		return nil, failure{0, err, cut(printable(err.Error()))} // it may quote the answer
	}
	if warning := resp.Header.Get("X-Api-Warning"); warning != "" {
		c.onWarning(clean(warning, resp))
	}
	err = decompress(resp)
	if err == nil && resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return nil, failed(resp, err)
	}
	refusal := Error{StatusCode: resp.StatusCode, RetryAfter: retryAfter(resp.Header.Get("Retry-After"))}
	if err == nil {
		refusal.Message = message(resp)
	}
	return nil, refusal
}

// message is what the API says of a failure, "" where it says nothing.
func message(resp *http.Response) string {
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return "" // its body is the connection, which no deadline ends
	}
	var answer struct{ Message string }
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil || unmarshal(body, &answer) != nil {
		return ""
	}
	return clean(answer.Message, resp)
}

// clean makes a text of the API fit to be shown.
func clean(text string, resp *http.Response) string {
	return cut(printable(hide(sentKey(resp), text)))
}

// sentKey returns the key of the request that was really sent. The answer may
// repeat it.
func sentKey(resp *http.Response) string {
	if resp.Request == nil { // not all that stand in for a transport set it
		return ""
	}
	authorization := resp.Request.Header.Get("Authorization")
	_, key, ok := strings.Cut(authorization, " ")
	if !ok { // no scheme
		key = authorization
	}
	return strings.TrimSpace(key)
}

// minSecret is the least length of a key that what the API says of jobs is
// searched for. A shorter one stands for one that a proxy adds.
const minSecret = 8

// hideKey takes the key out of what the API says of a job.
func hideKey(resp *http.Response, texts ...*string) {
	if key := sentKey(resp); len(key) >= minSecret {
		for _, text := range texts {
			*text = hide(key, *text)
		}
	}
}

// printable puts blanks in the place of control characters.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// cut shortens s to what is shown of foreign texts.
func cut(s string) string {
	n := 0
	for i := range s {
		if n++; n > maxMessageRunes {
			return s[:i]
		}
	}
	return s
}

// retryAfter reads a Retry-After header, seconds or a date.
func retryAfter(s string) time.Duration {
	if s != "" && strings.Trim(s, "0123456789") == "" {
		seconds, _ := strconv.ParseInt(s, 10, 64) // the greatest, where it is out of range
		return time.Duration(min(seconds, 1<<30)) * time.Second
	}
	if date, err := http.ParseTime(s); err == nil {
		return max(time.Until(date), 0)
	}
	return 0
}
