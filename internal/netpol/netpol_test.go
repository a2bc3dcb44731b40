package netpol

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func inside(ranges []Range, a netip.Addr) bool {
	return slices.ContainsFunc(ranges, func(r Range) bool {
		return r.First.BitLen() == a.BitLen() && r.First.Compare(a) <= 0 && a.Compare(r.Last) <= 0
	})
}

// Ranges hold the addresses that blocks do, are in order and do not meet.
func TestBlocks(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	prefix := func() netip.Prefix {
		a := netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(256))})
		if r.IntN(20) == 0 {
			a = netip.MustParseAddr("255.255.255.255")
		}
		return netip.PrefixFrom(a, []int{0, 8, 24, 26, 28, 30, 31, 32}[r.IntN(8)])
	}
	for range 3000 {
		var blocks []networkingv1.IPBlock
		var all []Range
		for range 1 + r.IntN(3) {
			b := networkingv1.IPBlock{CIDR: prefix().String()}
			for range r.IntN(4) {
				b.Except = append(b.Except, prefix().String())
			}
			blocks = append(blocks, b)
			all = append(all, readBlock(&b)...)
		}
		all = union(all)
		for i := 1; i < len(all); i++ {
			if all[i].First.Compare(all[i-1].Last.Next()) <= 0 {
				t.Fatalf("%v: %v", blocks, all)
			}
		}
		for last := range 256 {
			for _, a := range []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(last)}), netip.AddrFrom4([4]byte{255, 255, 255, byte(last)})} {
				want := slices.ContainsFunc(blocks, func(b networkingv1.IPBlock) bool {
					in := func(cidr string) bool { return netip.MustParsePrefix(cidr).Contains(a) }
					return in(b.CIDR) && !slices.ContainsFunc(b.Except, in)
				})
				if inside(all, a) != want {
					t.Fatalf("%v: %v is %v, in %v", blocks, a, !want, all)
				}
			}
		}
	}
}

// What is no range is empty, and nothing that is one is larger than it says.
func FuzzBlock(f *testing.F) {
	for _, s := range []string{"10.0.0.0/8", "::/0", "::ffff:10.0.0.0/104", "010.0.0.0/8", "0.0.0.0/0", "x", "10.0.0.0/33", "fe80::%eth0/64"} {
		f.Add(s, "10.1.0.0/16")
	}
	f.Fuzz(func(t *testing.T, cidr, except string) {
		ranges := readBlock(&networkingv1.IPBlock{CIDR: cidr, Except: []string{except}})
		p, err := netip.ParsePrefix(cidr)
		for _, r := range ranges {
			if !r.First.IsValid() || !r.Last.IsValid() || r.Last.Less(r.First) || r.First.BitLen() != r.Last.BitLen() {
				t.Fatalf("%q less %q: %v", cidr, except, r)
			}
			if err == nil && !p.Addr().Is4In6() && (!p.Contains(r.First) || !p.Contains(r.Last)) {
				t.Fatalf("%q less %q: %v", cidr, except, r)
			}
		}
	})
}

// Equal peers have one ID, however they are written; others have others.
func TestID(t *testing.T) {
	expr := func(key string, values ...string) metav1.LabelSelectorRequirement {
		return metav1.LabelSelectorRequirement{Key: key, Operator: metav1.LabelSelectorOpIn, Values: values}
	}
	peer := func(ns string, pods, namespaces *metav1.LabelSelector) string {
		return readPeer(ns, &networkingv1.NetworkPolicyPeer{PodSelector: pods, NamespaceSelector: namespaces}).ID()
	}
	one := &metav1.LabelSelector{MatchLabels: map[string]string{"a": "1", "b": "2", "c": "3"}, MatchExpressions: []metav1.LabelSelectorRequirement{expr("a", "1", "2"), expr("a", "2", "1")}}
	two := &metav1.LabelSelector{MatchLabels: map[string]string{"c": "3", "b": "2", "a": "1"}, MatchExpressions: []metav1.LabelSelectorRequirement{expr("a", "2", "1"), expr("a", "1", "2")}}
	everything := &metav1.LabelSelector{}
	if peer("x", one, nil) != peer("x", two, nil) || peer("x", nil, one) != peer("y", nil, two) || peer("x", nil, everything) != peer("x", everything, everything) {
		t.Error("equal peers differ")
	}
	seen := map[string]int{}
	for i, id := range []string{peer("x", one, nil), peer("y", one, nil), peer("x", one, everything), peer("x", everything, nil), peer("x", everything, everything),
		peer("x", nil, one), AllPodsWith(NamedPort{"web", "TCP"}).ID(), AllPodsWith(NamedPort{"web", "UDP"}).ID()} {
		if j, has := seen[id]; has {
			t.Errorf("peers %d and %d are one", i, j)
		}
		seen[id] = i
	}
}
