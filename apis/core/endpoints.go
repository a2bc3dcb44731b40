package core

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

// EndpointsKind is the kind Endpoints.
var EndpointsKind = api.Define(api.Resource[*corev1.Endpoints]{
	Version: "v1", Kind: "Endpoints", Plural: "endpoints", Singular: "endpoints", Short: []string{"ep"}, Namespaced: true,
	Prefix:              "services/endpoints",
	CreateOnUpdate:      true,
	UnconditionalUpdate: true,
	Default:             defaultEndpoints,
	Validate:            validateEndpoints,
	Columns: []api.Column[*corev1.Endpoints]{
		text("Endpoints", corev1.Endpoints{}.SwaggerDoc()["subsets"], formatEndpoints),
		Age[*corev1.Endpoints](),
	},
})

func defaultEndpoints(e *corev1.Endpoints) {
	for i := range e.Subsets {
		for j := range e.Subsets[i].Ports {
			fill(&e.Subsets[i].Ports[j].Protocol, corev1.ProtocolTCP)
		}
	}
}

func validateEndpoints(e *corev1.Endpoints) field.ErrorList {
	var errs field.ErrorList
	for i := range e.Subsets {
		s, path := &e.Subsets[i], field.NewPath("subsets").Index(i)
		if len(s.Addresses) == 0 && len(s.NotReadyAddresses) == 0 {
			errs = append(errs, field.Required(path, "must specify `addresses` or `notReadyAddresses`"))
		}
		errs = append(errs, validateEndpointAddresses(s.Addresses, path.Child("addresses"))...)
		errs = append(errs, validateEndpointAddresses(s.NotReadyAddresses, path.Child("notReadyAddresses"))...)
		for j := range s.Ports {
			errs = append(errs, validateEndpointPort(&s.Ports[j], len(s.Ports) > 1, path.Child("ports").Index(j))...)
		}
	}
	return errs
}

func validateEndpointAddresses(addresses []corev1.EndpointAddress, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range addresses {
		a, p := &addresses[i], path.Index(i)
		errs = append(errs, validation.IsValidIPForLegacyField(p.Child("ip"), a.IP, true, nil)...)
		if a.Hostname != "" {
			errs = append(errs, dnsLabel(a.Hostname, p.Child("hostname"))...)
		}
		if a.NodeName != nil {
			errs = append(errs, dnsSubdomain(*a.NodeName, p.Child("nodeName"))...)
		}
		if ip := net.ParseIP(a.IP); ip != nil {
			errs = append(errs, nonSpecialIP(ip, a.IP, p.Child("ip"))...)
		}
	}
	return errs
}

// nonSpecialIP refuses addresses that lead to the machine or link itself.
func nonSpecialIP(ip net.IP, text string, path *field.Path) field.ErrorList {
	var message string
	switch {
	case ip.IsUnspecified():
		message = fmt.Sprintf("may not be unspecified (%v)", text)
	case ip.IsLoopback():
		message = "may not be in the loopback range (127.0.0.0/8, ::1/128)"
	case ip.IsLinkLocalUnicast():
		message = "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
	case ip.IsLinkLocalMulticast():
		message = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
	default:
		return nil
	}
	return field.ErrorList{field.Invalid(path, text, message)}
}

func validateEndpointPort(p *corev1.EndpointPort, named bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if named && p.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), ""))
	} else if p.Name != "" {
		errs = append(errs, dnsLabel(p.Name, path.Child("name"))...)
	}
	errs = append(errs, portNumber(p.Port, path.Child("port"))...)
	if p.AppProtocol != nil {
		errs = append(errs, invalid(path.Child("appProtocol"), *p.AppProtocol, validation.IsQualifiedName(*p.AppProtocol))...)
	}
	return append(errs, given(p.Protocol, path.Child("protocol"), protocols...)...)
}

var protocols = []corev1.Protocol{corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP}

// formatEndpoints shows the first three, and how many more there are.
func formatEndpoints(e *corev1.Endpoints) string {
	const shown = 3
	var list []string
	total := 0
	add := func(s string) {
		if total++; len(list) < shown {
			list = append(list, s)
		}
	}
	for i := range e.Subsets {
		s := &e.Subsets[i]
		for _, a := range s.Addresses {
			if len(s.Ports) == 0 {
				add(a.IP)
			}
			for _, p := range s.Ports {
				add(net.JoinHostPort(a.IP, strconv.Itoa(int(p.Port))))
			}
		}
	}
	out := strings.Join(list, ",")
	if total > shown {
		out += fmt.Sprintf(" + %d more...", total-shown)
	}
	return orNone(out)
}
