package loadbalancer

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Class is the loadBalancerClass of services that shall have this one, also where another
// one is the default.
const Class = "proa.dev/nodes"

// door is where clients outside of the cluster knock: a port of a node's address.
type door struct {
	addr  netip.Addr
	proto corev1.Protocol
	port  int32
}

// ours tells whether a service has its addresses from here.
func ours(s *corev1.Service) bool {
	return s.DeletionTimestamp == nil && s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.ClusterIP != corev1.ClusterIPNone &&
		(s.Spec.LoadBalancerClass == nil || *s.Spec.LoadBalancerClass == Class)
}

// share gives each service the addresses of the nodes at which all of its ports are free;
// who has one keeps it, then the older service comes first. taken are the doors of others.
// Services without an address are in why, with the reason.
func share(services []*corev1.Service, nodes []*corev1.Node, taken map[door]string, local func(*corev1.Service) map[string]bool) (given map[*corev1.Service][]netip.Addr, why map[*corev1.Service]string) {
	given, why = map[*corev1.Service][]netip.Addr{}, map[*corev1.Service]string{}
	services = slices.SortedFunc(slices.Values(services), func(a, b *corev1.Service) int {
		return cmp.Or(without(a)-without(b), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	for _, s := range services {
		reason := "no node is ready"
		here := s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
		var only map[string]bool // of nodes, by name
		if here {
			if only = local(s); len(only) == 0 {
				reason = "no node has a ready endpoint, and externalTrafficPolicy is Local"
			}
		}
		for _, n := range nodes {
			if !serves(n) || here && !only[n.Name] {
				continue
			}
			for _, a := range addresses(n) {
				if holder := occupied(taken, a, s); holder != "" {
					reason = holder
					continue
				}
				given[s] = append(given[s], a)
			}
		}
		for _, a := range given[s] {
			for _, p := range s.Spec.Ports {
				taken[door{a, p.Protocol, p.Port}] = fmt.Sprintf("service %s/%s", s.Namespace, s.Name)
			}
		}
		slices.SortFunc(given[s], netip.Addr.Compare)
		if len(given[s]) == 0 {
			why[s] = reason
		}
	}
	return given, why
}

// without is 0 for a service that has an address, 1 for one that waits.
func without(s *corev1.Service) int {
	if len(s.Status.LoadBalancer.Ingress) > 0 {
		return 0
	}
	return 1
}

// occupied tells who has one of the ports that the service needs at an address.
func occupied(taken map[door]string, a netip.Addr, s *corev1.Service) string {
	for _, p := range s.Spec.Ports {
		if holder, ok := taken[door{a, p.Protocol, p.Port}]; ok {
			return fmt.Sprintf("port %d/%s of %s belongs to %s", p.Port, p.Protocol, a, holder)
		}
	}
	return ""
}

// serves tells whether a node takes what comes from outside.
func serves(n *corev1.Node) bool {
	if _, excluded := n.Labels[corev1.LabelNodeExcludeBalancers]; excluded || n.DeletionTimestamp != nil {
		return false
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// addresses are those at which a node is reached from outside: its external ones, or the
// internal ones if it has no other.
func addresses(n *corev1.Node) []netip.Addr {
	byType := map[corev1.NodeAddressType][]netip.Addr{}
	for _, a := range n.Status.Addresses {
		if ip, err := netip.ParseAddr(a.Address); err == nil && ip.Is4() {
			byType[a.Type] = append(byType[a.Type], ip)
		}
	}
	if out := byType[corev1.NodeExternalIP]; len(out) > 0 {
		return out
	}
	return byType[corev1.NodeInternalIP]
}

// endpointNodes are the nodes that have a ready endpoint.
func endpointNodes(all []*discoveryv1.EndpointSlice) map[string]bool {
	out := map[string]bool{}
	for _, s := range all {
		for _, e := range s.Endpoints {
			if e.NodeName != nil && (e.Conditions.Ready == nil || *e.Conditions.Ready) {
				out[*e.NodeName] = true
			}
		}
	}
	return out
}

// status is what the service shall say, nil if it says so already.
func status(s *corev1.Service, given []netip.Addr) *corev1.LoadBalancerStatus {
	mode := corev1.LoadBalancerIPModeVIP
	want := &corev1.LoadBalancerStatus{}
	for _, a := range given {
		want.Ingress = append(want.Ingress, corev1.LoadBalancerIngress{IP: a.String(), IPMode: &mode})
	}
	same := func(a, b corev1.LoadBalancerIngress) bool {
		return a.IP == b.IP && a.Hostname == b.Hostname && a.IPMode != nil && *a.IPMode == *b.IPMode
	}
	if slices.EqualFunc(s.Status.LoadBalancer.Ingress, want.Ingress, same) {
		return nil
	}
	return want
}
