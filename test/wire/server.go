package wire

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Server is who is asked, as the users that cases name.
type Server struct {
	URL   string
	Users map[string]http.RoundTripper // admin, alice, anonymous
}

// Remote is the server of a kubeconfig that has a token of the user admin.
func Remote(kubeconfig string) (*Server, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	if cfg.BearerToken == "" {
		return nil, fmt.Errorf("%s has no token", kubeconfig)
	}
	transport, err := rest.TransportFor(rest.AnonymousClientConfig(cfg))
	if err != nil {
		return nil, err
	}
	s := &Server{URL: strings.TrimSuffix(cfg.Host, "/"), Users: map[string]http.RoundTripper{
		"admin": bearer{transport, cfg.BearerToken}, "alice": bearer{transport, "alice"}, "anonymous": plainly{transport},
	}}
	return s, nil
}

// bearer sends a token, unless the request has one.
type bearer struct {
	http.RoundTripper
	token string
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Authorization") == "" {
		r.Header.Set("Authorization", "Bearer "+b.token)
	}
	return plainly{b.RoundTripper}.RoundTrip(r)
}

// plainly adds nothing that a request did not name.
type plainly struct{ http.RoundTripper }

func (p plainly) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Accept-Encoding") == "" {
		r.Header.Set("Accept-Encoding", "identity") // and so the library does not unpack
	}
	return p.RoundTripper.RoundTrip(r)
}

// WithCertificates is a server that knows users by certificates.
func WithCertificates(url string, users map[string]*tls.Certificate) *Server {
	s := &Server{URL: url, Users: map[string]http.RoundTripper{}}
	for name, cert := range users {
		cfg := &tls.Config{InsecureSkipVerify: true} // on loopback, in this process
		if cert != nil {
			cfg.Certificates = []tls.Certificate{*cert}
		}
		s.Users[name] = plainly{&http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true}}
	}
	return s
}
