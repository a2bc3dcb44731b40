package cluster

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/proa-dev/proa/pki"
)

const (
	testLife = 6 * time.Second
	testSpan = 14 * time.Second // more than two lives, three renewals of each certificate
)

// Every certificate of a cluster lives six seconds. Requests of all kinds, on connections
// that are kept and on new ones, go on while all of them expire twice; none fails.
func TestCertificatesExpireAndNoRequestFails(t *testing.T) {
	c := newHouse(t, func(cfg *ServerConfig) { cfg.CertificateLife = testLife })
	ctx, cancel := context.WithCancel(t.Context())
	agent := newAgent(ctx, t, c)
	backend := newBackend(t, c)
	seen := &serials{c: map[string]map[string]bool{}}
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel()
	for _, r := range []*pki.Renewing{agent.client, agent.serving} {
		parts.Go(func() { _ = r.Run(ctx) })
	}
	kept, err := kubernetes.NewForConfig(agent.config(c.address()))
	if err != nil {
		t.Fatal(err)
	}
	bearer := withToken(t, c)
	asks := map[string]func(context.Context) error{
		"node, kept connection": getNode(kept),
		"node, new connections": func(ctx context.Context) error {
			fresh := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: agent.trust, GetClientCertificate: agent.client.GetClientCertificate}, DisableKeepAlives: true}
			client, err := kubernetes.NewForConfig(&rest.Config{Host: c.address(), Transport: fresh})
			if err != nil {
				return err
			}
			return getNode(client)(ctx)
		},
		"administrator's kubeconfig": func(ctx context.Context) error { return withKubeconfig(ctx, c.cfg.Place, seen) },
		"token, kept connection":     getNode(bearer),
		"server to kubelet": func(ctx context.Context) error {
			return c.client.CoreV1().RESTClient().Get().AbsPath("/api/v1/nodes/agent/proxy/test").Do(ctx).Error()
		},
		"server to another API server": func(ctx context.Context) error {
			return c.client.CoreV1().RESTClient().Get().AbsPath("/apis/other.example.com/v1/things").Do(ctx).Error()
		},
	}
	w, err := kept.CoreV1().Nodes().Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=agent"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	span, over := context.WithTimeout(ctx, testSpan)
	defer over()
	var count atomic.Int64
	for name, ask := range asks {
		parts.Go(func() {
			for span.Err() == nil {
				if err := ask(ctx); err != nil && ctx.Err() == nil {
					t.Errorf("%s, after %d requests of all kinds: %v", name, count.Load(), err)
					cancel()
					return
				}
				count.Add(1)
				select {
				case <-time.After(5 * time.Millisecond): // other tests need the processor too
				case <-span.Done():
				}
			}
		})
	}
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for span.Err() == nil {
		for name, r := range map[string]*pki.Renewing{
			"apiserver": c.serving, "apiserver-kubelet-client": c.toNodes, "front-proxy-client": c.toBackends,
			"kubelet-client": agent.client, "kubelet-serving": agent.serving,
		} {
			seen.add(name, r.Current().Leaf)
		}
		select {
		case <-look.C:
		case <-span.Done():
		}
	}
	if t.Failed() {
		return
	}
	stillWatches(t, c, w)
	for name, list := range seen.c {
		if len(list) < 3 {
			t.Errorf("%s: %d certificates in %v", name, len(list), testSpan)
		}
	}
	t.Logf("%d requests; the other API server was asked %d times", count.Load(), backend.Load())
}

// serials are those of the certificates that were seen, by what they are for.
type serials struct {
	mu sync.Mutex
	c  map[string]map[string]bool
}

func (s *serials) add(name string, cert *x509.Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.c[name] == nil {
		s.c[name] = map[string]bool{}
	}
	s.c[name][cert.SerialNumber.String()] = true
}

func getNode(client kubernetes.Interface) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := client.CoreV1().Nodes().Get(ctx, "agent", metav1.GetOptions{})
		return err
	}
}

// withKubeconfig is what any command of an administrator does.
func withKubeconfig(ctx context.Context, p *Place, seen *serials) error {
	cfg, err := clientcmd.BuildConfigFromFlags("", p.Kubeconfig())
	if err != nil {
		return err
	}
	cert, err := pki.DecodeCert(cfg.CertData)
	if err != nil {
		return err
	}
	seen.add("administrator", cert)
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	return getNode(client)(ctx)
}

// withToken is a service account's client.
func withToken(t *testing.T, c *house) kubernetes.Interface {
	accounts := c.client.CoreV1().ServiceAccounts("default")
	if _, err := accounts.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "robot"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.bind(t, "robot", "system:node-reader", "ServiceAccount")
	token, err := accounts.CreateToken(t.Context(), "robot", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(&rest.Config{
		Host: c.address(), BearerToken: token.Status.Token, TLSClientConfig: rest.TLSClientConfig{CAData: c.pki.CA.PEM}, QPS: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// agent is a node's credentials, and how it got them.
type agent struct {
	*credentials
	joined AgentConfig
}

// newAgent joins as an agent does and serves a kubelet's API that looks at certificates as a
// kubelet's does: with each request.
func newAgent(ctx context.Context, t *testing.T, c *house) *agent {
	t.Helper()
	token, err := CreateToken(ctx, c.cfg.Place, time.Hour, false)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	own := ownAddress(t)
	cfg := AgentConfig{
		Place:  &Place{Name: "running", Roots: Roots{Data: dir, Run: dir, Config: dir}},
		Server: c.address(), Token: token, Node: NodeConfig{Name: "agent", IP: own},
	}
	a, err := join(ctx, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(own.String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	api := &http.Server{
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			leaf := r.TLS.VerifiedChains[0][0]
			if r.Header.Get("Upgrade") != "" {
				tunnel(w)
				return
			}
			if time.Now().After(leaf.NotAfter) || leaf.Subject.CommonName != "kube-apiserver-kubelet-client" {
				http.Error(w, "Unauthorized", http.StatusUnauthorized)
			}
		}),
		TLSConfig: &tls.Config{GetCertificate: a.serving.GetCertificate, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.trust, MinVersion: tls.VersionTLS12},
	}
	go func() { _ = api.ServeTLS(l, "", "") }()
	t.Cleanup(func() { _ = api.Close() })
	nodes := c.client.CoreV1().Nodes()
	if _, err := nodes.Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "agent"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	status := fmt.Appendf(nil, `{"status":{"addresses":[{"type":"InternalIP","address":%q},{"type":"Hostname","address":"agent"}],"daemonEndpoints":{"kubeletEndpoint":{"Port":%d}}}}`,
		own, l.Addr().(*net.TCPAddr).Port)
	if _, err := nodes.Patch(ctx, "agent", types.MergePatchType, status, metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	return &agent{a, cfg}
}

// newBackend is another API server, which believes the front proxy's certificate while it is
// valid; it counts what it is asked.
func newBackend(t *testing.T, c *house) *atomic.Int64 {
	t.Helper()
	var asked atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if len(r.TLS.VerifiedChains) == 0 || time.Now().After(r.TLS.VerifiedChains[0][0].NotAfter) || r.Header.Get("X-Remote-User") == "" {
			http.Error(w, "who are you", http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(metav1.APIResourceList{
			TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: "other.example.com/v1",
			APIResources: []metav1.APIResource{{Name: "things", Kind: "Thing", Verbs: metav1.Verbs{"list"}}},
		})
	}))
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: c.pki.FrontProxy.Trust()}
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	s.StartTLS()
	t.Cleanup(s.Close)
	port := s.Listener.Addr().(*net.TCPAddr).Port
	if _, err := c.client.CoreV1().Services("default").Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "other"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "localhost"},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	body := fmt.Sprintf(`{"kind":"APIService","apiVersion":"apiregistration.k8s.io/v1","metadata":{"name":"v1.other.example.com"},"spec":{"group":"other.example.com","version":"v1",
		"groupPriorityMinimum":100,"versionPriority":100,"insecureSkipTLSVerify":true,"service":{"namespace":"default","name":"other","port":%d}}}`, port)
	raw := c.client.CoreV1().RESTClient()
	if err := raw.Post().AbsPath("/apis/apiregistration.k8s.io/v1/apiservices").SetHeader("Content-Type", "application/json").Body([]byte(body)).Do(t.Context()).Error(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "the other API server is available", func() bool {
		return raw.Get().AbsPath("/apis/other.example.com/v1/things").Do(t.Context()).Error() == nil
	})
	return &asked
}

// stillWatches: a watch that began with the first certificate gives what happens after all of them.
func stillWatches(t *testing.T, c *house, w watch.Interface) {
	t.Helper()
	patch := []byte(`{"metadata":{"labels":{"last":"one"}}}`)
	if _, err := c.client.CoreV1().Nodes().Patch(t.Context(), "agent", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	late := time.After(5 * time.Second)
	for {
		select {
		case e, ok := <-w.ResultChan():
			if !ok {
				t.Fatal("the watch ended")
			}
			if n, isNode := e.Object.(*corev1.Node); isNode && n.Labels["last"] == "one" {
				return
			}
		case <-late:
			t.Fatal("the watch shows nothing any more")
		}
	}
}

// A node that was away until its certificate had expired comes back with a new token, and is
// told so without one.
func TestNodeComesBackWithAToken(t *testing.T) {
	c := newHouse(t, nil)
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	cfg := AgentConfig{
		Place:  &Place{Name: "running", Roots: Roots{Data: dir, Run: dir, Config: dir}},
		Server: c.address(), Node: NodeConfig{Name: "away", IP: netip.MustParseAddr("192.0.2.7")},
	}
	var err error
	if cfg.Token, err = CreateToken(t.Context(), c.cfg.Place, time.Hour, false); err != nil {
		t.Fatal(err)
	}
	if _, err := join(t.Context(), cfg, log); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(cfg.Place.NodeDir("away"), "pki")
	old, oldKey := expired(t, c)
	if err := errors.Join(WriteFile(folder+"/kubelet-client.crt", old, 0o644), WriteFile(folder+"/kubelet-client.key", oldKey, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := join(t.Context(), cfg, log); err != nil {
		t.Errorf("with a token: %v", err)
	}
	back, err := pki.LoadPair(folder+"/kubelet-client.crt", folder+"/kubelet-client.key", time.Now())
	if err != nil || !slices.Contains(back.Leaf.Subject.Organization, "system:nodes") {
		t.Errorf("it has no certificate: %v", err)
	}
	if _, err := os.Stat(folder + "/ca.crt"); err != nil {
		t.Error(err)
	}
}

func expired(t *testing.T, c *house) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert, err = c.pki.CA.SignTemplate(&x509.Certificate{
		Subject: subject("system:node:away"), NotBefore: time.Now().Add(-2 * pki.LeafLife), NotAfter: time.Now().Add(-pki.LeafLife),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, &private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return cert, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}
