package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/pki"
)

// freePort is one that nobody listens at now.
func freePort(t *testing.T, at netip.Addr) int {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(at.String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// intruder sends requests to the path at which servers join.
type intruder struct {
	url     string
	clients map[string]*http.Client // by what certificate they show
}

func (i *intruder) ask(t *testing.T, method, certificate, bearer string, header map[string]string) (int, string) {
	t.Helper()
	body := `{"name":"thief","peerURL":"https://10.9.8.7:2380","version":"` + ProaVersion + `"}`
	r, err := http.NewRequestWithContext(t.Context(), method, i.url+joinPath, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	for name, value := range header {
		r.Header.Add(name, value)
	}
	answer, err := i.clients[certificate].Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(raw)
}

// The keys of the cluster go to nobody but who shows a server's token himself.
func TestAttackJoinAsServer(t *testing.T) {
	c := newHouse(t, func(cfg *ServerConfig) {
		cfg.PeerPort = freePort(t, cfg.AdvertiseAddress)
		cfg.Audit.Log = t.TempDir() + "/audit.log"
	})
	audit := c.cfg.Audit.Log
	if err := c.serveTokensTo(t); err != nil {
		t.Fatal(err)
	}
	token := func(ttl time.Duration, server bool) string {
		text, err := CreateToken(t.Context(), c.cfg.Place, ttl, server)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := pki.ParseJoinToken(text)
		if err != nil {
			t.Fatal(err)
		}
		return parsed.Bearer()
	}
	node, expired, good := token(time.Hour, false), token(-time.Hour, true), token(time.Hour, true)
	i := &intruder{url: c.address(), clients: map[string]*http.Client{}}
	certify := func(name string, authority *pki.Authority, leaf pki.Leaf) {
		cfg := &tls.Config{RootCAs: c.pki.CA.Trust(), MinVersion: tls.VersionTLS12}
		if authority != nil {
			leaf.Client = true
			pair, err := authority.Certificate(leaf)
			if err != nil {
				t.Fatal(err)
			}
			cfg.Certificates = []tls.Certificate{*pair}
		}
		tr := &http.Transport{TLSClientConfig: cfg}
		t.Cleanup(tr.CloseIdleConnections)
		i.clients[name] = &http.Client{Transport: tr}
	}
	certify("", nil, pki.Leaf{})
	certify("node", c.pki.CA, pki.Leaf{CommonName: "system:node:n1", Organizations: []string{"system:nodes"}})
	certify("admin", c.pki.CA, pki.Leaf{CommonName: "root", Organizations: []string{"system:masters"}})
	certify("posing", c.pki.CA, pki.Leaf{CommonName: "system:bootstrap:abcdef", Organizations: []string{"system:bootstrappers", "system:bootstrappers:proa:servers"}})
	certify("proxy", c.pki.FrontProxy, pki.Leaf{CommonName: "front-proxy-client"})
	as := map[string]string{"Impersonate-User": "system:bootstrap:abcdef", "Impersonate-Group": "system:bootstrappers:proa:servers"}
	vouched := map[string]string{"X-Remote-User": "system:bootstrap:abcdef", "X-Remote-Group": "system:bootstrappers:proa:servers"}
	for _, one := range []struct {
		name, certificate, bearer string
		header                    map[string]string
	}{
		{name: "no token"},
		{name: "the token of a node", bearer: node},
		{name: "an expired token", bearer: expired},
		{name: "a token that is none", bearer: "abcdef.0123456789abcdef"},
		{name: "a node", certificate: "node"},
		{name: "an administrator", certificate: "admin"},
		{name: "an administrator in the name of the group", certificate: "admin", header: as},
		{name: "a token in the name of another", bearer: good, header: map[string]string{"Impersonate-User": "root"}},
		{name: "an administrator with a node's token", certificate: "admin", bearer: node},
		{name: "a certificate with the group", certificate: "posing"},
		{name: "a front proxy that vouches for the group", certificate: "proxy", header: vouched},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			code, body := i.ask(t, method, one.certificate, one.bearer, one.header)
			if code != http.StatusUnauthorized && code != http.StatusForbidden {
				t.Errorf("%s: %s: %d %s", one.name, method, code, body)
			}
			if strings.Contains(body, "PRIVATE") || strings.Contains(body, "files") {
				t.Errorf("%s was given keys", one.name)
			}
		}
	}
	// Nor does anybody but a server change the keys that seal objects.
	for _, certificate := range []string{"", "node", "admin", "posing", "proxy"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.address()+keysPath, strings.NewReader("kind: EncryptionConfiguration"))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := i.clients[certificate].Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusForbidden && answer.StatusCode != http.StatusUnauthorized {
			t.Errorf("%q gives the server keys: %d", certificate, answer.StatusCode)
		}
	}
	// An impersonating request may come with any role; nothing in this process answers it either.
	local, err := c.client.Discovery().RESTClient().Post().AbsPath(joinPath).DoRaw(t.Context())
	if err == nil {
		t.Errorf("a component of the process joins: %s", local)
	}
	code, body := i.ask(t, http.MethodPost, "", good, nil)
	var answer joinAnswer
	if code != http.StatusOK || json.Unmarshal([]byte(body), &answer) != nil || answer.Members["thief"] == "" || len(answer.Files["ca.key"]) == 0 {
		t.Fatalf("who has the token does not join: %d %s", code, body)
	}
	again, body := i.ask(t, http.MethodPost, "", good, nil)
	if again != http.StatusOK {
		t.Errorf("tried again: %d %s", again, body)
	}
	written, err := os.ReadFile(audit)
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string][]byte{"the audit log": written} {
		if bytes.Contains(text, []byte("PRIVATE")) || bytes.Contains(text, answer.Files["ca.key"]) || bytes.Contains(text, []byte(good)) {
			t.Errorf("%s holds secrets", what)
		}
	}
	if !bytes.Contains(written, []byte(joinPath)) {
		t.Error("the audit log does not tell who joined")
	}
}

// serveTokensTo gives the cluster a role that lets everyone to all paths: the token must do.
func (c *house) serveTokensTo(t *testing.T) error {
	t.Helper()
	roles := c.client.RbacV1()
	_, err := roles.ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "all-paths"}, Rules: []rbacv1.PolicyRule{{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	_, err = roles.ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "all-paths"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "all-paths"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "Group", Name: "system:authenticated"}, {APIGroup: rbacv1.GroupName, Kind: "Group", Name: "system:unauthenticated"}},
	}, metav1.CreateOptions{})
	return err
}

// What all servers need alike is taken over; what was given differently is named.
func TestSettingsOfServers(t *testing.T) {
	cluster := sharedSettings{ClusterCIDR: "10.1.0.0/16", ServiceCIDR: "10.2.0.0/16", NodePorts: "30000-32767", Domain: "cluster.local", HTTPSPort: 6443}
	var none ServerConfig
	if err := none.take(cluster); err != nil || none.ClusterCIDR.String() != "10.1.0.0/16" || none.HTTPSPort != 6443 || none.Domain != "cluster.local" {
		t.Errorf("nothing given: %v %+v", err, none)
	}
	same := ServerConfig{ClusterCIDR: netip.MustParsePrefix("10.1.0.0/16"), HTTPSPort: 6443}
	if err := same.take(cluster); err != nil {
		t.Errorf("the same given: %v", err)
	}
	for flag, cfg := range map[string]ServerConfig{
		"--cluster-cidr 10.3.0.0/16":                     {ClusterCIDR: netip.MustParsePrefix("10.3.0.0/16")},
		"--service-cidr 10.3.0.0/16":                     {ServiceCIDR: netip.MustParsePrefix("10.3.0.0/16")},
		"--https-port 7443: the cluster has 6443":        {HTTPSPort: 7443},
		"--cluster-domain a.b":                           {Domain: "a.b"},
		"--service-node-port-range 1-2":                  {NodePorts: "1-2"},
		"--etcd-servers http://x:1: the cluster has its": {EtcdServers: []string{"http://x:1"}},
	} {
		if err := cfg.take(cluster); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: %v", flag, err)
		}
	}
	cluster.Encryption = "abc"
	if err := none.take(cluster); err == nil || !strings.Contains(err.Error(), "--encryption-provider-config") {
		t.Errorf("a file of keys is needed: %v", err)
	}
	for _, v := range []string{"0.2.0", "1.1.0", ""} {
		if sameMinor("0.1.3", v) == nil {
			t.Errorf("0.1.3 joins %q", v)
		}
	}
	if err := sameMinor("0.1.3-dev", "v0.1.0"); err != nil {
		t.Error(err)
	}
}

// A machine that has data, or no token, is told so; nothing is sent.
func TestJoinRefusedAtHome(t *testing.T) {
	place := &Place{Name: "x", Roots: Roots{Data: t.TempDir()}}
	cfg := &ServerConfig{Place: place, Join: "https://127.0.0.1:1"}
	steps, err := NewProgress("", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	join := func() error { return cfg.joinServers(context.Background(), slog.New(slog.DiscardHandler), steps) }
	if err := join(); err == nil || !strings.Contains(err.Error(), "token") {
		t.Errorf("without a token: %v", err)
	}
	if err := os.MkdirAll(place.etcdDir()+"/member", 0o700); err != nil {
		t.Fatal(err)
	}
	cfg.Token = "proa1"
	if err := join(); err == nil || !strings.Contains(err.Error(), "has data of its own") {
		t.Errorf("with data: %v", err)
	}
	if err := place.writeJoined(&joinedCluster{Settings: sharedSettings{ClusterCIDR: "10.1.0.0/16", ServiceCIDR: "10.2.0.0/16", HTTPSPort: 7000}}); err != nil {
		t.Fatal(err)
	}
	if err := join(); err != nil || cfg.HTTPSPort != 7000 {
		t.Errorf("a server that comes back: %v, port %d", err, cfg.HTTPSPort)
	}
}

// A lost server does no harm to those who look: the leader's survival is counted right.
func TestSurvives(t *testing.T) {
	up, down, learner := ServerInfo{Reachable: true}, ServerInfo{}, ServerInfo{Reachable: true, Learner: true}
	for want, all := range map[int][][]ServerInfo{
		0:  {{up}, {up, up}, {up, up, down}, {up, learner}},
		1:  {{up, up, up}, {up, up, up, up, down}},
		2:  {{up, up, up, up, up}},
		-1: {{up, down}, {up, down, down}},
	} {
		for _, one := range all {
			if got := Survives(one); got != want {
				t.Errorf("%v: %d, want %d", one, got, want)
			}
		}
	}
}

// An agent whose server is gone finds another, stays with it, and finds it again after a restart.
func TestAgentFindsAnotherServer(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	var servers []net.Listener
	var addresses []string
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		servers, addresses = append(servers, l), append(addresses, l.Addr().String())
	}
	path := t.TempDir() + "/" + serversName
	e, err := newEndpoints("https://"+addresses[0], path, log)
	if err != nil {
		t.Fatal(err)
	}
	dial := func(e *endpoints, want string) {
		t.Helper()
		conn, err := e.dial(t.Context(), "tcp", "ignored:1")
		if err != nil {
			t.Fatal(err)
		}
		if got := conn.RemoteAddr().String(); got != want {
			t.Errorf("goes to %s, want %s", got, want)
		}
		if err := conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}
	dial(e, addresses[0])
	if err := e.set(addresses); err != nil {
		t.Fatal(err)
	}
	_ = servers[0].Close()
	dial(e, addresses[1])
	dial(e, addresses[1])
	e.leave()
	if got := e.order()[0]; got == addresses[1] {
		t.Error("stays with a server that it has left")
	}
	later, err := newEndpoints("https://"+addresses[0], path, log)
	if err != nil {
		t.Fatal(err)
	}
	dial(later, addresses[1]) // the first one is still closed
	if err := later.set(nil); err != nil || len(later.order()) != 3 {
		t.Errorf("no servers are believed: %v", later.order())
	}
}

// One server that fails everything is left, one that fails something is not.
func TestFailover(t *testing.T) {
	now, left := time.Now(), 0
	f := &failover{now: func() time.Time { return now }, leave: func() { left++ }}
	answer := func(code int) {
		t.Helper()
		f.RoundTripper = answering(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: code, Body: http.NoBody}, nil
		})
		r, err := f.RoundTrip((&http.Request{}).WithContext(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Body.Close()
		now = now.Add(2 * time.Second)
	}
	for range 10 {
		answer(500)
		answer(503)
		answer(404)
	}
	if left > 0 {
		t.Error("left a server that answers")
	}
	for range 3 {
		answer(504)
	}
	if left != 1 {
		t.Errorf("left %d times", left)
	}
}

type answering func(*http.Request) (*http.Response, error)

func (f answering) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
