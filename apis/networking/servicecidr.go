package networking

import (
	"net/netip"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

type serviceCIDR = *networkingv1.ServiceCIDR

const fieldImmutable = "field is immutable"

// serviceCIDRs are the ranges that cluster addresses of services come from.
var serviceCIDRs = api.Define(api.Resource[serviceCIDR]{
	Group: networkingv1.GroupName, Version: "v1", Kind: "ServiceCIDR", Plural: "servicecidrs",
	Alike:               []string{"v1beta1"},
	UnconditionalUpdate: true,
	HasStatus:           true,
	Unowned:             map[string][]string{"status": {"spec", "metadata"}},
	Validate:            validateCIDRs,
	ValidateUpdate:      validateCIDRsUpdate,
	Columns: []api.Column[serviceCIDR]{
		api.Text("CIDRs", networkingv1.ServiceCIDRSpec{}.SwaggerDoc()["cidrs"], func(c serviceCIDR) string { return strings.Join(c.Spec.CIDRs, ",") }),
		api.Age[serviceCIDR](),
	},
})

func validateCIDRs(c serviceCIDR) field.ErrorList {
	path := field.NewPath("spec", "cidrs")
	if len(c.Spec.CIDRs) == 0 {
		return field.ErrorList{field.Required(path, "at least one CIDR required")}
	}
	if len(c.Spec.CIDRs) > 2 {
		return field.ErrorList{field.Invalid(path, c.Spec, "may only hold up to 2 values")}
	}
	var errs field.ErrorList
	families := map[bool]int{}
	for i, text := range c.Spec.CIDRs {
		errs = append(errs, validation.IsValidCIDR(path.Index(i), text)...)
		if p, err := netip.ParsePrefix(text); err == nil {
			families[p.Addr().Is4()]++
		}
	}
	if len(errs) == 0 && len(c.Spec.CIDRs) == 2 && len(families) == 1 {
		errs = append(errs, field.Invalid(path, c.Spec.CIDRs, "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"))
	}
	return errs
}

// validateCIDRsUpdate lets a second family be added, nothing else.
func validateCIDRsUpdate(c, old serviceCIDR) field.ErrorList {
	path := field.NewPath("spec", "cidrs")
	now, was := c.Spec.CIDRs, old.Spec.CIDRs
	if slices.Equal(now, was) {
		return nil
	}
	if len(now) < len(was) || len(now) == 0 || len(was) == 0 {
		return field.ErrorList{field.Invalid(path, now, fieldImmutable)}
	}
	var errs field.ErrorList
	for i := range was {
		if now[i] != was[i] {
			errs = append(errs, field.Invalid(path.Index(i), now[i], fieldImmutable))
		}
	}
	return errs
}
