package core

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

func prepareService(_ context.Context, s *corev1.Service) {
	if s.Spec.ClusterIP != "" && len(s.Spec.ClusterIPs) == 0 {
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	}
}

// prepareServiceUpdate makes an update that leaves out what the server had chosen keep it,
// and one that changes the type lose what only the old type has.
func prepareServiceUpdate(_ context.Context, s, old *corev1.Service) {
	keepAllocated(s, old)
	alignClusterIPs(s, old)
	dropTypeDependent(s, old)
}

func keepAllocated(s, old *corev1.Service) {
	if needsClusterIP(s) && needsClusterIP(old) {
		if s.Spec.ClusterIP == "" && len(s.Spec.ClusterIPs) == 0 {
			s.Spec.ClusterIP = old.Spec.ClusterIP
		}
		if len(s.Spec.ClusterIPs) == 0 && s.Spec.ClusterIP == old.Spec.ClusterIP {
			s.Spec.ClusterIPs = slices.Clone(old.Spec.ClusterIPs)
		}
		if s.Spec.IPFamilyPolicy == nil && old.Spec.IPFamilyPolicy != nil {
			s.Spec.IPFamilyPolicy = ptr(*old.Spec.IPFamilyPolicy)
		}
		if len(s.Spec.IPFamilies) == 0 {
			s.Spec.IPFamilies = slices.Clone(old.Spec.IPFamilies)
		}
	}
	if needsNodePort(s) && needsNodePort(old) {
		keepNodePorts(s, old)
	}
	if needsHealthPort(s) && needsHealthPort(old) {
		fill(&s.Spec.HealthCheckNodePort, old.Spec.HealthCheckNodePort)
	}
}

func keepNodePorts(s, old *corev1.Service) {
	type key struct {
		protocol corev1.Protocol
		port     int32
	}
	had, used := map[key]int32{}, map[nodePort]bool{}
	for _, p := range old.Spec.Ports {
		had[key{p.Protocol, p.Port}] = p.NodePort
	}
	for _, p := range s.Spec.Ports {
		used[nodePort{p.NodePort, string(p.Protocol)}] = true
	}
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		before := had[key{p.Protocol, p.Port}]
		if p.NodePort == 0 && !used[nodePort{before, string(p.Protocol)}] {
			p.NodePort = before
		}
	}
}

// alignClusterIPs lets a client that only knows clusterIP change it alone.
func alignClusterIPs(s, old *corev1.Service) {
	if s.Spec.ClusterIP != "" && len(s.Spec.ClusterIPs) == 0 {
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
		return
	}
	if s.Spec.ClusterIP == old.Spec.ClusterIP || !slices.Equal(s.Spec.ClusterIPs, old.Spec.ClusterIPs) {
		return
	}
	if s.Spec.ClusterIP == "" {
		s.Spec.ClusterIPs = nil
	} else if len(s.Spec.ClusterIPs) > 0 {
		s.Spec.ClusterIPs = slices.Clone(s.Spec.ClusterIPs)
		s.Spec.ClusterIPs[0] = s.Spec.ClusterIP
	}
}

// dropTypeDependent clears fields that the new type does not have, unless the client set
// them anew: that is its mistake, and validation tells it so.
func dropTypeDependent(s, old *corev1.Service) {
	now, was := &s.Spec, &old.Spec
	if needsClusterIP(old) && !needsClusterIP(s) {
		if slices.Equal(now.ClusterIPs, was.ClusterIPs) {
			now.ClusterIP, now.ClusterIPs = "", nil
		}
		if slices.Equal(now.IPFamilies, was.IPFamilies) {
			now.IPFamilies = nil
		}
		now.IPFamilyPolicy = dropSame(now.IPFamilyPolicy, was.IPFamilyPolicy)
		now.InternalTrafficPolicy = dropSame(now.InternalTrafficPolicy, was.InternalTrafficPolicy)
	}
	if needsNodePort(old) && !needsNodePort(s) && sameNodePorts(now.Ports, was.Ports) {
		for i := range now.Ports {
			now.Ports[i].NodePort = 0
		}
	}
	if needsHealthPort(old) && !needsHealthPort(s) && now.HealthCheckNodePort == was.HealthCheckNodePort {
		now.HealthCheckNodePort = 0
	}
	if was.Type == corev1.ServiceTypeLoadBalancer && now.Type != corev1.ServiceTypeLoadBalancer {
		now.AllocateLoadBalancerNodePorts = dropSame(now.AllocateLoadBalancerNodePorts, was.AllocateLoadBalancerNodePorts)
		now.LoadBalancerClass = dropSame(now.LoadBalancerClass, was.LoadBalancerClass)
		s.Status.LoadBalancer = corev1.LoadBalancerStatus{}
	}
	if externallyAccessible(old) && !externallyAccessible(s) && now.ExternalTrafficPolicy == was.ExternalTrafficPolicy {
		now.ExternalTrafficPolicy = ""
	}
}

func dropSame[T comparable](now, was *T) *T {
	if now != nil && was != nil && *now == *was {
		return nil
	}
	return now
}

// sameNodePorts says that no port was given a node port it did not have.
func sameNodePorts(now, was []corev1.ServicePort) bool {
	had := map[int32]bool{0: true}
	for _, p := range was {
		had[p.NodePort] = true
	}
	return !slices.ContainsFunc(now, func(p corev1.ServicePort) bool { return !had[p.NodePort] })
}
