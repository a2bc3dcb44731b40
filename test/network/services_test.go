package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/proxy"
)

func ptr[T any](v T) *T { return &v }

func (n *node) proxy() (*proxy.Proxy, func()) {
	n.t.Helper()
	p, err := proxy.New(proxy.Config{NodeName: "n1", Informers: n.shared, Table: "proa-t-svc", PodCIDR: netip.MustParsePrefix("10.244.0.0/16"), Log: testLog})
	must(n.t, err)
	stop := n.run(p.Run)
	n.shared.StartWithContext(n.t.Context())
	wait(n.t, p.Ready())
	return p, stop
}

func (n *node) service(name, ip string, change func(*corev1.Service)) {
	n.t.Helper()
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Spec: corev1.ServiceSpec{ClusterIP: ip,
		Type:  corev1.ServiceTypeClusterIP,
		Ports: []corev1.ServicePort{{Name: "a", Port: 80, Protocol: corev1.ProtocolTCP}, {Name: "u", Port: 80, Protocol: corev1.ProtocolUDP}}}}
	if change != nil {
		change(s)
	}
	_, err := n.client.CoreV1().Services("default").Create(context.Background(), s, metav1.CreateOptions{})
	must(n.t, err)
}

// slice sets the endpoints of a service, each "ip" on this node or "ip@other".
func (n *node) slice(service string, port int32, ips ...string) {
	n.t.Helper()
	s := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: service + "-1", Namespace: "default", Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr("a"), Port: &port, Protocol: ptr(corev1.ProtocolTCP)}, {Name: ptr("u"), Port: &port, Protocol: ptr(corev1.ProtocolUDP)}}}
	for _, ip := range ips {
		addr, at, other := strings.Cut(ip, "@")
		if !other {
			at = "n1"
		}
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{addr}, NodeName: &at})
	}
	api := n.client.DiscoveryV1().EndpointSlices("default")
	if _, err := api.Update(context.Background(), s, metav1.UpdateOptions{}); err != nil {
		_, err = api.Create(context.Background(), s, metav1.CreateOptions{})
		must(n.t, err)
	}
}

// eventually waits for an answer: the proxy follows the API, it is not asked.
func eventually(t testing.TB, from *pod, protocol, to, want string) {
	t.Helper()
	var got string
	var err error
	for range 200 {
		if got, err = from.ask(t, protocol, to); err == nil && got == want {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("%s to %s: %q, %v; want %q", protocol, to, got, err, want)
}

func TestServices(t *testing.T) {
	n := newNode(t)
	client, one, two := n.pod(""), n.pod(""), n.pod("")
	one.serve(t, "one", 8080)
	two.serve(t, "two", 8080)
	_, stop := n.proxy()

	n.service("web", "10.96.0.20", func(s *corev1.Service) {
		s.Spec.Type = corev1.ServiceTypeNodePort
		s.Spec.Ports[0].NodePort = 30080
		s.Spec.ExternalIPs = []string{"203.0.113.7"}
	})
	n.slice("web", 8080, one.ip.String())
	vip := "10.96.0.20:80"
	eventually(t, client, "tcp", vip, "one "+client.ip.String())
	expect(t, client, "udp", vip, "one udp")
	expect(t, nil, "tcp", vip, "one 10.244.0.1")
	expect(t, one, "tcp", vip, "one 10.244.0.1") // hairpin
	expect(t, client, "tcp", "10.244.0.1:30080", "one 10.244.0.1")
	expect(t, nil, "tcp", "10.244.0.1:30080", "one 10.244.0.1")
	expect(t, client, "tcp", "203.0.113.7:80", "one 10.244.0.1")
	refusedFast(t, client, "10.96.0.20:81")
	refusedFast(t, nil, "10.96.0.20:81")
	if _, err := (*pod)(nil).ask(t, "tcp", "127.0.0.1:30080"); err == nil {
		t.Error("node port answers on loopback")
	}

	t.Run("spread", func(t *testing.T) {
		n.slice("web", 8080, one.ip.String(), two.ip.String())
		eventually(t, client, "tcp", vip, "two "+client.ip.String())
		seen := map[string]int{}
		for range 40 {
			got, err := client.ask(t, "tcp", vip)
			must(t, err)
			seen[got]++
		}
		if len(seen) != 2 {
			t.Errorf("40 connections reached %v", seen)
		}
	})
	t.Run("established connection survives", func(t *testing.T) {
		var c net.Conn
		must(t, client.in(t, func() (err error) { c, err = net.Dial("tcp", vip); return err }))
		defer c.Close()
		b := make([]byte, 100)
		_, err := c.Read(b)
		must(t, err)
		n.slice("web", 8080)
		refusedFast(t, client, vip)
		refusedFast(t, nil, "10.244.0.1:30080")
		_, err = c.Write([]byte("still\n"))
		must(t, err)
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		if k, err := c.Read(b); err != nil || string(b[:k]) != "still\n" {
			t.Errorf("read %q, %v", b[:k], err)
		}
	})
	t.Run("UDP flow moves", func(t *testing.T) {
		n.slice("web", 8080, one.ip.String())
		eventually(t, client, "udp", vip, "one udp")
		var c net.Conn
		must(t, client.in(t, func() (err error) { c, err = net.Dial("udp", vip); return err }))
		defer c.Close()
		ask := func() string {
			b := make([]byte, 100)
			_, _ = c.Write([]byte("x"))
			_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			k, _ := c.Read(b)
			return strings.TrimSpace(string(b[:k]))
		}
		if got := ask(); got != "one udp" {
			t.Fatalf("first %q", got)
		}
		n.slice("web", 8080, two.ip.String())
		var got string
		for began := time.Now(); time.Since(began) < time.Second; {
			if got = ask(); got == "two udp" {
				return
			}
		}
		t.Errorf("same socket still gets %q", got)
	})
	out := n.outsider() // 192.0.2.2
	t.Run("traffic policies", func(t *testing.T) {
		n.service("local", "10.96.0.21", func(s *corev1.Service) {
			s.Spec.Type = corev1.ServiceTypeLoadBalancer
			s.Spec.Ports[0].NodePort = 30081
			s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.9"}}
		})
		n.slice("local", 8080, two.ip.String()+"@elsewhere")
		eventually(t, client, "tcp", "10.96.0.21:80", "two "+client.ip.String())
		expect(t, client, "tcp", "10.244.0.1:30081", "two 10.244.0.1") // from the cluster: any endpoint
		expect(t, client, "tcp", "203.0.113.9:80", "two 10.244.0.1")
		if got, err := out.ask(t, "tcp", "192.0.2.1:30081"); err == nil {
			t.Errorf("no local endpoint, yet %q", got)
		}
		n.slice("local", 8080, one.ip.String(), two.ip.String()+"@elsewhere")
		eventually(t, out, "tcp", "192.0.2.1:30081", "one 192.0.2.2") // client address kept
		expect(t, out, "tcp", "203.0.113.9:80", "one 192.0.2.2")
	})
	t.Run("source ranges", func(t *testing.T) {
		fence := func(ranges ...string) {
			t.Helper()
			s, err := n.client.CoreV1().Services("default").Get(context.Background(), "fenced", metav1.GetOptions{})
			must(t, err)
			s.Spec.LoadBalancerSourceRanges = ranges
			_, err = n.client.CoreV1().Services("default").Update(context.Background(), s, metav1.UpdateOptions{})
			must(t, err)
		}
		n.service("fenced", "10.96.0.23", func(s *corev1.Service) {
			s.Spec.Type = corev1.ServiceTypeLoadBalancer
			s.Spec.LoadBalancerSourceRanges = []string{"198.51.100.0/24", "192.0.2.0/24", " 192.0.2.0/30", "2001:db8::/32"}
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.10"}}
		})
		n.slice("fenced", 8080, one.ip.String())
		eventually(t, out, "tcp", "203.0.113.10:80", "one 10.244.0.1")
		shut := func(from *pod, to string) {
			t.Helper()
			for range 200 {
				if _, err := from.ask(t, "tcp", to); err != nil {
					return
				}
				time.Sleep(5 * time.Millisecond)
			}
			t.Errorf("%s answers", to)
		}
		shut(client, "203.0.113.10:80") // 10.244.0.x is in none of the ranges
		fence("198.51.100.0/24")
		shut(out, "203.0.113.10:80")
		expect(t, client, "tcp", "10.96.0.23:80", "one "+client.ip.String()) // the cluster's own address has no fence
		fence("192.0.2.2/32", "10.244.0.0/16")
		eventually(t, out, "tcp", "203.0.113.10:80", "one 10.244.0.1")
		expect(t, client, "tcp", "203.0.113.10:80", "one 10.244.0.1")
		fence("198.51.100.0/24")
		shut(out, "203.0.113.10:80")
		fence()
		eventually(t, out, "tcp", "203.0.113.10:80", "one 10.244.0.1")
	})
	t.Run("affinity", func(t *testing.T) {
		n.service("sticky", "10.96.0.22", func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP })
		n.slice("sticky", 8080, one.ip.String(), two.ip.String())
		first := ""
		for range 200 {
			if got, err := client.ask(t, "tcp", "10.96.0.22:80"); err == nil {
				first = got
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		for range 20 {
			expect(t, client, "tcp", "10.96.0.22:80", first)
		}
		keep, other := one, "one"
		if strings.HasPrefix(first, "one") {
			keep, other = two, "two"
		}
		n.slice("sticky", 8080, keep.ip.String())
		eventually(t, client, "tcp", "10.96.0.22:80", other+" "+client.ip.String())
	})
	t.Run("takeover and removal", func(t *testing.T) {
		stop()
		n.proxy() // a second process replaces the table
		expect(t, client, "tcp", vip, "two "+client.ip.String())
		must(t, n.client.CoreV1().Services("default").Delete(context.Background(), "web", metav1.DeleteOptions{}))
		for range 200 {
			out, err := exec.Command("nft", "list", "table", "ip", "proa-t-svc").CombinedOutput()
			must(t, err)
			if !strings.Contains(string(out), "10.96.0.20") && !strings.Contains(string(out), "30080") {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
		t.Error("the deleted service is still in the kernel")
	})
	if t.Failed() {
		out, _ := exec.Command("nft", "list", "table", "ip", "proa-t-svc").CombinedOutput()
		t.Logf("%s", out)
	}
}

// refusedFast wants a refusal, not a time-out.
func refusedFast(t testing.TB, from *pod, to string) {
	t.Helper()
	var err error
	for range 50 {
		began := time.Now()
		if _, err = from.ask(t, "tcp", to); err != nil && strings.Contains(err.Error(), "refused") && time.Since(began) < 300*time.Millisecond {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("%s: %v; want refused at once", to, err)
}

// outsider is a machine on a link of its own: the node is 192.0.2.1, it 192.0.2.2.
func (n *node) outsider() *pod {
	n.t.Helper()
	p := &pod{ip: netip.MustParseAddr("192.0.2.2")}
	p.ns = newNetns(n.t, n.t.TempDir()+"/ns")
	must(n.t, wire(p, "out0", "192.0.2.1/24", "192.0.2.2/24", "192.0.2.1"))
	return p
}

// BenchmarkServices measures 2,000 services at once and then single endpoint changes.
func BenchmarkServices(b *testing.B) {
	n := newNode(b)
	client, one := n.pod(""), n.pod("")
	one.serve(b, "one", 8080)
	n.proxy()
	const count = 2000
	vip := func(i int) string { return fmt.Sprintf("10.96.%d.%d", 1+i/200, 1+i%200) }
	for i := range count {
		n.service(fmt.Sprintf("s%d", i), vip(i), nil)
		n.slice(fmt.Sprintf("s%d", i), 8080, one.ip.String())
	}
	acked := time.Now()
	eventually(b, client, "tcp", vip(count-1)+":80", "one "+client.ip.String())
	b.Logf("last of %d services answers %v after it was written", count, time.Since(acked))
	var took []time.Duration
	down := false
	for b.Loop() {
		var want func() bool
		began := time.Now()
		if down = !down; down {
			n.slice("s7", 8080)
			want = func() bool { _, err := client.ask(b, "tcp", vip(7)+":80"); return err != nil }
		} else {
			n.slice("s7", 8080, one.ip.String())
			want = func() bool { _, err := client.ask(b, "tcp", vip(7)+":80"); return err == nil }
		}
		for !want() {
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.Logf("endpoint change to seen by a client: p50 %v p99 %v", took[len(took)/2], took[len(took)*99/100])
}
