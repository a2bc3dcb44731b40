// Package turnover is an HTTP client's transport that lives longer than its certificate.
//
// The one idea: servers look at a certificate with each request, but a connection shows the
// one it was made with. So when the certificate is renewed, new requests go to connections
// of a new http.Transport, and the former one is left to what still runs on it (watches,
// tunnels). No request is interrupted, none is sent with a certificate about to expire.
//
// Used by cluster (agents) and apiserver/aggregate.
package turnover

import (
	"crypto/tls"
	"net/http"
	"sync"
	"sync/atomic"
)

// Certificate is as crypto/tls asks for it; it gives the same pointer until it is renewed.
type Certificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error)

// Transport is safe for concurrent use.
type Transport struct {
	certificate Certificate // nil: none is ever shown
	make        func() *http.Transport

	now atomic.Pointer[generation]
	mu  sync.Mutex // of changing now
}

type generation struct {
	*http.Transport
	of *tls.Certificate
}

var _ http.RoundTripper = (*Transport)(nil)

// New is a transport of those that fresh makes, one for each certificate.
func New(certificate Certificate, fresh func() *http.Transport) *Transport {
	return &Transport{certificate: certificate, make: fresh}
}

// RoundTrip sends a request on a connection that shows the present certificate.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	return t.current().RoundTrip(r)
}

// WrappedRoundTripper is for those who make a connection by hand: tunnels.
func (t *Transport) WrappedRoundTripper() http.RoundTripper { return t.current() }

// CloseIdleConnections closes those that nothing runs on.
func (t *Transport) CloseIdleConnections() { t.current().CloseIdleConnections() }

func (t *Transport) current() *http.Transport {
	var cert *tls.Certificate
	if t.certificate != nil {
		// One that cannot be had is told by the handshake.
		cert, _ = t.certificate(&tls.CertificateRequestInfo{})
	}
	if now := t.now.Load(); now != nil && now.of == cert {
		return now.Transport
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.now.Load()
	if old != nil && old.of == cert {
		return old.Transport
	}
	next := &generation{t.make(), cert}
	t.now.Store(next)
	if old != nil {
		old.CloseIdleConnections() // and those that become idle close by themselves
	}
	return next.Transport
}
