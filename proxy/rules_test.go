package proxy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func ptr[T any](v T) *T { return &v }

// simulated is a kernel that takes changes as strictly as the real one.
type simulated map[entry]value

func (k simulated) apply(t *testing.T, c *change) {
	t.Helper()
	for _, e := range c.remove {
		if _, there := k[e]; !there {
			t.Fatalf("removes %v, which is not there", e)
		}
		delete(k, e)
	}
	for e, v := range c.add {
		if old, there := k[e]; there {
			t.Fatalf("adds %v = %v over %v", e, v, old)
		}
		k[e] = v
	}
}

// reach gives every endpoint that a connection to f may get, nil for refused or dropped.
func (k simulated) reach(t *testing.T, f frontend, picks map[string]pick) map[endpoint]bool {
	t.Helper()
	tab, to := services, endpoints
	if f.isNodePort() {
		tab, to = nodePorts, portEndpoints
	}
	v, ok := k[entry{table: tab, frontend: f}]
	if !ok {
		return nil
	}
	p, ok := picks[v.chain]
	if !ok {
		t.Fatalf("chain %s was never made", v.chain)
	}
	out := map[endpoint]bool{}
	for i := range p.count {
		slot := uint32(i)
		if p.local {
			slot += localSlots
		}
		e, ok := k[entry{table: to, frontend: f, slot: slot}]
		if !ok {
			t.Fatalf("%v: slot %d of %d is empty", f, i, p.count)
		}
		out[e.endpoint] = true
	}
	return out
}

// TestRandomChanges changes services at random and wants, after each transaction, that
// every frontend reaches exactly its endpoints, and that nothing is left at the end.
func TestRandomChanges(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	r, kernel, picks := newRules(), simulated{}, map[string]pick{}
	live := map[owner][]route{}
	do := func(batch []owner, routes func(owner) []route) {
		c := newChange()
		for len(batch) > 0 {
			o := batch[0]
			live[o] = routes(o)
			var sets []entry
			for _, rt := range live[o] {
				if rt.frontend.addr.IsValid() {
					sets = append(sets, entry{table: clusterAddr, frontend: frontend{addr: rt.frontend.addr}})
				}
			}
			batch = append(batch[1:], r.set(o, live[o], sets, c)...)
		}
		r.settle(c)
		for p := range c.picks {
			picks[p.chain()] = p
		}
		kernel.apply(t, c)
	}
	for range 3000 {
		var batch []owner
		for range 1 + rnd.IntN(3) {
			batch = append(batch, owner{"default", fmt.Sprint(rnd.IntN(6))})
		}
		drawn := map[owner][]route{}
		do(batch, func(o owner) []route {
			if _, ok := drawn[o]; !ok {
				drawn[o] = randomRoutes(rnd, o)
			}
			return drawn[o]
		})
		for f, o := range r.holder {
			for _, rt := range live[o] {
				if rt.frontend == f {
					want := rt.cluster
					if rt.outside.local {
						want = rt.local
					}
					if got := kernel.reach(t, f, picks); len(got) != len(want) {
						t.Fatalf("%v reaches %v, want %v", f, got, want)
					}
				}
			}
		}
	}
	for o := range live {
		do([]owner{o}, func(owner) []route { return nil })
	}
	for o := range live { // services that waited for a frontend came back
		do([]owner{o}, func(owner) []route { return nil })
	}
	if len(kernel) != 0 || len(r.holder) != 0 || len(r.uses) != 0 {
		t.Errorf("left: %v, %v, %v", kernel, r.holder, r.uses)
	}
}

func randomRoutes(rnd *rand.Rand, o owner) []route {
	if rnd.IntN(4) == 0 {
		return nil
	}
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: o.name}, Spec: corev1.ServiceSpec{
		ClusterIP: "10.96.0.1" + o.name, Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP, NodePort: int32(30000 + len(o.name))}}}}
	if rnd.IntN(2) == 0 {
		svc.Spec.ExternalIPs = []string{"203.0.113.1"} // contested
	}
	if rnd.IntN(2) == 0 {
		svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	if rnd.IntN(3) == 0 {
		svc.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	}
	slice := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Port: ptr(int32(8080))}}}
	for i := range 6 {
		if rnd.IntN(2) == 0 {
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.244.0.%d", i)}, NodeName: ptr(fmt.Sprint("n", i%2))})
		}
	}
	return routesOf(svc, []*discoveryv1.EndpointSlice{slice}, "n1")
}

func TestEndpointsOf(t *testing.T) {
	e := func(ip string, ready, serving, terminating *bool) discoveryv1.Endpoint {
		return discoveryv1.Endpoint{Addresses: []string{ip}, NodeName: ptr("n1"), Conditions: discoveryv1.EndpointConditions{Ready: ready, Serving: serving, Terminating: terminating}}
	}
	yes, no := ptr(true), ptr(false)
	for _, c := range []struct {
		what string
		in   []discoveryv1.Endpoint
		want string
	}{
		{"unset conditions are ready", []discoveryv1.Endpoint{e("10.0.0.1", nil, nil, nil)}, "10.0.0.1:80 "},
		{"ready before ending", []discoveryv1.Endpoint{e("10.0.0.1", yes, yes, no), e("10.0.0.2", no, yes, yes)}, "10.0.0.1:80 "},
		{"ending when none is ready", []discoveryv1.Endpoint{e("10.0.0.2", no, yes, yes), e("10.0.0.3", no, no, yes)}, "10.0.0.2:80 "},
		{"not ready", []discoveryv1.Endpoint{e("10.0.0.3", no, no, no)}, ""},
	} {
		slice := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Port: ptr(int32(80))}}, Endpoints: c.in}
		cluster, local := endpointsOf("", 6, []*discoveryv1.EndpointSlice{slice}, "n1")
		if show(cluster) != c.want || show(local) != c.want {
			t.Errorf("%s: %v, %v", c.what, cluster, local)
		}
	}
}

func show(list []endpoint) string {
	out := ""
	for _, e := range list {
		out += netip.AddrPortFrom(e.addr, e.port).String() + " "
	}
	return out
}
