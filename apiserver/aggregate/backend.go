package aggregate

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"reflect"
	"sync"
	"time"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/proa-dev/proa/apiserver/catalog"
	"github.com/proa-dev/proa/internal/endpoints"
	"github.com/proa-dev/proa/internal/turnover"
)

// Limits of connections to a backend.
const (
	dialTimeout  = 10 * time.Second
	idleTimeout  = 90 * time.Second
	pingInterval = 30 * time.Second // of an HTTP/2 connection with nothing to read
	pingTimeout  = 15 * time.Second
	maxIdle      = 25
)

// backend is what answers for one group version.
type backend struct {
	a         *Aggregator
	name      string // of the APIService
	gv        schema.GroupVersion
	reference reference
	trust     [sha256.Size]byte // of the CA bundle and whether it is looked at
	transport *turnover.Transport
	broken    error // why it can never be reached

	mu        sync.Mutex
	spec      apiregistrationv1.APIServiceSpec // the priorities in use
	available bool
	resources []apidiscoveryv2.APIResourceDiscovery
	schemas   string // hash of its OpenAPI v3 document, "" for none
	shown     *catalog.Remote
}

// backendOf finds or makes the backend of an APIService, anew when how to reach it changed.
func (a *Aggregator) backendOf(s *apiregistrationv1.APIService) (*backend, error) {
	ref, trust := referenceOf(s), trustOf(s)
	a.mu.Lock()
	defer a.mu.Unlock()
	if b := a.backends[s.Name]; b != nil {
		if b.reference == ref && b.trust == trust {
			b.setSpec(s.Spec)
			return b, nil
		}
		a.forget(b)
	}
	if len(a.backends) >= maxBackends {
		return nil, fmt.Errorf("more than %d APIServices have a service", maxBackends)
	}
	b := &backend{
		a: a, name: s.Name, gv: schema.GroupVersion{Group: s.Spec.Group, Version: s.Spec.Version},
		reference: ref, trust: trust, spec: *s.Spec.DeepCopy(),
	}
	b.connectBy(s)
	a.backends[s.Name] = b
	if a.users[ref.key()] == nil {
		a.users[ref.key()] = map[string]bool{}
	}
	a.users[ref.key()][s.Name] = true
	return b, nil
}

func trustOf(s *apiregistrationv1.APIService) [sha256.Size]byte {
	return sha256.Sum256(fmt.Appendf(nil, "%t %s", s.Spec.InsecureSkipTLSVerify, s.Spec.CABundle))
}

// connectBy makes the transport. The name in the URL is the service's; which endpoint it is
// gets decided when a connection is made.
func (b *backend) connectBy(s *apiregistrationv1.APIService) {
	conf := &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: b.reference.host(), GetClientCertificate: b.a.cfg.ClientCertificate,
		InsecureSkipVerify: s.Spec.InsecureSkipTLSVerify, //nolint:gosec // what the APIService asks for
	}
	if len(s.Spec.CABundle) > 0 {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(s.Spec.CABundle) {
			b.broken = errors.New("unable to load root certificates: unable to parse bytes as PEM block") // and trusts nobody
		}
	}
	b.transport = turnover.New(conf.GetClientCertificate, func() *http.Transport {
		return &http.Transport{
			DialContext: b.dial, TLSClientConfig: conf.Clone(), TLSHandshakeTimeout: dialTimeout, ForceAttemptHTTP2: true,
			MaxIdleConnsPerHost: maxIdle, IdleConnTimeout: idleTimeout, DisableCompression: true,
			HTTP2: &http.HTTP2Config{SendPingTimeout: pingInterval, PingTimeout: pingTimeout},
		}
	})
}

func (b *backend) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	addresses, why := resolve(b.a.reader, b.reference)
	if why != nil {
		return nil, why
	}
	d := &net.Dialer{Timeout: dialTimeout, KeepAlive: pingInterval}
	return d.DialContext(ctx, network, endpoints.Pick(addresses))
}

// moved lets connections go that nothing runs on: endpoints have changed.
func (b *backend) moved() { b.transport.CloseIdleConnections() }

func (b *backend) setSpec(spec apiregistrationv1.APIServiceSpec) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spec = *spec.DeepCopy()
}

// learn takes in what a check found, and says whether the catalog must be told.
func (b *backend) learn(f finding) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.available = f.condition.Status == apiregistrationv1.ConditionTrue
	if b.available {
		b.resources, b.schemas = f.resources, f.schemas
	}
	if b.shown != nil && b.shown.Stale == !b.available && b.shown.SchemaHash == b.schemas &&
		b.shown.GroupPriority == b.spec.GroupPriorityMinimum && b.shown.VersionPriority == b.spec.VersionPriority &&
		reflect.DeepEqual(b.shown.Resources, b.resources) {
		return false
	}
	return true
}

// remote is the backend as the catalog shows it.
func (b *backend) remote() catalog.Remote {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shown = &catalog.Remote{
		GroupVersion: b.gv, GroupPriority: b.spec.GroupPriorityMinimum, VersionPriority: b.spec.VersionPriority,
		Handler: b, Resources: b.resources, Stale: !b.available, SchemaHash: b.schemas, Describe: b.describe,
	}
	return *b.shown
}

func (b *backend) isAvailable() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.available
}

func (b *backend) isShown() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.shown != nil
}

// drop forgets the backend of an APIService that is gone or has become local.
func (a *Aggregator) drop(name string) {
	a.mu.Lock()
	b := a.backends[name]
	if b != nil {
		a.forget(b)
	}
	a.mu.Unlock()
	if b != nil {
		a.publish()
	}
}

// forget needs the lock.
func (a *Aggregator) forget(b *backend) {
	delete(a.backends, b.name)
	delete(a.users[b.reference.key()], b.name)
	if len(a.users[b.reference.key()]) == 0 {
		delete(a.users, b.reference.key())
	}
	b.transport.CloseIdleConnections()
}

func (a *Aggregator) closeAll() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, b := range a.backends {
		a.forget(b)
	}
}
