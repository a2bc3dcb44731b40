// Package sessions knows the API's open connections and the certificates they came with, so
// that those of a certificate that counts no longer can be ended: with everything that runs
// on them, watches and tunnels too.
//
// The one idea: a connection has one client certificate for all its life, so ending the
// connection is all that revoking needs. Requests that are made later are refused where
// users are told apart.
//
// Used by cluster, around the API's listener and handler.
package sessions

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

// Sessions are the open connections; safe for concurrent use.
type Sessions struct {
	mu   sync.Mutex
	open map[*conn]struct{}
}

// conn is known from its first request to its end.
type conn struct {
	net.Conn
	all  *Sessions
	peer atomic.Pointer[x509.Certificate]
}

// New makes an empty set.
func New() *Sessions { return &Sessions{open: map[*conn]struct{}{}} }

// Listener is l with its connections followed, below TLS.
func (s *Sessions) Listener(l net.Listener) net.Listener { return listener{l, s} }

type listener struct {
	net.Listener
	all *Sessions
}

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, all: l.all}, nil
}

// Close forgets the connection; tunnels that took it over end here too.
func (c *conn) Close() error {
	c.all.mu.Lock()
	delete(c.all.open, c)
	c.all.mu.Unlock()
	return c.Conn.Close()
}

type key struct{}

// Context is an http.Server's ConnContext: requests learn which connection they are on.
func (s *Sessions) Context(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = t.NetConn()
	}
	if own, ok := c.(*conn); ok && own.all == s {
		return context.WithValue(ctx, key{}, own)
	}
	return ctx
}

// Handler notes whose each connection is before next looks at the request: a certificate is
// either refused by next, or its connection is known when it is revoked.
func (s *Sessions) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
			if c, ok := r.Context().Value(key{}).(*conn); ok && c.peer.Load() == nil {
				s.note(c, r.TLS.PeerCertificates[0])
			}
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Sessions) note(c *conn, peer *x509.Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.peer.CompareAndSwap(nil, peer) {
		s.open[c] = struct{}{}
	}
}

// End closes the connections whose certificate is refused, and says how many these were.
func (s *Sessions) End(refused func(*x509.Certificate) bool) int {
	s.mu.Lock()
	var ending []*conn
	for c := range s.open {
		if refused(c.peer.Load()) {
			ending = append(ending, c)
		}
	}
	s.mu.Unlock()
	for _, c := range ending {
		_ = c.Close() // it may have ended by itself meanwhile
	}
	return len(ending)
}

// Len is how many connections with a certificate are open.
func (s *Sessions) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}
