package dns

import (
	"net/netip"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// records is what the cluster's names mean, kept by service: a change of one service
// costs that service. Safe for concurrent use.
type records struct {
	mu       sync.RWMutex
	services map[key]*service
	byIP     map[netip.Addr]string // PTR: address to the first label(s) below svc.<domain>
}

type key struct{ namespace, name string }

// service is what is known under <name>.<namespace>.svc.
type service struct {
	addresses []netip.Addr // cluster addresses; none for a headless service
	external  string       // ExternalName
	headless  bool
	ports     []port
	endpoints []endpoint // of a headless service
}

type port struct {
	name, protocol string // "http", "tcp"; for SRV
	number         uint16
}

type endpoint struct {
	address  netip.Addr
	hostname string // or the address with dashes
	ports    []port
}

func newRecords() *records {
	return &records{services: map[key]*service{}, byIP: map[netip.Addr]string{}}
}

// build computes a service's records: pure.
func build(svc *corev1.Service, slices []*discoveryv1.EndpointSlice) *service {
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return &service{external: strings.ToLower(strings.TrimSuffix(svc.Spec.ExternalName, ".")) + "."}
	}
	s := &service{headless: svc.Spec.ClusterIP == corev1.ClusterIPNone}
	for _, p := range svc.Spec.Ports {
		s.ports = append(s.ports, port{p.Name, strings.ToLower(string(p.Protocol)), uint16(p.Port)})
	}
	if !s.headless {
		for _, ip := range svc.Spec.ClusterIPs {
			if a, err := netip.ParseAddr(ip); err == nil {
				s.addresses = append(s.addresses, a)
			}
		}
		return s
	}
	for _, slice := range slices {
		s.endpoints = append(s.endpoints, endpointsOf(slice, svc.Spec.PublishNotReadyAddresses)...)
	}
	return s
}

func endpointsOf(slice *discoveryv1.EndpointSlice, all bool) []endpoint {
	var ports []port
	for _, p := range slice.Ports {
		if p.Port == nil {
			continue
		}
		one := port{number: uint16(*p.Port), protocol: "tcp"}
		if p.Name != nil {
			one.name = *p.Name
		}
		if p.Protocol != nil {
			one.protocol = strings.ToLower(string(*p.Protocol))
		}
		ports = append(ports, one)
	}
	var out []endpoint
	for _, e := range slice.Endpoints {
		if !all && e.Conditions.Ready != nil && !*e.Conditions.Ready {
			continue
		}
		for _, text := range e.Addresses {
			a, err := netip.ParseAddr(text)
			if err != nil {
				continue
			}
			one := endpoint{address: a, ports: ports, hostname: dashed(a)}
			if e.Hostname != nil && *e.Hostname != "" {
				one.hostname = *e.Hostname
			}
			out = append(out, one)
		}
	}
	return out
}

// dashed is how an address is written as a label.
func dashed(a netip.Addr) string {
	return strings.NewReplacer(".", "-", ":", "-").Replace(a.String())
}

// set replaces a service's records; nil removes them.
func (r *records) set(k key, s *service) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := r.services[k]; old != nil {
		for _, a := range old.all() {
			delete(r.byIP, a)
		}
	}
	if s == nil {
		delete(r.services, k)
		return
	}
	r.services[k] = s
	base := k.name + "." + k.namespace + "."
	for _, a := range s.addresses {
		r.byIP[a] = base
	}
	for _, e := range s.endpoints {
		r.byIP[e.address] = e.hostname + "." + base
	}
}

func (s *service) all() []netip.Addr {
	out := append([]netip.Addr{}, s.addresses...)
	for _, e := range s.endpoints {
		out = append(out, e.address)
	}
	return out
}

func (r *records) find(k key) *service {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.services[k]
}

func (r *records) pointer(a netip.Addr) (string, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	name, ok := r.byIP[a]
	return name, ok
}

// hasNamespace says whether any service lives in a namespace: the names above it exist then.
func (r *records) hasNamespace(namespace string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for k := range r.services {
		if k.namespace == namespace {
			return true
		}
	}
	return false
}
