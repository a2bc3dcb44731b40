package networkpolicy

import (
	"iter"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/proa-dev/proa/internal/netpol"
)

// peers are those that policies name, found by where they may be.
type peers struct {
	all  map[string]*used
	wide map[*netpol.Peer]struct{}            // in namespaces by selector
	in   map[string]map[*netpol.Peer]struct{} // of one namespace
}

type used struct {
	peer netpol.Peer
	by   int // policies
}

func newPeers() peers {
	return peers{all: map[string]*used{}, wide: map[*netpol.Peer]struct{}{}, in: map[string]map[*netpol.Peer]struct{}{}}
}

func (p *peers) get(id string) *netpol.Peer {
	if u := p.all[id]; u != nil {
		return &u.peer
	}
	return nil
}

// use counts a policy that names a peer; true for the first.
func (p *peers) use(peer netpol.Peer) bool {
	if u := p.all[peer.ID()]; u != nil {
		u.by++
		return false
	}
	u := &used{peer: peer, by: 1}
	p.all[peer.ID()] = u
	if peer.Namespaces != nil {
		p.wide[&u.peer] = struct{}{}
		return true
	}
	if p.in[peer.Namespace] == nil {
		p.in[peer.Namespace] = map[*netpol.Peer]struct{}{}
	}
	p.in[peer.Namespace][&u.peer] = struct{}{}
	return true
}

// drop undoes use; true for the last.
func (p *peers) drop(peer netpol.Peer) bool {
	u := p.all[peer.ID()]
	if u == nil {
		return false
	}
	if u.by--; u.by > 0 {
		return false
	}
	delete(p.all, peer.ID())
	delete(p.wide, &u.peer)
	delete(p.in[peer.Namespace], &u.peer)
	if len(p.in[peer.Namespace]) == 0 {
		delete(p.in, peer.Namespace)
	}
	return true
}

// near are the peers that pods of a namespace may belong to.
func (p *peers) near(namespace string) iter.Seq[*netpol.Peer] {
	return func(yield func(*netpol.Peer) bool) {
		for _, set := range []map[*netpol.Peer]struct{}{p.in[namespace], p.wide} {
			for peer := range set {
				if !yield(peer) {
					return
				}
			}
		}
	}
}

// once leaves out peers that are there before.
func once(all []netpol.Peer) []netpol.Peer {
	var out []netpol.Peer
	for _, p := range all {
		if !slices.ContainsFunc(out, func(o netpol.Peer) bool { return o.ID() == p.ID() }) {
			out = append(out, p)
		}
	}
	return out
}

// reachable says whether a pod has an address of its own that packets may come from.
func reachable(pod *corev1.Pod) bool {
	return !pod.Spec.HostNetwork && pod.Status.PodIP != "" && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed
}

func sameAddresses(a, b *corev1.Pod) bool {
	return a.UID == b.UID && reachable(a) == reachable(b) && a.Status.PodIP == b.Status.PodIP && slices.Equal(a.Status.PodIPs, b.Status.PodIPs)
}

func addresses(pod *corev1.Pod) []netip.Addr {
	var out []netip.Addr
	add := func(text string) {
		if ip, err := netip.ParseAddr(text); err == nil && !slices.Contains(out, ip) {
			out = append(out, ip)
		}
	}
	add(pod.Status.PodIP)
	for _, ip := range pod.Status.PodIPs {
		add(ip.IP)
	}
	return out
}
