package nodeproxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// errAddress is in the words that upstream's clients know.
var errAddress = errors.New("address not allowed")

const (
	dialTimeout = 10 * time.Second
	keepAlive   = 30 * time.Second
	idleTimeout = 90 * time.Second
)

// dialer connects to addresses that allowed lets pass. It is asked about the address that
// is connected to, after names were resolved: a name that resolves to one address when it
// is looked at and to another when it is used gains nothing.
func dialer(allowed func(netip.Addr) bool) *net.Dialer {
	return &net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive, Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil || !allowed(at.Addr().Unmap()) {
			return errAddress
		}
		return nil
	}}
}

// outside are addresses that are no machine's own and no link's: neither this server nor a
// cloud's metadata service.
func outside(a netip.Addr) bool { return a.IsGlobalUnicast() }

// machine are addresses where a node may be; this one's is among them.
func machine(a netip.Addr) bool { return a.IsGlobalUnicast() || a.IsLoopback() }

// toKubelet is a transport to the kubelet of one node. A node writes its own addresses: if
// they lead elsewhere, to another node or to this server itself, the certificate there is
// not the node's. Connections are not kept, since one that was made for a node must not
// serve a request for another.
func (p *Proxy) toKubelet(node string) *http.Transport {
	conf := p.tls.Clone()
	if conf == nil {
		conf = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	conf.VerifyConnection = func(s tls.ConnectionState) error { return isNode(s.PeerCertificates, node) }
	return &http.Transport{DialContext: p.nodes.DialContext, TLSClientConfig: conf, TLSHandshakeTimeout: dialTimeout, DisableKeepAlives: true}
}

func isNode(chain []*x509.Certificate, node string) error {
	if len(chain) == 0 || chain[0].Subject.CommonName != "system:node:"+node {
		return fmt.Errorf("what answers at the address of node %q is not that node", node)
	}
	return nil
}
