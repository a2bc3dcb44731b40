package netpol

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	netutils "k8s.io/utils/net"
)

// Range is the addresses from First to Last, of one family.
type Range struct{ First, Last netip.Addr }

// PortRange is ports of an IP protocol by number; from 0 to 65535 also packets of it that
// have no ports of their own to look at (fragments).
type PortRange struct {
	Protocol    uint8
	First, Last uint16
}

var protocols = map[corev1.Protocol]uint8{corev1.ProtocolTCP: 6, corev1.ProtocolUDP: 17, corev1.ProtocolSCTP: 132}

// Number is the protocol's IP number; 0 for none that policies know.
func (n NamedPort) Number() uint8 { return protocols[n.Protocol] }

// readBlock is a block less its exceptions. One that cannot be read is empty, also when it
// is an exception that cannot.
func readBlock(b *networkingv1.IPBlock) []Range {
	whole, ok := rangeOf(b.CIDR)
	if !ok {
		return nil
	}
	var holes []Range
	for _, text := range b.Except {
		hole, ok := rangeOf(text)
		if !ok {
			return nil
		}
		if hole.First.Is4() == whole.First.Is4() {
			holes = append(holes, hole)
		}
	}
	return subtract(whole, union(holes))
}

func rangeOf(cidr string) (Range, bool) {
	_, ipnet, err := netutils.ParseCIDRSloppy(cidr)
	if err != nil {
		return Range{}, false
	}
	ones, bits := ipnet.Mask.Size()
	addr, ok := netip.AddrFromSlice(ipnet.IP)
	if ok && addr.Is4In6() && bits == 128 && ones >= 96 {
		addr, ones = addr.Unmap(), ones-96
	}
	if !ok {
		return Range{}, false
	}
	p := netip.PrefixFrom(addr, ones).Masked()
	if !p.IsValid() {
		return Range{}, false
	}
	last := p.Addr().AsSlice()
	for i := p.Bits(); i < len(last)*8; i++ {
		last[i/8] |= 1 << (7 - i%8)
	}
	end, _ := netip.AddrFromSlice(last)
	return Range{p.Addr(), end}, true
}

// union sorts ranges and joins those that meet.
func union(all []Range) []Range {
	slices.SortFunc(all, func(a, b Range) int { return a.First.Compare(b.First) })
	var out []Range
	for _, r := range all {
		if n := len(out); n > 0 && out[n-1].First.Is4() == r.First.Is4() && (r.First.Compare(out[n-1].Last) <= 0 || out[n-1].Last.Next() == r.First) {
			if out[n-1].Last.Less(r.Last) {
				out[n-1].Last = r.Last
			}
			continue
		}
		out = append(out, r)
	}
	return out
}

// subtract is a range less others, which are sorted and apart.
func subtract(r Range, holes []Range) []Range {
	var out []Range
	for _, h := range holes {
		if h.Last.Less(r.First) || r.Last.Less(h.First) {
			continue
		}
		if r.First.Less(h.First) {
			out = append(out, Range{r.First, h.First.Prev()})
		}
		if !h.Last.Less(r.Last) {
			return out
		}
		r.First = h.Last.Next()
	}
	return append(out, r)
}

func unionPorts(all []PortRange) []PortRange {
	slices.SortFunc(all, func(a, b PortRange) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.First, b.First))
	})
	var out []PortRange
	for _, r := range all {
		if n := len(out); n > 0 && out[n-1].Protocol == r.Protocol && int(r.First) <= int(out[n-1].Last)+1 {
			out[n-1].Last = max(out[n-1].Last, r.Last)
			continue
		}
		out = append(out, r)
	}
	return out
}
