package allocate

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
)

// Seed reserves what stored services hold, when the server starts. What cannot be
// reserved (a range that changed, two services with one address) is given back as errors
// to be logged: the services keep it all the same.
func Seed(services []*corev1.Service, addresses *Addresses, ports *Ports) []error {
	var errs []error
	note := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	for _, s := range services {
		for _, addr := range addressesOf(s) {
			note(addresses.Take(addr))
		}
		for _, key := range portsOf(s) {
			note(ports.Take(key.port, key.protocol))
		}
	}
	return errs
}

// addressesOf are the cluster addresses that a stored service has.
func addressesOf(s *corev1.Service) []netip.Addr {
	var list []netip.Addr
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	for _, text := range s.Spec.ClusterIPs {
		if addr, err := netip.ParseAddr(text); err == nil {
			list = append(list, addr.Unmap())
		}
	}
	return list
}

// portsOf are its node ports.
func portsOf(s *corev1.Service) []portKey {
	var list []portKey
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	for _, p := range s.Spec.Ports {
		if p.NodePort != 0 {
			list = append(list, portKey{p.NodePort, string(p.Protocol)})
		}
	}
	if n := s.Spec.HealthCheckNodePort; n != 0 {
		list = append(list, portKey{n, string(corev1.ProtocolTCP)})
	}
	return list
}
