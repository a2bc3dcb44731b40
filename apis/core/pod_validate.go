package core

import (
	"math"
	"net"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	maxDeadline   = math.MaxInt32
	deadlineRange = "must be between 0 and 2147483647, inclusive"
)

func validatePod(p *corev1.Pod) field.ErrorList {
	path := field.NewPath("spec")
	errs := validateMirror(p)
	errs = append(errs, validatePodSpec(&p.Spec, path)...)
	if len(p.Spec.SchedulingGates) > 0 && p.Spec.NodeName != "" && p.Status.Phase == corev1.PodPending && p.ResourceVersion == "" {
		errs = append(errs, field.Forbidden(path.Child("nodeName"), "cannot be set until all schedulingGates have been cleared"))
	}
	return errs
}

var mirrorPath = field.NewPath("metadata", "annotations").Key(corev1.MirrorPodAnnotationKey)

// validateMirror: what a node shows of a pod that it has from a file is on that node.
func validateMirror(p *corev1.Pod) field.ErrorList {
	if value, ok := p.Annotations[corev1.MirrorPodAnnotationKey]; ok && p.Spec.NodeName == "" {
		return field.ErrorList{field.Invalid(mirrorPath, value, "must set spec.nodeName if mirror pod annotation is set")}
	}
	return nil
}

// validateMirrorUpdate: a pod is made a mirror when it is made.
func validateMirrorUpdate(p, old *corev1.Pod) field.ErrorList {
	value, is := p.Annotations[corev1.MirrorPodAnnotationKey]
	before, was := old.Annotations[corev1.MirrorPodAnnotationKey]
	switch {
	case was && (!is || value != before):
		return field.ErrorList{field.Forbidden(mirrorPath, "may not remove or update mirror pod annotation")}
	case is && !was:
		return field.ErrorList{field.Forbidden(mirrorPath, "may not add mirror pod annotation")}
	}
	return nil
}

// ValidatePodTemplate checks the template that a controller makes pods of.
func ValidatePodTemplate(t *corev1.PodTemplateSpec, path *field.Path) field.ErrorList {
	errs := metav1validation.ValidateLabels(t.Labels, path.Child("labels"))
	errs = append(errs, apivalidation.ValidateAnnotations(t.Annotations, path.Child("annotations"))...)
	errs = append(errs, validatePodSpec(&t.Spec, path.Child("spec"))...)
	if len(t.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(path.Child("spec", "ephemeralContainers"), "ephemeral containers not allowed in pod template"))
	}
	return errs
}

func validatePodSpec(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	volumes, errs := validateVolumes(s.Volumes, path.Child("volumes"))
	errs = append(errs, validateContainers(s, volumes, path)...)
	if name := s.ServiceAccountName; name != "" {
		errs = append(errs, invalid(path.Child("serviceAccountName"), name, apivalidation.ValidateServiceAccountName(name, false))...)
	}
	errs = append(errs, notOnWindows(s, path)...)
	errs = append(errs, given(s.RestartPolicy, path.Child("restartPolicy"), corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)...)
	errs = append(errs, given(s.DNSPolicy, path.Child("dnsPolicy"), corev1.DNSClusterFirst, corev1.DNSClusterFirstWithHostNet, corev1.DNSDefault, corev1.DNSNone)...)
	errs = append(errs, metav1validation.ValidateLabels(s.NodeSelector, path.Child("nodeSelector"))...)
	errs = append(errs, validatePodSecurity(s, path.Child("securityContext"))...)
	if s.HostUsers != nil && !*s.HostUsers && s.HostNetwork {
		errs = append(errs, field.Forbidden(path.Child("hostNetwork"), "when `hostUsers` is false"))
	}
	errs = append(errs, validatePodScheduling(s, path)...)
	errs = append(errs, validatePodDNS(s, path)...)
	if d := s.ActiveDeadlineSeconds; d != nil && (*d < 1 || *d > maxDeadline) {
		errs = append(errs, field.Invalid(path.Child("activeDeadlineSeconds"), *d, validation.InclusiveRangeError(1, maxDeadline)))
	}
	for name, q := range s.Overhead {
		errs = append(errs, validateResource(string(name), q, path.Child("overhead").Key(string(name)))...)
	}
	if s.Resources != nil {
		errs = append(errs, validateResources(s.Resources, path.Child("resources"))...)
	}
	return append(errs, validatePodClaims(s, path.Child("resourceClaims"))...)
}

func validatePodScheduling(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.NodeName != "" {
		errs = append(errs, dnsSubdomain(s.NodeName, path.Child("nodeName"))...)
	}
	if s.PriorityClassName != "" {
		errs = append(errs, dnsSubdomain(s.PriorityClassName, path.Child("priorityClassName"))...)
	}
	if s.RuntimeClassName != nil {
		errs = append(errs, dnsSubdomain(*s.RuntimeClassName, path.Child("runtimeClassName"))...)
	}
	if s.PreemptionPolicy != nil {
		errs = append(errs, oneOf(*s.PreemptionPolicy, path.Child("preemptionPolicy"), corev1.PreemptLowerPriority, corev1.PreemptNever)...)
	}
	if s.OS != nil {
		errs = append(errs, given(s.OS.Name, path.Child("os").Child("name"), corev1.Linux, corev1.Windows)...)
	}
	gates := map[string]bool{}
	for i, g := range s.SchedulingGates {
		p := path.Child("schedulingGates").Index(i)
		errs = append(errs, invalid(p.Child("name"), g.Name, validation.IsQualifiedName(g.Name))...)
		if gates[g.Name] {
			errs = append(errs, field.Duplicate(p, g.Name))
		}
		gates[g.Name] = true
	}
	for i, g := range s.ReadinessGates {
		errs = append(errs, invalid(path.Child("readinessGates").Index(i).Child("conditionType"), string(g.ConditionType), validation.IsQualifiedName(string(g.ConditionType)))...)
	}
	errs = append(errs, validateAffinity(s.Affinity, path.Child("affinity"))...)
	errs = append(errs, validateTolerations(s.Tolerations, path.Child("tolerations"))...)
	return append(errs, validateSpread(s.TopologySpreadConstraints, path.Child("topologySpreadConstraints"))...)
}

// longestHostname is what a kernel keeps, in bytes.
const longestHostname = 64

func validatePodDNS(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.Hostname != "" {
		errs = append(errs, dnsLabel(s.Hostname, path.Child("hostname"))...)
	}
	if name, at := s.HostnameOverride, path.Child("hostnameOverride"); name != nil {
		if s.SetHostnameAsFQDN != nil && *s.SetHostnameAsFQDN {
			errs = append(errs, field.Forbidden(at, "may not be specified when setHostnameAsFQDN is true"))
		}
		if s.HostNetwork {
			errs = append(errs, field.Forbidden(at, "may not be specified when hostNetwork is true"))
		}
		if len(*name) > longestHostname {
			errs = append(errs, field.TooLong(at, "", longestHostname))
		}
		errs = append(errs, dnsSubdomain(*name, at)...)
	}
	if s.Subdomain != "" {
		errs = append(errs, dnsLabel(s.Subdomain, path.Child("subdomain"))...)
	}
	for i, a := range s.HostAliases {
		p := path.Child("hostAliases").Index(i)
		errs = append(errs, validation.IsValidIPForLegacyField(p.Child("ip"), a.IP, false, nil)...)
		for j, name := range a.Hostnames {
			errs = append(errs, dnsSubdomain(name, p.Child("hostnames").Index(j))...)
		}
	}
	c, p := s.DNSConfig, path.Child("dnsConfig")
	if s.DNSPolicy == corev1.DNSNone && (c == nil || len(c.Nameservers) == 0) {
		if c == nil {
			return append(errs, field.Required(p, "must provide `dnsConfig` when `dnsPolicy` is None"))
		}
		errs = append(errs, field.Required(p.Child("nameservers"), "must provide at least one DNS nameserver when `dnsPolicy` is None"))
	}
	if c == nil {
		return errs
	}
	return append(errs, validateDNSConfig(c, p)...)
}

func validateDNSConfig(c *corev1.PodDNSConfig, path *field.Path) field.ErrorList {
	const maxServers, maxPaths, maxChars = 3, 32, 2048
	var errs field.ErrorList
	if len(c.Nameservers) > maxServers {
		errs = append(errs, field.Invalid(path.Child("nameservers"), c.Nameservers, "must not have more than 3 nameservers"))
	}
	for i, ns := range c.Nameservers {
		errs = append(errs, validation.IsValidIPForLegacyField(path.Child("nameservers").Index(i), ns, false, nil)...)
	}
	if len(c.Searches) > maxPaths {
		errs = append(errs, field.Invalid(path.Child("searches"), c.Searches, "must not have more than 32 search paths"))
	}
	chars := len(c.Searches) - 1
	for i, search := range c.Searches {
		chars += len(search)
		if search == "." {
			continue
		}
		name := search
		if len(name) > 0 && name[len(name)-1] == '.' {
			name = name[:len(name)-1]
		}
		errs = append(errs, invalid(path.Child("searches").Index(i), search, validation.IsDNS1123SubdomainWithUnderscore(name))...)
	}
	if chars > maxChars {
		errs = append(errs, field.Invalid(path.Child("searches"), c.Searches, "must not have more than 2048 characters (including spaces) in the search list"))
	}
	for i, o := range c.Options {
		errs = append(errs, required(o.Name, path.Child("options").Index(i), "must not be empty")...)
	}
	return errs
}

func validateNonSpecial(text string, path *field.Path) field.ErrorList {
	ip := net.ParseIP(text)
	if ip == nil {
		return nil
	}
	return nonSpecialIP(ip, text, path)
}

func validatePodClaims(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	names := map[string]bool{}
	for i, c := range s.ResourceClaims {
		p := path.Index(i)
		if c.Name == "" {
			errs = append(errs, field.Required(p.Child("name"), ""))
		} else if names[c.Name] {
			errs = append(errs, field.Duplicate(p.Child("name"), c.Name))
		} else {
			errs = append(errs, dnsLabel(c.Name, p.Child("name"))...)
		}
		names[c.Name] = true
		if c.ResourceClaimName != nil && c.ResourceClaimTemplateName != nil {
			errs = append(errs, field.Invalid(p, c, "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"))
		}
		if c.ResourceClaimName == nil && c.ResourceClaimTemplateName == nil {
			errs = append(errs, field.Invalid(p, c, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"))
		}
	}
	return errs
}
