package core

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

// LimitRanges is the kind LimitRange.
var LimitRanges = api.Define(api.Resource[*corev1.LimitRange]{
	Version: "v1", Kind: "LimitRange", Plural: "limitranges", Short: []string{"limits"}, Namespaced: true,
	UnconditionalUpdate: true,
	Default:             defaultLimitRange,
	Validate:            validateLimitRange,
	Columns: []api.Column[*corev1.LimitRange]{
		{Name: "Created At", Type: "date", Description: "The time the limit range was created.", Value: func(l *corev1.LimitRange) any {
			return l.CreationTimestamp.UTC().Format("2006-01-02T15:04:05Z")
		}},
	},
})

// defaultLimitRange lets a container's defaults follow from its bounds.
func defaultLimitRange(l *corev1.LimitRange) {
	for i := range l.Spec.Limits {
		item := &l.Spec.Limits[i]
		if item.Type == corev1.LimitTypeContainer {
			item.Default = inherit(item.Default, item.Max)
			item.DefaultRequest = inherit(item.DefaultRequest, item.Default)
			item.DefaultRequest = inherit(item.DefaultRequest, item.Min)
		}
		for _, list := range []corev1.ResourceList{item.Max, item.Min, item.Default, item.DefaultRequest, item.MaxLimitRequestRatio} {
			roundResources(list)
		}
	}
}

func inherit(list, from corev1.ResourceList) corev1.ResourceList {
	if list == nil {
		list = corev1.ResourceList{}
	}
	for name, q := range from {
		if _, ok := list[name]; !ok {
			list[name] = q.DeepCopy()
		}
	}
	return list
}

func validateLimitRange(l *corev1.LimitRange) field.ErrorList {
	var errs field.ErrorList
	seen := map[corev1.LimitType]bool{}
	for i := range l.Spec.Limits {
		item, path := &l.Spec.Limits[i], field.NewPath("spec", "limits").Index(i)
		errs = append(errs, invalid(path.Child("type"), item.Type, validation.IsQualifiedName(string(item.Type)))...)
		if seen[item.Type] {
			errs = append(errs, field.Duplicate(path.Child("type"), item.Type))
		}
		seen[item.Type] = true
		if item.Type == corev1.LimitTypePod {
			if len(item.Default) > 0 {
				errs = append(errs, field.Forbidden(path.Child("default"), "may not be specified when `type` is 'Pod'"))
			}
			if len(item.DefaultRequest) > 0 {
				errs = append(errs, field.Forbidden(path.Child("defaultRequest"), "may not be specified when `type` is 'Pod'"))
			}
		}
		errs = append(errs, validateLimitOrder(item, path)...)
	}
	return errs
}

// validateLimitOrder wants min <= defaultRequest <= default <= max for each resource.
func validateLimitOrder(item *corev1.LimitRangeItem, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	type named struct {
		child, title string
		list         corev1.ResourceList
	}
	order := []named{
		{"min", "min", item.Min}, {"defaultRequest", "default request", item.DefaultRequest},
		{"default", "default", item.Default}, {"max", "max", item.Max},
	}
	for i, low := range order {
		for name, q := range low.list {
			errs = append(errs, validateQuantity(q, path.Child(low.child).Key(string(name)))...)
			for _, high := range order[i+1:] {
				if limit, ok := high.list[name]; ok && q.Cmp(limit) > 0 {
					errs = append(errs, field.Invalid(path.Child(low.child).Key(string(name)), q.String(),
						fmt.Sprintf("%s value %s is greater than %s value %s", low.title, q.String(), high.title, limit.String())))
				}
			}
		}
	}
	for name, ratio := range item.MaxLimitRequestRatio {
		if ratio.CmpInt64(1) < 0 {
			errs = append(errs, field.Invalid(path.Child("maxLimitRequestRatio").Key(string(name)), ratio.String(), fmt.Sprintf("ratio %s is less than 1", ratio.String())))
		}
	}
	return errs
}
