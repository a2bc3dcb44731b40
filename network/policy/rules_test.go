package policy

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/internal/netpol"
)

// simulated is a kernel that takes changes as strictly as the real one.
type simulated struct {
	objects  map[string]*object
	elements map[string]map[element]bool
	verdicts [netpol.Directions]map[netip.Addr]string
	own      map[netip.Addr]bool
}

func newSimulated() *simulated {
	return &simulated{map[string]*object{}, map[string]map[element]bool{}, [netpol.Directions]map[netip.Addr]string{{}, {}}, map[netip.Addr]bool{}}
}

func (k *simulated) apply(t *testing.T, c *change) {
	t.Helper()
	for _, o := range c.add {
		if k.objects[o.name] != nil {
			t.Fatalf("adds %s, which is there", o.name)
		}
		for _, u := range o.uses {
			if k.objects[u.name] == nil {
				t.Fatalf("%s needs %s, which is not there", o.name, u.name)
			}
		}
		k.objects[o.name], k.elements[o.name] = o, map[element]bool{}
	}
	for o, e := range c.elements {
		set := k.elements[o.name]
		for _, one := range e.remove {
			if !set[one] {
				t.Fatalf("removes %v from %s, which is not there", one, o.name)
			}
			delete(set, one)
		}
		for _, one := range e.add {
			if set == nil || set[one] {
				t.Fatalf("adds %v to %s, which is there", one, o.name)
			}
			set[one] = true
		}
	}
	for d := range c.verdicts {
		for _, a := range c.verdicts[d].remove {
			if k.verdicts[d][a] == "" {
				t.Fatalf("removes the verdict of %v", a)
			}
			delete(k.verdicts[d], a)
		}
		for a, chain := range c.verdicts[d].add {
			if k.verdicts[d][a] != "" || k.objects[chain] == nil {
				t.Fatalf("adds the verdict %s of %v", chain, a)
			}
			k.verdicts[d][a] = chain
		}
	}
	for _, a := range c.own.remove {
		if !k.own[a] {
			t.Fatalf("removes own %v", a)
		}
		delete(k.own, a)
	}
	for a := range c.own.add {
		if k.own[a] {
			t.Fatalf("adds own %v", a)
		}
		k.own[a] = true
	}
	for _, o := range c.remove {
		delete(k.objects, o.name)
		delete(k.elements, o.name)
		for _, other := range k.objects {
			if slices.ContainsFunc(other.uses, func(u *object) bool { return u.name == o.name }) {
				t.Fatalf("removes %s, which %s uses", o.name, other.name)
			}
		}
		for d := range k.verdicts {
			for a, chain := range k.verdicts[d] {
				if chain == o.name {
					t.Fatalf("removes %s, which judges %v", o.name, a)
				}
			}
		}
	}
}

// passes sends a packet through the two hooks.
func (k *simulated) passes(from, to netip.Addr, protocol uint8, port uint16) bool {
	for d, addr := range map[netpol.Direction]netip.Addr{netpol.Egress: from, netpol.Ingress: to} {
		if chain := k.verdicts[d][addr]; chain != "" && !k.judge(k.objects[chain], from, to, protocol, port) {
			return false
		}
	}
	return true
}

func (k *simulated) judge(o *object, from, to netip.Addr, protocol uint8, port uint16) bool {
	for _, u := range o.uses {
		other := to
		if u.side == netpol.Ingress {
			other = from
		}
		for _, r := range u.rules {
			if (r.protocol == 0 || r.protocol == protocol) && k.portMatches(r, protocol, port) &&
				(r.peer == "" || k.elements[r.peer][element{addr: other}]) &&
				(r.named == "" || k.elements[r.named][element{to, protocol, port}]) &&
				(r.block == "" || slices.ContainsFunc(k.objects[r.block].blocks, func(b netpol.Range) bool {
					return b.First.Compare(other) <= 0 && other.Compare(b.Last) <= 0
				})) {
				return true
			}
		}
	}
	return from == to && k.own[from]
}

func (k *simulated) portMatches(r rule, protocol uint8, port uint16) bool {
	if r.ports == "" {
		return r.first <= port && port <= r.last
	}
	return slices.ContainsFunc(k.objects[r.ports].ports, func(p netpol.PortRange) bool {
		return p.Protocol == protocol && p.First <= port && port <= p.Last
	})
}

var numbers = map[corev1.Protocol]uint8{"TCP": 6, "UDP": 17, "SCTP": 132}

func compare(t *testing.T, w *world, k *simulated) {
	t.Helper()
	addrs := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("10.0.0.250")}
	for _, p := range w.pods {
		addrs = append(addrs, netip.MustParseAddr(p.Status.PodIP))
	}
	for _, from := range addrs {
		for _, to := range addrs {
			for name, number := range numbers {
				for port := int32(79); port < 84; port++ {
					if got, want := k.passes(from, to, number, uint16(port)), w.allowed(from, to, name, port); got != want {
						t.Fatalf("%v -> %v %s %d: %v, want %v", from, to, name, port, got, want)
					}
				}
			}
		}
	}
}

// run changes a world step by step and compares after each.
func run(t *testing.T, seed uint64, steps int) {
	w, r, k := newWorld(seed), newRules(), newSimulated()
	published := map[string]*discoveryv1.EndpointSlice{}
	publish := func() {
		now := w.slices()
		for name, s := range published {
			if now[name] == nil {
				r.setSlice(s, nil)
			}
		}
		for name, s := range now {
			if !reflect.DeepEqual(published[name], s) {
				r.setSlice(published[name], s)
			} else {
				now[name] = published[name]
			}
		}
		published = now
	}
	start := func(p *corev1.Pod) {
		if p.Spec.NodeName == "here" {
			r.setPod(p)
			r.attach(Pod{p.Namespace, p.Name, p.UID}, netip.MustParseAddr(p.Status.PodIP))
		}
	}
	for _, p := range w.pods {
		start(p)
	}
	for range steps {
		for range 1 + w.r.IntN(3) { // changes of one transaction
			step(w, r, start)
		}
		publish()
		k.apply(t, r.settle())
		compare(t, w, k)
	}
	again := newSimulated()
	again.apply(t, r.whole())
	if !reflect.DeepEqual(again.verdicts, k.verdicts) || !reflect.DeepEqual(again.elements, k.elements) || !reflect.DeepEqual(again.own, k.own) {
		t.Fatal("what was made step by step is not what is made at once")
	}
	for _, p := range w.policies {
		r.setPolicy(p.Namespace, p.Name, nil)
	}
	again.apply(t, r.settle())
	if len(again.objects)+len(again.elements)+len(again.own) > 0 || !r.none() {
		t.Fatalf("without policies there remain %v", slices.Collect(maps.Keys(again.objects)))
	}
}

func step(w *world, r *rules, start func(*corev1.Pod)) {
	switch w.r.IntN(8) {
	case 0:
		start(w.addPod())
	case 1:
		i := w.r.IntN(len(w.pods))
		p := w.pods[i]
		w.pods = slices.Delete(w.pods, i, i+1)
		if w.r.IntN(2) > 0 { // in either order
			r.removePod(p.UID)
			r.detach(netip.MustParseAddr(p.Status.PodIP))
		} else {
			r.detach(netip.MustParseAddr(p.Status.PodIP))
			r.removePod(p.UID)
		}
		if len(w.pods) < 3 {
			start(w.addPod())
		}
	case 2:
		i := w.r.IntN(len(w.pods))
		p := w.pods[i].DeepCopy()
		p.Labels, w.pods[i] = w.labels(), p
		if p.Spec.NodeName == "here" {
			r.setPod(p)
		}
	case 3:
		w.namespaces[w.namespace()] = w.labels()
	case 4:
		for _, name := range slices.Sorted(maps.Keys(w.policies))[:min(1, len(w.policies))] {
			r.setPolicy(w.policies[name].Namespace, name, nil)
			delete(w.policies, name)
		}
	default:
		name := string(rune('k' + w.r.IntN(5)))
		if old := w.policies[name]; old != nil {
			r.setPolicy(old.Namespace, name, nil)
		}
		p := w.policy(name)
		w.policies[name] = p
		r.setPolicy(p.Namespace, name, p)
	}
}

// The verdicts of the rules are those of the API's words, for all pairs and ports, after each
// of some hundred random changes; the fuzz target goes on from there.
func TestVerdicts(t *testing.T) {
	for seed := range uint64(40) {
		run(t, seed, 8)
	}
}

func FuzzVerdicts(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { run(t, seed, 30) })
}

// A process that begins after a pod is gone from the API lets nothing through while there are
// policies for it.
func TestUnknownPod(t *testing.T) {
	w, r, k := newWorld(1), newRules(), newSimulated()
	addr := netip.MustParseAddr("10.0.0.1")
	r.attach(Pod{"a", "lost", "u"}, addr)
	k.apply(t, r.settle())
	if !k.passes(addr, netip.MustParseAddr("10.0.0.9"), 6, 80) {
		t.Error("without policies")
	}
	p := w.policy("p")
	p.Namespace, p.Spec.PolicyTypes = "a", nil
	r.setPolicy("a", "p", p)
	k.apply(t, r.settle())
	if k.passes(netip.MustParseAddr("10.0.0.9"), addr, 6, 80) {
		t.Error("with a policy")
	}
	r.detach(addr)
	k.apply(t, r.settle())
	if !r.none() || len(r.pods) != 0 {
		t.Error("something remains")
	}
}

// Who may write endpoint slices in a namespace of his own lets nobody in by them.
func TestAttackForeignSlice(t *testing.T) {
	w := newWorld(1)
	w.policies["p"] = &networkingv1.NetworkPolicy{Spec: networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{
		{From: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{}}}}}}}
	for _, s := range w.slices() {
		for _, change := range []func(*discoveryv1.EndpointSlice){
			func(s *discoveryv1.EndpointSlice) { s.Namespace = "theirs" },
			func(s *discoveryv1.EndpointSlice) { s.Labels[discoveryv1.LabelManagedBy] = "somebody" },
		} {
			other, r := s.DeepCopy(), newRules()
			change(other)
			r.setSlice(nil, other)
			if len(r.slices) > 0 {
				t.Errorf("slice %s/%s %v counts", other.Namespace, other.Name, other.Labels)
			}
			if r.setSlice(nil, s); len(r.slices) != 1 {
				t.Error("one of ours does not")
			}
		}
	}
}
