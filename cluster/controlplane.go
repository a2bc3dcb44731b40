package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"golang.org/x/sync/errgroup"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/access/admission"
	"github.com/proa-dev/proa/access/audit"
	"github.com/proa-dev/proa/access/sessions"
	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/core/allocate"
	"github.com/proa-dev/proa/apiserver"
	"github.com/proa-dev/proa/apiserver/aggregate"
	"github.com/proa-dev/proa/apiserver/catalog"
	"github.com/proa-dev/proa/apiserver/custom"
	"github.com/proa-dev/proa/apiserver/custom/convert"
	"github.com/proa-dev/proa/apiserver/discovery"
	"github.com/proa-dev/proa/apiserver/fairness"
	"github.com/proa-dev/proa/apiserver/h2"
	"github.com/proa-dev/proa/apiserver/metrics"
	"github.com/proa-dev/proa/apiserver/nodeproxy"
	"github.com/proa-dev/proa/apiserver/openapi"
	"github.com/proa-dev/proa/apiserver/usage"
	"github.com/proa-dev/proa/controllers/loop"
	"github.com/proa-dev/proa/internal/reload"
	"github.com/proa-dev/proa/pki"
	"github.com/proa-dev/proa/scheduler"
	"github.com/proa-dev/proa/store"
	"github.com/proa-dev/proa/store/seal"
)

// issuer is who signs service account tokens, as tokens name it.
const issuer = "https://kubernetes.default.svc.cluster.local"

// controlPlane is the API with everything below it.
type controlPlane struct {
	cfg      *ServerConfig
	log      *slog.Logger
	store    *store.Store
	keys     *seal.Keys     // that seal objects in etcd
	audit    *audit.Log     // nil: none
	files    []*reload.File // of the configuration, that may change
	pki      *pki.Authorities
	identity *access.Identity
	sessions *sessions.Sessions // who is connected
	rbac     *access.RBAC
	server   *apiserver.Server
	custom   *custom.Definitions
	serving  *pki.Renewing
	toNodes  *pki.Renewing

	aggregator *aggregate.Aggregator
	fairness   *fairness.Fairness
	storage    *metrics.Storage
	queues     *loop.Queues
	scheduling *scheduler.Metrics
	figures    *prometheus.Registry  // of controllers
	services   prometheus.Collector  // their addresses and ports
	started    chan struct{}         // closed when what every cluster has is there
	running    atomic.Pointer[Group] // the scheduler and the controllers; nil: they do not run here
	follows    atomic.Bool           // they run at another server
	toBackends *pki.Renewing
	present    *present                     // this server's lease
	peers      peersReady                   // the certificate of connections between servers
	toPeers    atomic.Pointer[pki.Renewing] // that certificate; nil: there are no other servers
	peersStart chan *pki.Renewing           // it, when the first other server joins
	admin      *pki.Renewing                // in the administrator's kubeconfig
	kubelet    atomic.Pointer[pki.Renewing] // of the node in this process; nil: there is none
}

// newControlPlane opens the store and assembles the API; nothing listens yet.
func newControlPlane(ctx context.Context, cfg *ServerConfig, log *slog.Logger) (_ *controlPlane, err error) {
	c := &controlPlane{cfg: cfg, log: log, storage: metrics.NewStorage(), queues: loop.NewQueues(), scheduling: scheduler.NewMetrics(), figures: prometheus.NewRegistry(), peersStart: make(chan *pki.Renewing, 1)}
	defer func() {
		if err != nil && c.store != nil {
			err = errors.Join(err, c.store.Close())
		}
	}()
	var group errgroup.Group
	openKeys := func() (err error) {
		c.pki, err = pki.Open(pki.Config{Dir: cfg.Place.PKI(), Life: cfg.CertificateLife, Built: built()})
		return err
	}
	if cfg.hasPeers() { // the store needs a certificate for them
		if err := openKeys(); err != nil {
			return c, err
		}
		if err := c.startPeers(); err != nil {
			return c, err
		}
	} else {
		group.Go(openKeys)
	}
	group.Go(func() (err error) {
		if c.keys, err = sealingKeys(cfg); err != nil {
			return err
		}
		if err := c.keys.Ready(ctx); err != nil {
			return err
		}
		c.store, err = openStore(ctx, cfg, c.keys, c.storage, log)
		return err
	})
	if err := group.Wait(); err != nil {
		return c, err
	}
	return c, c.assemble()
}

// openStore starts etcd and loads all kinds side by side.
func openStore(ctx context.Context, cfg *ServerConfig, keys *seal.Keys, observer store.Observer, log *slog.Logger) (*store.Store, error) {
	sc := store.Config{Dir: cfg.Place.etcdDir(), Seal: keys, Observer: observer, Log: log.With("part", "store")}
	if len(cfg.EtcdServers) > 0 {
		sc.Dir, sc.Endpoints = "", cfg.EtcdServers
	} else {
		join, err := cfg.joinedBefore()
		if err != nil {
			return nil, err
		}
		sc.Peers = &store.Peers{Name: cfg.NodeConfig.Name, URL: cfg.peerURL(), Join: join, Reset: cfg.ResetMembers}
		sc.Peers.Cert, sc.Peers.Key, sc.Peers.CA = pki.PeerFiles(cfg.Place.PKI())
	}
	s, err := store.Open(ctx, sc)
	if err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	group, gctx := errgroup.WithContext(ctx)
	for _, k := range Kinds() {
		if k.Virtual == nil && k.Stored == nil {
			group.Go(func() error {
				_, err := s.Serve(gctx, k)
				return err
			})
		}
	}
	if err := group.Wait(); err != nil {
		return nil, errors.Join(fmt.Errorf("load the store: %w", err), s.Close())
	}
	return s, nil
}

func (c *controlPlane) assemble() error {
	reader := c.store.Reader()
	who := access.Config{
		Reader: reader, ClientCA: c.pki.CA.Trust(), FrontProxyCA: c.pki.FrontProxy.Trust(),
		Signer: c.pki.ServiceAccounts, Verifiers: c.pki.Verifiers, Issuer: issuer, Log: c.log,
	}
	if err := c.cfg.Access.authenticators(&who, c.follow); err != nil {
		return err
	}
	identity, err := access.New(who)
	if err != nil {
		return err
	}
	c.identity, c.sessions = identity, sessions.New()
	oidc, err := identity.Tokens.Discovery()
	if err != nil {
		return err
	}
	c.rbac = access.NewRBAC(reader)
	authorizer, err := c.cfg.Access.authorizer(reader, c.rbac, c.follow)
	if err != nil {
		return err
	}
	list := catalog.New(Kinds())
	chain, err := c.admission(reader, authorizer, list)
	if err != nil {
		return err
	}
	env := &api.Env{Reader: reader, Tokens: identity.Tokens, Reviews: access.NewReviews(authorizer, c.rbac)}
	chain = append(chain, admission.ResourceQuota(reader, func() api.Writer { return env.Writer }, time.Now))
	if chain, err = chain.Switched(c.cfg.EnablePlugins, c.cfg.DisablePlugins); err != nil {
		return err
	}
	if err := c.allocators(env); err != nil {
		return err
	}
	if err := c.certificates(); err != nil {
		return err
	}
	address := net.JoinHostPort(c.cfg.AdvertiseAddress.String(), strconv.Itoa(c.cfg.HTTPSPort))
	if c.audit, err = c.cfg.Audit.open(c.log.With("part", "audit")); err != nil {
		return err
	}
	if err := c.followFiles(); err != nil {
		return err
	}
	c.fairness, c.started = fairness.New(fairness.Config{}), make(chan struct{})
	finds, describes := discovery.New(list, address), openapi.New(list)
	if c.cfg.Gates.CBOR {
		finds.SpeakCBOR()
		describes.SpeakCBOR()
	}
	nodes := nodeproxy.New(nodeproxy.Config{Reader: reader, Log: c.log, TLS: &tls.Config{
		RootCAs: c.pki.CA.Trust(), GetClientCertificate: c.toNodes.GetClientCertificate, MinVersion: tls.VersionTLS12,
	}})
	env.Usage = usage.New(nodes.Get, c.log.With("part", "metrics"))
	c.server, err = apiserver.New(apiserver.Config{
		Fairness: c.fairness, Started: c.started, Audit: c.audit,
		Store: c.store, Catalog: list, Env: env, Scheme: scheme.Scheme,
		Authenticator: identity, Authorizer: authorizer, Admission: chain,
		Discovery: finds, OpenAPI: describes, CBOR: c.cfg.Gates.CBOR,
		Nodes: nodes,
		Paths: map[string]http.Handler{
			"/.well-known/openid-configuration": oidc, "/openid/v1/jwks": oidc,
			"/debug/pprof/": profiling(),
			encryptionPath:  http.HandlerFunc(c.serveEncryption), rotatePath: http.HandlerFunc(c.serveEncryption), keysPath: http.HandlerFunc(c.serveEncryption),
			joinPath: http.HandlerFunc(c.serveJoin), serversPath + "/": http.HandlerFunc(c.serveServers),
		},
		Open: map[string]http.Handler{"/cacerts": http.HandlerFunc(c.serveCA)},
		Metrics: []prometheus.Collector{
			reload.Collector(c.files...), c.cfg.Gates.collector(), c.storage, c.queues, c.scheduling, c.figures, c.services, metrics.APIServices(reader),
			metrics.Nodes(reader), metrics.EndpointSlices(reader),
		},
		Version: Version(), Log: c.log.With("part", "apiserver"),
	})
	if err != nil {
		return err
	}
	env.Writer, env.Components = c.server.Writer(), c.components()
	c.custom, err = custom.New(custom.Config{Store: c.store, Catalog: list, Env: env, Resolve: convert.Endpoints(reader), Log: c.log})
	if err != nil {
		return err
	}
	return c.aggregation(list)
}

// profiling serves Go's profiles to whoever may read these paths.
func profiling() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// serveCA gives the CA to whoever joins; he knows its fingerprint.
func (c *controlPlane) serveCA(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/x-pem-file")
	_, _ = w.Write(c.pki.CA.PEM) // a client that went away
}

// allocators hands out cluster addresses and node ports, beginning with those in use.
func (c *controlPlane) allocators(env *api.Env) error {
	addresses, err := allocate.NewAddresses(c.cfg.ServiceCIDR)
	if err != nil {
		return err
	}
	objects := allocate.FromObjects(env.Reader, c.store.Shared)
	addresses.Follow(objects)
	first, last, err := portRange(c.cfg.NodePorts)
	if err != nil {
		return err
	}
	ports, err := allocate.NewPorts(first, last)
	if err != nil {
		return err
	}
	ports.Follow(objects)
	var services []*corev1.Service
	for _, obj := range env.Reader.List(corev1.Resource("services"), "") {
		if s, ok := obj.(*corev1.Service); ok {
			services = append(services, s)
		}
	}
	for _, err := range allocate.Seed(services, addresses, ports) {
		c.log.Warn("a stored service holds what it should not", "err", err)
	}
	env.Services, env.Ports = addresses, ports
	c.services = metrics.Services(addresses, ports)
	return nil
}

func portRange(text string) (first, last int32, err error) {
	low, high, ok := strings.Cut(text, "-")
	a, errA := strconv.ParseUint(low, 10, 16)
	b, errB := strconv.ParseUint(high, 10, 16)
	if !ok || errA != nil || errB != nil || a == 0 || b < a {
		return 0, 0, fmt.Errorf("--service-node-port-range %s: must be a range of ports such as %s", text, DefaultNodePortRange)
	}
	return int32(a), int32(b), nil
}

// certificates are those of this server: its own, and the one it shows to kubelets.
func (c *controlPlane) certificates() error {
	dns := []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + c.cfg.Domain}
	ips := []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback, toIP(apiAddress(c.cfg.ServiceCIDR)), toIP(c.cfg.AdvertiseAddress)}
	for _, name := range c.cfg.TLSNames {
		if ip := net.ParseIP(name); ip != nil {
			ips = append(ips, ip)
		} else {
			dns = append(dns, name)
		}
	}
	var err error
	leaf := pki.Leaf{CommonName: "kube-apiserver", DNS: dns, IPs: ips, Server: true}
	if c.serving, err = c.pki.RenewingFile(c.pki.CA, "apiserver", leaf, c.log); err != nil {
		return err
	}
	leaf = pki.Leaf{CommonName: "kube-apiserver-kubelet-client", Organizations: []string{"system:masters"}, Client: true}
	c.toNodes, err = c.pki.RenewingFile(c.pki.CA, "apiserver-kubelet-client", leaf, c.log)
	return err
}

func toIP(a netip.Addr) net.IP { return net.IP(a.AsSlice()) }

// listen opens the API's port.
func (c *controlPlane) listen() (net.Listener, error) {
	address := netip.AddrPortFrom(c.cfg.BindAddress, uint16(c.cfg.HTTPSPort))
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(address))
	if err != nil {
		return nil, fmt.Errorf("port %d of the API is taken (%w); stop what listens there or give another --https-port", c.cfg.HTTPSPort, err)
	}
	return l, nil
}

// serve answers on the listener until ctx ends, then lets requests finish for a moment.
func (c *controlPlane) serve(ctx context.Context, l net.Listener) error {
	srv, err := front(c.sessions.Handler(keepBearer(c.server.Handler())), c.serving.GetCertificate, c.log)
	if err != nil {
		return err
	}
	srv.ConnContext = c.sessions.Context
	failed := make(chan error, 1)
	go func() { failed <- srv.ServeTLS(c.sessions.Listener(l), "", "") }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	c.server.Close()
	ending, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if srv.Shutdown(ending) != nil {
		return srv.Close()
	}
	return nil
}

// Limits of what a connection costs before anybody knows whose it is.
const (
	headerTime  = 10 * time.Second // for the headers of a request
	idleTime    = 2 * time.Minute  // of a connection between requests
	maxHeader   = 64 << 10         // bytes of all headers of a request
	maxRequests = 250              // at once on one connection
)

// front is the server of the API's port. Certificates are asked for and judged later; the
// names in its own are the configuration's, whatever a client calls it.
func front(h http.Handler, certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error), log *slog.Logger) (*http.Server, error) {
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader,
		TLSConfig: &tls.Config{
			GetCertificate: certificate, ClientAuth: tls.RequestClientCert,
			NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12,
		},
		ErrorLog: slog.NewLogLogger(log.With("part", "https").Handler(), slog.LevelDebug),
	}
	return srv, h2.Configure(srv, h2.Config{
		MaxStreams: maxRequests, MaxHeader: maxHeader, IdleTimeout: idleTime, HeaderTimeout: headerTime, Log: log.With("part", "https"),
	})
}

// local is a client's configuration for a component in this process.
func (c *controlPlane) local(user string, groups ...string) *rest.Config {
	return &rest.Config{
		Host:      "https://" + net.JoinHostPort(c.cfg.AdvertiseAddress.String(), strconv.Itoa(c.cfg.HTTPSPort)),
		Transport: c.server.LocalTransport(api.User{Name: user, Groups: append(groups, "system:authenticated")}),
		UserAgent: user + "/" + ProaVersion,
		QPS:       -1, // the server limits; the components of one process must not wait for themselves
		// Warnings are for people.
		WarningHandlerWithContext: rest.NoWarnings{},
		ContentConfig: rest.ContentConfig{
			ContentType: "application/vnd.kubernetes.protobuf", AcceptContentTypes: "application/vnd.kubernetes.protobuf,application/json",
		},
	}
}

// writeKubeconfig gives the administrator his way in: a kubeconfig with a certificate of its own.
func (c *controlPlane) writeKubeconfig(context.Context) (*tls.Certificate, error) {
	cert, key, err := c.pki.CA.Issue(pki.Leaf{CommonName: adminName, Organizations: []string{"system:masters"}, Client: true})
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.cfg.Place.Roots.Config, 0o755); err != nil {
		return nil, err
	}
	host := c.cfg.AdvertiseAddress
	if c.cfg.BindAddress.IsLoopback() {
		host = c.cfg.BindAddress
	}
	name := "proa"
	if c.cfg.Place.Name != DefaultName {
		name = "proa-" + c.cfg.Place.Name
	}
	err = pki.Kubeconfig{
		Cluster: name, User: "admin", CA: c.pki.CA.PEM, Cert: cert, Key: key,
		Server: "https://" + net.JoinHostPort(host.String(), strconv.Itoa(c.cfg.HTTPSPort)),
	}.Write(c.cfg.Place.Kubeconfig())
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	return &pair, err
}
