package web

import (
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"time"
)

// WriteTimeout is how long an answer may take to be written, from its first
// byte. An http.Server needs it too, for what is not answered by its handler.
const WriteTimeout = 10 * time.Second

// MaxHeaderBytes is the greatest size of a request's line and headers.
const MaxHeaderBytes = 32 << 10

// maxBody is the greatest size of a request's body. No route reads one.
const maxBody = 4 << 10

// answered has next answer requests that are small and whose query is
// well-formed, and holds nothing for a client that does not read the answer, or
// that has left.
func answered(next http.Handler, logger *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := &answer{ResponseWriter: w, head: r.Method == http.MethodHead}
		_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // the server's own; a scrape may take longer
		setSecurityHeaders(w.Header())
		if r.ContentLength != 0 { // -1: unknown
			if _, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxBody)); err != nil {
				http.Error(a, "the request's body cannot be read, or is over 4 KiB", http.StatusRequestEntityTooLarge)
				return
			}
		}
		if _, err := url.ParseQuery(r.URL.RawQuery); err != nil {
			http.Error(a, "malformed query: "+err.Error(), http.StatusBadRequest)
			return
		}
		next.ServeHTTP(a, r)
		if a.err != nil {
			logger.Debug("client gave up", "path", r.URL.Path, "err", a.err)
		}
	})
}

type answer struct {
	http.ResponseWriter
	head  bool // send no body
	began bool
	err   error // the client's; nothing more is written to it
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answer) WriteHeader(status int) {
	a.begin()
	a.ResponseWriter.WriteHeader(status)
}

// Write keeps the client's failures from the handler, to which they are none.
func (a *answer) Write(p []byte) (int, error) {
	a.begin()
	if !a.head && a.err == nil {
		_, a.err = a.ResponseWriter.Write(p)
	}
	return len(p), nil
}

func (a *answer) begin() {
	if !a.began {
		a.began = true
		_ = http.NewResponseController(a.ResponseWriter).SetWriteDeadline(time.Now().Add(WriteTimeout))
	}
}
