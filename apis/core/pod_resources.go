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

// qualifiedResource wants the name of a resource that Kubernetes knows, or one with a domain.
func qualifiedResource(name string, path *field.Path) field.ErrorList {
	if errs := invalid(path, name, validation.IsQualifiedName(name)); len(errs) > 0 {
		return errs
	}
	known := slices.Contains(quotaResources, corev1.ResourceName(name)) || name == string(corev1.ResourceStorage) || hugeQuota(name)
	if !strings.Contains(name, "/") && !known {
		return field.ErrorList{field.Invalid(path, name, "must be a standard resource type or fully qualified")}
	}
	return nil
}

func hugeQuota(name string) bool {
	return strings.HasPrefix(strings.TrimPrefix(name, corev1.DefaultResourceRequestsPrefix), corev1.ResourceHugePagesPrefix)
}

// standard says that Kubernetes itself names the resource: without a domain of its own.
func standard(name string) bool {
	return !strings.Contains(name, "/") || strings.Contains(name, "kubernetes.io/")
}

// extended says that others than Kubernetes name the resource, in a way that quotas can name it too.
func extended(name string) bool {
	return !standard(name) && !strings.HasPrefix(name, corev1.DefaultResourceRequestsPrefix) &&
		len(validation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+name)) == 0
}

// overcommits says that more may be promised of a resource than there is.
func overcommits(name string) bool {
	return standard(name) && !strings.HasPrefix(name, corev1.ResourceHugePagesPrefix)
}

// countedResources are things, which there are no halves of.
var countedResources = []corev1.ResourceName{
	corev1.ResourcePods, corev1.ResourceQuotas, corev1.ResourceServices, corev1.ResourceReplicationControllers,
	corev1.ResourceSecrets, corev1.ResourceConfigMaps, corev1.ResourcePersistentVolumeClaims,
	corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers,
}

// resourceAmount checks how much there is of a resource.
func resourceAmount(name corev1.ResourceName, q resource.Quantity, path *field.Path) field.ErrorList {
	errs := validateQuantity(q, path)
	if (slices.Contains(countedResources, name) || extended(string(name))) && q.MilliValue()%1000 != 0 {
		errs = append(errs, field.Invalid(path, q.String(), "must be an integer"))
	}
	return errs
}

// ValidateOverhead checks what a runtime needs for each pod (node.k8s.io). Its errors name limits, as Kubernetes' do.
func ValidateOverhead(list corev1.ResourceList, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, name := range slices.Sorted(maps.Keys(list)) {
		errs = append(errs, validateResource(string(name), list[name], path.Child("limits").Key(string(name)))...)
	}
	return errs
}

func validateResource(name string, q resource.Quantity, path *field.Path) field.ErrorList {
	return append(containerResource(name, path), resourceAmount(corev1.ResourceName(name), q, path)...)
}

// containerResource wants the name of a resource that a container can ask for.
func containerResource(name string, path *field.Path) field.ErrorList {
	errs := qualifiedResource(name, path)
	switch {
	case !strings.Contains(name, "/"):
		own := []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage}
		if !slices.Contains(own, corev1.ResourceName(name)) && !strings.HasPrefix(name, corev1.ResourceHugePagesPrefix) {
			errs = append(errs, field.Invalid(path, name, "must be a standard resource for containers"))
		}
	case !standard(name) && !extended(name):
		errs = append(errs, field.Invalid(path, name, "doesn't follow extended resource name standard"))
	}
	return errs
}

func validateResources(r *corev1.ResourceRequirements, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	limits, requests := path.Child("limits"), path.Child("requests")
	for _, name := range sortedResources(r.Limits) {
		q := r.Limits[name]
		errs = append(errs, validateResource(string(name), q, limits.Key(string(name)))...)
	}
	for _, name := range sortedResources(r.Requests) {
		q := r.Requests[name]
		p := requests.Key(string(name))
		errs = append(errs, validateResource(string(name), q, p)...)
		limit, limited := r.Limits[name]
		exact := !overcommits(string(name))
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
