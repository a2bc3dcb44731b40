package nodeproxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/proa-dev/proa/pki"
)

// site is a cluster's authority, a proxy that trusts it, and the world it looks at.
type site struct {
	t       *testing.T
	world   objects
	pki     *pki.Authorities
	proxy   *Proxy
	through *httptest.Server // asks the proxy for the pod or node of the path /SUBRESOURCE/NAME/...
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, world: world()}
	var err error
	if s.pki, err = pki.Open(pki.Config{Dir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	mine := s.pair(pki.Leaf{CommonName: "kube-apiserver-kubelet-client", Client: true})
	s.proxy = New(Config{Reader: s.world, Log: slog.New(slog.DiscardHandler), TLS: &tls.Config{
		RootCAs: s.pki.CA.Trust(), Certificates: []tls.Certificate{mine}, MinVersion: tls.VersionTLS12,
	}})
	s.through = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parts := strings.SplitN(strings.TrimPrefix(r.URL.Path, "/"), "/", 3)
		kind := kindOf("", "v1", "Pod", "pods")
		if parts[0] == "node" {
			kind, parts[0] = kindOf("", "v1", "Node", "nodes"), "proxy"
		}
		s.proxy.Connect(w, r, Request{Kind: kind, Subresource: parts[0], Namespace: "ns", Name: parts[1], Path: "/" + strings.Join(parts[2:], "")})
	}))
	t.Cleanup(s.through.Close)
	return s
}

func (s *site) pair(leaf pki.Leaf) tls.Certificate {
	s.t.Helper()
	cert, key, err := s.pki.CA.Issue(leaf)
	if err != nil {
		s.t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		s.t.Fatal(err)
	}
	return pair
}

// answer has a server of that name in its certificate answer where the node n says it is.
func (s *site) answer(name string, h http.HandlerFunc) {
	s.t.Helper()
	front := httptest.NewUnstartedServer(h)
	leaf := pki.Leaf{CommonName: name, DNS: []string{"localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}, Server: true}
	front.TLS = &tls.Config{Certificates: []tls.Certificate{s.pair(leaf)}, MinVersion: tls.VersionTLS12, ClientAuth: tls.RequestClientCert}
	front.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	front.StartTLS()
	s.t.Cleanup(front.Close)
	s.at(front.Listener.Addr())
}

func (s *site) at(addr net.Addr) {
	s.t.Helper()
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		s.t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		s.t.Fatal(err)
	}
	node := s.world["nodes//n"].(*corev1.Node)
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: host}}
	node.Status.DaemonEndpoints.KubeletEndpoint.Port = int32(number)
}

func (s *site) get(path string) (int, string, http.Header) {
	s.t.Helper()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Timeout: 10 * time.Second}
	r, err := client.Get(s.through.URL + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	if err != nil {
		s.t.Fatal(err)
	}
	return r.StatusCode, string(body), r.Header
}

// A node that says it is where the API server itself (or another node) is gets nothing sent
// there under the server's certificate: what answers must be the node (CVE-2022-3294, CVE-2020-8562).
func TestAttackNodeLeadsElsewhere(t *testing.T) {
	s := newSite(t)
	var asked atomic.Int32
	steal := func(http.ResponseWriter, *http.Request) { asked.Add(1) }
	for _, name := range []string{"kube-apiserver", "system:node:m", "system:node:", "n", ""} {
		s.answer(name, steal)
		for _, path := range []string{"/node/n/api/v1/secrets", "/log/one"} {
			if code, body, _ := s.get(path); code < 400 {
				t.Errorf("%s of what is named %q: %d %s", path, name, code, body)
			}
		}
		if status, _ := s.upgrade("/exec/one?command=ls&stdout=true", ""); strings.Contains(status, "101") {
			t.Errorf("a tunnel to %q", name)
		}
	}
	if n := asked.Load(); n > 0 {
		t.Errorf("%d requests arrived", n)
	}
	s.answer("system:node:n", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.TLS.PeerCertificates[0].Subject.CommonName)
	})
	s.world["nodes//n"].(*corev1.Node).Status.Addresses[0].Address = "localhost" // a name is as good
	if code, body, _ := s.get("/node/n/healthz"); code != http.StatusOK || !strings.Contains(body, "kubelet-client") {
		t.Errorf("the node itself: %d %s", code, body)
	}
}

// A name that resolves to one address when it is looked at and to another when it is used
// gains nothing, since the address that is connected to is what is looked at.
func TestAttackRebinding(t *testing.T) {
	trap, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer trap.Close()
	_, port, _ := net.SplitHostPort(trap.Addr().String())
	var asked atomic.Int32
	d := dialer(outside)
	d.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		asked.Add(1)
		return nil, fmt.Errorf("no name server")
	}}
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]", "169.254.169.254", "[fe80::1]", "224.0.0.1", "255.255.255.255"} {
		conn, err := d.DialContext(t.Context(), "tcp", host+":"+port)
		if err == nil {
			_ = conn.Close()
			t.Errorf("connected to %s", host)
		} else if !strings.Contains(err.Error(), errAddress.Error()) {
			t.Errorf("%s: %v", host, err)
		}
	}
	for text, want := range map[string][2]bool{ // outside, machine
		"10.0.0.1": {true, true}, "2001:db8::1": {true, true}, "127.0.0.53": {false, true}, "::1": {false, true}, "169.254.169.254": {}, "fe80::1": {}, "ff02::1": {}, "0.0.0.0": {}, "255.255.255.255": {},
	} {
		a := netip.MustParseAddr(text)
		if got := [2]bool{outside(a), machine(a)}; got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}

// Pods' addresses are written by their nodes; each form of an address of this machine is known.
func TestAttackPodAddresses(t *testing.T) {
	s := newSite(t)
	pod := s.world["pods/ns/one"].(*corev1.Pod)
	for _, ip := range []string{"127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "0.0.0.0", "::", "169.254.169.254", "fe80::1%lo", "224.0.0.1", "255.255.255.255", "localhost", "metadata.internal", "", "127.1", "0x7f000001", "10.0.0.1 127.0.0.1"} {
		pod.Status.PodIP = ip
		if code, body, _ := s.get("/proxy/one/x"); code != http.StatusBadRequest || !strings.Contains(body, "address not allowed") {
			t.Errorf("%q: %d %s", ip, code, body)
		}
	}
}

// What a kubelet answers to redirect is neither followed nor passed on (CVE-2020-8559), also
// not when it answers a request for a tunnel.
func TestAttackRedirect(t *testing.T) {
	s := newSite(t)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("followed") }))
	defer elsewhere.Close()
	s.answer("system:node:n", http.RedirectHandler(elsewhere.URL, http.StatusFound).ServeHTTP)
	for _, path := range []string{"/log/one", "/node/n/pods"} {
		if code, _, h := s.get(path); code < 400 || h.Get("Location") != "" {
			t.Errorf("%s: %d %v", path, code, h)
		}
	}
	if status, rest := s.upgrade("/exec/one?command=ls&stdout=true", ""); strings.Contains(status, " 3") || strings.Contains(rest, elsewhere.URL) {
		t.Errorf("%s: %s", status, rest)
	}
}

// upgrade asks for a tunnel and sends more bytes behind; it gives the status and all that came.
func (s *site) upgrade(path, behind string) (status, rest string) {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.through.Listener.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n\r\n%s", path, behind)
	in := bufio.NewReader(conn)
	status, _ = in.ReadString('\n')
	if err := conn.SetDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		s.t.Fatal(err)
	}
	raw, _ := io.ReadAll(io.LimitReader(in, 1<<16)) // until the deadline where the connection stays open
	return strings.TrimSpace(status), string(raw)
}

// A tunnel that the other side refused is none: bytes that come behind the request do not
// reach the kubelet under the server's certificate (CVE-2018-1002105).
func TestAttackBytesAfterRefusedUpgrade(t *testing.T) {
	s := newSite(t)
	var paths atomic.Int32
	for _, code := range []int{http.StatusForbidden, http.StatusOK, http.StatusInternalServerError, http.StatusNotFound} {
		s.answer("system:node:n", func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/exec/ns/other") {
				paths.Add(1)
			}
			w.WriteHeader(code)
		})
		smuggled := "POST /exec/ns/other/c?command=id HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n\r\n"
		if status, _ := s.upgrade("/exec/one?command=ls&stdout=true", smuggled); strings.Contains(status, "101") {
			t.Errorf("%d became %s", code, status)
		}
	}
	if n := paths.Load(); n > 0 {
		t.Errorf("%d smuggled requests reached the kubelet", n)
	}
}
