// Package netpol reads a NetworkPolicy: what it selects, which directions it isolates, and
// its rules as peers, address ranges and ports.
//
// The one idea: who the peers of a policy are is found out once, on the control plane, which
// knows all pods; a node knows its own pods alone. Both read the policy with this package,
// and so agree on the name (Peer.ID) under which the addresses of a peer are published.
//
// Used by controllers/networkpolicy and network/policy.
package netpol

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// The endpoint slices that hold the addresses of peers: where they are, whose they are, and
// which peer's. Slices elsewhere are nobody's word.
const (
	SliceNamespace = metav1.NamespaceSystem
	ManagedBy      = "networkpolicy-controller.proa.dev"
	PeerLabel      = "networkpolicy.proa.dev/peer"
	PeerAnnotation = "networkpolicy.proa.dev/selects" // for humans
)

// Direction is a side of a policy.
type Direction int

// The directions, as seen from the pods that a policy selects.
const (
	Ingress Direction = iota
	Egress
	Directions
)

func (d Direction) String() string {
	if d == Ingress {
		return "ingress"
	}
	return "egress"
}

// Policy is a NetworkPolicy that was read.
type Policy struct {
	Namespace, Name string
	Selects         labels.Selector // pods of Namespace
	Isolates        [Directions]bool
	Rules           [Directions][]Rule // each allows something; none allows nothing
}

// Rule allows traffic with any of its others at any of its ports.
type Rule struct {
	Anywhere bool    // with everybody; Peers and Blocks are empty
	Peers    []Peer  // without ports
	Blocks   []Range // sorted, apart from each other

	AllPorts bool        // of any protocol; Ports and Named are empty
	Ports    []PortRange // sorted, apart from each other within a protocol
	Named    []NamedPort // of the pod that is reached
}

// Peer is pods that selectors name. With a port, those of them that have it.
type Peer struct {
	Namespace  string          // theirs, without Namespaces
	Namespaces labels.Selector // nil: Namespace alone
	Pods       labels.Selector
	Port       NamedPort // zero: none

	id string
}

// NamedPort is a container port by name.
type NamedPort struct {
	Name     string
	Protocol corev1.Protocol
}

// Read reads a policy. What cannot be read, though the API server should have refused it,
// selects or allows nothing.
func Read(p *networkingv1.NetworkPolicy) *Policy {
	out := &Policy{Namespace: p.Namespace, Name: p.Name, Selects: selector(&p.Spec.PodSelector)}
	out.Isolates[Ingress] = len(p.Spec.PolicyTypes) == 0
	out.Isolates[Egress] = len(p.Spec.PolicyTypes) == 0 && len(p.Spec.Egress) > 0
	for _, t := range p.Spec.PolicyTypes {
		switch t {
		case networkingv1.PolicyTypeIngress:
			out.Isolates[Ingress] = true
		case networkingv1.PolicyTypeEgress:
			out.Isolates[Egress] = true
		}
	}
	if out.Isolates[Ingress] {
		for _, r := range p.Spec.Ingress {
			out.Rules[Ingress] = append(out.Rules[Ingress], readRule(p.Namespace, r.From, r.Ports))
		}
	}
	if out.Isolates[Egress] {
		for _, r := range p.Spec.Egress {
			out.Rules[Egress] = append(out.Rules[Egress], readRule(p.Namespace, r.To, r.Ports))
		}
	}
	return out
}

func readRule(namespace string, others []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) Rule {
	r := Rule{Anywhere: len(others) == 0, AllPorts: len(ports) == 0}
	for i := range others {
		if b := others[i].IPBlock; b != nil {
			r.Blocks = append(r.Blocks, readBlock(b)...)
		} else if others[i].PodSelector != nil || others[i].NamespaceSelector != nil {
			r.Peers = append(r.Peers, readPeer(namespace, &others[i]))
		}
	}
	r.Blocks = union(r.Blocks)
	for i := range ports {
		r.addPort(&ports[i])
	}
	r.Ports = unionPorts(r.Ports)
	return r
}

func readPeer(namespace string, o *networkingv1.NetworkPolicyPeer) Peer {
	p := Peer{Namespace: namespace, Pods: labels.Everything()}
	if o.PodSelector != nil {
		p.Pods = selector(o.PodSelector)
	}
	if o.NamespaceSelector != nil {
		p.Namespace, p.Namespaces = "", selector(o.NamespaceSelector)
	}
	return p.named(NamedPort{})
}

func (r *Rule) addPort(p *networkingv1.NetworkPolicyPort) {
	protocol := corev1.ProtocolTCP
	if p.Protocol != nil {
		protocol = *p.Protocol
	}
	number, known := protocols[protocol]
	switch {
	case !known:
	case p.Port == nil:
		r.Ports = append(r.Ports, PortRange{number, 0, 65535})
	case p.Port.Type == intstr.String:
		if n := (NamedPort{p.Port.StrVal, protocol}); !slices.Contains(r.Named, n) {
			r.Named = append(r.Named, n)
		}
	default:
		last := p.Port.IntVal
		if p.EndPort != nil {
			last = *p.EndPort
		}
		if first := p.Port.IntVal; first > 0 && first <= last && last <= 65535 {
			r.Ports = append(r.Ports, PortRange{number, uint16(first), uint16(last)})
		}
	}
}

// Peers are all peers whose addresses a policy needs, with ports and without.
func (p *Policy) Peers() []Peer {
	var out []Peer
	for d, rules := range p.Rules {
		for i := range rules {
			r := &rules[i]
			if r.AllPorts || len(r.Ports) > 0 || Direction(d) == Ingress {
				out = append(out, r.Peers...)
			}
			if Direction(d) == Egress {
				for _, n := range r.Named {
					out = append(out, r.PeersWith(n)...)
				}
			}
		}
	}
	return out
}

// PeersWith are the peers of an egress rule that have a named port. Names are those of pods,
// so also without peers, and within address ranges, it is pods that are looked for.
func (r *Rule) PeersWith(port NamedPort) []Peer {
	var out []Peer
	for _, p := range r.Peers {
		out = append(out, p.With(port))
	}
	if r.Anywhere || len(r.Blocks) > 0 {
		out = append(out, AllPodsWith(port))
	}
	return out
}

// AllPodsWith are the pods of the cluster that have a port.
func AllPodsWith(port NamedPort) Peer {
	return Peer{Namespaces: labels.Everything(), Pods: labels.Everything()}.named(port)
}

func (p Peer) named(port NamedPort) Peer {
	p.Port = port
	sum := sha256.Sum256([]byte(p.String()))
	p.id = hex.EncodeToString(sum[:16])
	return p
}

// ID is the same for equal peers, here and in other processes: 32 characters that a label can hold.
func (p Peer) ID() string { return p.id }

// String tells who is meant; it is what the ID is made from.
func (p Peer) String() string {
	where := "namespace " + p.Namespace
	if p.Namespaces != nil {
		where = "namespaces " + canonical(p.Namespaces)
	}
	s := where + "; pods " + canonical(p.Pods)
	if p.Port.Name != "" {
		s += "; port " + p.Port.Name + "/" + string(p.Port.Protocol)
	}
	return s
}

// canonical is one text for a selector, in whatever order its parts came.
func canonical(s labels.Selector) string {
	requirements, selectable := s.Requirements()
	if !selectable {
		return "none"
	}
	if len(requirements) == 0 {
		return "all"
	}
	parts := make([]string, len(requirements))
	for i := range requirements {
		parts[i] = requirements[i].String()
	}
	slices.Sort(parts)
	return "(" + strings.Join(slices.Compact(parts), ",") + ")"
}

func selector(s *metav1.LabelSelector) labels.Selector {
	out, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return labels.Nothing()
	}
	return out
}

// NumberIn is the number of a named port in a pod; false when it has none of that name and protocol.
func (n NamedPort) NumberIn(pod *corev1.Pod) (uint16, bool) {
	for i := range pod.Spec.Containers {
		if port, ok := n.of(&pod.Spec.Containers[i]); ok {
			return port, true
		}
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways {
			continue
		}
		if port, ok := n.of(c); ok {
			return port, true
		}
	}
	return 0, false
}

func (n NamedPort) of(c *corev1.Container) (uint16, bool) {
	for _, p := range c.Ports {
		protocol := p.Protocol
		if protocol == "" {
			protocol = corev1.ProtocolTCP
		}
		if p.Name == n.Name && protocol == n.Protocol && p.ContainerPort > 0 && p.ContainerPort <= 65535 {
			return uint16(p.ContainerPort), true
		}
	}
	return 0, false
}

// With is those of the pods that have a port.
func (p Peer) With(port NamedPort) Peer { return p.named(port) }

// Resolved is the rule with numbers in place of names, as port tells them; names that it does
// not know allow nothing.
func (r Rule) Resolved(port func(NamedPort) (uint16, bool)) Rule {
	if len(r.Named) == 0 {
		return r
	}
	r.Ports = slices.Clone(r.Ports)
	for _, n := range r.Named {
		if number, ok := port(n); ok {
			r.Ports = append(r.Ports, PortRange{n.Number(), number, number})
		}
	}
	r.Ports, r.Named = unionPorts(r.Ports), nil
	return r
}

// PortsKey is the same for pods in which the named ports of the ingress rules have the same
// numbers; "" when the rules have none.
func (p *Policy) PortsKey(port func(NamedPort) (uint16, bool)) string {
	var b strings.Builder
	for _, r := range p.Rules[Ingress] {
		for _, n := range r.Named {
			number, _ := port(n)
			b.WriteString(strconv.Itoa(int(number)))
			b.WriteByte(' ')
		}
	}
	return b.String()
}
