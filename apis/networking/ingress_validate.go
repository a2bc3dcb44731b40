package networking

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/internal/check"
)

func validateIngress(i ingress) field.ErrorList {
	path := field.NewPath("spec")
	var errs field.ErrorList
	if len(i.Spec.Rules) == 0 && i.Spec.DefaultBackend == nil {
		errs = append(errs, field.Invalid(path, i.Spec.Rules, "either `defaultBackend` or `rules` must be specified"))
	}
	if i.Spec.DefaultBackend != nil {
		errs = append(errs, validateBackend(i.Spec.DefaultBackend, path.Child("defaultBackend"))...)
	}
	for n := range i.Spec.Rules {
		errs = append(errs, validateIngressRule(&i.Spec.Rules[n], path.Child("rules").Index(n))...)
	}
	for n := range i.Spec.TLS {
		errs = append(errs, validateIngressTLS(&i.Spec.TLS[n], path.Child("tls").Index(n))...)
	}
	if i.Spec.IngressClassName != nil {
		errs = append(errs, check.Subdomain(path.Child("ingressClassName"), *i.Spec.IngressClassName)...)
	}
	return errs
}

// validateNewIngress looks at what old objects may have wrong.
func validateNewIngress(i ingress) field.ErrorList {
	name, ok := i.Annotations[classAnnotation]
	if !ok || i.Spec.IngressClassName == nil || name == *i.Spec.IngressClassName {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("annotations").Child(classAnnotation), name, "must match `ingressClassName` when both are specified")}
}

// host is a DNS name whose first label may be "*".
func host(path *field.Path, name string) field.ErrorList {
	if strings.Contains(name, "*") {
		return check.Each(path, name, validation.IsWildcardDNS1123Subdomain(name))
	}
	return check.Subdomain(path, name)
}

func isAddress(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil
}

func validateIngressTLS(t *networkingv1.IngressTLS, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, name := range t.Hosts {
		errs = append(errs, host(path.Child("hosts").Index(i), name)...)
	}
	if t.SecretName != "" {
		errs = append(errs, check.Subdomain(path.Child("secretName"), t.SecretName)...)
	}
	return errs
}

func validateIngressRule(r *networkingv1.IngressRule, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if r.Host != "" {
		if isAddress(r.Host) {
			errs = append(errs, field.Invalid(path.Child("host"), r.Host, "must be a DNS name, not an IP address"))
		}
		errs = append(errs, host(path.Child("host"), r.Host)...)
	}
	if r.HTTP == nil {
		return errs
	}
	paths := path.Child("http", "paths")
	if len(r.HTTP.Paths) == 0 {
		errs = append(errs, field.Required(paths, ""))
	}
	for i := range r.HTTP.Paths {
		errs = append(errs, validateHTTPPath(&r.HTTP.Paths[i], paths.Index(i))...)
	}
	return errs
}

// What a path that is compared literally must not hold: a proxy would clean it away.
var (
	uncleanParts = []string{"//", "/./", "/../", "%2f", "%2F"}
	uncleanEnds  = []string{"/..", "/."}
)

func validateHTTPPath(p *networkingv1.HTTPIngressPath, path *field.Path) field.ErrorList {
	if p.PathType == nil {
		return field.ErrorList{field.Required(path.Child("pathType"), "pathType must be specified")}
	}
	var errs field.ErrorList
	at := path.Child("path")
	absolute := strings.HasPrefix(p.Path, "/")
	switch *p.PathType {
	case networkingv1.PathTypeExact, networkingv1.PathTypePrefix:
		if !absolute {
			errs = append(errs, field.Invalid(at, p.Path, "must be an absolute path"))
		}
		for _, part := range uncleanParts {
			if strings.Contains(p.Path, part) {
				errs = append(errs, field.Invalid(at, p.Path, fmt.Sprintf("must not contain '%s'", part)))
			}
		}
		for _, end := range uncleanEnds {
			if strings.HasSuffix(p.Path, end) {
				errs = append(errs, field.Invalid(at, p.Path, fmt.Sprintf("cannot end with '%s'", end)))
			}
		}
	case networkingv1.PathTypeImplementationSpecific:
		if p.Path != "" && !absolute {
			errs = append(errs, field.Invalid(at, p.Path, "must be an absolute path"))
		}
	default:
		errs = append(errs, field.NotSupported(path.Child("pathType"), *p.PathType,
			[]networkingv1.PathType{networkingv1.PathTypeExact, networkingv1.PathTypeImplementationSpecific, networkingv1.PathTypePrefix}))
	}
	return append(errs, validateBackend(&p.Backend, path.Child("backend"))...)
}

func validateBackend(b *networkingv1.IngressBackend, path *field.Path) field.ErrorList {
	switch {
	case b.Resource != nil && b.Service != nil:
		return field.ErrorList{field.Invalid(path, "", "cannot set both resource and service backends")}
	case b.Resource != nil:
		return validateReference(b.Resource, path.Child("resource"))
	case b.Service != nil:
		return validateServiceBackend(b.Service, path)
	}
	return field.ErrorList{field.Invalid(path, "", "resource or service backend is required")}
}

func validateServiceBackend(s *networkingv1.IngressServiceBackend, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if name := path.Child("service", "name"); s.Name == "" {
		errs = append(errs, field.Required(name, ""))
	} else {
		errs = append(errs, check.Each(name, s.Name, apivalidation.NameIsDNSLabel(s.Name, false))...)
	}
	port := path.Child("service", "port")
	switch {
	case s.Port.Name != "" && s.Port.Number != 0:
		errs = append(errs, field.Invalid(path, "", "cannot set both port name & port number"))
	case s.Port.Name != "":
		errs = append(errs, check.Each(port.Child("name"), s.Port.Name, validation.IsValidPortName(s.Port.Name))...)
	case s.Port.Number != 0:
		errs = append(errs, check.Each(port.Child("number"), s.Port.Number, validation.IsValidPortNum(int(s.Port.Number)))...)
	default:
		errs = append(errs, field.Required(path, "port name or number is required"))
	}
	return errs
}

func validateReference(r *corev1.TypedLocalObjectReference, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if r.APIGroup != nil {
		errs = append(errs, check.Subdomain(path.Child("apiGroup"), *r.APIGroup)...)
	}
	errs = append(errs, check.NeededSegment(path.Child("kind"), r.Kind)...)
	return append(errs, check.NeededSegment(path.Child("name"), r.Name)...)
}

func validateIngressStatus(s *networkingv1.IngressLoadBalancerStatus, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, point := range s.Ingress {
		at := path.Child("ingress").Index(i)
		if point.IP != "" {
			errs = append(errs, validation.IsValidIPForLegacyField(at.Child("ip"), point.IP, true, nil)...)
		}
		if point.Hostname != "" {
			errs = append(errs, check.Subdomain(at.Child("hostname"), point.Hostname)...)
			if isAddress(point.Hostname) {
				errs = append(errs, field.Invalid(at.Child("hostname"), point.Hostname, "must be a DNS name, not an IP address"))
			}
		}
	}
	return errs
}
