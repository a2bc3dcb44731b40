package dns

import (
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// name is the namespace and name of a service.
type name struct{ namespace, service string }

// index is what the informers told, arranged for questions.
type index struct {
	mu         sync.RWMutex
	generation uint64 // grows with each change
	namespaces map[string]struct{}
	services   map[name]*corev1.Service
	slices     map[name]map[string]*discoveryv1.EndpointSlice
	clusterIP  map[netip.Addr]name
	endpointIP map[netip.Addr]map[name]int // uses by slices
}

func newIndex() *index {
	return &index{namespaces: map[string]struct{}{}, services: map[name]*corev1.Service{}, slices: map[name]map[string]*discoveryv1.EndpointSlice{},
		clusterIP: map[netip.Addr]name{}, endpointIP: map[netip.Addr]map[name]int{}}
}

func (x *index) setNamespace(n string, gone bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, known := x.namespaces[n]
	if known != gone {
		return // its labels or status changed
	}
	x.generation++
	if gone {
		delete(x.namespaces, n)
	} else {
		x.namespaces[n] = struct{}{}
	}
}

func (x *index) setService(svc *corev1.Service, gone bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.generation++
	n := name{svc.Namespace, svc.Name}
	if old := x.services[n]; old != nil {
		for _, ip := range addrs(old.Spec.ClusterIPs, old.Spec.ClusterIP) {
			if x.clusterIP[ip] == n {
				delete(x.clusterIP, ip)
			}
		}
	}
	if gone {
		delete(x.services, n)
		return
	}
	x.services[n] = svc
	for _, ip := range addrs(svc.Spec.ClusterIPs, svc.Spec.ClusterIP) {
		x.clusterIP[ip] = n
	}
}

func (x *index) setSlice(s *discoveryv1.EndpointSlice, gone bool) {
	n := name{s.Namespace, s.Labels[discoveryv1.LabelServiceName]}
	if n.service == "" {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.generation++
	if old := x.slices[n][s.Name]; old != nil {
		x.countLocked(n, old, -1)
		delete(x.slices[n], s.Name)
	}
	if !gone {
		if x.slices[n] == nil {
			x.slices[n] = map[string]*discoveryv1.EndpointSlice{}
		}
		x.slices[n][s.Name] = s
		x.countLocked(n, s, 1)
	}
	if len(x.slices[n]) == 0 {
		delete(x.slices, n)
	}
}

func (x *index) countLocked(n name, s *discoveryv1.EndpointSlice, by int) {
	for i := range s.Endpoints {
		for _, ip := range addrs(s.Endpoints[i].Addresses, "") {
			uses := x.endpointIP[ip]
			if uses == nil {
				uses = map[name]int{}
				x.endpointIP[ip] = uses
			}
			if uses[n] += by; uses[n] <= 0 {
				delete(uses, n)
			}
			if len(uses) == 0 {
				delete(x.endpointIP, ip)
			}
		}
	}
}

// addrs parses addresses; one stands in for an empty list. "None" and "" are no addresses.
func addrs(list []string, one string) []netip.Addr {
	if len(list) == 0 {
		list = []string{one}
	}
	var out []netip.Addr
	for _, s := range list {
		if a, err := netip.ParseAddr(s); err == nil {
			out = append(out, a)
		}
	}
	return out
}
