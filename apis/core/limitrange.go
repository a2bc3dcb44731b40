package core

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
		{Name: "Created At", Type: "date", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"], Value: func(l *corev1.LimitRange) any {
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

var limitTypes = []corev1.LimitType{corev1.LimitTypePod, corev1.LimitTypeContainer, corev1.LimitTypePersistentVolumeClaim}

func validateLimitRange(l *corev1.LimitRange) field.ErrorList {
	var errs field.ErrorList
	seen := map[corev1.LimitType]bool{}
	for i := range l.Spec.Limits {
		item, path := &l.Spec.Limits[i], field.NewPath("spec", "limits").Index(i)
		bad := invalid(path.Child("type"), item.Type, validation.IsQualifiedName(string(item.Type)))
		if len(bad) == 0 && !strings.Contains(string(item.Type), "/") && !slices.Contains(limitTypes, item.Type) {
			bad = append(bad, field.Invalid(path.Child("type"), item.Type, "must be a standard limit type or fully qualified"))
		}
		errs = append(errs, bad...)
		if seen[item.Type] {
			errs = append(errs, field.Duplicate(path.Child("type"), item.Type))
		}
		seen[item.Type] = true
		errs = append(errs, validateLimitNames(item, path)...)
		errs = append(errs, validateLimitOrder(item, path)...)
	}
	return errs
}

// validateLimitNames checks which resources are limited, by type of what they are limited for.
func validateLimitNames(item *corev1.LimitRangeItem, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	pod := item.Type == corev1.LimitTypePod
	for _, f := range []struct {
		name string
		list corev1.ResourceList
	}{{"max", item.Max}, {"min", item.Min}, {"default", item.Default}, {"defaultRequest", item.DefaultRequest}, {"maxLimitRequestRatio", item.MaxLimitRequestRatio}} {
		at := path.Child(f.name)
		if f.name == "maxLimitRequestRatio" && item.Type == corev1.LimitTypePersistentVolumeClaim && !has(item.Min, corev1.ResourceStorage) && !has(item.Max, corev1.ResourceStorage) {
			errs = append(errs, field.Required(path.Child("limits"), "either minimum or maximum storage value is required, but neither was provided"))
		}
		if pod && (f.name == "default" || f.name == "defaultRequest") {
			if len(f.list) > 0 {
				errs = append(errs, field.Forbidden(at, "may not be specified when `type` is 'Pod'"))
			}
			continue
		}
		for _, name := range sortedResources(f.list) {
			if pod || item.Type == corev1.LimitTypeContainer {
				errs = append(errs, containerResource(string(name), at.Key(string(name)))...)
			} else {
				errs = append(errs, qualifiedResource(string(name), at.Key(string(name)))...)
			}
		}
	}
	return errs
}

func has(list corev1.ResourceList, name corev1.ResourceName) bool {
	_, ok := list[name]
	return ok
}

func sortedResources(lists ...corev1.ResourceList) []corev1.ResourceName {
	var names []corev1.ResourceName
	for _, l := range lists {
		for name := range l {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// validateLimitOrder wants min <= defaultRequest <= default <= max for each resource.
func validateLimitOrder(item *corev1.LimitRangeItem, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if item.Type == corev1.LimitTypePod { // that has no defaults
		item = &corev1.LimitRangeItem{Min: item.Min, Max: item.Max, MaxLimitRequestRatio: item.MaxLimitRequestRatio}
	}
	for _, name := range sortedResources(item.Min, item.Max, item.Default, item.DefaultRequest, item.MaxLimitRequestRatio) {
		order := func(low, high corev1.ResourceList, lowTitle, highTitle, child string, at corev1.ResourceList) {
			a, b := low[name], high[name]
			if has(low, name) && has(high, name) && a.Cmp(b) > 0 {
				shown := at[name]
				errs = append(errs, field.Invalid(path.Child(child).Key(string(name)), shown.String(),
					fmt.Sprintf("%s value %s is greater than %s value %s", lowTitle, a.String(), highTitle, b.String())))
			}
		}
		order(item.Min, item.Max, "min", "max", "min", item.Min)
		order(item.Min, item.DefaultRequest, "min", "default request", "defaultRequest", item.DefaultRequest)
		order(item.DefaultRequest, item.Max, "default request", "max", "defaultRequest", item.DefaultRequest)
		order(item.DefaultRequest, item.Default, "default request", "default limit", "defaultRequest", item.DefaultRequest)
		order(item.Min, item.Default, "min", "default", "default", item.Min)
		order(item.Default, item.Max, "default", "max", "default", item.Max)
		errs = append(errs, validateLimitRatio(item, name, path)...)
		limit, request := item.Default[name], item.DefaultRequest[name]
		if has(item.Default, name) && has(item.DefaultRequest, name) && !overcommits(string(name)) && limit.Cmp(request) != 0 {
			errs = append(errs, field.Invalid(path.Child("defaultRequest").Key(string(name)), request.String(),
				fmt.Sprintf("default value %s must equal to defaultRequest value %s in %s", limit.String(), request.String(), name)))
		}
	}
	return errs
}

func validateLimitRatio(item *corev1.LimitRangeItem, name corev1.ResourceName, path *field.Path) field.ErrorList {
	ratio, ok := item.MaxLimitRequestRatio[name]
	if !ok {
		return nil
	}
	var errs field.ErrorList
	at := path.Child("maxLimitRequestRatio").Key(string(name))
	if ratio.CmpInt64(1) < 0 {
		errs = append(errs, field.Invalid(at, ratio.String(), fmt.Sprintf("ratio %s is less than 1", ratio.String())))
	}
	low, high := item.Min[name], item.Max[name]
	if has(item.Min, name) && has(item.Max, name) {
		if most := high.AsApproximateFloat64() / low.AsApproximateFloat64(); ratio.AsApproximateFloat64() > most {
			errs = append(errs, field.Invalid(at, ratio.String(), fmt.Sprintf("ratio %s is greater than max/min = %f", ratio.String(), most)))
		}
	}
	return errs
}
