package core

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateQuantity(q resource.Quantity, path *field.Path) field.ErrorList {
	if q.Sign() < 0 {
		return field.ErrorList{field.Invalid(path, q.String(), "must be greater than or equal to 0")}
	}
	return nil
}

func qualifiedResource(name string, path *field.Path) field.ErrorList {
	return invalid(path, name, validation.IsQualifiedName(name))
}

// standard says that Kubernetes itself names the resource: without a domain of its own.
func standard(name string) bool {
	return !strings.Contains(name, "/") || strings.Contains(name, "kubernetes.io/")
}

// ValidateOverhead checks what a runtime needs for each pod (node.k8s.io).
func ValidateOverhead(list corev1.ResourceList, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, name := range slices.Sorted(maps.Keys(list)) {
		errs = append(errs, validateResource(string(name), list[name], path.Key(string(name)))...)
	}
	return errs
}

func validateResource(name string, q resource.Quantity, path *field.Path) field.ErrorList {
	errs := qualifiedResource(name, path)
	if !strings.Contains(name, "/") && !containerResource(name) {
		errs = append(errs, field.Invalid(path, name, "must be a standard resource for containers"))
	}
	errs = append(errs, validateQuantity(q, path)...)
	if !standard(name) && q.MilliValue()%1000 != 0 {
		errs = append(errs, field.Invalid(path, q.String(), "must be an integer"))
	}
	return errs
}

func containerResource(name string) bool {
	switch corev1.ResourceName(name) {
	case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
		return true
	}
	return strings.HasPrefix(name, corev1.ResourceHugePagesPrefix)
}

func validateResources(r *corev1.ResourceRequirements, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	limits, requests := path.Child("limits"), path.Child("requests")
	for name, q := range r.Limits {
		errs = append(errs, validateResource(string(name), q, limits.Key(string(name)))...)
	}
	for name, q := range r.Requests {
		p := requests.Key(string(name))
		errs = append(errs, validateResource(string(name), q, p)...)
		limit, limited := r.Limits[name]
		exact := !standard(string(name)) || strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
		switch {
		case limited && exact && q.Cmp(limit) != 0:
			errs = append(errs, field.Invalid(requests, q.String(), fmt.Sprintf("must be equal to %s limit of %s", name, limit.String())))
		case limited && q.Cmp(limit) > 0:
			errs = append(errs, field.Invalid(requests, q.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", name, limit.String())))
		case !limited && exact:
			errs = append(errs, field.Required(limits, "Limit must be set for non overcommitable resources"))
		}
	}
	return errs
}
