package core

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

// ResourceQuotas is the kind ResourceQuota.
var ResourceQuotas = api.Define(api.Resource[*corev1.ResourceQuota]{
	Version: "v1", Kind: "ResourceQuota", Plural: "resourcequotas", Short: []string{"quota"}, Namespaced: true,
	UnconditionalUpdate: true,
	HasStatus:           true,
	Default: func(q *corev1.ResourceQuota) {
		roundResources(q.Spec.Hard)
		roundResources(q.Status.Hard)
		roundResources(q.Status.Used)
	},
	Validate:       validateQuota,
	ValidateUpdate: validateQuotaUpdate,
	ValidateStatus: func(q, _ *corev1.ResourceQuota) field.ErrorList {
		errs := quotaList(q.Status.Hard, field.NewPath("status", "hard"))
		return append(errs, quotaList(q.Status.Used, field.NewPath("status", "used"))...)
	},
	Columns: []api.Column[*corev1.ResourceQuota]{
		text("Request", "Request represents a minimum amount of cpu/memory that a container may consume.", func(q *corev1.ResourceQuota) string { return quotaUse(q, false) }),
		text("Limit", "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node.", func(q *corev1.ResourceQuota) string { return quotaUse(q, true) }),
		Age[*corev1.ResourceQuota](),
	},
})

func quotaList(list corev1.ResourceList, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, name := range sortedResources(list) {
		at := path.Key(string(name))
		errs = append(errs, qualifiedResource(string(name), at)...)
		if !strings.Contains(string(name), "/") && !slices.Contains(quotaResources, name) && !hugeQuota(string(name)) {
			errs = append(errs, field.Invalid(at, name, "must be a standard resource for quota"))
		}
		errs = append(errs, resourceAmount(name, list[name], at)...)
	}
	return errs
}

var (
	podQuotas = []corev1.ResourceName{
		corev1.ResourcePods, corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory,
		corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory,
	}
	claimQuotas    = []corev1.ResourceName{corev1.ResourcePersistentVolumeClaims, corev1.ResourceRequestsStorage}
	quotaResources = slices.Concat(podQuotas, claimQuotas, []corev1.ResourceName{
		corev1.ResourceEphemeralStorage, corev1.ResourceRequestsEphemeralStorage, corev1.ResourceLimitsEphemeralStorage,
		corev1.ResourceQuotas, corev1.ResourceServices, corev1.ResourceReplicationControllers, corev1.ResourceSecrets,
		corev1.ResourceConfigMaps, corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers,
	})
	// quotaScopes tell which resources a scope can be put on.
	quotaScopes = map[corev1.ResourceQuotaScope][]corev1.ResourceName{
		corev1.ResourceQuotaScopeTerminating:               podQuotas,
		corev1.ResourceQuotaScopeNotTerminating:            podQuotas,
		corev1.ResourceQuotaScopeBestEffort:                {corev1.ResourcePods},
		corev1.ResourceQuotaScopeNotBestEffort:             podQuotas,
		corev1.ResourceQuotaScopePriorityClass:             podQuotas,
		corev1.ResourceQuotaScopeCrossNamespacePodAffinity: podQuotas,
		corev1.ResourceQuotaScopeVolumeAttributesClass:     claimQuotas,
	}
)

func validateQuota(q *corev1.ResourceQuota) field.ErrorList {
	errs := quotaList(q.Spec.Hard, field.NewPath("spec", "hard"))
	path := field.NewPath("spec", "scopes")
	for _, scope := range q.Spec.Scopes {
		errs = append(errs, validateScope(scope, q, path, path, q.Spec.Scopes, q.Spec.Scopes)...)
	}
	errs = append(errs, conflictingScopes(q.Spec.Scopes, q, path)...)
	if q.Spec.ScopeSelector == nil {
		return errs
	}
	path = field.NewPath("spec", "scopeSelector", "matchExpressions")
	var scopes []corev1.ResourceQuotaScope
	for _, m := range q.Spec.ScopeSelector.MatchExpressions {
		errs = append(errs, validateScope(m.ScopeName, q, path.Child("scopeName"), path, m.ScopeName, q.Spec.ScopeSelector)...)
		errs = append(errs, validateScopeOperator(m, path)...)
		scopes = append(scopes, m.ScopeName)
	}
	return append(errs, conflictingScopes(scopes, q, path)...)
}

func validateScope(scope corev1.ResourceQuotaScope, q *corev1.ResourceQuota, name, path *field.Path, named, all any) field.ErrorList {
	var errs field.ErrorList
	allowed, known := quotaScopes[scope]
	if !known {
		return field.ErrorList{field.Invalid(name, named, "unsupported scope")}
	}
	for _, r := range sortedResources(q.Spec.Hard) {
		if slices.Contains(quotaResources, r) && !slices.Contains(allowed, r) {
			errs = append(errs, field.Invalid(path, all, "unsupported scope applied to resource"))
		}
	}
	return errs
}

func conflictingScopes(scopes []corev1.ResourceQuotaScope, q *corev1.ResourceQuota, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, pair := range [][2]corev1.ResourceQuotaScope{
		{corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort},
		{corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating},
	} {
		if slices.Contains(scopes, pair[0]) && slices.Contains(scopes, pair[1]) {
			errs = append(errs, field.Invalid(path, q.Spec.Scopes, "conflicting scopes"))
		}
	}
	return errs
}

func validateScopeOperator(m corev1.ScopedResourceSelectorRequirement, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch m.ScopeName {
	case corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort, corev1.ResourceQuotaScopeTerminating,
		corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		if m.Operator != corev1.ScopeSelectorOpExists {
			errs = append(errs, field.Invalid(path.Child("operator"), m.Operator, "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, "+
				"ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"))
		}
	}
	switch m.Operator {
	case corev1.ScopeSelectorOpIn, corev1.ScopeSelectorOpNotIn:
		if len(m.Values) == 0 {
			errs = append(errs, field.Required(path.Child("values"), "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"))
		}
	case corev1.ScopeSelectorOpExists, corev1.ScopeSelectorOpDoesNotExist:
		if len(m.Values) != 0 {
			errs = append(errs, field.Invalid(path.Child("values"), m.Values, "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"))
		}
	default:
		errs = append(errs, field.Invalid(path.Child("operator"), m.Operator, "not a valid selector operator"))
	}
	return errs
}

func validateQuotaUpdate(q, old *corev1.ResourceQuota) field.ErrorList {
	sorted := func(list []corev1.ResourceQuotaScope) []corev1.ResourceQuotaScope {
		return slices.Sorted(slices.Values(list))
	}
	if !slices.Equal(sorted(q.Spec.Scopes), sorted(old.Spec.Scopes)) {
		return field.ErrorList{field.Invalid(field.NewPath("spec", "scopes"), q.Spec.Scopes, "field is immutable")}
	}
	return nil
}

// quotaUse lists used and hard of the limits, or of everything else.
func quotaUse(q *corev1.ResourceQuota, limits bool) string {
	var names []string
	for name := range q.Status.Hard {
		if strings.HasPrefix(string(name), "limits") == limits {
			names = append(names, string(name))
		}
	}
	slices.Sort(names)
	for i, name := range names {
		used, hard := q.Status.Used[corev1.ResourceName(name)], q.Status.Hard[corev1.ResourceName(name)]
		names[i] = fmt.Sprintf("%s: %s/%s", name, used.String(), hard.String())
	}
	return strings.Join(names, ", ")
}
