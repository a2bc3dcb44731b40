package aggregate_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"golang.org/x/sync/errgroup"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/apiregistration"
	"github.com/proa-dev/proa/apis/coordination"
	"github.com/proa-dev/proa/apis/core"
	"github.com/proa-dev/proa/apis/discovery"
	"github.com/proa-dev/proa/apiserver"
	"github.com/proa-dev/proa/apiserver/aggregate"
	"github.com/proa-dev/proa/apiserver/catalog"
	apidiscovery "github.com/proa-dev/proa/apiserver/discovery"
	"github.com/proa-dev/proa/apiserver/openapi"
	"github.com/proa-dev/proa/pki"
	"github.com/proa-dev/proa/store"
)

// bearer takes the token as the user's name.
type bearer struct{}

func (bearer) Authenticate(r *http.Request) (*api.User, error) {
	name := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	return &api.User{Name: name, UID: "7", Groups: []string{"dev", "system:authenticated"}, Extra: map[string][]string{"a/b": {"x"}}}, nil
}

type allow struct{}

func (allow) Authorize(context.Context, *access.Attributes) (access.Decision, string) {
	return access.Allow, ""
}

// house is a server with an aggregator before it.
type house struct {
	t     *testing.T
	store *store.Store
	front *httptest.Server
	pki   *pki.Authorities
	list  *catalog.Catalog
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t: t}
	quiet := slog.New(slog.DiscardHandler)
	var err error
	if h.store, err = store.Open(t.Context(), store.Config{Dir: t.TempDir(), Log: quiet}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.store.Close() })
	kinds := slices.Concat(core.Kinds, coordination.Kinds, discovery.Kinds, apiregistration.Kinds)
	var group errgroup.Group
	for _, k := range kinds {
		if k.Virtual == nil && k.Stored == nil {
			group.Go(func() error { _, err := h.store.Serve(t.Context(), k); return err })
		}
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if h.pki, err = pki.Open(pki.Config{Dir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	client, err := h.pki.FrontProxy.Certificate(pki.Leaf{CommonName: "front-proxy-client", Client: true})
	if err != nil {
		t.Fatal(err)
	}
	h.list = catalog.New(kinds)
	env := &api.Env{Reader: h.store.Reader()}
	server, err := apiserver.New(apiserver.Config{
		Store: h.store, Catalog: h.list, Env: env, Scheme: scheme.Scheme, Authenticator: bearer{}, Authorizer: allow{}, Log: quiet,
		Discovery: apidiscovery.New(h.list, "127.0.0.1:6443"), OpenAPI: openapi.New(h.list),
	})
	if err != nil {
		t.Fatal(err)
	}
	env.Writer = server.Writer()
	agg, err := aggregate.New(aggregate.Config{
		Store: h.store, Catalog: h.list, Log: quiet,
		ClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return client, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = h.store.Run(ctx) })
	running.Go(func() {
		if err := agg.Run(ctx); err != nil {
			t.Errorf("aggregator: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	h.front = httptest.NewUnstartedServer(server.Handler())
	h.front.EnableHTTP2 = true
	h.front.StartTLS()
	t.Cleanup(func() { server.Close(); h.front.Close() })
	return h
}

func (h *house) do(method, path, body string, headers ...string) (int, string, http.Header) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, h.front.URL+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer alice")
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	answer, err := h.front.Client().Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return answer.StatusCode, string(raw), answer.Header
}

// add stores an object as a client would have it stored.
func (h *house) add(gr schema.GroupResource, obj api.Object) {
	h.t.Helper()
	c, ok := h.store.Collection(gr)
	if !ok {
		h.t.Fatalf("%s is not stored", gr)
	}
	obj.SetUID("u")
	if _, err := c.Create(h.t.Context(), obj); err != nil {
		h.t.Fatal(err)
	}
}

// backend is another server, with a service and an endpoint slice that lead to it.
func (h *house) backend(handler http.Handler) (*httptest.Server, []byte) {
	h.t.Helper()
	authority, err := pki.Open(pki.Config{Dir: h.t.TempDir()})
	if err != nil {
		h.t.Fatal(err)
	}
	cert, err := authority.CA.Certificate(pki.Leaf{CommonName: "backend", DNS: []string{"sample.wardle.svc"}, Server: true})
	if err != nil {
		h.t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(handler)
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{
		Certificates: []tls.Certificate{*cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: h.pki.FrontProxy.Trust(), MinVersion: tls.VersionTLS12,
	}
	s.StartTLS()
	h.t.Cleanup(s.Close)
	_, text, _ := net.SplitHostPort(s.Listener.Addr().String())
	port, _ := strconv.Atoi(text)
	number, name := int32(port), "https"
	h.add(corev1.Resource("services"), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "wardle", Name: "sample"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.0.0.9", Selector: map[string]string{"a": "b"},
			Ports: []corev1.ServicePort{{Name: name, Port: 443, Protocol: corev1.ProtocolTCP}},
		},
	})
	h.add(discoveryv1.Resource("endpointslices"), &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "wardle", Name: "sample-1", Labels: map[string]string{discoveryv1.LabelServiceName: "sample"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &number}},
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"127.0.0.1"}}},
	})
	return s, authority.CA.PEM
}

// condition waits until the APIService says what is expected.
func (h *house) condition(name, want string) {
	h.t.Helper()
	said := ""
	for range 300 {
		code, body, _ := h.do("GET", "/apis/apiregistration.k8s.io/v1/apiservices/"+name, "")
		if code == http.StatusNotFound {
			wait(h.t, 20*time.Millisecond)
			continue
		}
		var s apiregistrationv1.APIService
		if err := json.Unmarshal([]byte(body), &s); err != nil {
			h.t.Fatal(err)
		}
		if c := apiregistration.Condition(&s, apiregistrationv1.Available); c != nil {
			if said = fmt.Sprint(c.Status, " ", c.Reason, ": ", c.Message); strings.HasPrefix(said, want) {
				return
			}
		}
		wait(h.t, 20*time.Millisecond)
	}
	h.t.Fatalf("%s says %q, want %q", name, said, want)
}

func wait(t *testing.T, d time.Duration) {
	select {
	case <-t.Context().Done():
	case <-time.After(d):
	}
}

func poolOf(t *testing.T, s *httptest.Server) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})) {
		t.Fatal("no certificate")
	}
	return pool
}
