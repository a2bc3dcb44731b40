package overload

import (
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"
)

const (
	nodeCount = 20
	leases    = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
	objects   = 2000 // in namespace big
	some      = 16   // requests in flight: as many as make the most of the machine
	times     = 10
	phase     = 6 * time.Second
)

// TestTenTimes: a server with ten times the requests in flight goes on doing about as much
// as before, in bounded memory, and nodes hardly notice.
func TestTenTimes(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 20 seconds")
	}
	s := startServer(t)
	c := s.prepare(t)
	c.load(t.Context(), some, time.Second) // caches fill, connections open

	stop := s.nodes(t)
	peak := c.load(t.Context(), some, phase)
	calm, before := stop(), s.rss(t)
	t.Logf("%4d in flight: %v; %d MiB; leases %+v", some, peak, before, calm)

	stop = s.nodes(t)
	much, most := make(chan *done, 1), 0
	go func() { much <- c.load(t.Context(), some*times, phase) }()
	var flood *done
	for tick := time.Tick(50 * time.Millisecond); flood == nil; {
		select {
		case flood = <-much:
		case <-s.ended:
			t.Fatal("the server ended")
		case <-tick:
			most = max(most, s.rss(t))
		}
	}
	busy := stop()
	t.Logf("%4d in flight: %v; at most %d MiB; leases %+v", some*times, flood, most, busy)

	if a, b := peak.creates.Load()+peak.lists.Load(), flood.creates.Load()+flood.lists.Load(); b*2 < a {
		t.Errorf("%d writes and lists answered at %d times the load, %d before", b, times, a)
	}
	if most > before*3/2+128 {
		t.Errorf("%d MiB, %d before", most, before)
	}
	if busy.Failed > 0 || calm.Failed > 0 {
		t.Errorf("leases not renewed: %+v, before: %+v", busy, calm)
	}
	if busy.P99 > 1000 {
		t.Errorf("99 %% of leases renewed within %.0f ms, %.0f before", busy.P99, calm.P99)
	}
	if code, err := c.do(t.Context(), "", "", 0, http.MethodGet, "/readyz", "", whole); code != http.StatusOK {
		t.Errorf("/readyz: %d %v", code, err)
	}
}

// prepare makes what the load needs, once the server answers.
func (s *server) prepare(t *testing.T) *client {
	t.Helper()
	var c *client
	for tick, end := time.Tick(20*time.Millisecond), time.After(30*time.Second); ; {
		if _, err := os.Stat(s.kubeconfig); err == nil && c == nil {
			if c, err = newClient(s.kubeconfig, 8); err != nil {
				t.Fatal(err)
			}
		}
		if c != nil {
			if code, err := c.do(t.Context(), "", "", 0, http.MethodGet, "/readyz", "", whole); err == nil && code == http.StatusOK {
				break
			}
		}
		select {
		case <-tick:
		case <-end:
			t.Fatal("the server is not ready")
		case <-s.ended:
			t.Fatal("the server ended")
		}
	}
	post := func(path, body string) {
		if code, err := c.do(t.Context(), "", "", 0, http.MethodPost, path, body, whole); err != nil || code != http.StatusCreated {
			t.Fatalf("create %s: %d %v", path, code, err)
		}
	}
	post("/api/v1/namespaces", `{"metadata":{"name":"big"}}`)
	post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", `{"metadata":{"name":"loaders"},"subjects":[{"kind":"Group","name":"loaders","apiGroup":"rbac.authorization.k8s.io"}],`+
		`"roleRef":{"kind":"ClusterRole","name":"cluster-admin","apiGroup":"rbac.authorization.k8s.io"}}`)
	for n := range nodeCount {
		post(leases, fmt.Sprintf(`{"metadata":{"name":"n%d"},"spec":{"holderIdentity":"n%d","leaseDurationSeconds":40}}`, n, n))
	}
	for i := range objects {
		post("/api/v1/namespaces/big/configmaps", configMap(fmt.Sprintf("b-%d", i)))
	}
	return c
}
