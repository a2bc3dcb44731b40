package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/proa-dev/proa/controllers/loop"
	"github.com/proa-dev/proa/controllers/networkpolicy"
	"github.com/proa-dev/proa/internal/informers"
	"github.com/proa-dev/proa/network"
	"github.com/proa-dev/proa/network/policy"
)

const policyTable = "proa-t-policy"

// guarded is a node that enforces policies, with the control plane's half beside it.
type guarded struct {
	*node
	stop func() // the enforcement alone
}

func newGuarded(t testing.TB) *guarded {
	g := &guarded{}
	g.node = newNodeWith(t, func(n *node) network.Guard {
		e := n.enforcer(n.shared)
		g.stop = n.run(e.Run)
		return e
	})
	t.Cleanup(func() { _ = exec.Command("nft", "delete", "table", "ip", policyTable).Run() })
	for _, ns := range []string{"default", "other"} {
		_, err := g.client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns, Labels: map[string]string{"name": ns}}}, metav1.CreateOptions{})
		must(t, err)
	}
	shared := informers.New(g.client, nil)
	c, err := networkpolicy.New(loop.Deps{Client: g.client, Informers: shared, Log: testLog})
	must(t, err)
	g.run(c.Run)
	shared.StartWithContext(t.Context())
	return g
}

func (n *node) enforcer(shared *informers.Factory) *policy.Enforcer {
	e, err := policy.New(policy.Config{Informers: shared, Pods: shared.Core().V1().Pods(), Table: policyTable, Log: testLog})
	must(n.t, err)
	return e
}

// object makes a pod's object.
func (g *guarded) object(namespace, name, app string) string {
	g.t.Helper()
	o := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("u-" + name), Labels: map[string]string{"app": app}},
		Spec: corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}}}}}}
	_, err := g.client.CoreV1().Pods(namespace).Create(g.t.Context(), o, metav1.CreateOptions{})
	must(g.t, err)
	return fmt.Sprintf("IgnoreUnknown=1;K8S_POD_NAMESPACE=%s;K8S_POD_NAME=%s;K8S_POD_UID=u-%s", namespace, name, name)
}

// start makes a pod, attaches it and tells the API its address.
func (g *guarded) start(namespace, name, app string) *pod {
	g.t.Helper()
	p := g.podOf(g.object(namespace, name, app), "")
	g.tell(namespace, name, p.ip)
	return p
}

func (g *guarded) tell(namespace, name string, ip netip.Addr) {
	g.t.Helper()
	o, err := g.client.CoreV1().Pods(namespace).Get(g.t.Context(), name, metav1.GetOptions{})
	must(g.t, err)
	o.Status.PodIP = ip.String()
	_, err = g.client.CoreV1().Pods(namespace).UpdateStatus(g.t.Context(), o, metav1.UpdateOptions{})
	must(g.t, err)
}

// policy makes a policy of the namespace default, or makes it another one.
func (g *guarded) policy(name, spec string) {
	g.t.Helper()
	p := &networkingv1.NetworkPolicy{}
	must(g.t, yaml.UnmarshalStrict([]byte(spec), &p.Spec))
	api := g.client.NetworkingV1().NetworkPolicies("default")
	p.Namespace, p.Name = "default", name
	if _, err := api.Update(context.Background(), p, metav1.UpdateOptions{}); err != nil {
		_, err = api.Create(context.Background(), p, metav1.CreateOptions{})
		must(g.t, err)
	}
}

func (g *guarded) removePolicies() {
	g.t.Helper()
	api := g.client.NetworkingV1().NetworkPolicies("default")
	list, err := api.List(context.Background(), metav1.ListOptions{})
	must(g.t, err)
	for _, p := range list.Items {
		must(g.t, api.Delete(context.Background(), p.Name, metav1.DeleteOptions{}))
	}
	for range 200 {
		if exec.Command("nft", "list", "table", "ip", policyTable).Run() != nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	g.t.Error("without policies the table remains")
}

// becomes waits until a connection works, or does not.
func becomes(t testing.TB, from *pod, protocol, to string, want bool) {
	t.Helper()
	var err error
	for range 50 {
		if _, err = from.try(t, protocol, to); (err == nil) == want {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%s to %s: %v, want %v", protocol, to, err, want)
}

// try asks with little patience.
func (p *pod) try(t testing.TB, protocol, to string) (string, error) {
	var line string
	err := p.in(t, func() error {
		c, err := net.DialTimeout(protocol, to, 150*time.Millisecond)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(150 * time.Millisecond))
		if strings.HasPrefix(protocol, "udp") {
			if _, err := c.Write([]byte("x")); err != nil {
				return err
			}
		}
		b := make([]byte, 100)
		k, err := c.Read(b)
		line = string(b[:k])
		return err
	})
	return line, err
}

func TestPolicies(t *testing.T) {
	g := newGuarded(t)
	web, friend, stranger := g.start("default", "web", "web"), g.start("default", "friend", "friend"), g.start("other", "stranger", "friend")
	for _, port := range []int{80, 81, 8080} {
		web.serve(t, "web", port)
	}
	stranger.serve(t, "stranger", 80)
	stranger.serve(t, "stranger", 8080)
	at := func(p *pod, port int) string { return fmt.Sprintf("%s:%d", p.ip, port) }
	becomes(t, friend, "tcp", at(web, 80), true)
	if out, err := exec.Command("nft", "list", "table", "ip", policyTable).CombinedOutput(); err == nil {
		t.Errorf("without policies there is\n%s", out)
	}
	type try struct {
		from     *pod
		protocol string
		to       string
		want     bool
	}
	for _, c := range []struct {
		name, spec string
		tries      []try
	}{
		{"deny all", `{podSelector: {}, policyTypes: [Ingress, Egress]}`, []try{
			{friend, "tcp", at(web, 80), false}, {stranger, "udp", at(web, 80), false}, {web, "tcp", at(stranger, 80), false},
			{nil, "tcp", at(web, 80), true}, {nil, "udp", at(web, 81), true}}},
		{"peers and ports", `{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {app: friend}}}], ports: [{port: 80}]}]}`, []try{
			{friend, "tcp", at(web, 80), true}, {friend, "tcp", at(web, 81), false}, {friend, "udp", at(web, 80), false},
			{stranger, "tcp", at(web, 80), false}, {web, "tcp", at(stranger, 80), true}}},
		{"namespaces", `{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{namespaceSelector: {matchLabels: {name: other}}}]}]}`, []try{
			{stranger, "tcp", at(web, 80), true}, {stranger, "udp", at(web, 81), true}, {friend, "tcp", at(web, 80), false}}},
		{"range of ports, and one more", `{podSelector: {}, ingress: [{ports: [{port: 80, endPort: 81}, {port: 8080}, {port: 81, protocol: UDP}]}]}`, []try{
			{friend, "tcp", at(web, 80), true}, {friend, "tcp", at(web, 81), true}, {friend, "tcp", at(web, 8080), true},
			{friend, "udp", at(web, 81), true}, {friend, "udp", at(web, 80), false}}},
		{"named port of the pod", `{podSelector: {}, ingress: [{ports: [{port: web}]}]}`, []try{
			{friend, "tcp", at(web, 8080), true}, {friend, "tcp", at(web, 80), false}}},
		{"named port of the peer", `{podSelector: {matchLabels: {app: friend}}, egress: [{ports: [{port: web}]}]}`, []try{
			{friend, "tcp", at(web, 8080), true}, {friend, "tcp", at(stranger, 8080), true}, {friend, "tcp", at(stranger, 80), false}}},
		{"blocks", `{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [` + stranger.ip.String() + `/32]}}]}]}`, []try{
			{friend, "tcp", at(web, 80), true}, {stranger, "tcp", at(web, 80), false}}},
		{"egress to a block", `{podSelector: {matchLabels: {app: friend}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: ` + web.ip.String() + `/32}}], ports: [{port: 80}]}]}`, []try{
			{friend, "tcp", at(web, 80), true}, {friend, "tcp", at(web, 81), false}, {friend, "tcp", at(stranger, 80), false},
			{friend, "tcp", "10.244.0.1:22", false}, {web, "tcp", at(stranger, 80), true}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g.policy("p", c.spec)
			for _, try := range c.tries {
				if try.to == "10.244.0.1:22" { // the node: refused, not dropped
					if _, err := try.from.try(t, try.protocol, try.to); err == nil || !strings.Contains(err.Error(), "refused") {
						t.Errorf("a pod cannot reach its node: %v", err)
					}
					continue
				}
				becomes(t, try.from, try.protocol, try.to, try.want)
			}
		})
	}
	g.removePolicies()
	becomes(t, stranger, "tcp", at(web, 80), true)
}

// What changes around a policy: peers, labels, services, connections, processes.
func TestPolicyChanges(t *testing.T) {
	g := newGuarded(t)
	web, client := g.start("default", "web", "web"), g.start("default", "client", "nobody")
	web.serve(t, "web", 80)
	to := web.ip.String() + ":80"
	var open net.Conn
	must(t, client.in(t, func() (err error) { open, err = net.Dial("tcp", to); return err }))
	defer open.Close()
	g.policy("p", `{podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress, Egress], ingress: [{from: [{podSelector: {matchLabels: {app: friend}}}]}]}`)
	becomes(t, client, "tcp", to, false)
	t.Run("established connections stay", func(t *testing.T) {
		_ = open.SetDeadline(time.Now().Add(time.Second))
		b := make([]byte, 100)
		_, err := open.Read(b)
		must(t, err)
		_, err = open.Write([]byte("still there"))
		must(t, err)
		_, err = open.Read(b)
		must(t, err)
	})
	relabel := func(name, app string) {
		o, err := g.client.CoreV1().Pods("default").Get(t.Context(), name, metav1.GetOptions{})
		must(t, err)
		o = o.DeepCopy()
		o.Labels = map[string]string{"app": app}
		_, err = g.client.CoreV1().Pods("default").Update(t.Context(), o, metav1.UpdateOptions{})
		must(t, err)
	}
	t.Run("a peer by its labels", func(t *testing.T) {
		relabel("client", "friend")
		becomes(t, client, "tcp", to, true)
		relabel("client", "nobody")
		becomes(t, client, "tcp", to, false)
	})
	t.Run("a selected pod by its labels", func(t *testing.T) {
		relabel("web", "other")
		becomes(t, client, "tcp", to, true)
		relabel("web", "web")
		becomes(t, client, "tcp", to, false)
	})
	t.Run("through a service", func(t *testing.T) {
		g.proxy()
		g.service("web", "10.96.0.30", nil)
		g.slice("web", 80, web.ip.String())
		becomes(t, web, "tcp", "10.96.0.30:80", true) // a pod reaches itself
		becomes(t, client, "tcp", "10.96.0.30:80", false)
		relabel("client", "friend")
		becomes(t, client, "tcp", "10.96.0.30:80", true)
		relabel("client", "nobody")
		becomes(t, client, "tcp", "10.96.0.30:80", false)
	})
	t.Run("somebody removed the rules", func(t *testing.T) {
		must(t, exec.Command("nft", "delete", "table", "ip", policyTable).Run())
		becomes(t, client, "tcp", to, true)
		g.policy("q", `{podSelector: {matchLabels: {app: web}}}`)
		becomes(t, client, "tcp", to, false)
	})
	t.Run("another process", func(t *testing.T) {
		g.stop()
		if _, err := client.try(t, "tcp", to); err == nil {
			t.Error("with the process the rules are gone")
		}
		shared := informers.New(g.client, nil)
		e := g.enforcer(shared)
		e.Adopt(map[netip.Addr]policy.Pod{web.ip: {Namespace: "default", Name: "web", UID: "u-web"}})
		g.run(e.Run)
		shared.StartWithContext(t.Context())
		wait(t, e.Ready())
		if _, err := client.try(t, "tcp", to); err == nil {
			t.Error("the next process lets through what the last did not")
		}
		relabel("client", "friend")
		becomes(t, client, "tcp", to, true)
		out, err := exec.Command("nft", "list", "table", "ip", policyTable).CombinedOutput()
		must(t, err)
		t.Logf("%s", out)
	})
}

// No packet gets through between the link and the rules.
func TestFirstPacket(t *testing.T) {
	g := newGuarded(t)
	outside := g.start("other", "outside", "x")
	var received, escaped atomic.Int64
	count := func(p *pod, n *atomic.Int64) {
		must(t, p.in(t, func() error {
			c, err := net.ListenPacket("udp4", ":53")
			if err != nil {
				return err
			}
			t.Cleanup(func() { _ = c.Close() })
			go func() {
				b := make([]byte, 10)
				for {
					if _, _, err := c.ReadFrom(b); err != nil {
						return
					}
					n.Add(1)
				}
			}()
			return nil
		}))
	}
	send := func(p *pod, to string) {
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		go func() {
			_ = p.in(t, func() error {
				for ctx.Err() == nil {
					if c, err := net.Dial("udp4", to); err == nil {
						_, _ = c.Write([]byte("x"))
						_ = c.Close()
					}
				}
				return nil
			})
		}()
	}
	count(outside, &escaped)
	for i, spec := range []string{`{podSelector: {}, policyTypes: [Ingress, Egress]}`, `{podSelector: {matchLabels: {app: none}}}`} {
		received.Store(0)
		escaped.Store(0)
		g.policy("deny", spec)
		next := outside.ip
		for range i + 1 {
			next = next.Next()
		}
		name := fmt.Sprint("late", i)
		path := filepath.Join(t.TempDir(), "ns")
		late := &pod{id: name, ns: newNetns(t, path), ip: next}
		count(late, &received)
		send(outside, next.String()+":53")
		send(late, outside.ip.String()+":53")
		args := g.object("default", name, "web")
		out := g.cni("ADD", late.id, path, `{"cniVersion":"1.1.0"}`, args)
		if !strings.Contains(string(out), `"`+next.String()+`/32"`) {
			t.Fatalf("the test looks at %s, the pod has %s", next, out)
		}
		time.Sleep(200 * time.Millisecond)
		in, out2 := received.Load(), escaped.Load()
		t.Logf("%s: received %d, sent %d", spec, in, out2)
		if i == 0 && in+out2 > 0 || i == 1 && (in == 0 || out2 == 0) {
			t.Errorf("%s: received %d, sent %d", spec, in, out2)
		}
		g.cni("DEL", late.id, path, `{"cniVersion":"1.1.0"}`)
	}
}
