package endpointslice

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/proa-dev/proa/controllers/loop"
)

// serves says whether a pod can be an endpoint at all: it has an address and has not ended.
func serves(pod *corev1.Pod) bool {
	return pod.Status.PodIP != "" && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed
}

// sameEndpoint says whether two states of a pod make the same endpoints.
func sameEndpoint(a, b *corev1.Pod) bool {
	_, readyA := loop.ReadySince(a)
	_, readyB := loop.ReadySince(b)
	return readyA == readyB && serves(a) == serves(b) && a.UID == b.UID && a.Spec.NodeName == b.Spec.NodeName &&
		a.DeletionTimestamp.IsZero() == b.DeletionTimestamp.IsZero() && slices.Equal(a.Status.PodIPs, b.Status.PodIPs) &&
		a.Status.PodIP == b.Status.PodIP
}

// addresses are a pod's addresses of a family.
func addresses(pod *corev1.Pod, family discoveryv1.AddressType) []string {
	var list []string
	add := func(text string) {
		ip, err := netip.ParseAddr(text)
		if err == nil && ip.Is4() == (family == discoveryv1.AddressTypeIPv4) {
			list = append(list, text)
		}
	}
	for _, ip := range pod.Status.PodIPs {
		add(ip.IP)
	}
	if len(pod.Status.PodIPs) == 0 {
		add(pod.Status.PodIP)
	}
	return list
}

// endpointOf is the endpoint that a pod with those addresses is for a service.
func endpointOf(svc *corev1.Service, pod *corev1.Pod, addresses []string, zone string) discoveryv1.Endpoint {
	_, serving := loop.ReadySince(pod)
	terminating := pod.DeletionTimestamp != nil
	ready := svc.Spec.PublishNotReadyAddresses || serving && !terminating
	e := discoveryv1.Endpoint{
		Addresses:  addresses,
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating},
		TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
	}
	if pod.Spec.NodeName != "" {
		e.NodeName = &pod.Spec.NodeName
	}
	if zone != "" {
		e.Zone = &zone
	}
	if pod.Spec.Hostname != "" && pod.Spec.Subdomain == svc.Name {
		e.Hostname = &pod.Spec.Hostname
	}
	return e
}

// since is when what an endpoint says of its pod came about.
func since(pod *corev1.Pod) time.Time {
	if pod.DeletionTimestamp != nil {
		return pod.DeletionTimestamp.Time
	}
	if at, _ := loop.ReadySince(pod); !at.IsZero() {
		return at
	}
	return pod.CreationTimestamp.Time
}

// portsOf are the ports of a service as a pod has them. A named port that the pod lacks is
// left out.
func portsOf(svc *corev1.Service, pod *corev1.Pod) []discoveryv1.EndpointPort {
	ports := make([]discoveryv1.EndpointPort, 0, len(svc.Spec.Ports))
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		number, found := portNumber(p, pod)
		if !found {
			continue
		}
		protocol := p.Protocol
		if protocol == "" {
			protocol = corev1.ProtocolTCP
		}
		ports = append(ports, discoveryv1.EndpointPort{Name: &p.Name, Port: &number, Protocol: &protocol, AppProtocol: p.AppProtocol})
	}
	return ports
}

func portNumber(p *corev1.ServicePort, pod *corev1.Pod) (int32, bool) {
	if p.TargetPort.Type == intstr.Int {
		if p.TargetPort.IntVal == 0 {
			return p.Port, true
		}
		return p.TargetPort.IntVal, true
	}
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			c := &containers[i]
			for _, port := range c.Ports {
				if port.Name == p.TargetPort.StrVal && (port.Protocol == p.Protocol || p.Protocol == "") {
					return port.ContainerPort, true
				}
			}
		}
	}
	return 0, false
}

// portsKey names a set of ports; equal sets have equal keys in whatever order.
func portsKey(ports []discoveryv1.EndpointPort) string {
	if len(ports) == 1 {
		return portKey(&ports[0])
	}
	keys := make([]string, len(ports))
	for i := range ports {
		keys[i] = portKey(&ports[i])
	}
	slices.Sort(keys)
	return strings.Join(keys, ";")
}

func portKey(p *discoveryv1.EndpointPort) string {
	var b strings.Builder
	if p.Name != nil {
		b.WriteString(*p.Name)
	}
	b.WriteByte('/')
	if p.Port != nil {
		b.WriteString(strconv.Itoa(int(*p.Port)))
	}
	b.WriteByte('/')
	if p.Protocol != nil {
		b.WriteString(string(*p.Protocol))
	}
	b.WriteByte('/')
	if p.AppProtocol != nil {
		b.WriteString(*p.AppProtocol)
	}
	return b.String()
}

// podOf is the pod that an endpoint stands for.
func podOf(e *discoveryv1.Endpoint) types.UID {
	if e.TargetRef == nil {
		return ""
	}
	return e.TargetRef.UID
}

// sameAs says whether an endpoint reads as another, without reflection: it is asked for
// every endpoint of a service at every change.
func sameAs(a, b *discoveryv1.Endpoint) bool {
	return slices.Equal(a.Addresses, b.Addresses) && same(a.Conditions.Ready, b.Conditions.Ready) &&
		same(a.Conditions.Serving, b.Conditions.Serving) && same(a.Conditions.Terminating, b.Conditions.Terminating) &&
		same(a.Hostname, b.Hostname) && same(a.TargetRef, b.TargetRef) && same(a.NodeName, b.NodeName) && same(a.Zone, b.Zone) &&
		len(a.DeprecatedTopology) == 0 && a.Hints == nil
}

func same[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}
