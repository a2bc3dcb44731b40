package core

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

func familyNumber(f corev1.IPFamily) int {
	if f == corev1.IPv6Protocol {
		return 6
	}
	return 4
}

func familyOf(a netip.Addr) corev1.IPFamily {
	if a.Unmap().Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

func otherFamily(f corev1.IPFamily) corev1.IPFamily {
	if f == corev1.IPv4Protocol {
		return corev1.IPv6Protocol
	}
	return corev1.IPv4Protocol
}

// assignFamilies settles ipFamilyPolicy and ipFamilies from what the client gave and what
// the cluster has. ExternalName services have neither.
func assignFamilies(env *api.Env, s *corev1.Service) field.ErrorList {
	if !needsClusterIP(s) {
		return nil
	}
	var cluster []corev1.IPFamily
	for _, p := range env.Services.CIDRs() {
		cluster = append(cluster, familyOf(p.Addr()))
	}
	if len(cluster) == 0 {
		return field.ErrorList{field.InternalError(field.NewPath("spec", "ipFamilies"), errNoRange)}
	}
	spec := &s.Spec
	free := headless(s) && len(spec.Selector) == 0 // its endpoints are made by hand, of any family
	defaultFamilyPolicy(spec, free)
	given := len(spec.IPFamilies)
	familiesFromAddresses(spec)
	if len(spec.IPFamilies) == 0 {
		spec.IPFamilies = []corev1.IPFamily{cluster[0]}
	}
	dual := len(cluster) > 1 || free
	var errs field.ErrorList
	if *spec.IPFamilyPolicy == corev1.IPFamilyPolicyRequireDualStack && !dual {
		errs = append(errs, field.Invalid(field.NewPath("spec", "ipFamilyPolicy"), *spec.IPFamilyPolicy, "this cluster is not configured for dual-stack services"))
	}
	for i, f := range spec.IPFamilies {
		switch {
		case free || slices.Contains(cluster, f):
		case i < given || i >= len(spec.ClusterIPs):
			errs = append(errs, field.Invalid(field.NewPath("spec", "ipFamilies").Index(i), f, "not configured on this cluster"))
		default:
			errs = append(errs, field.Invalid(field.NewPath("spec", "clusterIPs").Index(i), spec.ClusterIPs, string(f)+" is not configured on this cluster"))
		}
	}
	switch {
	case *spec.IPFamilyPolicy == corev1.IPFamilyPolicySingleStack:
		spec.IPFamilies = spec.IPFamilies[:1]
	case dual && len(spec.IPFamilies) == 1:
		spec.IPFamilies = append(spec.IPFamilies, otherFamily(spec.IPFamilies[0]))
	}
	return errs
}

func defaultFamilyPolicy(spec *corev1.ServiceSpec, free bool) {
	if spec.IPFamilyPolicy != nil {
		return
	}
	policy := corev1.IPFamilyPolicySingleStack
	if free || len(spec.ClusterIPs) == 2 || len(spec.IPFamilies) == 2 {
		policy = corev1.IPFamilyPolicyRequireDualStack
	}
	spec.IPFamilyPolicy = &policy
}

// familiesFromAddresses takes families that are not given from the addresses that are.
func familiesFromAddresses(spec *corev1.ServiceSpec) {
	for i, text := range spec.ClusterIPs {
		if addr, err := netip.ParseAddr(text); err == nil && i == len(spec.IPFamilies) {
			spec.IPFamilies = append(spec.IPFamilies, familyOf(addr))
		}
	}
}
