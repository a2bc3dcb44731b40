package discovery

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/internal/check"
)

// Limits of one slice.
const (
	maxEndpoints = 1000
	maxAddresses = 100
	maxPorts     = 20000
	maxHints     = 8
)

// EndpointSlices is the kind EndpointSlice.
var EndpointSlices = api.Define(api.Resource[*discoveryv1.EndpointSlice]{
	Group: discoveryv1.GroupName, Version: "v1", Kind: "EndpointSlice", Plural: "endpointslices", Namespaced: true,
	Alike:               []string{"v1beta1"},
	UnconditionalUpdate: true, HasGeneration: true,
	Default:  defaultSlice,
	Ratchets: true,
	Validate: validateSlice,
	ValidateUpdate: func(obj, old *discoveryv1.EndpointSlice) field.ErrorList {
		errs := validateParts(obj)
		if !apiequality.Semantic.DeepEqual(obj.Endpoints, old.Endpoints) {
			errs = append(validateEndpoints(obj.Endpoints, obj.AddressType, field.NewPath("endpoints")), errs...)
		}
		return append(errs, check.Unchanged(field.NewPath("addressType"), obj.AddressType, old.AddressType)...)
	},
	PrepareCreate: func(_ context.Context, s *discoveryv1.EndpointSlice) { dropTopology(s, &discoveryv1.EndpointSlice{}) },
	PrepareUpdate: func(_ context.Context, s, old *discoveryv1.EndpointSlice) {
		if !apiequality.Semantic.DeepEqual(s.Labels, old.Labels) { // they say whose endpoints these are
			s.Generation = old.Generation + 1
		}
		if !apiequality.Semantic.DeepEqual(s.Endpoints, old.Endpoints) {
			dropTopology(s, old)
		}
	},
	Warnings: func(s, _ *discoveryv1.EndpointSlice) []string {
		if s.AddressType == discoveryv1.AddressTypeFQDN {
			return []string{"spec.addressType: FQDN endpoints are deprecated"}
		}
		return nil
	},
	Columns: []api.Column[*discoveryv1.EndpointSlice]{
		{Name: "AddressType", Description: discoveryv1.EndpointSlice{}.SwaggerDoc()["addressType"], Value: func(s *discoveryv1.EndpointSlice) any { return string(s.AddressType) }},
		{Name: "Ports", Description: discoveryv1.EndpointSlice{}.SwaggerDoc()["ports"], Value: func(s *discoveryv1.EndpointSlice) any { return formatPorts(s.Ports) }},
		{Name: "Endpoints", Description: discoveryv1.EndpointSlice{}.SwaggerDoc()["endpoints"], Value: func(s *discoveryv1.EndpointSlice) any { return formatEndpoints(s.Endpoints) }},
		api.Age[*discoveryv1.EndpointSlice](),
	},
})

// dropTopology clears a field of an earlier version. The node named in it is kept where it was known before.
func dropTopology(s, old *discoveryv1.EndpointSlice) {
	known := map[string]bool{}
	for _, e := range old.Endpoints {
		known[e.DeprecatedTopology[corev1.LabelHostname]] = true
	}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		name := e.DeprecatedTopology[corev1.LabelHostname]
		if e.NodeName == nil && known[name] && len(validation.IsDNS1123Subdomain(name)) == 0 {
			e.NodeName = &name
		}
		e.DeprecatedTopology = nil
	}
}

func defaultSlice(s *discoveryv1.EndpointSlice) {
	for i := range s.Ports {
		p := &s.Ports[i]
		if p.Name == nil {
			p.Name = new(string)
		}
		if p.Protocol == nil {
			tcp := corev1.ProtocolTCP
			p.Protocol = &tcp
		}
	}
}

func formatPorts(ports []discoveryv1.EndpointPort) string {
	var list []string
	for _, p := range ports {
		text := "*"
		if p.Port != nil {
			text = strconv.Itoa(int(*p.Port))
		} else if p.Name != nil && *p.Name != "" {
			text = *p.Name
		}
		list = append(list, text)
	}
	return firstOf(list)
}

func formatEndpoints(endpoints []discoveryv1.Endpoint) string {
	var list []string
	for _, e := range endpoints {
		if len(e.Addresses) > 0 {
			list = append(list, e.Addresses...)
		}
	}
	return firstOf(list)
}

// firstOf shows the first three, and how many more there are.
func firstOf(list []string) string {
	const shown = 3
	switch n := len(list); {
	case n == 0:
		return "<unset>"
	case n > shown:
		return fmt.Sprintf("%s + %d more...", strings.Join(list[:shown], ","), n-shown)
	}
	return strings.Join(list, ",")
}

var addressTypes = []discoveryv1.AddressType{discoveryv1.AddressTypeFQDN, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6}

func validateSlice(s *discoveryv1.EndpointSlice) field.ErrorList {
	return append(validateEndpoints(s.Endpoints, s.AddressType, field.NewPath("endpoints")), validateParts(s)...)
}

// validateParts leaves out the endpoints: what was accepted of them stays so.
func validateParts(s *discoveryv1.EndpointSlice) field.ErrorList {
	var errs field.ErrorList
	if path := field.NewPath("addressType"); s.AddressType == "" {
		errs = append(errs, field.Required(path, ""))
	} else if !slices.Contains(addressTypes, s.AddressType) {
		errs = append(errs, field.NotSupported(path, s.AddressType, addressTypes))
	}
	return append(errs, validatePorts(s.Ports, field.NewPath("ports"))...)
}

func validateEndpoints(endpoints []discoveryv1.Endpoint, kind discoveryv1.AddressType, path *field.Path) field.ErrorList {
	if len(endpoints) > maxEndpoints {
		return field.ErrorList{field.TooMany(path, len(endpoints), maxEndpoints)}
	}
	var errs field.ErrorList
	for i := range endpoints {
		e, at := &endpoints[i], path.Index(i)
		if len(e.Addresses) == 0 {
			errs = append(errs, field.Required(at.Child("addresses"), ""))
		} else if len(e.Addresses) > maxAddresses {
			errs = append(errs, field.TooMany(at.Child("addresses"), len(e.Addresses), maxAddresses))
		} else {
			for j, a := range e.Addresses {
				errs = append(errs, validateAddress(a, kind, at.Child("addresses"), j)...)
			}
		}
		if e.NodeName != nil {
			errs = append(errs, wrong(*e.NodeName, at.Child("nodeName"), validation.IsDNS1123Subdomain(*e.NodeName))...)
		}
		if e.Hostname != nil {
			errs = append(errs, wrong(*e.Hostname, at.Child("hostname"), validation.IsDNS1123Label(*e.Hostname))...)
		}
		errs = append(errs, validateHints(e.Hints, at.Child("hints"))...)
	}
	return errs
}

func wrong(value string, path *field.Path, messages []string) field.ErrorList {
	var errs field.ErrorList
	for _, m := range messages {
		errs = append(errs, field.Invalid(path, value, m))
	}
	return errs
}

func validateAddress(a string, kind discoveryv1.AddressType, list *field.Path, i int) field.ErrorList {
	path := list.Index(i)
	switch kind {
	case discoveryv1.AddressTypeFQDN:
		return validation.IsFullyQualifiedDomainName(path, a)
	case discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6:
	default:
		return nil
	}
	errs := validation.IsValidIPForLegacyField(path, a, true, nil)
	ip := net.ParseIP(a)
	if len(errs) > 0 || ip == nil {
		return errs
	}
	if v4 := ip.To4() != nil; v4 != (kind == discoveryv1.AddressTypeIPv4) {
		return append(errs, field.Invalid(list, a, fmt.Sprintf("must be an %s address", kind)))
	}
	return append(errs, validateReach(ip, a, path)...)
}

// validateReach refuses addresses that lead to the machine or link itself.
func validateReach(ip net.IP, text string, path *field.Path) field.ErrorList {
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

func validateHints(h *discoveryv1.EndpointHints, path *field.Path) field.ErrorList {
	if h == nil {
		return nil
	}
	zones, nodes := make([]string, len(h.ForZones)), make([]string, len(h.ForNodes))
	for i, z := range h.ForZones {
		zones[i] = z.Name
	}
	for i, n := range h.ForNodes {
		nodes[i] = n.Name
	}
	errs := validateNames(zones, path.Child("forZones"), validation.IsValidLabelValue)
	return append(errs, validateNames(nodes, path.Child("forNodes"), validation.IsDNS1123Subdomain)...)
}

func validateNames(names []string, path *field.Path, valid func(string) []string) field.ErrorList {
	if len(names) > maxHints {
		return field.ErrorList{field.TooMany(path, len(names), maxHints)}
	}
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, name := range names {
		at := path.Index(i).Child("name")
		if seen[name] {
			errs = append(errs, field.Duplicate(at, name))
		}
		seen[name] = true
		errs = append(errs, wrong(name, at, valid(name))...)
	}
	return errs
}

var protocols = []corev1.Protocol{corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP}

func validatePorts(ports []discoveryv1.EndpointPort, path *field.Path) field.ErrorList {
	if len(ports) > maxPorts {
		return field.ErrorList{field.TooMany(path, len(ports), maxPorts)}
	}
	var errs field.ErrorList
	names := map[string]bool{}
	for i := range ports {
		p, at := &ports[i], path.Index(i)
		if p.Name != nil {
			if *p.Name != "" {
				errs = append(errs, wrong(*p.Name, at.Child("name"), validation.IsDNS1123Label(*p.Name))...)
			}
			if names[*p.Name] {
				errs = append(errs, field.Duplicate(at.Child("name"), *p.Name))
			}
			names[*p.Name] = true
		}
		if p.Protocol == nil {
			errs = append(errs, field.Required(at.Child("protocol"), ""))
		} else if !slices.Contains(protocols, *p.Protocol) {
			errs = append(errs, field.NotSupported(at.Child("protocol"), *p.Protocol, protocols))
		}
		if p.AppProtocol != nil {
			errs = append(errs, wrong(*p.AppProtocol, at.Child("appProtocol"), validation.IsQualifiedName(*p.AppProtocol))...)
		}
	}
	return errs
}
