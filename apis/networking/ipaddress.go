package networking

import (
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/internal/check"
)

type ipAddress = *networkingv1.IPAddress

// ipAddresses are named after the address that they say is in use.
var ipAddresses = api.Define(api.Resource[ipAddress]{
	Group: networkingv1.GroupName, Version: "v1", Kind: "IPAddress", Plural: "ipaddresses", Short: []string{"ip"},
	Alike:               []string{"v1beta1"},
	UnconditionalUpdate: true,
	ValidateName:        addressName,
	Validate:            validateAddress,
	ValidateUpdate: func(a, old ipAddress) field.ErrorList {
		return check.Unchanged(field.NewPath("spec", "parentRef"), a.Spec.ParentRef, old.Spec.ParentRef)
	},
	Columns: []api.Column[ipAddress]{
		api.Text("ParentRef", networkingv1.IPAddressSpec{}.SwaggerDoc()["parentRef"], parentText),
	},
})

func addressName(name string, _ bool) []string {
	var out []string
	for _, err := range validation.IsValidIP(nil, name) {
		out = append(out, err.Detail)
	}
	return out
}

func parentText(a ipAddress) string {
	p := a.Spec.ParentRef
	if p == nil {
		return none
	}
	parts := []string{strings.ToLower(schema.GroupResource{Group: p.Group, Resource: p.Resource}.String())}
	if p.Namespace != "" {
		parts = append(parts, p.Namespace)
	}
	return strings.Join(append(parts, p.Name), "/")
}

func validateAddress(a ipAddress) field.ErrorList {
	path := field.NewPath("spec", "parentRef")
	p := a.Spec.ParentRef
	if p == nil {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	if p.Group != "" {
		errs = append(errs, check.Subdomain(path.Child("group"), p.Group)...)
	}
	errs = append(errs, check.NeededSegment(path.Child("resource"), p.Resource)...)
	errs = append(errs, check.NeededSegment(path.Child("name"), p.Name)...)
	if p.Namespace != "" {
		errs = append(errs, check.Segment(path.Child("namespace"), p.Namespace)...)
	}
	return errs
}
