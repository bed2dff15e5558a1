package schedule_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cohere-exporter/cohere_exporter/collector/schedule"
)

// What net/http sends again by itself costs as much of the budget.
func TestResent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, schedule.Limits{Concurrent: 20, PerMinute: 4}, "a b c")
		f.only("a b")
		f.visit(time.Hour)
		f.mustWrite("a a b")
		f.only("c")
		f.visit(time.Hour)
		f.expect("a b a-again c")
		if f.call("a").write() {
			t.Error("sent again at the cost of a request that is still to be written")
		}
		f.mustWrite("c")
		if f.call("c").write() {
			t.Error("sent again beyond the budget")
		}
		f.at(time.Minute - 1)
		f.expect("")
		if got := f.inFlight(); got != "b" {
			t.Errorf("in flight: %q, want b alone: what is not sent again has failed", got)
		}
		f.at(time.Minute)
		f.mustWrite("b") // now that there is room again
		f.expect("b-again")
		f.finish("b", accepted)
		if n := f.task("a").remembered; n != 1 {
			t.Errorf("%d answers to a remembered, want its failure", n)
		}
	})
}

// Once the gate has closed, nothing is sent again until an answer has opened it,
// but for the request that goes alone to find out.
func TestResentThroughAGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, unlimited, "a b c d e")
		f.only("a b c d")
		f.visit(time.Hour)
		f.mustWrite("a b c d")
		f.finish("d", refusedFor(time.Second))
		f.at(time.Second - 1)
		if f.call("a").write() {
			t.Error("sent again through a closed gate")
		}
		f.only("e")
		f.at(time.Second)
		if f.call("b").write() {
			t.Error("sent again before the gate has opened")
		}
		f.visit(time.Hour)
		f.mustWrite("e e")
		f.finish("e", accepted)
		f.mustWrite("c")
		f.expect("a b c d e e-again c-again")
	})
}

// net/http itself: a server that closes a connection which was used before, as
// a request arrives, has the request sent to it once more.
func TestResentByNetHTTP(t *testing.T) {
	for _, tc := range []struct {
		perMinute float64
		want      string
		answered  bool
	}{
		{0, "a a-again", true},
		{3, "a a-again", true},
		{2, "a", false},
	} {
		synctest.Test(t, func(t *testing.T) {
			arrived := 0
			transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
				conn, server := net.Pipe()
				go func() {
					defer server.Close()
					r := bufio.NewReader(server)
					for used := false; ; used = true {
						if _, err := http.ReadRequest(r); err != nil {
							return
						}
						if arrived++; used {
							return
						}
						io.WriteString(server, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
					}
				}()
				return conn, nil
			}}
			defer transport.CloseIdleConnections()
			f := newFake(t, schedule.Limits{Concurrent: 1, PerMinute: tc.perMinute}, "a")
			answered := false
			f.answer = func(c *call) schedule.Result {
				req, err := http.NewRequestWithContext(c.ctx, http.MethodGet, "http://api.test/"+c.task.ID, nil)
				if err != nil {
					t.Error(err)
				}
				resp, err := transport.RoundTrip(req)
				if answered = err == nil; !answered {
					return noAnswer
				}
				resp.Body.Close()
				return accepted
			}
			f.scrape("a")
			f.scrape(tc.want)
			if answered != tc.answered {
				t.Errorf("%v per minute: answered %v", tc.perMinute, answered)
			}
			if tc.perMinute > 0 && arrived > int(tc.perMinute) {
				t.Errorf("%v per minute: %d requests arrived", tc.perMinute, arrived)
			}
		})
	}
}

// A connection of HTTP/2 stays open for the other requests on it. One of HTTP/1
// has to be closed, since nothing else keeps net/http from writing.
func TestVetoClosesConnection(t *testing.T) {
	for _, tc := range []struct {
		protocol string // "": no TLS
		closed   bool
	}{{"", true}, {"http/1.1", true}, {"h2", false}} {
		server := httptest.NewUnstartedServer(nil)
		server.StartTLS()
		certificates := server.TLS.Certificates
		server.Close()
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			defer near.Close()
			defer far.Close()
			conn := near
			if tc.protocol != "" {
				protocols := []string{tc.protocol}
				client := tls.Client(near, &tls.Config{InsecureSkipVerify: true, NextProtos: protocols})
				go tls.Server(far, &tls.Config{Certificates: certificates, NextProtos: protocols}).Handshake()
				if err := client.Handshake(); err != nil {
					t.Fatal(err)
				}
				conn = client
			}
			f := newFake(t, unlimited, "a b")
			f.visit(time.Hour)
			f.mustWrite("b")
			f.finish("b", refused)
			a := f.call("a")
			go io.Copy(io.Discard, far)
			httptrace.ContextClientTrace(a.ctx).GotConn(httptrace.GotConnInfo{Conn: conn})
			if closed := near.SetDeadline(time.Time{}) != nil; closed != tc.closed || a.ctx.Err() == nil {
				t.Errorf("protocol %q: closed %v, request %v", tc.protocol, closed, a.ctx.Err())
			}
		})
	}
}

// A request has its own time limit, whoever waits for it; another one holds for
// those that are sent after it.
func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, schedule.Limits{Concurrent: 20, Timeout: 10 * time.Second}, "a b")
		f.only("a")
		f.visit(time.Second)
		f.SetLimits(schedule.Limits{Concurrent: 20})
		f.only("b")
		f.visit(time.Hour)
		f.at(10*time.Second - 1)
		if got := f.inFlight(); got != "a b" {
			t.Errorf("in flight: %q, want a and b", got)
		}
		f.at(10 * time.Second)
		if got := f.inFlight(); got != "b" {
			t.Errorf("in flight: %q, want b alone", got)
		}
	})
}
