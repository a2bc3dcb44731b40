package resource

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/internal/check"
)

func templateMeta(s *resourcev1.ResourceClaimTemplateSpec, path *field.Path) field.ErrorList {
	errs := apivalidation.ValidateAnnotations(s.Annotations, path.Child("annotations"))
	return append(errs, metav1validation.ValidateLabels(s.Labels, path.Child("labels"))...)
}

// requestNames are what constraints and configurations may refer to: "gpu", "gpu/large".
type requestNames map[string]bool

func (n requestNames) check(name *string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	parts := strings.Split(*name, "/")
	if len(parts) <= 2 {
		for _, part := range parts {
			errs = append(errs, label(part, path)...)
		}
	}
	if !n[*name] {
		errs = append(errs, field.Invalid(path, *name, "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"))
	}
	return errs
}

func namesOf(d *resourcev1.DeviceClaim) requestNames {
	names := requestNames{}
	for _, r := range d.Requests {
		names[r.Name] = true
		for _, s := range r.FirstAvailable {
			names[r.Name+"/"+s.Name] = true
		}
	}
	return names
}

func devices(d *resourcev1.DeviceClaim, path *field.Path) field.ErrorList {
	names := namesOf(d)
	errs := each(d.Requests, resourcev1.DeviceRequestsMaxSize, path.Child("requests"), request)
	errs = append(errs, each(d.Constraints, resourcev1.DeviceConstraintsMaxSize, path.Child("constraints"),
		func(c *resourcev1.DeviceConstraint, at *field.Path) field.ErrorList { return constraint(c, names, at) })...)
	errs = append(errs, each(d.Config, resourcev1.DeviceConfigMaxSize, path.Child("config"),
		func(c *resourcev1.DeviceClaimConfiguration, at *field.Path) field.ErrorList {
			errs := references(c.Requests, names, at.Child("requests"))
			return append(errs, configuration(&c.DeviceConfiguration, at)...)
		})...)
	return append(errs, sameNames(d.Requests, path.Child("requests"))...)
}

// sameNames shows requests that have the name of an earlier one.
func sameNames(list []resourcev1.DeviceRequest, path *field.Path) (errs field.ErrorList) {
	seen := map[string]bool{}
	for i, r := range list[:min(len(list), resourcev1.DeviceRequestsMaxSize)] {
		if seen[r.Name] {
			errs = append(errs, field.Duplicate(path.Index(i), r))
		}
		seen[r.Name] = true
	}
	return errs
}

func references(list []string, names requestNames, path *field.Path) field.ErrorList {
	errs := each(list, resourcev1.DeviceRequestsMaxSize, path, names.check)
	return append(errs, unique(list, path, same)...)
}

func request(r *resourcev1.DeviceRequest, path *field.Path) field.ErrorList {
	errs := label(r.Name, path.Child("name"))
	switch {
	case r.Exactly == nil && len(r.FirstAvailable) == 0:
		return append(errs, field.Required(path, "exactly one of `exactly` or `firstAvailable` is required"))
	case r.Exactly != nil && len(r.FirstAvailable) > 0:
		return append(errs, field.Invalid(path, nil, "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set"))
	case r.Exactly != nil:
		e := r.Exactly
		return append(errs, wanted{e.DeviceClassName, e.Selectors, e.AllocationMode, e.Count, e.Tolerations, e.Capacity}.check(path.Child("exactly"))...)
	}
	list := path.Child("firstAvailable")
	errs = append(errs, each(r.FirstAvailable, resourcev1.FirstAvailableDeviceRequestMaxSize, list,
		func(s *resourcev1.DeviceSubRequest, at *field.Path) field.ErrorList {
			errs := label(s.Name, at.Child("name"))
			return append(errs, wanted{s.DeviceClassName, s.Selectors, s.AllocationMode, s.Count, s.Tolerations, s.Capacity}.check(at)...)
		})...)
	return append(errs, unique(r.FirstAvailable, list, func(s *resourcev1.DeviceSubRequest) string { return s.Name })...)
}

// wanted is what requests and subrequests have in common.
type wanted struct {
	class       string
	selectors   []resourcev1.DeviceSelector
	mode        resourcev1.DeviceAllocationMode
	count       int64
	tolerations []resourcev1.DeviceToleration
	capacity    *resourcev1.CapacityRequirements
}

func (w wanted) check(path *field.Path) field.ErrorList {
	errs := subdomain(w.class, path.Child("deviceClassName"))
	errs = append(errs, each(w.selectors, resourcev1.DeviceSelectorsMaxSize, path.Child("selectors"), selector)...)
	count := path.Child("count")
	switch w.mode {
	case resourcev1.DeviceAllocationModeAll:
		if w.count != 0 {
			errs = append(errs, field.Invalid(count, w.count, fmt.Sprintf("must not be specified when allocationMode is '%s'", w.mode)))
		}
	case resourcev1.DeviceAllocationModeExactCount:
		if w.count <= 0 {
			errs = append(errs, field.Invalid(count, w.count, "must be greater than zero"))
		}
	default:
		errs = append(errs, check.OneOf(path.Child("allocationMode"), w.mode, resourcev1.DeviceAllocationModeAll, resourcev1.DeviceAllocationModeExactCount)...)
	}
	errs = append(errs, each(w.tolerations, resourcev1.DeviceTolerationsMaxLength, path.Child("tolerations"), toleration)...)
	if w.capacity != nil {
		requests := path.Child("capacity", "requests")
		for _, name := range slices.Sorted(maps.Keys(w.capacity.Requests)) {
			at := requests.Key(string(name))
			errs = append(errs, qualified(string(name), at)...)
			if q := w.capacity.Requests[name]; q.Sign() < 0 {
				errs = append(errs, field.Invalid(at, q.String(), "must be greater than or equal to 0"))
			}
		}
	}
	return errs
}

func constraint(c *resourcev1.DeviceConstraint, names requestNames, path *field.Path) field.ErrorList {
	errs := references(c.Requests, names, path.Child("requests"))
	switch {
	case c.MatchAttribute != nil && c.DistinctAttribute != nil:
		errs = append(errs, field.Required(path, `exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set`))
	case c.MatchAttribute != nil:
		errs = append(errs, fullyQualified(string(*c.MatchAttribute), path.Child("matchAttribute"))...)
	case c.DistinctAttribute != nil:
		errs = append(errs, fullyQualified(string(*c.DistinctAttribute), path.Child("distinctAttribute"))...)
	default:
		errs = append(errs, field.Required(path.Child("matchAttribute"), ""))
	}
	return errs
}
