package cohertest

import (
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"sync"
)

// Compress has all answers in gzip, where the client accepts it.
func (a *API) Compress(on bool) {
	a.compress.Store(on)
}

// Gzip is a fault whose answer is in gzip, where the client accepts it, or with nil the
// proper answer. Gzip(Endless) is a bomb: a few bytes that become many.
func Gzip(f Fault) Fault {
	return func(w http.ResponseWriter, r *http.Request, c *Call) {
		if f == nil {
			f = func(w http.ResponseWriter, _ *http.Request, c *Call) { c.Answer(w) }
		}
		compressed(w, r, func(w http.ResponseWriter) { f(w, r, c) })
	}
}

// Encoded is the proper answer under a Content-Encoding that it has not.
func Encoded(coding string) Fault {
	return func(w http.ResponseWriter, _ *http.Request, c *Call) {
		w.Header().Set("Content-Encoding", coding)
		c.Answer(w)
	}
}

// compressed has an answer in gzip, if the client accepts that.
func compressed(w http.ResponseWriter, r *http.Request, answer func(http.ResponseWriter)) {
	if _, already := w.(*gzipWriter); already || !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		answer(w)
		return
	}
	z := &gzipWriter{ResponseWriter: w}
	answer(z)
	z.close() // not after a panic, which ends the connection in the middle
}

// A gzipWriter compresses an answer.
type gzipWriter struct {
	http.ResponseWriter
	body *gzip.Writer // nil before the header
}

var gzipWriters = sync.Pool{New: func() any {
	w, _ := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)
	return w
}}

func (z *gzipWriter) WriteHeader(code int) {
	if z.body == nil && code >= 200 {
		z.Header().Del("Content-Length")
		z.Header().Add("Content-Encoding", "gzip")
		z.body = gzipWriters.Get().(*gzip.Writer)
		z.body.Reset(z.ResponseWriter)
	}
	z.ResponseWriter.WriteHeader(code)
}

func (z *gzipWriter) Write(p []byte) (int, error) {
	if z.body == nil {
		z.WriteHeader(http.StatusOK)
	}
	return z.body.Write(p)
}

func (z *gzipWriter) FlushError() error {
	if z.body != nil {
		if err := z.body.Flush(); err != nil {
			return err
		}
	}
	return http.NewResponseController(z.ResponseWriter).Flush()
}

func (z *gzipWriter) close() {
	if z.body != nil {
		_ = z.body.Close()
		z.body.Reset(io.Discard)
		gzipWriters.Put(z.body)
	}
}

// Unwrap serves http.ResponseController.
func (z *gzipWriter) Unwrap() http.ResponseWriter { return z.ResponseWriter }
