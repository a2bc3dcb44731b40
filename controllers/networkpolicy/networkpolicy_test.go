package networkpolicy

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/proa-dev/proa/controllers/loop"
	"github.com/proa-dev/proa/internal/informers"
	"github.com/proa-dev/proa/internal/netpol"
)

func pod(namespace, name, ip string, labels map[string]string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels}, Status: corev1.PodStatus{PodIP: ip},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 8080}}}}}}
}

func policy(name string, spec networkingv1.NetworkPolicySpec) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: name, Generation: 1}, Spec: spec}
}

func selectors(pods, namespaces map[string]string) networkingv1.NetworkPolicyPeer {
	p := networkingv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{MatchLabels: pods}}
	if namespaces != nil {
		p.NamespaceSelector = &metav1.LabelSelector{MatchLabels: namespaces}
	}
	return p
}

type fixture struct {
	*testing.T
	client *fake.Clientset
}

func start(t *testing.T, objects ...any) *fixture {
	f := &fixture{t, fake.NewClientset(
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "a"}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "b", Labels: map[string]string{"team": "x"}}})}
	for _, o := range objects {
		switch o := o.(type) {
		case *corev1.Pod:
			f.must(f.client.Tracker().Add(o))
		case *discoveryv1.EndpointSlice:
			f.must(f.client.Tracker().Add(o))
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	factory := informers.New(f.client, nil)
	c, err := New(loop.Deps{Client: f.client, Informers: factory, Log: slog.New(slog.DiscardHandler)})
	f.must(err)
	factory.StartWithContext(ctx)
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		factory.Shutdown()
	})
	return f
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// shows waits until the slices say what is wanted: "who: addresses[:port]".
func (f *fixture) shows(want ...string) {
	f.Helper()
	slices.Sort(want)
	var got []string
	for range 400 {
		got = nil
		list, err := f.client.DiscoveryV1().EndpointSlices(netpol.SliceNamespace).List(f.Context(), metav1.ListOptions{})
		f.must(err)
		for _, s := range list.Items {
			var addrs []string
			for _, e := range s.Endpoints {
				addrs = append(addrs, e.Addresses...)
			}
			slices.Sort(addrs)
			text := fmt.Sprint(s.Annotations[netpol.PeerAnnotation], ": ", addrs)
			if len(s.Ports) > 0 {
				text += fmt.Sprint(*s.Ports[0].Port)
			}
			got = append(got, text)
		}
		slices.Sort(got)
		if slices.Equal(got, want) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	f.Fatalf("slices\n%q\nwant\n%q", got, want)
}

func TestPeers(t *testing.T) {
	left := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: netpol.SliceNamespace, Name: "of-before",
		Labels: map[string]string{discoveryv1.LabelManagedBy: netpol.ManagedBy, netpol.PeerLabel: "gone"}}}
	web := map[string]string{"app": "web"}
	host := pod("b", "host", "198.51.100.1", web)
	host.Spec.HostNetwork = true
	ended := pod("b", "ended", "10.0.0.9", web)
	ended.Status.Phase = corev1.PodSucceeded
	f := start(t, left, host, ended, pod("a", "one", "10.0.0.1", web), pod("b", "two", "10.0.0.2", web), pod("b", "other", "10.0.0.3", nil))
	f.shows()
	policies, pods := f.client.NetworkingV1().NetworkPolicies("a"), f.client.CoreV1().Pods("b")
	here, wide := selectors(web, nil), selectors(web, map[string]string{"team": "x"})
	_, err := policies.Create(t.Context(), policy("p", networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{here, wide}}}}), metav1.CreateOptions{})
	f.must(err)
	const inA, inX = "namespace a; pods (app=web): ", "namespaces (team=x); pods (app=web): "
	f.shows(inA+"[10.0.0.1]", inX+"[10.0.0.2]")
	_, err = policies.Create(t.Context(), policy("q", networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{"Egress"},
		Egress: []networkingv1.NetworkPolicyEgressRule{{To: []networkingv1.NetworkPolicyPeer{wide}, Ports: []networkingv1.NetworkPolicyPort{{Port: &intstr.IntOrString{Type: intstr.String, StrVal: "web"}}}}}}), metav1.CreateOptions{})
	f.must(err)
	const named = "namespaces (team=x); pods (app=web); port web/TCP: "
	f.shows(inA+"[10.0.0.1]", inX+"[10.0.0.2]", named+"[10.0.0.2]8080")

	other := pod("b", "other", "10.0.0.3", web)
	_, err = pods.Update(t.Context(), other, metav1.UpdateOptions{})
	f.must(err)
	f.shows(inA+"[10.0.0.1]", inX+"[10.0.0.2 10.0.0.3]", named+"[10.0.0.2 10.0.0.3]8080")
	f.must(pods.Delete(t.Context(), "two", metav1.DeleteOptions{}))
	f.shows(inA+"[10.0.0.1]", inX+"[10.0.0.3]", named+"[10.0.0.3]8080")
	f.must(f.client.DiscoveryV1().EndpointSlices(netpol.SliceNamespace).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}))
	f.shows(inA+"[10.0.0.1]", inX+"[10.0.0.3]", named+"[10.0.0.3]8080")
	_, err = f.client.CoreV1().Namespaces().Update(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "b"}}, metav1.UpdateOptions{})
	f.must(err)
	f.shows(inA+"[10.0.0.1]", inX+"[]", named+"[]")
	f.must(policies.Delete(t.Context(), "p", metav1.DeleteOptions{}))
	f.shows(named + "[]")
	f.must(policies.Delete(t.Context(), "q", metav1.DeleteOptions{}))
	f.shows()
}

// Whatever changes, the slices hold what is wanted, once, and what stays does not move.
func TestPlan(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	peer := netpol.AllPodsWith(netpol.NamedPort{Name: "web", Protocol: corev1.ProtocolTCP})
	have := map[string]*discoveryv1.EndpointSlice{}
	wanted := map[netip.Addr]uint16{}
	for round := range 60 {
		for range r.IntN(400) {
			ip := netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(4)), byte(r.IntN(256))})
			if r.IntN(2) == 0 || round%10 == 9 {
				delete(wanted, ip)
			} else {
				wanted[ip] = uint16(80 + r.IntN(2))
			}
		}
		if round%20 == 19 {
			clear(wanted)
		}
		w := plan(&peer, wanted, slices.Collect(maps.Values(have)))
		for _, s := range w.remove {
			delete(have, s.Name)
		}
		for _, s := range w.create {
			if have[s.Name] != nil {
				t.Fatalf("%s twice", s.Name)
			}
			have[s.Name] = s
		}
		for _, s := range w.update {
			if have[s.Name] == nil {
				t.Fatalf("%s is not there", s.Name)
			}
			have[s.Name] = s
		}
		found := map[netip.Addr]uint16{}
		for _, s := range have {
			if len(s.Endpoints) > perSlice || len(s.Endpoints) == 0 && len(wanted) > 0 {
				t.Fatalf("%s has %d addresses", s.Name, len(s.Endpoints))
			}
			for _, e := range s.Endpoints {
				ip := netip.MustParseAddr(e.Addresses[0])
				if found[ip] != 0 {
					t.Fatalf("%v twice", ip)
				}
				found[ip] = uint16(*s.Ports[0].Port)
			}
		}
		if !maps.Equal(found, wanted) || len(have) == 0 {
			t.Fatalf("round %d: %d addresses in %d slices, want %d", round, len(found), len(have), len(wanted))
		}
		if again := plan(&peer, wanted, slices.Collect(maps.Values(have))); len(again.create)+len(again.update)+len(again.remove) > 0 {
			t.Fatalf("a second look changes %d", len(again.update))
		}
	}
}
