package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/proa-dev/proa/internal/informers"
	"github.com/proa-dev/proa/network/policy"
)

// BenchmarkAddProtected measures what policies add to attaching a pod.
func BenchmarkAddProtected(b *testing.B) {
	for name, spec := range map[string]string{"none": "", "deny": `{podSelector: {}, policyTypes: [Ingress, Egress]}`} {
		b.Run(name, func(b *testing.B) {
			g := newGuarded(b)
			if spec != "" {
				g.policy("p", spec)
			}
			g.start("default", "another", "web")
			path := filepath.Join(b.TempDir(), "ns")
			newNetns(b, path)
			var took []time.Duration
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				args := g.object("default", fmt.Sprint("bench", i), "web")
				b.StartTimer()
				began := time.Now()
				g.cni("ADD", "bench", path, `{"cniVersion":"1.1.0"}`, args)
				took = append(took, time.Since(began))
				b.StopTimer()
				g.cni("DEL", "bench", path, `{"cniVersion":"1.1.0"}`)
				b.StartTimer()
			}
			slices.Sort(took)
			b.Logf("%s: p50 %v p90 %v", name, took[len(took)/2], took[len(took)*9/10])
		})
	}
}

// BenchmarkPolicies measures 1,000 policies for 100 pods of a node with 50 peers of 100 addresses
// each: all at once, then single changes of a peer, from the API to the first packet that passes.
func BenchmarkPolicies(b *testing.B) {
	g := newGuarded(b)
	const own, policies, peers, each = 100, 1000, 50, 100
	pods := map[netip.Addr]policy.Pod{}
	var first *pod
	for i := range own {
		name := fmt.Sprint("own", i)
		p := g.start("default", name, fmt.Sprint("web", i))
		pods[p.ip] = policy.Pod{Namespace: "default", Name: name, UID: types.UID("u-" + name)}
		if first == nil {
			first = p
		}
	}
	first.serve(b, "first", 80)
	for i := range peers * each {
		o := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "other", Name: fmt.Sprint("peer", i), Labels: map[string]string{"peer": fmt.Sprint("g", i%peers)}},
			Status: corev1.PodStatus{PodIP: fmt.Sprintf("10.245.%d.%d", i/250, 1+i%250)}}
		_, err := g.client.CoreV1().Pods("other").Create(b.Context(), o, metav1.CreateOptions{})
		must(b, err)
	}
	client := g.start("default", "client", "client")
	for i := range policies {
		g.policy(fmt.Sprint("p", i), fmt.Sprintf(`{podSelector: {matchLabels: {app: web%d}}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {peer: g%d}}}], ports: [{port: 80}, {port: 80, protocol: UDP}]}]}`, i%own, i%peers))
	}
	awaitSlices(b, g, peers, peers*each)
	g.stop()
	shared := informers.New(g.client, nil)
	e := g.enforcer(shared)
	e.Adopt(pods)
	shared.StartWithContext(b.Context())
	began := time.Now()
	g.run(e.Run)
	wait(b, e.Ready())
	b.Logf("first sync of %d policies, %d addresses: %v", policies, peers*each, time.Since(began))
	var conn net.Conn
	must(b, client.in(b, func() (err error) { conn, err = net.Dial("udp4", first.ip.String()+":80"); return err }))
	defer conn.Close()
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		relabel(b, g, "client", "g0")
		answered(b, client, first)
		took = append(took, time.Since(began))
		b.StopTimer()
		relabel(b, g, "client", "none")
		awaitSlices(b, g, peers, peers*each)
		time.Sleep(20 * time.Millisecond)
		b.StartTimer()
	}
	slices.Sort(took)
	b.Logf("a peer that comes, to its first packet: p50 %v p99 %v", took[len(took)/2], took[len(took)*99/100])
}

func relabel(t testing.TB, g *guarded, name, peer string) {
	o, err := g.client.CoreV1().Pods("default").Get(context.Background(), name, metav1.GetOptions{})
	must(t, err)
	o = o.DeepCopy()
	o.Labels = map[string]string{"peer": peer}
	_, err = g.client.CoreV1().Pods("default").Update(context.Background(), o, metav1.UpdateOptions{})
	must(t, err)
}

// answered sends until the pod answers.
func answered(t testing.TB, from, to *pod) {
	b := make([]byte, 10)
	for range 10000 {
		var conn net.Conn // a new flow each time
		must(t, from.in(t, func() (err error) { conn, err = net.Dial("udp4", to.ip.String()+":80"); return err }))
		_, _ = conn.Write([]byte("x"))
		_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
		_, err := conn.Read(b)
		_ = conn.Close()
		if err == nil {
			return
		}
	}
	t.Fatal("no answer")
}

func awaitSlices(t testing.TB, g *guarded, slices, addresses int) {
	for range 1000 {
		list, err := g.client.DiscoveryV1().EndpointSlices("kube-system").List(context.Background(), metav1.ListOptions{})
		must(t, err)
		n := 0
		for _, s := range list.Items {
			n += len(s.Endpoints)
		}
		if len(list.Items) == slices && n == addresses {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("the slices do not come")
}

// BenchmarkServiceLatency measures a connection through a service, to its first byte, and a
// packet to and fro on one that is there, without policies and with one on both sides.
func BenchmarkServiceLatency(b *testing.B) {
	for name, spec := range map[string]string{"none": "", "allowed": `{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{from: [{podSelector: {}}], ports: [{port: 80}]}], egress: [{to: [{podSelector: {}}], ports: [{port: 80}]}]}`} {
		b.Run(name, func(b *testing.B) {
			g := newGuarded(b)
			web, client := g.start("default", "web", "web"), g.start("default", "client", "client")
			web.serve(b, "web", 80)
			g.proxy()
			g.service("web", "10.96.0.40", nil)
			g.slice("web", 80, web.ip.String())
			if spec != "" {
				g.policy("p", spec)
				awaitSlices(b, g, 1, 2)
			}
			becomes(b, client, "tcp", "10.96.0.40:80", true)
			var connects, echoes []time.Duration
			must(b, client.in(b, func() error {
				buf := make([]byte, 100)
				var last net.Conn
				for b.Loop() {
					began := time.Now()
					c, err := net.Dial("tcp", "10.96.0.40:80")
					if err != nil {
						return err
					}
					if _, err := c.Read(buf); err != nil {
						return err
					}
					connects = append(connects, time.Since(began))
					if last != nil {
						_ = last.Close()
					}
					last = c
				}
				defer last.Close()
				for range 2000 {
					began := time.Now()
					if _, err := last.Write([]byte("x")); err != nil {
						return err
					}
					if _, err := last.Read(buf); err != nil {
						return err
					}
					echoes = append(echoes, time.Since(began))
				}
				return nil
			}))
			slices.Sort(connects)
			slices.Sort(echoes)
			b.Logf("%s: connection p50 %v, echo p50 %v", name, connects[len(connects)/2], echoes[len(echoes)/2])
		})
	}
}
