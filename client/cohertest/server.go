package cohertest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Server is an API that was started. See [API.Start].
type Server struct {
	// URL is the server's address, without a path.
	URL string

	// Client reaches the server and trusts its certificate. It adds no authentication.
	Client *http.Client

	// DialContext connects to the server, for a client of one's own: nothing else
	// reaches one that was started in memory.
	DialContext dialFunc

	api    *API
	server *http.Server
	cert   *x509.Certificate
	served chan struct{} // closed when no more connections are accepted

	mu     sync.Mutex
	idle   sync.Cond
	active int // connections and handlers
}

// connKey is the context key of a connection's number of requests.
type connKey struct{}

// Start serves plain HTTP/1.1 on a free loopback port.
func (a *API) Start() *Server {
	l := listen()
	s := a.newServer("http://"+l.Addr().String(), (&net.Dialer{}).DialContext)
	s.start(func() error { return s.server.Serve(l) })
	return s
}

// StartTLS serves HTTP/2 over TLS on a free loopback port, and HTTP/1.1 to clients that
// prefer it, with a certificate of its own.
func (a *API) StartTLS() *Server {
	l := listen()
	return a.startTLS(l, l.Addr().String(), (&net.Dialer{}).DialContext)
}

func (a *API) startTLS(l net.Listener, host string, dial dialFunc) *Server {
	s := a.newServer("https://"+host, dial)

	cert := newCertificate()
	s.cert = cert.Leaf
	s.server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}

	roots := x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	t := s.Client.Transport.(*http.Transport)
	t.TLSClientConfig = &tls.Config{RootCAs: roots}
	t.ForceAttemptHTTP2 = true

	s.start(func() error { return s.server.ServeTLS(l, "", "") })
	return s
}

// StartInMemory serves HTTP/1.1 over in-memory connections. In a bubble of
// testing/synctest time passes while they are waited for, unlike network connections.
func (a *API) StartInMemory() *Server {
	l := newPipeListener()
	s := a.newServer("http://"+pipeHost, l.dial)
	s.start(func() error { return s.server.Serve(l) })
	return s
}

// StartInMemoryHTTP2 is StartInMemory with HTTP/2, unencrypted and with prior knowledge.
func (a *API) StartInMemoryHTTP2() *Server {
	l := newPipeListener()
	s := a.newServer("http://"+pipeHost, l.dial)
	h2 := new(http.Protocols)
	h2.SetUnencryptedHTTP2(true)
	s.server.Protocols = h2
	s.Client.Transport.(*http.Transport).Protocols = h2
	s.start(func() error { return s.server.Serve(l) })
	return s
}

// StartInMemoryTLS is StartInMemory as StartTLS serves.
func (a *API) StartInMemoryTLS() *Server {
	l := newPipeListener()
	return a.startTLS(l, pipeHost, l.dial)
}

// dialFunc connects to a server.
type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

func (a *API) newServer(url string, dial dialFunc) *Server {
	s := &Server{
		URL:         url,
		DialContext: dial,
		Client: &http.Client{Transport: &http.Transport{
			DialContext: dial,
			// Many concurrent requests to this one host are the usual case.
			MaxIdleConnsPerHost: 1000,
		}},
		api:    a,
		served: make(chan struct{}),
	}
	s.idle.L = &s.mu
	s.server = &http.Server{
		Handler:   http.HandlerFunc(s.serve),
		ErrorLog:  log.New(io.Discard, "", 0), // of connections that clients or faults break
		ConnState: s.connState,
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, new(atomic.Int64))
		},
	}
	return s
}

func (s *Server) start(serve func() error) {
	go func() {
		defer close(s.served)
		_ = serve() // ends by Close only
	}()
}

// Certificate returns the server's certificate, or nil without TLS.
func (s *Server) Certificate() *x509.Certificate { return s.cert }

// Close ends the server and its connections, and with them the requests in flight, and
// Client's idle connections. It returns when all handlers have; it leaves no goroutine.
func (s *Server) Close() {
	_ = s.server.Close()
	<-s.served
	_ = s.server.Close() // connections that were just being accepted

	s.mu.Lock()
	for s.active > 0 {
		s.idle.Wait()
	}
	s.mu.Unlock()

	s.Client.CloseIdleConnections()
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.addActive(1)
	defer s.addActive(-1)
	s.api.ServeHTTP(w, r)
}

func (s *Server) connState(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.addActive(1)
	case http.StateClosed, http.StateHijacked:
		s.addActive(-1)
	}
}

func (s *Server) addActive(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.active += n
	if s.active == 0 {
		s.idle.Broadcast()
	}
}

func listen() net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		if l, err = net.Listen("tcp6", "[::1]:0"); err != nil {
			panic(fmt.Sprintf("cohertest: no loopback port: %v", err))
		}
	}
	return l
}

func newCertificate() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(fmt.Sprintf("cohertest: no key: %v", err))
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{Organization: []string{"cohertest"}},
		NotBefore:             time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:              time.Date(2090, 1, 1, 0, 0, 0, 0, time.UTC),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		DNSNames:              []string{"localhost", pipeHost},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(fmt.Sprintf("cohertest: no certificate: %v", err))
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(fmt.Sprintf("cohertest: bad certificate: %v", err))
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// pipeHost is the host of servers in memory, under a reserved top-level domain.
const pipeHost = "cohere.test"

// A pipeListener accepts in-memory connections.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) dial(ctx context.Context, network, address string) (net.Conn, error) {
	refused := func(err error) error {
		return &net.OpError{Op: "dial", Net: network, Addr: pipeAddr(address), Err: err}
	}
	// A redirect must not lead any other host here.
	if address != pipeHost+":80" && address != pipeHost+":443" {
		return nil, refused(&net.DNSError{Err: "no such host", Name: address, IsNotFound: true})
	}
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, refused(net.ErrClosed)
	case <-ctx.Done():
		return nil, refused(ctx.Err())
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr(pipeHost) }

type pipeAddr string

func (pipeAddr) Network() string  { return "pipe" }
func (a pipeAddr) String() string { return string(a) }
