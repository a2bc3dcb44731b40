package core

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

// Services is the kind Service. service_reserve.go has what is unique in the cluster,
// service_update.go the changes of type, service_validate.go the rules.
var Services = api.Define(api.Resource[*corev1.Service]{
	Version: "v1", Kind: "Service", Plural: "services", Short: []string{"svc"}, Categories: []string{"all"}, Namespaced: true,
	Prefix:              "services/specs",
	UnconditionalUpdate: true,
	HasStatus:           true,
	CreateOnUpdate:      true,
	ValidateName:        serviceName,
	Default:             defaultService,
	PrepareCreate:       prepareService,
	PrepareUpdate:       prepareServiceUpdate,
	Validate:            validateService,
	ValidateUpdate:      validateServiceUpdate,
	ValidateStatus:      validateServiceStatus,
	Warnings:            serviceWarnings,
	Reserve:             reserveService,
	Claims:              claimsOfService,
	Released:            releaseService,
	Connects:            []api.Connect{proxyConnect("ServiceProxyOptions", newServiceProxyOptions)},
	Fields: map[string]func(*corev1.Service) string{
		"spec.clusterIP": func(s *corev1.Service) string { return s.Spec.ClusterIP },
		"spec.type":      func(s *corev1.Service) string { return string(s.Spec.Type) },
	},
	Columns: []api.Column[*corev1.Service]{
		text("Type", corev1.ServiceSpec{}.SwaggerDoc()["type"], func(s *corev1.Service) string { return string(s.Spec.Type) }),
		text("Cluster-IP", corev1.ServiceSpec{}.SwaggerDoc()["clusterIP"], func(s *corev1.Service) string {
			if len(s.Spec.ClusterIPs) > 0 {
				return s.Spec.ClusterIPs[0]
			}
			return none
		}),
		text("External-IP", corev1.ServiceSpec{}.SwaggerDoc()["externalIPs"], serviceExternalIP),
		text("Port(s)", corev1.ServiceSpec{}.SwaggerDoc()["ports"], servicePorts),
		Age[*corev1.Service](),
		wide("Selector", corev1.ServiceSpec{}.SwaggerDoc()["selector"], func(s *corev1.Service) string { return formatLabels(s.Spec.Selector) }),
	},
})

// serviceName keeps to names that are labels of DNS and may stand in variable names.
func serviceName(name string, prefix bool) []string {
	return apivalidation.NameIsDNS1035Label(name, prefix)
}

func defaultService(s *corev1.Service) {
	spec := &s.Spec
	fill(&spec.SessionAffinity, corev1.ServiceAffinityNone)
	if spec.SessionAffinity == corev1.ServiceAffinityNone {
		spec.SessionAffinityConfig = nil
	}
	if spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		if c := spec.SessionAffinityConfig; c == nil || c.ClientIP == nil || c.ClientIP.TimeoutSeconds == nil {
			spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{
				ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr(corev1.DefaultClientIPServiceAffinitySeconds)},
			}
		}
	}
	fill(&spec.Type, corev1.ServiceTypeClusterIP)
	for i := range spec.Ports {
		p := &spec.Ports[i]
		fill(&p.Protocol, corev1.ProtocolTCP)
		if p.TargetPort == intstr.FromInt32(0) || p.TargetPort == intstr.FromString("") {
			p.TargetPort = intstr.FromInt32(p.Port)
		}
	}
	if externallyAccessible(s) {
		fill(&spec.ExternalTrafficPolicy, corev1.ServiceExternalTrafficPolicyCluster)
	}
	if needsClusterIP(s) {
		fillPtr(&spec.InternalTrafficPolicy, corev1.ServiceInternalTrafficPolicyCluster)
	}
	if spec.Type == corev1.ServiceTypeLoadBalancer {
		fillPtr(&spec.AllocateLoadBalancerNodePorts, true)
		for i := range s.Status.LoadBalancer.Ingress {
			if ing := &s.Status.LoadBalancer.Ingress[i]; ing.IP != "" {
				fillPtr(&ing.IPMode, corev1.LoadBalancerIPModeVIP)
			}
		}
	}
}

func externallyAccessible(s *corev1.Service) bool {
	switch s.Spec.Type {
	case corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort:
		return true
	case corev1.ServiceTypeClusterIP:
		return len(s.Spec.ExternalIPs) > 0
	}
	return false
}

func needsClusterIP(s *corev1.Service) bool {
	switch s.Spec.Type {
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer:
		return true
	}
	return false
}

func needsNodePort(s *corev1.Service) bool {
	switch s.Spec.Type {
	case corev1.ServiceTypeNodePort:
		return true
	case corev1.ServiceTypeLoadBalancer:
		return s.Spec.AllocateLoadBalancerNodePorts == nil || *s.Spec.AllocateLoadBalancerNodePorts
	}
	return false
}

func needsHealthPort(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

func headless(s *corev1.Service) bool {
	return s.Spec.ClusterIP == corev1.ClusterIPNone || len(s.Spec.ClusterIPs) == 1 && s.Spec.ClusterIPs[0] == corev1.ClusterIPNone
}

func serviceExternalIP(s *corev1.Service) string {
	external := strings.Join(s.Spec.ExternalIPs, ",")
	switch s.Spec.Type {
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort:
		return orNone(external)
	case corev1.ServiceTypeExternalName:
		return s.Spec.ExternalName
	case corev1.ServiceTypeLoadBalancer:
		var list []string
		for _, ing := range s.Status.LoadBalancer.Ingress {
			if ing.IP != "" {
				list = append(list, ing.IP)
			} else if ing.Hostname != "" {
				list = append(list, ing.Hostname)
			}
		}
		balancer := joinSorted(list)
		if external != "" && balancer != "" {
			return balancer + "," + external
		}
		if balancer+external == "" {
			return "<pending>"
		}
		return balancer + external
	}
	return unknown
}

func servicePorts(s *corev1.Service) string {
	var list []string
	for _, p := range s.Spec.Ports {
		if p.NodePort > 0 {
			list = append(list, fmt.Sprintf("%d:%d/%s", p.Port, p.NodePort, p.Protocol))
		} else {
			list = append(list, fmt.Sprintf("%d/%s", p.Port, p.Protocol))
		}
	}
	return orNone(strings.Join(list, ","))
}

// serviceWarnings tell of what is ignored, and of what is not wanted any more.
func serviceWarnings(s, _ *corev1.Service) []string {
	var list []string
	spec := &s.Spec
	warn := func(when bool, text string) {
		if when {
			list = append(list, text)
		}
	}
	_, hints := s.Annotations[corev1.DeprecatedAnnotationTopologyAwareHints]
	warn(hints, fmt.Sprintf("annotation %s is deprecated, please use %s instead", corev1.DeprecatedAnnotationTopologyAwareHints, corev1.AnnotationTopologyMode))
	headless := spec.Type == corev1.ServiceTypeClusterIP && spec.ClusterIP == corev1.ClusterIPNone
	named := spec.Type == corev1.ServiceTypeExternalName
	external := len(spec.ExternalIPs) > 0
	warn(headless && spec.LoadBalancerIP != "", "spec.loadBalancerIP is ignored for headless services")
	warn(headless && external, "spec.externalIPs is ignored for headless services")
	warn(headless && spec.SessionAffinity != corev1.ServiceAffinityNone, "spec.SessionAffinity is ignored for headless services")
	warn(external && !headless && !named, "spec.externalIPs is deprecated and may no longer be implemented in some clusters")
	warn(named && external, fmt.Sprintf("spec.externalIPs is ignored when spec.type is %q", corev1.ServiceTypeExternalName))
	warn(!named && spec.ExternalName != "", fmt.Sprintf("spec.externalName is ignored when spec.type is not %q", corev1.ServiceTypeExternalName))
	d := spec.TrafficDistribution
	warn(d != nil && *d == corev1.ServiceTrafficDistributionPreferClose,
		fmt.Sprintf("spec.trafficDistribution: %q is deprecated; use %q", corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone))
	return list
}

func validateServiceStatus(s, old *corev1.Service) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("status", "loadBalancer", "ingress")
	now, was := s.Status.LoadBalancer.Ingress, old.Status.LoadBalancer.Ingress
	if len(now) > 0 && s.Spec.Type != corev1.ServiceTypeLoadBalancer && !apiequality.Semantic.DeepEqual(now, was) {
		errs = append(errs, field.Forbidden(path, "may only be used when `spec.type` is 'LoadBalancer'"))
	}
	var known []string // may stay as they were once allowed
	for _, ing := range was {
		known = append(known, ing.IP)
	}
	for i, ing := range now {
		p := path.Index(i)
		if ing.IP != "" {
			errs = append(errs, validation.IsValidIPForLegacyField(p.Child("ip"), ing.IP, true, known)...)
			if ing.IPMode == nil {
				errs = append(errs, field.Required(p.Child("ipMode"), "must be specified when `ip` is set"))
			}
		} else if ing.IPMode != nil {
			errs = append(errs, field.Forbidden(p.Child("ipMode"), "may not be specified when `ip` is not set"))
		}
		if ing.IPMode != nil {
			errs = append(errs, oneOf(*ing.IPMode, p.Child("ipMode"), corev1.LoadBalancerIPModeProxy, corev1.LoadBalancerIPModeVIP)...)
		}
		if ing.Hostname != "" {
			errs = append(errs, dnsSubdomain(ing.Hostname, p.Child("hostname"))...)
		}
	}
	return errs
}
