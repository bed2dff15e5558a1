package cohertest

import (
	"bytes"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// IDs for [User.Fail] that stand for more than one job.
const (
	List        = "\x00list"         // the list of embed jobs
	All         = "\x00all"          // every embed job, and their list
	ListBatches = "\x00list batches" // each page of the list of batches
	AllBatches  = "\x00all batches"  // every batch, and their list
)

// Fault is a misbehaviour: it answers a call in place of the API. The functions of this
// package with its signature are faults themselves, others return one:
//
//	user.Fail("ebd-1", cohertest.NotJSON)
//	user.Fail("ebd-2", cohertest.Status(503, "overloaded"))
//	user.Fail(cohertest.All, cohertest.Times(3, cohertest.Reset))
type Fault func(w http.ResponseWriter, r *http.Request, c *Call)

// Status is an error in the documented form, with any code.
func Status(code int, message string) Fault {
	return StatusHeader(code, message, nil)
}

// StatusHeader is an error with additional headers in the answer.
func StatusHeader(code int, message string, header http.Header) Fault {
	return func(w http.ResponseWriter, _ *http.Request, c *Call) {
		for name, values := range header {
			w.Header()[http.CanonicalHeaderKey(name)] = values
		}
		c.user.api.fail(w, code, message)
	}
}

// KeyEcho is an error whose message repeats the key.
func KeyEcho(code int) Fault {
	return func(w http.ResponseWriter, r *http.Request, c *Call) {
		authorization := r.Header.Get("Authorization")
		c.user.api.fail(w, code, "token "+bearer(r.Header)+" refused (Authorization: "+authorization+")")
	}
}

// BadGateway is the error of a proxy in between: 502, in HTML.
func BadGateway(w http.ResponseWriter, _ *http.Request, _ *Call) {
	w.Header().Set("Content-Type", "text/html")
	_ = reply(w, http.StatusBadGateway, []byte("<html><body><h1>502 Bad Gateway</h1></body></html>"))
}

// RedirectTo redirects to another address.
func RedirectTo(url string) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ *Call) {
		w.Header().Set("Location", url)
		_ = reply(w, http.StatusFound, nil)
	}
}

// Body is a successful answer with any body.
func Body(text string) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ *Call) {
		_ = reply(w, http.StatusOK, []byte(text))
	}
}

// Empty is a successful answer with no body.
func Empty(w http.ResponseWriter, _ *http.Request, _ *Call) {
	_ = reply(w, http.StatusOK, nil)
}

// Null is a successful answer with the body null.
func Null(w http.ResponseWriter, _ *http.Request, _ *Call) {
	_ = reply(w, http.StatusOK, []byte("null"))
}

// NotJSON is a successful answer with an HTML page.
func NotJSON(w http.ResponseWriter, _ *http.Request, _ *Call) {
	w.Header().Set("Content-Type", "text/html")
	_ = reply(w, http.StatusOK, []byte("<html><body>Scheduled maintenance</body></html>"))
}

// Array is the proper answer as the only element of an array.
func Array(w http.ResponseWriter, _ *http.Request, c *Call) {
	proper := c.proper()
	_ = reply(w, proper.code, bytes.Join([][]byte{{'['}, proper.body, {']'}}, nil))
}

// CutShort is the first half of the proper answer, then the end of the connection.
func CutShort(w http.ResponseWriter, _ *http.Request, c *Call) {
	proper := c.proper()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(proper.body)))
	w.WriteHeader(proper.code)
	_, _ = w.Write(proper.body[:len(proper.body)/2])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// Endless is valid JSON that goes on until the client leaves.
func Endless(w http.ResponseWriter, r *http.Request, c *Call) {
	id := string(appendString(nil, c.ID))
	begin, more := `{"embed_jobs":[`, `{"job_id":"ebd-0","status":"complete"},`
	switch {
	case c.Resource == Batches && c.List:
		begin, more = `{"batches":[`, `{"id":"0","status":"BATCH_STATUS_QUEUED"},`
	case c.Resource == Batches:
		begin, more = `{"batch":{"id":`+id+`,"status":"BATCH_STATUS_QUEUED","status_reason":"`, "and so on, "
	case !c.List:
		begin, more = `{"job_id":`+id+`,"status":"processing","meta":{"warnings":[`, `"and so on",`
	}
	w.Header().Set("Content-Type", "application/json")
	_, err := w.Write([]byte(begin))
	chunk := bytes.Repeat([]byte(more), 32<<10/len(more))
	for err == nil && r.Context().Err() == nil {
		_, err = w.Write(chunk)
	}
}

// Drip is JSON that goes on by a byte every 100 ms until the client leaves.
func Drip(w http.ResponseWriter, r *http.Request, _ *Call) {
	w.Header().Set("Content-Type", "application/json")
	next := []byte("{")
	for {
		if _, err := w.Write(next); err != nil {
			return
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
		if !wait(r.Context(), 100*time.Millisecond) {
			return
		}
		next = []byte(" ")
	}
}

// Hang never answers.
func Hang(_ http.ResponseWriter, r *http.Request, _ *Call) {
	<-r.Context().Done()
}

// Slow answers properly after d.
func Slow(d time.Duration) Fault {
	return func(w http.ResponseWriter, r *http.Request, c *Call) {
		if wait(r.Context(), d) {
			c.Answer(w)
		}
	}
}

// Reset ends the connection (of HTTP/2: the stream) without an answer.
func Reset(w http.ResponseWriter, _ *http.Request, _ *Call) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if c, ok := conn.(interface{ NetConn() net.Conn }); ok { // below TLS
		conn = c.NetConn()
	}
	if c, ok := conn.(*net.TCPConn); ok {
		_ = c.SetLinger(0) // close with RST, not FIN
	}
	finish(w)
	_ = conn.Close()
}

// ResetReused resets a connection that was used before, and answers properly on a new
// one: a kept-alive connection that the server closes just as a request is sent. Over
// HTTP/1.1, net/http silently sends such a request again. It needs a server of this
// package to know one connection from another.
func ResetReused(w http.ResponseWriter, r *http.Request, c *Call) {
	if c.exchange.reused {
		Reset(w, r, c)
		return
	}
	c.Answer(w)
}

// OtherJob is the proper answer, but with another job's ID.
func OtherJob(w http.ResponseWriter, _ *http.Request, c *Call) {
	c.answer(w, style{suffix: "-other"})
}

// UnknownStatus is the proper answer with a status that is not documented.
func UnknownStatus(w http.ResponseWriter, _ *http.Request, c *Call) {
	c.answer(w, style{unknownStatus: true})
}

// NoStatus is the proper answer without the status.
func NoStatus(w http.ResponseWriter, _ *http.Request, c *Call) {
	c.answer(w, style{noStatus: true})
}

// NullFields is the proper answer with all optional fields null.
func NullFields(w http.ResponseWriter, _ *http.Request, c *Call) {
	c.answer(w, style{nulls: true})
}

// NullMeta is the proper answer with every value within meta null, or the counts of a
// batch.
func NullMeta(w http.ResponseWriter, _ *http.Request, c *Call) {
	c.answer(w, style{deep: true})
}

// MissingFields is the proper answer with no fields but the ID and status.
func MissingFields(w http.ResponseWriter, _ *http.Request, c *Call) {
	c.answer(w, style{required: true})
}

// WrongTypes is the proper answer with every field but the ID and status of a wrong type.
func WrongTypes(w http.ResponseWriter, _ *http.Request, c *Call) {
	c.answer(w, style{types: true})
}

// NumbersAsStrings is the proper answer with numbers such as "1520".
func NumbersAsStrings(w http.ResponseWriter, _ *http.Request, c *Call) {
	c.answer(w, style{numbers: func(b []byte, n float64) []byte {
		return append(appendNumber(append(b, '"'), n), '"')
	}})
}

// NumbersWithFraction is the proper answer with numbers such as 1520.0, which are valid.
func NumbersWithFraction(w http.ResponseWriter, _ *http.Request, c *Call) {
	c.answer(w, style{numbers: func(b []byte, n float64) []byte {
		return strconv.AppendFloat(b, n, 'f', 1, 64)
	}})
}

// NumbersWithExponent is the proper answer with numbers such as 1.52e+03, which are valid.
func NumbersWithExponent(w http.ResponseWriter, _ *http.Request, c *Call) {
	c.answer(w, style{numbers: func(b []byte, n float64) []byte {
		return strconv.AppendFloat(b, n, 'e', -1, 64)
	}})
}

// InvalidUTF8 is the proper answer with a name that is not UTF-8.
func InvalidUTF8(w http.ResponseWriter, _ *http.Request, c *Call) {
	c.answer(w, style{binary: true})
}

// Warning is the proper answer with an X-API-Warning header.
func Warning(text string) Fault {
	return func(w http.ResponseWriter, _ *http.Request, c *Call) {
		w.Header().Set("X-API-Warning", text)
		c.Answer(w)
	}
}

// Flaky is a fault in a share p of the requests, chosen by a generator with that seed;
// the others get the proper answer.
func Flaky(p float64, seed uint64, f Fault) Fault {
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(seed, 0))
	return func(w http.ResponseWriter, r *http.Request, c *Call) {
		mu.Lock()
		fails := rng.Float64() < p
		mu.Unlock()
		if fails {
			f(w, r, c)
			return
		}
		c.Answer(w)
	}
}

// Times is a fault in the first n requests; from then on they get the proper answer.
func Times(n int, f Fault) Fault {
	var seen atomic.Int64
	return func(w http.ResponseWriter, r *http.Request, c *Call) {
		if seen.Add(1) <= int64(n) {
			f(w, r, c)
			return
		}
		c.Answer(w)
	}
}

// proper returns the proper answer, to spoil it.
func (c *Call) proper() *recorder {
	rec := &recorder{header: make(http.Header)}
	c.Answer(rec)
	return rec
}

// A recorder keeps an answer. That of net/http/httptest is not for programs, which a
// demonstration is.
type recorder struct {
	header http.Header
	code   int
	body   []byte
}

func (rec *recorder) Header() http.Header  { return rec.header }
func (rec *recorder) WriteHeader(code int) { rec.code = code }

func (rec *recorder) Write(p []byte) (int, error) {
	rec.body = append(rec.body, p...)
	return len(p), nil
}
