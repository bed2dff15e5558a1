package cohertest

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The kinds of jobs.
const (
	EmbedJobs = "embed_jobs"
	Batches   = "batches"
)

// roots are the paths of the lists.
var roots = map[string]string{
	EmbedJobs: "/v1/embed-jobs",
	Batches:   "/v2/batches",
}

// API is a simulated API: an http.Handler for GET /v1/embed-jobs/{id} and
// GET /v1/embed-jobs, GET /v2/batches/{id} and GET /v2/batches. The zero value is not
// usable; see [New].
type API struct {
	latency  atomic.Int64
	compress atomic.Bool
	errors   atomic.Uint64 // numbers the error answers

	mu          sync.Mutex // guards the users, and everything inside them
	users       map[string]*User
	keepHistory bool

	recording     sync.Mutex // guards the rest
	requests      []*Request
	keep          int
	inFlight, max int
	observe       func(*Request)
}

// New returns an API without users, which answers every request with 401.
func New() *API {
	return &API{users: make(map[string]*User)}
}

// AddUser adds a user with that API key, who sees only their own jobs. It panics if the
// key is empty or another user's.
func (a *API) AddUser(key string) *User {
	u := &User{
		api:     a,
		jobs:    make(map[string]*entry),
		history: make(history[Job]),
		batches: batches{byID: make(map[string]*Batch), history: make(history[Batch])},
		faults:  make(map[string]Fault),
	}
	u.SetKey(key)
	return u
}

// SetLatency delays every answer that long, or until the client leaves.
func (a *API) SetLatency(d time.Duration) {
	a.latency.Store(int64(d))
}

// Request is a request as the API received it.
type Request struct {
	Time     time.Time   // of its arrival
	Resource string      // EmbedJobs or Batches; empty for anything else
	Endpoint string      // "get" or "list"; empty for anything else
	ID       string      // of the job, unescaped; empty for a list
	Key      string      // the bearer token, right or wrong
	Header   http.Header // of the request
	Path     string      // escaped, as sent
	Query    string      // escaped, as sent
	Status   int         // of the answer; 0 if there was none (yet)
	Ended    time.Time   // just before the client has the last of the answer; zero: not yet
	Proper   bool        // the answer is the API's own, and no error
	More     bool        // it is a page of a list that is not the last
}

// Requests returns a copy of everything asked so far, in order of arrival.
func (a *API) Requests() []Request {
	a.recording.Lock()
	defer a.recording.Unlock()

	requests := make([]Request, len(a.requests))
	for i, r := range a.requests {
		requests[i] = *r
		requests[i].Header = r.Header.Clone()
	}
	return requests
}

// ResetRequests forgets the requests that arrived so far, and MaxConcurrent's maximum.
func (a *API) ResetRequests() {
	a.recording.Lock()
	defer a.recording.Unlock()

	a.requests = nil
	a.max = a.inFlight
}

// KeepRequests bounds the memory of an API that runs for long: of the requests only the
// newest n, at least, are kept. By default, and with n = 0, all are.
func (a *API) KeepRequests(n int) {
	a.recording.Lock()
	defer a.recording.Unlock()

	a.keep = n
}

// Observe has f called with every request twice: when it has arrived, and when it has
// ended, which is before the client can know. The request is the same one, and f's to
// read until it returns. Calls do not overlap; f must not call the API's methods.
func (a *API) Observe(f func(*Request)) {
	a.recording.Lock()
	defer a.recording.Unlock()

	a.observe = f
}

// MaxConcurrent returns the greatest number of requests that were in flight at once. One
// that its client gave up counts until the server notices.
func (a *API) MaxConcurrent() int {
	a.recording.Lock()
	defer a.recording.Unlock()

	return a.max
}

// ServeHTTP answers a request as the API would.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e := a.begin(w, r)
	defer e.finish()

	if conn, ok := r.Context().Value(connKey{}).(*atomic.Int64); ok {
		e.reused = conn.Add(1) > 1
	}

	// A request uses up the limit when it arrives, however late it is answered.
	u, refused := a.admit(e.request)

	if !wait(r.Context(), time.Duration(a.latency.Load())) {
		return
	}

	answer := func(w http.ResponseWriter) { a.answer(w, e, r, u, refused) }
	if a.compress.Load() {
		compressed(e, r, answer)
		return
	}
	answer(e)
}

func (a *API) answer(w http.ResponseWriter, e *exchange, r *http.Request, u *User, refused *refusal) {
	switch {
	case e.request.Endpoint == "":
		a.fail(w, http.StatusNotFound, "not found: "+r.URL.Path)
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", http.MethodGet)
		a.fail(w, http.StatusMethodNotAllowed, "method not allowed: "+r.Method)
	case u == nil:
		a.fail(w, http.StatusUnauthorized, "invalid api token")
	case refused != nil:
		refused.answer(a, w)
	default:
		query := r.URL.Query()
		c := &Call{
			Resource:  e.request.Resource,
			List:      e.request.Endpoint == "list",
			ID:        e.request.ID,
			PageToken: query.Get("page_token"),
			query:     query,
			user:      u,
			exchange:  e,
		}
		if fault := u.fault(c); fault != nil {
			fault(w, r, c)
			return
		}
		c.Answer(w)
	}
}

// route finds out what is asked for. The path is taken apart before it is unescaped: an
// ID may hold a slash.
func route(u *url.URL) (resource, endpoint, id string) {
	path := u.EscapedPath()
	for resource, root := range roots {
		if path == root {
			return resource, "list", ""
		}
		rest, ok := strings.CutPrefix(path, root+"/")
		if !ok || rest == "" || strings.Contains(rest, "/") {
			continue
		}
		if id, err := url.PathUnescape(rest); err == nil {
			return resource, "get", id
		}
	}
	return "", "", ""
}

// admit finds the user of a request, and whether their limit allows it.
func (a *API) admit(r *Request) (*User, *refusal) {
	a.mu.Lock()
	defer a.mu.Unlock()

	u := a.users[r.Key]
	switch {
	case u == nil || r.Endpoint == "":
		return u, nil
	case r.Resource == Batches:
		return u, u.batches.window.admit(r.Time)
	default:
		return u, u.window.admit(r.Time)
	}
}

// fail answers with an error in the documented form.
func (a *API) fail(w http.ResponseWriter, code int, message string) {
	id := fmt.Sprintf("5e0c9d1a-7b42-4f6e-8a35-%012x", a.errors.Add(1))
	body := []byte(`{"message":`)
	body = appendString(body, message)
	body = append(body, `,"id":`...)
	body = appendString(body, id)
	body = append(body, '}')
	_ = reply(w, code, body)
}

// reply answers with a JSON body.
func reply(w http.ResponseWriter, code int, body []byte) error {
	h := w.Header()
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", "application/json")
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	if len(body) == 0 {
		return nil
	}

	// The client may go on to its next request as soon as it has the last byte. This one
	// must not count as in flight any longer by then.
	last := len(body) - 1
	if _, err := w.Write(body[:last]); err != nil {
		return err
	}
	finish(w)
	_, err := w.Write(body[last:])
	return err
}

// finish ends the request's share in MaxConcurrent before its handler returns.
func finish(w http.ResponseWriter) {
	if z, ok := w.(*gzipWriter); ok {
		w = z.ResponseWriter
	}
	if e, ok := w.(*exchange); ok {
		e.finish()
	}
}

// wait pauses for d and reports whether the client is still there.
func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// An exchange is a request in flight, and the writer of its answer.
type exchange struct {
	http.ResponseWriter

	api      *API
	request  *Request
	reused   bool // the connection carried a request before this one
	answered bool
	finished bool
}

func (a *API) begin(w http.ResponseWriter, r *http.Request) *exchange {
	resource, endpoint, id := route(r.URL)
	request := &Request{
		Resource: resource,
		Endpoint: endpoint,
		ID:       id,
		Key:      bearer(r.Header),
		Header:   r.Header.Clone(),
		Path:     r.URL.EscapedPath(),
		Query:    r.URL.RawQuery,
	}

	a.recording.Lock()
	defer a.recording.Unlock()

	request.Time = time.Now()
	if a.keep > 0 && len(a.requests) >= 2*a.keep {
		a.requests = slices.Clone(a.requests[len(a.requests)-a.keep:])
	}
	a.requests = append(a.requests, request)
	a.inFlight++
	a.max = max(a.max, a.inFlight)
	if a.observe != nil {
		a.observe(request)
	}
	return &exchange{ResponseWriter: w, api: a, request: request}
}

func bearer(h http.Header) string {
	scheme, token, _ := strings.Cut(h.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return token
}

func (e *exchange) finish() {
	if e.finished {
		return
	}
	e.finished = true

	e.api.recording.Lock()
	defer e.api.recording.Unlock()
	e.api.inFlight--
	e.request.Ended = time.Now()
	if e.api.observe != nil {
		e.api.observe(e.request)
	}
}

// noteProper notes that the API's own answer is written to w, unless a fault is to spoil it.
func (e *exchange) noteProper(w http.ResponseWriter, more bool) {
	if _, spoiled := w.(*recorder); spoiled {
		return
	}
	e.api.recording.Lock()
	defer e.api.recording.Unlock()
	e.request.Proper, e.request.More = true, more
}

func (e *exchange) WriteHeader(code int) {
	if !e.answered && code >= 200 {
		e.answered = true
		e.api.recording.Lock()
		e.request.Status = code
		e.api.recording.Unlock()
	}
	e.ResponseWriter.WriteHeader(code)
}

func (e *exchange) Write(p []byte) (int, error) {
	if !e.answered {
		e.WriteHeader(http.StatusOK)
	}
	return e.ResponseWriter.Write(p)
}

// Unwrap serves http.ResponseController.
func (e *exchange) Unwrap() http.ResponseWriter { return e.ResponseWriter }
