// Package nodeproxy carries requests through the API server to nodes, pods and services:
// kubectl logs, exec, attach, port-forward, cp, proxy.
//
// The one idea: a request is turned into one URL on one pinned address (pure, see
// location.go) and then passed on byte by byte, upgrades included; the two ends speak
// SPDY or WebSocket with each other and the server understands neither.
//
// No redirect is followed, nothing is tunnelled unless the other side answered 101, and
// who asks is never told to the other side but by our own certificate.
//
// Used by apiserver, after authentication, authorization and admission.
package nodeproxy

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/proxy"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/apis/api"
)

// Config of a Proxy.
type Config struct {
	Reader api.Reader
	// TLS authenticates the server to kubelets and verifies them.
	TLS *tls.Config
	Log *slog.Logger
}

// Request is a connect request after routing.
type Request struct {
	Kind            *api.Kind
	Subresource     string // "log", "exec", "proxy", ...
	Namespace, Name string
	Path            string // of proxies: what follows, with its slash
}

// Proxy serves the connect subresources of pods, services and nodes.
type Proxy struct {
	reader api.Reader
	tls    *tls.Config     // towards kubelets, with our certificate
	nodes  *net.Dialer     // to kubelets
	plain  *http.Transport // to pods and services, with no credentials
	log    *slog.Logger
}

// New makes a proxy.
func New(cfg Config) *Proxy {
	return &Proxy{
		reader: cfg.Reader, log: cfg.Log, tls: cfg.TLS, nodes: dialer(machine),
		plain: &http.Transport{
			DialContext: dialer(outside).DialContext, TLSHandshakeTimeout: dialTimeout, IdleConnTimeout: idleTimeout,
			// Pods' certificates are their own affair, as documented for the proxy subresources.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // documented behaviour
		},
	}
}

// errNothing: there is nobody to ask and nothing to say, as of the log of a pod that has no node yet.
var errNothing = errors.New("nothing to answer")

// target is where a request goes.
type target struct {
	url     *url.URL
	node    string // whose kubelet it is, to which we show our certificate; "": no kubelet
	upgrade bool   // anything but an upgrade is refused
	stream  bool   // each byte is passed on at once
	texts   bool   // errors are plain texts, which become a Status
}

// Connect serves one request.
func (p *Proxy) Connect(w http.ResponseWriter, r *http.Request, req Request) {
	t, err := p.locate(r, req)
	if errors.Is(err, errNothing) {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if err != nil {
		writeError(w, err)
		return
	}
	var transport http.RoundTripper = p.plain
	if t.node != "" {
		transport = p.toKubelet(t.node)
	}
	if t.texts {
		transport = texts{transport, req}
	}
	out := r.Clone(r.Context())
	access.DropIdentity(out.Header)
	// Pages get their links changed, so that they lead through this server again.
	h := proxy.NewUpgradeAwareHandler(t.url, transport, req.Subresource == "proxy", t.upgrade, responder{p.log})
	h.UseLocationHost = true
	h.RejectForwardingRedirects = t.node != ""
	if t.stream {
		h.FlushInterval = -1
	}
	h.ServeHTTP(w, out)
}

// responder answers for a backend that cannot be reached.
type responder struct{ log *slog.Logger }

func (r responder) Error(w http.ResponseWriter, req *http.Request, err error) {
	r.log.Debug("proxied request failed", "path", req.URL.Path, "err", err)
	var status *apierrors.StatusError
	if !errors.As(err, &status) {
		status = apierrors.NewServiceUnavailable("error trying to reach service: " + err.Error())
	}
	writeError(w, status)
}

func writeError(w http.ResponseWriter, err error) {
	var status *apierrors.StatusError
	if !errors.As(err, &status) {
		status = apierrors.NewInternalError(err)
	}
	s := status.ErrStatus
	s.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	body, _ := json.Marshal(s) // a Status always encodes
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(s.Code))
	_, _ = w.Write(body)
}
