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
	for name, q := range list {
		errs = append(errs, qualifiedResource(string(name), path.Key(string(name)))...)
		errs = append(errs, validateQuantity(q, path.Key(string(name)))...)
	}
	return errs
}

func validateQuota(q *corev1.ResourceQuota) field.ErrorList {
	errs := quotaList(q.Spec.Hard, field.NewPath("spec", "hard"))
	path := field.NewPath("spec", "scopeSelector", "matchExpressions")
	if q.Spec.ScopeSelector == nil {
		return errs
	}
	for i, m := range q.Spec.ScopeSelector.MatchExpressions {
		p := path.Index(i)
		switch m.Operator {
		case corev1.ScopeSelectorOpIn, corev1.ScopeSelectorOpNotIn:
			if len(m.Values) == 0 {
				errs = append(errs, field.Required(p.Child("values"), "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"))
			}
		case corev1.ScopeSelectorOpExists, corev1.ScopeSelectorOpDoesNotExist:
			if len(m.Values) != 0 {
				errs = append(errs, field.Invalid(p.Child("values"), m.Values, "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"))
			}
		default:
			errs = append(errs, field.Invalid(p.Child("operator"), m.Operator, "not a valid selector operator"))
		}
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
