package proxy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// protocol is an IP protocol number.
type protocol uint8

func protocolOf(p corev1.Protocol) protocol {
	switch p {
	case corev1.ProtocolUDP:
		return udp
	case corev1.ProtocolSCTP:
		return 132
	default:
		return 6
	}
}

const udp protocol = 17

// frontend is where clients send to. A node port has the zero Addr: every address of
// the node but loopback ones.
type frontend struct {
	addr  netip.Addr
	proto protocol
	port  uint16
}

func (f frontend) isNodePort() bool { return !f.addr.IsValid() }

// endpoint is where a connection ends up.
type endpoint struct {
	addr netip.Addr
	port uint16
}

// masquerade says whose connections get this node's address as their source.
type masquerade uint8

const (
	masqueradeNone     masquerade = iota
	masqueradeOutside             // clients that are no pods, so that answers come back this way
	masqueradeEveryone            // traffic that entered the cluster here
)

// pick is how a connection finds its endpoint: it names a chain that all services with
// the same need share.
type pick struct {
	masquerade masquerade
	local      bool // among the endpoints on this node
	nodePort   bool
	sticky     int32 // seconds that a client stays with its endpoint; 0: none
	count      int   // of endpoints; 0 drops
}

// chain is the name of the pick's chain.
func (p pick) chain() string {
	name := [...]string{"keep", "pods", "all"}[p.masquerade]
	if p.local {
		name += "-local"
	}
	if p.nodePort {
		name += "-port"
	}
	if p.sticky > 0 {
		name += fmt.Sprintf("-sticky-%d", p.sticky)
	}
	return fmt.Sprintf("%s-%d", name, p.count)
}

// route is what a frontend does with connections from outside and from the cluster.
type route struct {
	frontend frontend
	outside  pick  // for everyone, unless inside is set
	inside   *pick // for pods and this node
	refuse   bool  // no endpoint anywhere
	cluster  []endpoint
	local    []endpoint
}

// owner names the service port of a route.
type owner struct{ namespace, name string }

// routesOf gives the routes of one service: pure, in the order of its ports.
// ours says whether a node name is this node's.
func routesOf(svc *corev1.Service, slicesOf []*discoveryv1.EndpointSlice, node string) []route {
	if svc == nil || skipped(svc) {
		return nil
	}
	var out []route
	for i := range svc.Spec.Ports {
		out = append(out, portRoutes(svc, &svc.Spec.Ports[i], slicesOf, node)...)
	}
	return out
}

// skipped tells services that are not this proxy's business.
func skipped(svc *corev1.Service) bool {
	_, other := svc.Labels["service.kubernetes.io/service-proxy-name"]
	ip := svc.Spec.ClusterIP
	return other || ip == "" || ip == corev1.ClusterIPNone || svc.Spec.Type == corev1.ServiceTypeExternalName
}

func portRoutes(svc *corev1.Service, port *corev1.ServicePort, all []*discoveryv1.EndpointSlice, node string) []route {
	cluster, local := endpointsOf(port.Name, protocolOf(port.Protocol), all, node)
	proto := protocolOf(port.Protocol)
	base := route{cluster: cluster, local: local, refuse: len(cluster) == 0}
	var out []route
	add := func(f frontend, outside pick, inside *pick) {
		r := base
		r.frontend, r.outside, r.inside = f, outside, inside
		out = append(out, r)
	}
	sticky := affinity(svc)
	for _, a := range clusterAddrs(svc) {
		p := pick{masquerade: masqueradeOutside, sticky: sticky, count: len(cluster)}
		if svc.Spec.InternalTrafficPolicy != nil && *svc.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal {
			p.local, p.count = true, len(local)
		}
		add(frontend{a, proto, uint16(port.Port)}, p, nil)
	}
	outside := pick{masquerade: masqueradeEveryone, sticky: sticky, count: len(cluster)}
	var inside *pick
	if svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		all := outside
		inside = &all
		outside = pick{local: true, sticky: sticky, count: len(local)}
	}
	for _, a := range externalAddrs(svc) {
		add(frontend{a, proto, uint16(port.Port)}, outside, inside)
	}
	if port.NodePort > 0 {
		outside.nodePort = true
		if inside != nil {
			in := *inside
			in.nodePort = true
			inside = &in
		}
		add(frontend{netip.Addr{}, proto, uint16(port.NodePort)}, outside, inside)
	}
	return out
}

func affinity(svc *corev1.Service) int32 {
	if svc.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	c := svc.Spec.SessionAffinityConfig
	if c == nil || c.ClientIP == nil || c.ClientIP.TimeoutSeconds == nil {
		return corev1.DefaultClientIPServiceAffinitySeconds
	}
	return *c.ClientIP.TimeoutSeconds
}

func clusterAddrs(svc *corev1.Service) []netip.Addr {
	ips := svc.Spec.ClusterIPs
	if len(ips) == 0 {
		ips = []string{svc.Spec.ClusterIP}
	}
	return parse4(ips)
}

func externalAddrs(svc *corev1.Service) []netip.Addr {
	out := append(parse4(svc.Spec.ExternalIPs), balancerAddrs(svc)...)
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// balancerAddrs are the addresses of the service's load balancer that packets arrive with.
func balancerAddrs(svc *corev1.Service) []netip.Addr {
	var ips []string
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if in.IP != "" && (in.IPMode == nil || *in.IPMode == corev1.LoadBalancerIPModeVIP) {
			ips = append(ips, in.IP)
		}
	}
	return parse4(ips)
}

// fencesOf keeps others than loadBalancerSourceRanges from the addresses of the load balancer.
func fencesOf(svc *corev1.Service) (out []entry) {
	var ranges []netip.Prefix
	for _, text := range svc.Spec.LoadBalancerSourceRanges {
		if p, err := netip.ParsePrefix(strings.TrimSpace(text)); err == nil && p.Addr().Is4() && !slices.Contains(ranges, p.Masked()) {
			ranges = append(ranges, p.Masked())
		}
	}
	if len(ranges) == 0 {
		return nil
	}
	ranges = outermost(ranges)
	for _, a := range balancerAddrs(svc) {
		for _, p := range svc.Spec.Ports {
			f := frontend{a, protocolOf(p.Protocol), uint16(p.Port)}
			out = append(out, entry{table: fenced, frontend: f})
			for _, r := range ranges {
				out = append(out, entry{table: allowed, frontend: f, from: r})
			}
		}
	}
	return out
}

// outermost drops the ranges that lie within others, which a set of the kernel cannot hold beside them.
func outermost(ranges []netip.Prefix) (out []netip.Prefix) {
	for _, r := range ranges {
		if !slices.ContainsFunc(ranges, func(o netip.Prefix) bool { return o != r && o.Bits() < r.Bits() && o.Contains(r.Addr()) }) {
			out = append(out, r)
		}
	}
	return out
}

// parse4 keeps the IPv4 addresses.
func parse4(ips []string) []netip.Addr {
	var out []netip.Addr
	for _, ip := range ips {
		if a, err := netip.ParseAddr(ip); err == nil && a.Is4() {
			out = append(out, a)
		}
	}
	return out
}

// endpointsOf picks the endpoints of a port, in all the cluster and on this node: the
// ready ones; where there is none, those that end but still serve.
func endpointsOf(port string, proto protocol, all []*discoveryv1.EndpointSlice, node string) (cluster, local []endpoint) {
	var ready, ending, readyHere, endingHere []endpoint
	for _, slice := range all {
		if slice.AddressType != discoveryv1.AddressTypeIPv4 {
			continue
		}
		number, ok := portNumber(slice, port, proto)
		if !ok {
			continue
		}
		for i := range slice.Endpoints {
			e := &slice.Endpoints[i]
			addrs := parse4(e.Addresses[:min(1, len(e.Addresses))])
			if len(addrs) == 0 {
				continue
			}
			here := e.NodeName != nil && *e.NodeName == node
			switch target := (endpoint{addrs[0], number}); {
			case isTrue(e.Conditions.Ready, true):
				ready = append(ready, target)
				if here {
					readyHere = append(readyHere, target)
				}
			case isTrue(e.Conditions.Serving, false) && isTrue(e.Conditions.Terminating, false):
				ending = append(ending, target)
				if here {
					endingHere = append(endingHere, target)
				}
			}
		}
	}
	return distinct(firstFilled(ready, ending)), distinct(firstFilled(readyHere, endingHere))
}

// readyHere counts the ready endpoints on a node.
func readyHere(all []*discoveryv1.EndpointSlice, node string) int {
	ready := map[string]bool{}
	for _, slice := range all {
		for i := range slice.Endpoints {
			e := &slice.Endpoints[i]
			if e.NodeName != nil && *e.NodeName == node && isTrue(e.Conditions.Ready, true) && len(e.Addresses) > 0 {
				ready[e.Addresses[0]] = true
			}
		}
	}
	return len(ready)
}

func portNumber(slice *discoveryv1.EndpointSlice, name string, proto protocol) (uint16, bool) {
	for _, p := range slice.Ports {
		own := corev1.ProtocolTCP
		if p.Protocol != nil {
			own = *p.Protocol
		}
		if p.Port != nil && (p.Name == nil && name == "" || p.Name != nil && *p.Name == name) && protocolOf(own) == proto {
			return uint16(*p.Port), true
		}
	}
	return 0, false
}

func isTrue(b *bool, unset bool) bool {
	if b == nil {
		return unset
	}
	return *b
}

func firstFilled(a, b []endpoint) []endpoint {
	if len(a) > 0 {
		return a
	}
	return b
}

func distinct(e []endpoint) []endpoint {
	slices.SortFunc(e, compareEndpoints)
	return slices.Compact(e)
}

func compareEndpoints(a, b endpoint) int {
	if c := a.addr.Compare(b.addr); c != 0 {
		return c
	}
	return cmp.Compare(a.port, b.port)
}
