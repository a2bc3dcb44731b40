package server

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// noRuntime must not be asked.
type noRuntime struct {
	runtimeapi.RuntimeServiceClient
}

// nothingHere is a kubelet without pods.
type nothingHere struct{ kubelet }

func (nothingHere) Pods() []*corev1.Pod                                { return nil }
func (nothingHere) Pod(string, string) (*corev1.Pod, bool)             { return nil, false }
func (nothingHere) ContainerID(types.UID, string, bool) (string, bool) { return "", false }

// door is a server whose questions to the API are noted and answered by a rule.
type door struct {
	*Server
	mu    sync.Mutex
	asked []string
}

// newDoor lets a user do what may says, by "verb subresource".
func newDoor(t *testing.T, may func(question string) bool) *door {
	t.Helper()
	d := &door{}
	client := fake.NewClientset()
	client.PrependReactor("create", "tokenreviews", func(a ktesting.Action) (bool, runtime.Object, error) {
		review := a.(ktesting.CreateAction).GetObject().(*authenticationv1.TokenReview).DeepCopy()
		if name, ok := strings.CutPrefix(review.Spec.Token, "of-"); ok {
			review.Status = authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{Username: name}}
		}
		return true, review, nil
	})
	client.PrependReactor("create", "subjectaccessreviews", func(a ktesting.Action) (bool, runtime.Object, error) {
		review := a.(ktesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview).DeepCopy()
		r := review.Spec.ResourceAttributes
		question := r.Verb + " " + r.Subresource
		if r.Resource != "nodes" || r.Name != "n" || r.Group != "" {
			t.Errorf("asked about %+v", r)
		}
		d.mu.Lock()
		d.asked = append(d.asked, question)
		d.mu.Unlock()
		review.Status.Allowed = may(question)
		return true, review, nil
	})
	s, err := New(Config{Addr: "127.0.0.1:0", TLS: &tls.Config{}, NodeName: "n", Client: client, Runtime: noRuntime{}, Pods: nothingHere{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	d.Server = s
	return d
}

// ask sends a request as a user and gives the code and what was asked of the API for it.
func (d *door) ask(user, method, path string, headers ...string) (int, string) {
	d.mu.Lock()
	d.asked = nil
	d.mu.Unlock()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, path, nil)
	r.Header.Set("Authorization", "Bearer of-"+user)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	d.mux.ServeHTTP(w, r)
	d.mu.Lock()
	defer d.mu.Unlock()
	return w.Code, strings.Join(d.asked, ", ")
}

// What a request takes is told by what it does, for each path and method; what is not served
// takes the most, and is not there: profiles, node logs, run, checkpoints.
func TestAttackRoutes(t *testing.T) {
	d := newDoor(t, func(string) bool { return false })
	n := 0
	for path, want := range map[string]string{
		"GET /healthz": "get healthz, get proxy", "GET /pods": "get pods, get proxy", "GET /runningpods/": "get pods, get proxy", "GET /configz": "get configz, get proxy",
		"GET /metrics": "get metrics", "GET /metrics/resource": "get metrics", "GET /metrics/cadvisor": "get metrics", "GET /metrics/probes": "get metrics", "GET /metrics/usage": "get metrics", "GET /stats/summary": "get stats", "POST /stats/summary": "create stats",
		"GET /containerLogs/a/b/c": "get proxy", "HEAD /containerLogs/a/b/c": "get proxy",
		"GET /exec/a/b/c": "create proxy", "POST /exec/a/b/c": "create proxy", "GET /exec/a/b/u/c": "create proxy", "GET /attach/a/b/c": "create proxy", "GET /portForward/a/b": "create proxy", "POST /portForward/a/b/u": "create proxy",
		"DELETE /exec/a/b/c": "create proxy", "PUT /pods": "create proxy", "POST /pods": "create proxy", "GET /run/a/b/c": "create proxy", "POST /run/a/b/c": "create proxy", "GET /cri/exec/x": "create proxy",
		"GET /debug/pprof/": "create proxy", "GET /debug/pprof/heap": "create proxy", "GET /debug/flags/v": "create proxy", "PUT /debug/flags/v": "create proxy",
		"GET /logs/": "create proxy", "GET /logs/?query=kubelet;id": "create proxy", "POST /checkpoint/a/b/c": "create proxy", "POST /metrics/cadvisor": "create proxy", "GET /": "create proxy",
		"GET /healthz/../exec/a/b/c": "", "GET //exec/a/b/c": "", "GET /healthz/%2e%2e/exec/a/b/c": "create proxy",
		"GET /healthz%2f..%2fexec/a/b/c": "create proxy", "GET /PODS": "create proxy", "GET /exec/a/b%2fc/d": "create proxy",
	} {
		n++
		user := fmt.Sprint("u", n) // answers are kept for each
		method, at, _ := strings.Cut(path, " ")
		code, asked := d.ask(user, method, at)
		switch {
		case asked != want:
			t.Errorf("%s asks %q, want %q", path, asked, want)
		case want != "" && code != http.StatusForbidden:
			t.Errorf("%s without permission: %d", path, code)
		case want == "" && code < 300 || code >= 500: // led to the plain form of the path, where it is asked
			t.Errorf("%s: %d", path, code)
		}
	}
	all := newDoor(t, func(string) bool { return true })
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/flags/v", "/logs/", "/logs/syslog", "/logs/?query=kubelet", "/run/a/b/c", "/checkpoint/a/b/c", "/cri/exec/x", "/spec/"} {
		for _, method := range []string{"GET", "POST", "PUT"} {
			if code, _ := all.ask("admin", method, path); code != http.StatusNotFound {
				t.Errorf("%s %s is served: %d", method, path, code)
			}
		}
	}
}

// A WebSocket begins with a GET; who may only read the node's subresource runs nothing with it.
func TestAttackGetIsNoExec(t *testing.T) {
	d := newDoor(t, func(question string) bool { return question == "get proxy" })
	socket := []string{"Connection", "Upgrade", "Upgrade", "websocket", "Sec-Websocket-Version", "13", "Sec-Websocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "Sec-Websocket-Protocol", "v4.channel.k8s.io"}
	for _, path := range []string{"/exec/a/b/c?command=id&output=1", "/exec/a/b/u/c?command=id&output=1", "/attach/a/b/c?output=1", "/portForward/a/b?port=1", "/run/a/b/c?cmd=id"} {
		for _, method := range []string{"GET", "HEAD"} {
			for _, headers := range [][]string{nil, socket, append(socket, "X-Http-Method-Override", "GET")} {
				if code, _ := d.ask("reader", method, path, headers...); code != http.StatusForbidden {
					t.Errorf("%s %s: %d", method, path, code)
				}
			}
		}
	}
	if code, _ := d.ask("reader", "GET", "/pods"); code != http.StatusOK {
		t.Errorf("what the reader may do: %d", code)
	}
}

// Neither headers nor certificates that nobody verified make a user, and nobody is a master
// but by a verified certificate.
func TestAttackIdentity(t *testing.T) {
	d := newDoor(t, func(string) bool { return false })
	for name, headers := range map[string][]string{
		"front proxy":   {"X-Remote-User", "admin", "X-Remote-Group", masters},
		"impersonation": {"Impersonate-User", "admin", "Impersonate-Group", masters},
		"basic":         {"Authorization", "Basic YWRtaW46YWRtaW4="},
		"two tokens":    {"Authorization", "Bearer"},
		"unknown":       {"Authorization", "Bearer none"},
	} {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/pods", nil)
		for i := 0; i+1 < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		d.mux.ServeHTTP(w, r)
		if w.Code != http.StatusUnauthorized {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
	leaf := &x509.Certificate{Subject: pkix.Name{CommonName: "admin", Organization: []string{masters}}, NotAfter: time.Now().Add(time.Hour)}
	for name, c := range map[string]struct {
		state tls.ConnectionState
		want  int
	}{
		"shown, not verified": {tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}, http.StatusUnauthorized},
		"expired meanwhile":   {tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{Subject: leaf.Subject, NotAfter: time.Now().Add(-time.Second)}}}}, http.StatusUnauthorized},
		"no name":             {tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{NotAfter: leaf.NotAfter, Subject: pkix.Name{Organization: []string{masters}}}}}}, http.StatusUnauthorized},
		"verified":            {tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf}}}, http.StatusOK},
	} {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/pods", nil)
		r.TLS = &c.state
		d.mux.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
}

// Connections are bounded: those beyond wait, and are served when others end.
func TestAttackManyConnections(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conns := newConnections(l, 3)
	defer conns.Close()
	accepted := make(chan net.Conn, 10)
	go func() {
		for {
			c, err := conns.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- c
		}
	}()
	var clients []net.Conn
	for range 5 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		clients = append(clients, c)
	}
	var first net.Conn
	for i := range 3 {
		if c := <-accepted; i == 0 {
			first = c
		}
	}
	select {
	case <-accepted:
		t.Error("a fourth connection was accepted")
	case <-time.After(50 * time.Millisecond):
	}
	_ = first.Close()
	_ = first.Close() // frees one slot, not two
	select {
	case <-accepted:
	case <-time.After(5 * time.Second):
		t.Error("nobody came after one had gone")
	}
	select {
	case <-accepted:
		t.Error("closing twice freed two slots")
	case <-time.After(50 * time.Millisecond):
	}
	conns.closeAll()
	for _, c := range clients[:1] {
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.ReadAll(c); err != nil {
			t.Errorf("a connection stays open: %v", err)
		}
	}
}
