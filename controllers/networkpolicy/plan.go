package networkpolicy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/internal/netpol"
)

// perSlice is how many addresses are put into one slice: some 5 kB, which is what a change of
// one address costs each node.
const perSlice = 250

// writes is what must be written for the slices of a peer to be right.
type writes struct{ create, update, remove []*discoveryv1.EndpointSlice }

// group is what addresses of one slice share.
type group struct {
	family discoveryv1.AddressType
	port   uint16 // 0: no port
}

func groupOf(ip netip.Addr, port uint16) group {
	if ip.Is4() {
		return group{discoveryv1.AddressTypeIPv4, port}
	}
	return group{discoveryv1.AddressTypeIPv6, port}
}

// plan decides what to write. Addresses stay in the slice they are in; gaps are filled before
// slices are added; a peer that nobody is has one empty slice, which says so.
func plan(peer *netpol.Peer, wanted map[netip.Addr]uint16, existing []*discoveryv1.EndpointSlice) writes {
	var w writes
	missing := map[group][]netip.Addr{}
	placed := map[netip.Addr]bool{}
	drafts := map[group][]*discoveryv1.EndpointSlice{}
	changed := map[*discoveryv1.EndpointSlice]bool{}
	names := map[string]bool{}
	slices.SortFunc(existing, func(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) })
	for _, s := range existing {
		names[s.Name] = true
		d, g, kept := keep(peer, s, wanted, placed)
		if d == nil {
			w.remove = append(w.remove, s)
			continue
		}
		drafts[g], changed[d] = append(drafts[g], d), !kept
	}
	for ip, port := range wanted {
		if !placed[ip] {
			missing[groupOf(ip, port)] = append(missing[groupOf(ip, port)], ip)
		}
	}
	if none := (group{family: discoveryv1.AddressTypeIPv4}); len(wanted) == 0 && len(drafts) == 0 {
		s := w.reuse(none.family)
		if s == nil {
			s = fresh(peer, none, names)
			w.create = append(w.create, s)
		}
		describe(peer, s, none)
	}
	for g, list := range missing {
		slices.SortFunc(list, netip.Addr.Compare)
		for _, d := range drafts[g] {
			room := min(perSlice-len(d.Endpoints), len(list))
			changed[d] = changed[d] || room > 0
			list = fill(d, list, room)
		}
		for len(list) > 0 {
			s := w.reuse(g.family)
			if s == nil {
				s = fresh(peer, g, names)
				w.create = append(w.create, s)
			}
			describe(peer, s, g)
			list = fill(s, list, min(perSlice, len(list)))
		}
	}
	for d, yes := range changed {
		if yes {
			w.update = append(w.update, d)
		}
	}
	return w
}

// reuse takes a slice of what would be removed, made empty, for other addresses; nil when there is none.
func (w *writes) reuse(family discoveryv1.AddressType) *discoveryv1.EndpointSlice {
	for i, s := range w.remove {
		if s.AddressType == family && s.DeletionTimestamp == nil {
			w.remove = slices.Delete(w.remove, i, i+1)
			s = s.DeepCopy()
			s.Endpoints = []discoveryv1.Endpoint{}
			w.update = append(w.update, s)
			return s
		}
	}
	return nil
}

// keep is a slice with those of its addresses that stay, nil when there are none or it is not
// as we would write it; kept says that nothing changed. An empty one stays when nobody is wanted.
func keep(peer *netpol.Peer, s *discoveryv1.EndpointSlice, wanted map[netip.Addr]uint16, placed map[netip.Addr]bool) (d *discoveryv1.EndpointSlice, g group, kept bool) {
	g.family = s.AddressType
	if len(s.Ports) > 1 || s.DeletionTimestamp != nil {
		return nil, g, false
	}
	if len(s.Ports) == 1 && s.Ports[0].Port != nil {
		g.port = uint16(*s.Ports[0].Port)
	}
	var stay []discoveryv1.Endpoint
	for _, e := range s.Endpoints {
		if len(e.Addresses) != 1 {
			continue
		}
		ip, err := netip.ParseAddr(e.Addresses[0])
		if port, ok := wanted[ip]; err == nil && ok && groupOf(ip, port) == g && !placed[ip] {
			placed[ip] = true
			stay = append(stay, discoveryv1.Endpoint{Addresses: e.Addresses})
		}
	}
	if len(stay) == 0 && (len(wanted) > 0 || len(s.Endpoints) > 0 || len(placed) > 0) {
		return nil, g, false
	}
	kept = len(stay) == len(s.Endpoints) && s.Annotations[netpol.PeerAnnotation] == inWords(peer) && samePort(peer, s)
	d = s.DeepCopy()
	describe(peer, d, g)
	d.Endpoints = append([]discoveryv1.Endpoint{}, stay...)
	return d, g, kept
}

func samePort(peer *netpol.Peer, s *discoveryv1.EndpointSlice) bool {
	if len(s.Ports) == 0 {
		return true
	}
	p := s.Ports[0]
	return p.Name != nil && *p.Name == peer.Port.Name && p.Protocol != nil && *p.Protocol == peer.Port.Protocol
}

func fill(s *discoveryv1.EndpointSlice, list []netip.Addr, n int) []netip.Addr {
	if n <= 0 {
		return list
	}
	for _, ip := range list[:n] {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{ip.String()}})
	}
	return list[n:]
}

// fresh is a new empty slice. Its name follows from what is there: who decides on an old view
// meets a name that is taken, instead of making a slice twice.
func fresh(peer *netpol.Peer, g group, names map[string]bool) *discoveryv1.EndpointSlice {
	name := ""
	for i := 0; name == "" || names[name]; i++ {
		name = fmt.Sprintf("network-policy-%s-%d", peer.ID(), i)
	}
	names[name] = true
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: netpol.SliceNamespace, Name: name},
		AddressType: g.family, Endpoints: []discoveryv1.Endpoint{},
	}
	return s
}

// inWords tells a human who the peer is, of enormous selectors the beginning.
func inWords(peer *netpol.Peer) string {
	const most = 1024
	text := peer.String()
	if len(text) > most {
		text = text[:most]
	}
	return text
}

func describe(peer *netpol.Peer, s *discoveryv1.EndpointSlice, g group) {
	if s.Labels == nil {
		s.Labels = map[string]string{}
	}
	if s.Annotations == nil {
		s.Annotations = map[string]string{}
	}
	s.Labels[discoveryv1.LabelManagedBy], s.Labels[netpol.PeerLabel] = netpol.ManagedBy, peer.ID()
	s.Annotations[netpol.PeerAnnotation] = inWords(peer)
	s.Ports = []discoveryv1.EndpointPort{}
	if g.port != 0 {
		name, protocol, number := peer.Port.Name, peer.Port.Protocol, int32(g.port)
		s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: &name, Protocol: &protocol, Port: &number})
	}
}
