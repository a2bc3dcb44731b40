package endpoints

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const mostAddresses = 1000 // in one object

// subsetsOf groups the pods by the ports they answer on, ready ones first to be kept.
func subsetsOf(service *corev1.Service, pods []*corev1.Pod) (out []corev1.EndpointSubset, truncated bool) {
	pods = slices.DeleteFunc(slices.Clone(pods), func(p *corev1.Pod) bool { return addressOf(service, p) == "" })
	all := service.Spec.PublishNotReadyAddresses
	slices.SortFunc(pods, func(a, b *corev1.Pod) int {
		first := func(p *corev1.Pod) int {
			if all || ready(p) {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(first(a), first(b)), cmp.Compare(addressOf(service, a), addressOf(service, b)), cmp.Compare(a.UID, b.UID))
	})
	if len(pods) > mostAddresses {
		pods, truncated = pods[:mostAddresses], true
	}
	index := map[string]int{}
	for _, pod := range pods {
		ports := portsOf(service, pod)
		if len(ports) == 0 && len(service.Spec.Ports) > 0 {
			continue
		}
		key := fmt.Sprintf("%+v", portKeys(ports))
		i, there := index[key]
		if !there {
			i = len(out)
			index[key] = i
			out = append(out, corev1.EndpointSubset{Ports: ports})
		}
		if address := endpoint(service, pod); all || ready(pod) {
			out[i].Addresses = append(out[i].Addresses, address)
		} else {
			out[i].NotReadyAddresses = append(out[i].NotReadyAddresses, address)
		}
	}
	slices.SortFunc(out, func(a, b corev1.EndpointSubset) int {
		return cmp.Compare(fmt.Sprint(portKeys(a.Ports)), fmt.Sprint(portKeys(b.Ports)))
	})
	return out, truncated
}

func portKeys(ports []corev1.EndpointPort) []string {
	var out []string
	for _, p := range ports {
		app := ""
		if p.AppProtocol != nil {
			app = *p.AppProtocol
		}
		out = append(out, fmt.Sprintf("%s/%d/%s/%s", p.Name, p.Port, p.Protocol, app))
	}
	return out
}

// addressOf is the pod's address in the service's first family; empty for a pod that is
// not to be reached.
func addressOf(service *corev1.Service, pod *corev1.Pod) string {
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return ""
	}
	if pod.DeletionTimestamp != nil && !service.Spec.PublishNotReadyAddresses {
		return ""
	}
	if len(service.Spec.IPFamilies) == 0 {
		return pod.Status.PodIP
	}
	for _, ip := range pod.Status.PodIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil && a.Is6() == (service.Spec.IPFamilies[0] == corev1.IPv6Protocol) {
			return ip.IP
		}
	}
	return ""
}

func endpoint(service *corev1.Service, pod *corev1.Pod) corev1.EndpointAddress {
	node := pod.Spec.NodeName
	address := corev1.EndpointAddress{IP: addressOf(service, pod), NodeName: &node,
		TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}}
	if pod.Spec.Hostname != "" && pod.Spec.Subdomain == service.Name {
		address.Hostname = pod.Spec.Hostname
	}
	return address
}

// portsOf are the service's ports as this pod serves them; those it does not name are left out.
func portsOf(service *corev1.Service, pod *corev1.Pod) []corev1.EndpointPort {
	var out []corev1.EndpointPort
	for _, p := range service.Spec.Ports {
		number, ok := targetPort(&p, pod)
		if !ok {
			continue
		}
		out = append(out, corev1.EndpointPort{Name: p.Name, Port: number, Protocol: p.Protocol, AppProtocol: p.AppProtocol})
	}
	return out
}

func targetPort(p *corev1.ServicePort, pod *corev1.Pod) (int32, bool) {
	if p.TargetPort.Type == intstr.Int {
		return cmp.Or(p.TargetPort.IntVal, p.Port), true
	}
	for _, container := range pod.Spec.Containers {
		for _, port := range container.Ports {
			if port.Name == p.TargetPort.StrVal && port.Protocol == p.Protocol {
				return port.ContainerPort, true
			}
		}
	}
	return 0, false
}

func ready(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
