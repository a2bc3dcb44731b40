package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/proa-dev/proa/internal/netpol"
)

func ptr[T any](v T) *T { return &v }

// world is a cluster as a plain model sees it: lists, and the API's words taken literally.
type world struct {
	r          *rand.Rand
	namespaces map[string]map[string]string
	pods       []*corev1.Pod // with an address each; those on "here" are ours
	policies   map[string]*networkingv1.NetworkPolicy
	count      int
}

func newWorld(seed uint64) *world {
	w := &world{r: rand.New(rand.NewPCG(seed, 7)), namespaces: map[string]map[string]string{}, policies: map[string]*networkingv1.NetworkPolicy{}}
	for _, n := range []string{"a", "b", "c"} {
		w.namespaces[n] = w.labels()
	}
	for range 8 {
		w.addPod()
	}
	return w
}

func (w *world) labels() map[string]string {
	out := map[string]string{}
	for _, k := range []string{"app", "team"} {
		if v := w.r.IntN(4); v < 3 {
			out[k] = string(rune('x' + v))
		}
	}
	return out
}

func (w *world) addPod() *corev1.Pod {
	w.count++
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace(), Name: fmt.Sprint("p", w.count), UID: types.UID(fmt.Sprint("u", w.count)), Labels: w.labels()},
		Spec:   corev1.PodSpec{NodeName: []string{"here", "there"}[w.r.IntN(2)]},
		Status: corev1.PodStatus{PodIP: fmt.Sprintf("10.0.%d.%d", w.r.IntN(2), w.count)}}
	if w.r.IntN(3) > 0 {
		p.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{
			{Name: "web", ContainerPort: int32(80 + w.r.IntN(2))}, {Name: "dns", Protocol: corev1.ProtocolUDP, ContainerPort: 81}}}}
	}
	w.pods = append(w.pods, p)
	return p
}

func (w *world) namespace() string { return string(rune('a' + w.r.IntN(3))) }

func (w *world) selector() *metav1.LabelSelector {
	s := &metav1.LabelSelector{}
	switch w.r.IntN(4) {
	case 0:
	case 1:
		s.MatchLabels = map[string]string{"app": string(rune('x' + w.r.IntN(3)))}
	case 2:
		s.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "team", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"x", "y"}[:1+w.r.IntN(2)]}}
	default:
		s.MatchLabels = map[string]string{"app": "x"}
		s.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "team", Operator: metav1.LabelSelectorOpExists}}
	}
	return s
}

func (w *world) peers() []networkingv1.NetworkPolicyPeer {
	var out []networkingv1.NetworkPolicyPeer
	for range w.r.IntN(3) {
		var p networkingv1.NetworkPolicyPeer
		switch w.r.IntN(4) {
		case 0:
			p.PodSelector = w.selector()
		case 1:
			p.NamespaceSelector = w.selector()
		case 2:
			p.PodSelector, p.NamespaceSelector = w.selector(), w.selector()
		default:
			p.IPBlock = &networkingv1.IPBlock{CIDR: []string{"10.0.0.0/8", "0.0.0.0/0", "10.0.1.0/24", "10.0.0.4/30"}[w.r.IntN(4)]}
			for range w.r.IntN(3) {
				p.IPBlock.Except = append(p.IPBlock.Except, []string{"10.0.0.0/29", "10.0.1.4/30", "10.0.0.8/32"}[w.r.IntN(3)])
			}
		}
		out = append(out, p)
	}
	return out
}

func (w *world) ports() []networkingv1.NetworkPolicyPort {
	var out []networkingv1.NetworkPolicyPort
	for range w.r.IntN(4) {
		p := networkingv1.NetworkPolicyPort{}
		if w.r.IntN(2) > 0 {
			p.Protocol = ptr([]corev1.Protocol{"TCP", "UDP", "SCTP"}[w.r.IntN(3)])
		}
		switch w.r.IntN(5) {
		case 0:
		case 1:
			p.Port = ptr(intstr.FromString([]string{"web", "dns"}[w.r.IntN(2)]))
		case 2:
			p.Port, p.EndPort = ptr(intstr.FromInt32(int32(79+w.r.IntN(3)))), ptr(int32(81+w.r.IntN(3)))
		default:
			p.Port = ptr(intstr.FromInt32(int32(80 + w.r.IntN(3))))
		}
		out = append(out, p)
	}
	return out
}

func (w *world) policy(name string) *networkingv1.NetworkPolicy {
	p := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace(), Name: name}}
	p.Spec.PodSelector = *w.selector()
	for range w.r.IntN(3) {
		p.Spec.Ingress = append(p.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: w.peers(), Ports: w.ports()})
	}
	for range w.r.IntN(3) {
		p.Spec.Egress = append(p.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: w.peers(), Ports: w.ports()})
	}
	for _, t := range []networkingv1.PolicyType{"Ingress", "Egress"} {
		if w.r.IntN(2) > 0 {
			p.Spec.PolicyTypes = append(p.Spec.PolicyTypes, t)
		}
	}
	return p
}

func matches(s *metav1.LabelSelector, l map[string]string) bool {
	sel, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		panic("selector of the test: " + err.Error())
	}
	return sel.Matches(labels.Set(l))
}

func (w *world) at(addr netip.Addr) *corev1.Pod {
	for _, p := range w.pods {
		if p.Status.PodIP == addr.String() {
			return p
		}
	}
	return nil
}

// allowed says what the API says: all policies that select a pod and isolate the direction, added up.
func (w *world) allowed(from, to netip.Addr, protocol corev1.Protocol, port int32) bool {
	if from == to {
		return true
	}
	src, dst := w.at(from), w.at(to)
	return (src == nil || src.Spec.NodeName != "here" || w.side(src, false, to, dst, protocol, port)) &&
		(dst == nil || dst.Spec.NodeName != "here" || w.side(dst, true, from, dst, protocol, port))
}

func (w *world) side(of *corev1.Pod, ingress bool, other netip.Addr, target *corev1.Pod, protocol corev1.Protocol, port int32) bool {
	isolated := false
	for _, p := range w.policies {
		if p.Namespace != of.Namespace || !matches(&p.Spec.PodSelector, of.Labels) {
			continue
		}
		kind := networkingv1.PolicyTypeEgress
		if ingress {
			kind = networkingv1.PolicyTypeIngress
		}
		types := p.Spec.PolicyTypes
		if len(types) == 0 {
			types = []networkingv1.PolicyType{"Ingress"}
			if len(p.Spec.Egress) > 0 {
				types = append(types, "Egress")
			}
		}
		if !slices.Contains(types, kind) {
			continue
		}
		isolated = true
		if ingress {
			for _, r := range p.Spec.Ingress {
				if w.anyPeer(p.Namespace, r.From, other) && anyPort(r.Ports, target, protocol, port) {
					return true
				}
			}
			continue
		}
		for _, r := range p.Spec.Egress {
			if w.anyPeer(p.Namespace, r.To, other) && anyPort(r.Ports, target, protocol, port) {
				return true
			}
		}
	}
	return !isolated
}

func (w *world) anyPeer(namespace string, peers []networkingv1.NetworkPolicyPeer, addr netip.Addr) bool {
	pod := w.at(addr)
	for _, p := range peers {
		if b := p.IPBlock; b != nil {
			in := func(cidr string) bool { return netip.MustParsePrefix(cidr).Contains(addr) }
			if in(b.CIDR) && !slices.ContainsFunc(b.Except, in) {
				return true
			}
			continue
		}
		if pod == nil || p.NamespaceSelector == nil && pod.Namespace != namespace ||
			p.NamespaceSelector != nil && !matches(p.NamespaceSelector, w.namespaces[pod.Namespace]) ||
			p.PodSelector != nil && !matches(p.PodSelector, pod.Labels) {
			continue
		}
		return true
	}
	return len(peers) == 0
}

func anyPort(ports []networkingv1.NetworkPolicyPort, target *corev1.Pod, protocol corev1.Protocol, port int32) bool {
	for _, p := range ports {
		want := corev1.ProtocolTCP
		if p.Protocol != nil {
			want = *p.Protocol
		}
		if want != protocol {
			continue
		}
		switch {
		case p.Port == nil:
			return true
		case p.Port.Type == intstr.String:
			if target == nil {
				continue
			}
			for _, c := range target.Spec.Containers {
				for _, cp := range c.Ports {
					has := cp.Protocol
					if has == "" {
						has = corev1.ProtocolTCP
					}
					if cp.Name == p.Port.StrVal && has == want && cp.ContainerPort == port {
						return true
					}
				}
			}
		case p.EndPort != nil:
			if p.Port.IntVal <= port && port <= *p.EndPort {
				return true
			}
		case p.Port.IntVal == port:
			return true
		}
	}
	return len(ports) == 0
}

// slices gives what the control plane publishes: one slice for each port number of a peer.
func (w *world) slices() map[string]*discoveryv1.EndpointSlice {
	out := map[string]*discoveryv1.EndpointSlice{}
	for _, policy := range w.policies {
		for _, p := range netpol.Read(policy).Peers() {
			for _, pod := range w.pods {
				if p.Namespaces == nil && pod.Namespace != p.Namespace || p.Namespaces != nil && !p.Namespaces.Matches(labels.Set(w.namespaces[pod.Namespace])) ||
					!p.Pods.Matches(labels.Set(pod.Labels)) {
					continue
				}
				number, ok := uint16(0), true
				if p.Port.Name != "" {
					number, ok = p.Port.NumberIn(pod)
				}
				if !ok {
					continue
				}
				name := fmt.Sprint(p.ID(), number)
				s := out[name]
				if s == nil {
					s = &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: netpol.SliceNamespace, Name: name,
						Labels: map[string]string{discoveryv1.LabelManagedBy: netpol.ManagedBy, netpol.PeerLabel: p.ID()}}}
					if number != 0 {
						s.Ports = []discoveryv1.EndpointPort{{Name: &p.Port.Name, Protocol: &p.Port.Protocol, Port: ptr(int32(number))}}
					}
					out[name] = s
				}
				e := discoveryv1.Endpoint{Addresses: []string{pod.Status.PodIP}}
				if !slices.ContainsFunc(s.Endpoints, func(o discoveryv1.Endpoint) bool { return o.Addresses[0] == pod.Status.PodIP }) {
					s.Endpoints = append(s.Endpoints, e)
				}
			}
		}
	}
	return out
}
