package cluster

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// house is a whole control plane, without a node.
type house struct {
	*controlPlane
	client kubernetes.Interface // of an administrator, in this process
	group  *Group
}

// newHouse starts one that ends with the test; change may set what the test is about.
func newHouse(t *testing.T, change func(*ServerConfig)) *house {
	t.Helper()
	dir, own := t.TempDir(), ownAddress(t)
	cfg := &ServerConfig{
		Place:       &Place{Name: "running", Roots: Roots{Data: dir + "/data", Run: dir + "/run", Config: dir + "/etc"}},
		BindAddress: own, AdvertiseAddress: own,
		ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"), ClusterCIDR: netip.MustParsePrefix("10.97.0.0/16"),
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(own.String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.HTTPSPort = listener.Addr().(*net.TCPAddr).Port
	if change != nil {
		change(cfg)
	}
	log := slog.New(slog.NewTextHandler(logTo(t), &slog.HandlerOptions{Level: slog.LevelWarn}))
	ctx := context.Background()
	api, err := startAPI(ctx, cfg, listener, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := api.Close(); err != nil {
			t.Error(err)
		}
	})
	c, group := api.plane, api.group
	if err := c.startAdmin(ctx, group); err != nil {
		t.Fatal(err)
	}
	if err := c.startLeading(ctx, group); err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(c.local("administrator", "system:masters"))
	if err != nil {
		t.Fatal(err)
	}
	return &house{c, client, group}
}

// logTo shows what was logged when the test fails.
func logTo(t *testing.T) io.Writer { return t.Output() }

// eventually waits for what happens by itself, for at most so long.
func eventually(t *testing.T, most time.Duration, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(most); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", most, what)
		}
	}
}

// bind gives a user, or a service account of the default namespace, all that may be read.
func (c *house) bind(t *testing.T, name, binding, kind string) {
	t.Helper()
	subject := rbacv1.Subject{Kind: kind, Name: name, APIGroup: rbacv1.GroupName}
	if kind == rbacv1.ServiceAccountKind {
		subject.APIGroup, subject.Namespace = "", "default"
	}
	roles := c.client.RbacV1()
	_, err := roles.ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: binding},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"nodes", "pods", "configmaps", "pods/exec"}, Verbs: []string{"get", "list", "watch", "create"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = roles.ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: binding}, Subjects: []rbacv1.Subject{subject},
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: binding},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// ownAddress is one of this machine's that is not loopback: endpoints and nodes must not be.
func ownAddress(t *testing.T) netip.Addr {
	list, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
			return p.Addr()
		}
	}
	t.Skip("this machine has no address but loopback")
	return netip.Addr{}
}
