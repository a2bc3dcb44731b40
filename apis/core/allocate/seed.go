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
		if s.Spec.Type == corev1.ServiceTypeExternalName {
			continue
		}
		for _, text := range s.Spec.ClusterIPs {
			if addr, err := netip.ParseAddr(text); err == nil {
				note(addresses.Take(addr))
			}
		}
		for _, p := range s.Spec.Ports {
			if p.NodePort != 0 {
				note(ports.Take(p.NodePort, string(p.Protocol)))
			}
		}
		if n := s.Spec.HealthCheckNodePort; n != 0 {
			note(ports.Take(n, string(corev1.ProtocolTCP)))
		}
	}
	return errs
}
