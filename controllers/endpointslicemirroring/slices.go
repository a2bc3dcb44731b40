package endpointslicemirroring

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// perSubset is how many addresses of a subset are mirrored.
const perSubset = 1000

// slicesOf makes the slices of Endpoints, by name: those that share ports and family go into one.
func slicesOf(e *corev1.Endpoints) map[string]*discoveryv1.EndpointSlice {
	out := map[string]*discoveryv1.EndpointSlice{}
	for i := range e.Subsets {
		subset := &e.Subsets[i]
		left := perSubset
		for _, part := range []struct {
			addresses []corev1.EndpointAddress
			ready     bool
		}{{subset.Addresses, true}, {subset.NotReadyAddresses, false}} {
			for j := range part.addresses {
				ip, err := netip.ParseAddr(part.addresses[j].IP)
				if err != nil || left == 0 {
					continue
				}
				left--
				s := sliceFor(out, e, subset.Ports, ip.Is4())
				s.Endpoints = append(s.Endpoints, endpoint(&part.addresses[j], part.ready))
			}
		}
	}
	return out
}

// sliceFor gives the slice of these ports and family, made if need be.
func sliceFor(all map[string]*discoveryv1.EndpointSlice, e *corev1.Endpoints, ports []corev1.EndpointPort, v4 bool) *discoveryv1.EndpointSlice {
	ports = slices.Clone(ports)
	slices.SortFunc(ports, func(a, b corev1.EndpointPort) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Name, b.Name))
	})
	family := discoveryv1.AddressTypeIPv6
	if v4 {
		family = discoveryv1.AddressTypeIPv4
	}
	sum := fnv.New32a()
	fmt.Fprint(sum, family)
	for _, p := range ports {
		app := ""
		if p.AppProtocol != nil {
			app = *p.AppProtocol
		}
		fmt.Fprintf(sum, "|%s %d %s %s", p.Name, p.Port, p.Protocol, app)
	}
	prefix := e.Name
	if len(prefix) > 240 {
		prefix = prefix[:240]
	}
	name := fmt.Sprintf("%s-%08x", prefix, sum.Sum32())
	s := all[name]
	if s == nil {
		s = newSlice(name, e, family)
		for i := range ports {
			p := &ports[i]
			s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: &p.Name, Port: &p.Port, Protocol: &p.Protocol, AppProtocol: p.AppProtocol})
		}
		all[name] = s
	}
	return s
}

func newSlice(name string, e *corev1.Endpoints, family discoveryv1.AddressType) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: e.Namespace, Labels: map[string]string{}, Annotations: map[string]string{},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(e, corev1.SchemeGroupVersion.WithKind("Endpoints"))},
		},
		AddressType: family,
	}
	maps.Copy(s.Labels, e.Labels)
	s.Labels[discoveryv1.LabelServiceName], s.Labels[discoveryv1.LabelManagedBy] = e.Name, managedBy
	maps.Copy(s.Annotations, e.Annotations)
	delete(s.Annotations, corev1.LastAppliedConfigAnnotation)
	delete(s.Annotations, corev1.EndpointsLastChangeTriggerTime)
	return s
}

func endpoint(a *corev1.EndpointAddress, ready bool) discoveryv1.Endpoint {
	out := discoveryv1.Endpoint{
		Addresses: []string{a.IP}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}, TargetRef: a.TargetRef, NodeName: a.NodeName,
	}
	if a.Hostname != "" {
		out.Hostname = &a.Hostname
	}
	return out
}
