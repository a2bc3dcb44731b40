package core

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var errNoRange = errors.New("no service range is configured")

// kubeletPort is where the node agent answers; no balancer may lead there.
const kubeletPort = 10250

// maxAffinitySeconds is how long a client may stick to an endpoint: a day.
const maxAffinitySeconds = 86400

var serviceTypes = []corev1.ServiceType{
	corev1.ServiceTypeClusterIP, corev1.ServiceTypeExternalName, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort,
}

func validateService(s *corev1.Service) field.ErrorList {
	path := field.NewPath("spec")
	spec := &s.Spec
	errs := validateServiceType(s, path)
	errs = append(errs, validateServicePorts(s, path.Child("ports"))...)
	if spec.Selector != nil {
		errs = append(errs, metav1validation.ValidateLabels(spec.Selector, path.Child("selector"))...)
	}
	errs = append(errs, validateAffinityOf(spec, path)...)
	errs = append(errs, validateClusterIPs(spec, path)...)
	errs = append(errs, validateFamilies(spec, path)...)
	for i, ip := range spec.ExternalIPs {
		p := path.Child("externalIPs").Index(i)
		if bad := validation.IsValidIPForLegacyField(p, ip, false, nil); len(bad) > 0 {
			errs = append(errs, bad...)
		} else {
			errs = append(errs, validateNonSpecial(ip, p)...)
		}
	}
	errs = append(errs, given(spec.Type, path.Child("type"), serviceTypes...)...)
	errs = append(errs, validateBalancer(spec, path)...)
	return append(errs, validateTraffic(s, path)...)
}

func validateServiceType(s *corev1.Service, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	spec := &s.Spec
	if len(spec.Ports) == 0 && !headless(s) && spec.Type != corev1.ServiceTypeExternalName {
		errs = append(errs, field.Required(path.Child("ports"), ""))
	}
	switch spec.Type {
	case corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort:
		if headless(s) {
			errs = append(errs, field.Invalid(path.Child("clusterIPs").Index(0), spec.ClusterIPs[0], fmt.Sprintf("may not be set to 'None' for %s services", spec.Type)))
		}
		for i := range spec.Ports {
			if spec.Type == corev1.ServiceTypeLoadBalancer && spec.Ports[i].Port == kubeletPort {
				errs = append(errs, field.Invalid(path.Child("ports").Index(i), spec.Ports[i].Port, fmt.Sprintf("may not expose port %v externally since it is used by kubelet", kubeletPort)))
			}
		}
	case corev1.ServiceTypeExternalName:
		if len(spec.ClusterIPs) > 0 {
			errs = append(errs, field.Forbidden(path.Child("clusterIPs"), "may not be set for ExternalName services"))
		}
		if len(spec.IPFamilies) > 0 {
			errs = append(errs, field.Forbidden(path.Child("ipFamilies"), "may not be set for ExternalName services"))
		}
		if spec.IPFamilyPolicy != nil {
			errs = append(errs, field.Forbidden(path.Child("ipFamilyPolicy"), "may not be set for ExternalName services"))
		}
		if name := strings.TrimSuffix(spec.ExternalName, "."); name == "" {
			errs = append(errs, field.Required(path.Child("externalName"), ""))
		} else {
			errs = append(errs, dnsSubdomain(name, path.Child("externalName"))...)
		}
	}
	return errs
}

func validateServicePorts(s *corev1.Service, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	names, nodePorts := map[string]bool{}, map[nodePort]bool{}
	ports := map[nodePort]bool{}
	for i := range s.Spec.Ports {
		sp, p := &s.Spec.Ports[i], path.Index(i)
		errs = append(errs, validateServicePort(sp, len(s.Spec.Ports) > 1, p)...)
		if sp.Name != "" && names[sp.Name] {
			errs = append(errs, field.Duplicate(p.Child("name"), sp.Name))
		}
		names[sp.Name] = true
		if sp.NodePort != 0 {
			if s.Spec.Type == corev1.ServiceTypeClusterIP || s.Spec.Type == corev1.ServiceTypeExternalName {
				errs = append(errs, field.Forbidden(p.Child("nodePort"), fmt.Sprintf("may not be used when `type` is '%s'", s.Spec.Type)))
			}
			k := nodePort{sp.NodePort, string(sp.Protocol)}
			if nodePorts[k] {
				errs = append(errs, field.Duplicate(p.Child("nodePort"), sp.NodePort))
			}
			nodePorts[k] = true
		}
		k := nodePort{sp.Port, string(sp.Protocol)}
		if ports[k] {
			errs = append(errs, field.Duplicate(p, corev1.ServicePort{Protocol: sp.Protocol, Port: sp.Port}))
		}
		ports[k] = true
	}
	return errs
}

func validateServicePort(sp *corev1.ServicePort, named bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if sp.Name != "" {
		errs = append(errs, dnsLabel(sp.Name, path.Child("name"))...)
	} else if named {
		errs = append(errs, field.Required(path.Child("name"), ""))
	}
	errs = append(errs, portNumber(sp.Port, path.Child("port"))...)
	errs = append(errs, given(sp.Protocol, path.Child("protocol"), protocols...)...)
	errs = append(errs, portNumberOrName(sp.TargetPort, path.Child("targetPort"))...)
	if sp.AppProtocol != nil {
		errs = append(errs, invalid(path.Child("appProtocol"), *sp.AppProtocol, validation.IsQualifiedName(*sp.AppProtocol))...)
	}
	return errs
}

func portNumberOrName(port intstr.IntOrString, path *field.Path) field.ErrorList {
	switch port.Type {
	case intstr.Int:
		return invalid(path, port.IntVal, validation.IsValidPortNum(int(port.IntVal)))
	case intstr.String:
		return invalid(path, port.StrVal, validation.IsValidPortName(port.StrVal))
	}
	return field.ErrorList{field.InternalError(path, fmt.Errorf("unknown type: %v", port.Type))}
}

func validateAffinityOf(spec *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	errs := given(spec.SessionAffinity, path.Child("sessionAffinity"), corev1.ServiceAffinityClientIP, corev1.ServiceAffinityNone)
	config := path.Child("sessionAffinityConfig")
	c := spec.SessionAffinityConfig
	switch spec.SessionAffinity {
	case corev1.ServiceAffinityClientIP:
		p := config.Child("clientIP", "timeoutSeconds")
		switch {
		case c == nil || c.ClientIP == nil || c.ClientIP.TimeoutSeconds == nil:
			errs = append(errs, field.Required(config, "when session affinity type is ClientIP"))
		case *c.ClientIP.TimeoutSeconds <= 0 || *c.ClientIP.TimeoutSeconds > maxAffinitySeconds:
			errs = append(errs, field.Invalid(p, *c.ClientIP.TimeoutSeconds, fmt.Sprintf("must be greater than 0 and less than %d", maxAffinitySeconds)))
		}
	case corev1.ServiceAffinityNone:
		if c != nil {
			errs = append(errs, field.Forbidden(config, fmt.Sprintf("must not be set when session affinity is %s", corev1.ServiceAffinityNone)))
		}
	}
	return errs
}

func validateClusterIPs(spec *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	list := path.Child("clusterIPs")
	if len(spec.ClusterIPs) == 0 {
		if spec.ClusterIP != "" {
			errs = append(errs, field.Required(list, ""))
		}
		return errs
	}
	if spec.ClusterIP == "" {
		errs = append(errs, field.Invalid(list, spec.ClusterIPs, "must be empty when `clusterIP` is not specified"))
	} else if spec.ClusterIPs[0] != spec.ClusterIP {
		errs = append(errs, field.Invalid(list, spec.ClusterIPs, "first value must match `clusterIP`"))
	}
	if len(spec.ClusterIPs) > 2 {
		errs = append(errs, field.Invalid(list, spec.ClusterIPs, "may only hold up to 2 values"))
	}
	for i, ip := range spec.ClusterIPs {
		if ip == corev1.ClusterIPNone {
			if i > 0 || len(spec.ClusterIPs) > 1 {
				errs = append(errs, field.Invalid(list.Index(i), ip, "must be empty string, or the only value, when 'None'"))
			}
			continue
		}
		errs = append(errs, validation.IsValidIPForLegacyField(list.Index(i), ip, false, nil)...)
	}
	if len(spec.ClusterIPs) == 2 && strings.Contains(spec.ClusterIPs[0], ":") == strings.Contains(spec.ClusterIPs[1], ":") {
		errs = append(errs, field.Invalid(list, spec.ClusterIPs, "may specify no more than one IP for each IP family"))
	}
	return errs
}

func validateFamilies(spec *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	list := path.Child("ipFamilies")
	for i, f := range spec.IPFamilies {
		errs = append(errs, oneOf(f, list.Index(i), corev1.IPv4Protocol, corev1.IPv6Protocol)...)
		if slices.Contains(spec.IPFamilies[:i], f) {
			errs = append(errs, field.Duplicate(list.Index(i), f))
		}
		if i >= len(spec.ClusterIPs) || spec.ClusterIPs[i] == corev1.ClusterIPNone {
			continue
		}
		if v6 := strings.Contains(spec.ClusterIPs[i], ":"); v6 != (f == corev1.IPv6Protocol) {
			errs = append(errs, field.Invalid(path.Child("clusterIPs").Index(i), spec.ClusterIPs[i], fmt.Sprintf("expected an %v value as indicated by `ipFamilies[%v]`", f, i)))
		}
	}
	if spec.IPFamilyPolicy != nil {
		errs = append(errs, oneOf(*spec.IPFamilyPolicy, path.Child("ipFamilyPolicy"),
			corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack, corev1.IPFamilyPolicySingleStack)...)
		if *spec.IPFamilyPolicy == corev1.IPFamilyPolicySingleStack && len(spec.ClusterIPs) > 1 {
			errs = append(errs, field.Invalid(path.Child("ipFamilyPolicy"), *spec.IPFamilyPolicy, "must be RequireDualStack or PreferDualStack when multiple clusterIPs are specified"))
		}
	}
	return errs
}

func validateBalancer(spec *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	only := "may only be used when `type` is 'LoadBalancer'"
	balancer := spec.Type == corev1.ServiceTypeLoadBalancer
	if len(spec.LoadBalancerSourceRanges) > 0 && !balancer {
		errs = append(errs, field.Forbidden(path.Child("LoadBalancerSourceRanges"), only))
	}
	for i, cidr := range spec.LoadBalancerSourceRanges {
		errs = append(errs, validation.IsValidCIDRForLegacyField(path.Child("LoadBalancerSourceRanges").Index(i), strings.TrimSpace(cidr), false, nil)...)
	}
	if balancer && spec.AllocateLoadBalancerNodePorts == nil {
		errs = append(errs, field.Required(path.Child("allocateLoadBalancerNodePorts"), ""))
	}
	if !balancer && spec.AllocateLoadBalancerNodePorts != nil {
		errs = append(errs, field.Forbidden(path.Child("allocateLoadBalancerNodePorts"), only))
	}
	if spec.LoadBalancerClass != nil {
		if !balancer {
			errs = append(errs, field.Forbidden(path.Child("loadBalancerClass"), only))
		}
		errs = append(errs, invalid(path.Child("loadBalancerClass"), *spec.LoadBalancerClass, validation.IsQualifiedName(*spec.LoadBalancerClass))...)
	}
	return errs
}

func validateTraffic(s *corev1.Service, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	spec := &s.Spec
	external := path.Child("externalTrafficPolicy")
	if externallyAccessible(s) {
		errs = append(errs, given(spec.ExternalTrafficPolicy, external, corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal)...)
	} else if spec.ExternalTrafficPolicy != "" {
		errs = append(errs, field.Invalid(external, spec.ExternalTrafficPolicy, "may only be set for externally-accessible services"))
	}
	if spec.HealthCheckNodePort < 0 || spec.HealthCheckNodePort != 0 && !needsHealthPort(s) {
		errs = append(errs, field.Invalid(path.Child("healthCheckNodePort"), spec.HealthCheckNodePort, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"))
	}
	internal := path.Child("internalTrafficPolicy")
	if spec.InternalTrafficPolicy != nil {
		errs = append(errs, oneOf(*spec.InternalTrafficPolicy, internal, corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal)...)
	} else if needsClusterIP(s) {
		errs = append(errs, field.Required(internal, ""))
	}
	if spec.TrafficDistribution != nil {
		errs = append(errs, oneOf(*spec.TrafficDistribution, path.Child("trafficDistribution"),
			corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameNode, corev1.ServiceTrafficDistributionPreferSameZone)...)
	}
	return errs
}

func validateServiceUpdate(s, old *corev1.Service) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("spec")
	if needsClusterIP(s) && needsClusterIP(old) && len(old.Spec.ClusterIPs) > 0 {
		list := path.Child("clusterIPs")
		switch {
		case len(s.Spec.ClusterIPs) == 0:
			errs = append(errs, field.Invalid(list.Index(0), s.Spec.ClusterIPs, "primary clusterIP can not be unset"))
		case s.Spec.ClusterIPs[0] != old.Spec.ClusterIPs[0]:
			errs = append(errs, field.Invalid(list.Index(0), s.Spec.ClusterIPs, "may not change once set"))
		case len(old.Spec.ClusterIPs) > 1 && len(s.Spec.ClusterIPs) > 1 && s.Spec.ClusterIPs[1] != old.Spec.ClusterIPs[1]:
			errs = append(errs, field.Invalid(list.Index(1), s.Spec.ClusterIPs, "may not change once set"))
		}
		if len(old.Spec.IPFamilies) > 0 && len(s.Spec.IPFamilies) > 0 && old.Spec.IPFamilies[0] != s.Spec.IPFamilies[0] {
			errs = append(errs, field.Invalid(path.Child("ipFamilies").Index(0), s.Spec.IPFamilies, "may not change once set"))
		}
	}
	if old.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.Type == corev1.ServiceTypeLoadBalancer && old.Spec.LoadBalancerClass != nil {
		now := s.Spec.LoadBalancerClass
		if now == nil || *now != *old.Spec.LoadBalancerClass {
			errs = append(errs, field.Invalid(path.Child("loadBalancerClass"), now, "may not change once set"))
		}
	}
	return errs
}
