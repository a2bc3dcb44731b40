package cluster

import (
	"context"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/proa-dev/proa/internal/presence"
)

// second joins a further server in this process to the first, at another port of the same address.
func (c *house) second(t *testing.T) *house {
	t.Helper()
	token, err := CreateToken(t.Context(), c.cfg.Place, time.Hour, true)
	if err != nil {
		t.Fatal(err)
	}
	dir, own := t.TempDir(), ownAddress(t)
	cfg := &ServerConfig{
		Place:       &Place{Name: "second", Roots: Roots{Data: dir + "/data", Run: dir + "/run", Config: dir + "/etc"}},
		BindAddress: own, AdvertiseAddress: own, PeerPort: freePort(t, own), Join: c.address(), Token: token,
		NodeConfig: NodeConfig{Name: "two"},
	}
	log := slog.New(slog.NewTextHandler(logTo(t), &slog.HandlerOptions{Level: slog.LevelWarn}))
	steps, err := NewProgress("", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := cfg.completeSelf(); err != nil {
		t.Fatal(err)
	}
	if err := cfg.joinServers(ctx, log, steps); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(own.String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.HTTPSPort = listener.Addr().(*net.TCPAddr).Port // one address cannot have two servers at the same
	api, err := startAPI(ctx, cfg, listener, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := api.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := api.plane.startLeading(context.Background(), api.group); err != nil {
		t.Fatal(err)
	}
	presence := Part{Name: "presence", Run: func(own context.Context) error { return api.plane.keepPresent(own, own) }}
	if err := api.group.Start(context.Background(), presence); err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(api.plane.local("administrator", "system:masters"))
	if err != nil {
		t.Fatal(err)
	}
	return &house{api.plane, client, api.group}
}

// share checks that what is written at one is read at the other, secrets too.
func share(t *testing.T, a, b *house, name string) {
	t.Helper()
	for i, pair := range [][2]*house{{a, b}, {b, a}} {
		name := name + "-" + strconv.Itoa(i)
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: map[string]string{"k": name}}
		if _, err := pair[0].client.CoreV1().Secrets("default").Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		got, err := pair[1].client.CoreV1().Secrets("default").Get(t.Context(), name, metav1.GetOptions{})
		if err != nil || string(got.Data["k"]) != name {
			t.Errorf("%s written at one server, read at the other: %v", name, err)
		}
	}
}

// leaders counts the servers at which the controllers run.
func leaders(all ...*house) int {
	n := 0
	for _, h := range all {
		if h.running.Load() != nil {
			n++
		}
	}
	return n
}

// A server that was alone gets company and is alone again: objects and keys are shared, the
// controllers run once.
func TestSecondServer(t *testing.T) {
	a := newHouse(t, func(cfg *ServerConfig) { cfg.PeerPort = freePort(t, cfg.AdvertiseAddress) })
	if leaders(a) != 1 {
		t.Error("a single server does not lead")
	}
	leases := func() int {
		list, err := a.client.CoordinationV1().Leases(presence.Namespace).List(t.Context(), metav1.ListOptions{LabelSelector: presence.Label})
		if err != nil {
			t.Fatal(err)
		}
		return len(list.Items)
	}
	if n := leases(); n != 0 {
		t.Errorf("a single server keeps %d leases", n)
	}
	b := a.second(t)
	share(t, a, b, "both")
	eventually(t, 10*time.Second, "one of two leads", func() bool { return leaders(a, b) == 1 })
	eventually(t, 10*time.Second, "both are present", func() bool { return leases() == 2 })
	all, err := Servers(t.Context(), a.cfg.Place)
	if err != nil || len(all) != 2 || Survives(all) != 0 {
		t.Fatalf("servers: %+v, %v", all, err)
	}
	if name, err := a.rotateKeys(t.Context()); err != nil || name == "" {
		t.Errorf("change the key: %v", err)
	}
	share(t, a, b, "rotated")
	if err := RemoveServer(t.Context(), a.cfg.Place, "nobody"); err == nil {
		t.Error("a server that there is not was removed")
	}
	if err := RemoveServer(t.Context(), a.cfg.Place, "two"); err != nil {
		t.Fatal(err)
	}
	if err := RemoveServer(t.Context(), a.cfg.Place, a.cfg.NodeConfig.Name); err == nil {
		t.Error("the last server was removed")
	}
	eventually(t, 10*time.Second, "the first one goes on alone", func() bool {
		_, err := a.client.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "alone"}}, metav1.CreateOptions{})
		return err == nil && a.running.Load() != nil
	})
}

// Servers that share an etcd outside elect one among themselves; when it ends the other leads.
func TestElection(t *testing.T) {
	endpoint := outside(t)
	a := newHouse(t, func(cfg *ServerConfig) { cfg.EtcdServers = []string{endpoint} })
	eventually(t, 10*time.Second, "the first one leads", func() bool { return leaders(a) == 1 })
	b := a.second(t)
	share(t, a, b, "shared")
	for _, name := range []string{"kube-scheduler", "kube-controller-manager"} {
		lease, err := b.client.CoordinationV1().Leases("kube-system").Get(t.Context(), name, metav1.GetOptions{})
		if err != nil || lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity != a.cfg.NodeConfig.Name {
			t.Errorf("lease %s: %v %v", name, lease.Spec.HolderIdentity, err)
		}
	}
	if b.running.Load() != nil {
		t.Error("the second one leads too")
	}
	a.group.Stop() // gives the leases up
	eventually(t, 30*time.Second, "the second one leads", func() bool { return leaders(b) == 1 })
}

// outside is an etcd of the test's own.
func outside(t *testing.T) string {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir, cfg.LogLevel, cfg.UnsafeNoFsync = t.TempDir(), "fatal", true
	local := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.ListenPeerUrls, cfg.ListenClientUrls = local, local
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	<-e.Server.ReadyNotify()
	return "http://" + e.Clients[0].Addr().String()
}

// The lease goes to another when it was not renewed for its time, by our clock alone.
func TestElectionByOwnClock(t *testing.T) {
	client := fake.NewClientset()
	now := map[string]time.Time{"a": time.Unix(1e9, 0), "b": time.Unix(2e9, 0)}
	make := func(who string) *election {
		return &election{client: client, identity: who, now: func() time.Time { return now[who] }}
	}
	a, b := make("a"), make("b")
	try := func(e *election, want bool) {
		t.Helper()
		if holds, err := e.try(t.Context()); err != nil || holds != want {
			t.Errorf("%s holds the lease: %v, %v", e.identity, holds, err)
		}
	}
	try(a, true)
	for range 10 {
		try(b, false)
		now["a"], now["b"] = now["a"].Add(retryPeriod), now["b"].Add(2*retryPeriod)
		try(a, true)
	}
	try(b, false)
	now["b"] = now["b"].Add(leaseTime)
	try(b, false)
	now["b"] = now["b"].Add(time.Second)
	try(b, true)
	try(a, false)
	try(make("b"), true) // it was killed, and is back
	b.giveUp(t.Context())
	try(a, true)
}
