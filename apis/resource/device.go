package resource

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/internal/check"
)

// stamp says since when a taint is there.
func stamp(t *resourcev1.DeviceTaint) {
	if t.TimeAdded == nil {
		t.TimeAdded = &metav1.Time{Time: time.Now().Truncate(time.Second)}
	}
}

func set(names []string) string { return "{" + strings.Join(names, ", ") + "}" }

func device(d *resourcev1.Device, path *field.Path) field.ErrorList {
	errs := label(d.Name, path.Child("name"))
	values := 0
	for _, name := range slices.Sorted(maps.Keys(d.Attributes)) {
		a, at := d.Attributes[name], path.Child("attributes").Key(string(name))
		errs = append(errs, qualified(string(name), at)...)
		errs = append(errs, attribute(&a, at)...)
		values += max(1, len(a.IntValues)+len(a.BoolValues)+len(a.StringValues)+len(a.VersionValues))
	}
	for _, name := range slices.Sorted(maps.Keys(d.Capacity)) {
		errs = append(errs, qualified(string(name), path.Child("capacity").Key(string(name)))...)
	}
	if n := len(d.Attributes) + len(d.Capacity); n > resourcev1.ResourceSliceMaxAttributesAndCapacitiesPerDevice {
		errs = append(errs, field.Invalid(path, n, fmt.Sprintf("the total number of attributes and capacities must not exceed %d", resourcev1.ResourceSliceMaxAttributesAndCapacitiesPerDevice)))
	}
	if values > resourcev1.ResourceSliceMaxAttributeValuesPerDevice {
		errs = append(errs, field.Invalid(path, values, fmt.Sprintf("the total number of attribute values must not exceed %d", resourcev1.ResourceSliceMaxAttributeValuesPerDevice)))
	}
	errs = append(errs, each(d.Taints, resourcev1.DeviceTaintsMaxLength, path.Child("taints"), taint)...)
	uses := path.Child("consumesCounters")
	errs = append(errs, each(d.ConsumesCounters, resourcev1.ResourceSliceMaxDeviceCounterConsumptionsPerDevice, uses,
		func(c *resourcev1.DeviceCounterConsumption, at *field.Path) field.ErrorList {
			errs := label(c.CounterSet, at.Child("counterSet"))
			return append(errs, validateCounters(c.Counters, resourcev1.ResourceSliceMaxCountersPerDeviceCounterConsumption, at.Child("counters"))...)
		})...)
	errs = append(errs, unique(d.ConsumesCounters, uses, func(c *resourcev1.DeviceCounterConsumption) string { return c.CounterSet })...)
	return append(errs, bindingConditions(d.BindingConditions, d.BindingFailureConditions, path)...)
}

// semver is the pattern of semver.org, version 2.0.0.
var semver = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?$`)

// attribute wants one value. Lists of them are not served: see withoutLists.
func attribute(a *resourcev1.DeviceAttribute, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	var set []string
	for _, form := range []struct {
		name string
		set  bool
	}{
		{"int", a.IntValue != nil}, {"bool", a.BoolValue != nil}, {"string", a.StringValue != nil}, {"version", a.VersionValue != nil},
	} {
		if form.set {
			set = append(set, form.name)
		}
	}
	if a.StringValue != nil {
		errs = append(errs, check.Longest(path.Child("string"), *a.StringValue, resourcev1.DeviceAttributeMaxValueLength)...)
	}
	if a.VersionValue != nil {
		errs = append(errs, version(a.VersionValue, path.Child("version"))...)
	}
	const forms = "`int`, `bool`, `string`, `version`, `ints`, `bools`, `strings`, `versions`"
	switch len(set) {
	case 0:
		return append(errs, field.Invalid(path, "", "must specify one of: "+forms))
	case 1:
		return errs
	}
	return append(errs, field.Invalid(path, "{"+strings.Join(set, ", ")+"}", "must specify exactly one of: "+forms))
}

// withoutLists drops lists as values of attributes, which Kubernetes does not serve by default yet.
func withoutLists(attributes map[resourcev1.QualifiedName]resourcev1.DeviceAttribute) {
	for name, a := range attributes {
		a.IntValues, a.BoolValues, a.StringValues, a.VersionValues = nil, nil, nil, nil
		attributes[name] = a
	}
}

func version(text *string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if !semver.MatchString(*text) {
		errs = append(errs, field.Invalid(path, *text, "must be a string compatible with semver.org spec 2.0.0"))
	}
	return append(errs, check.Longest(path, *text, resourcev1.DeviceAttributeMaxValueLength)...)
}

// devicePlace: where a device is, it says itself only if its slice leaves that to it.
func devicePlace(d *resourcev1.Device, perDevice bool, path *field.Path) field.ErrorList {
	var ways []string
	var errs field.ErrorList
	if d.NodeName != nil {
		ways = append(ways, "`nodeName`")
		if *d.NodeName == "" {
			errs = append(errs, field.Invalid(path.Child("nodeName"), *d.NodeName, "must not be empty"))
		} else {
			errs = append(errs, check.Subdomain(path.Child("nodeName"), *d.NodeName)...)
		}
	}
	if d.NodeSelector != nil {
		ways = append(ways, "`nodeSelector`")
		errs = append(errs, oneTerm(d.NodeSelector, path.Child("nodeSelector"))...)
	}
	if d.AllNodes != nil {
		ways = append(ways, "`allNodes`")
		if !*d.AllNodes {
			errs = append(errs, field.Invalid(path.Child("allNodes"), *d.AllNodes, "must be either unset or set to true"))
		}
	}
	const one = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec"
	switch {
	case !perDevice && len(ways) > 0:
		return field.ErrorList{field.Invalid(path, nil, "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec")}
	case !perDevice:
		return nil
	case len(ways) == 0:
		errs = append(errs, field.Required(path, one))
	case len(ways) > 1:
		errs = append(errs, field.Invalid(path, set(ways), one))
	}
	return errs
}

// bindingConditions are met, or failed, before a pod is bound to the node of its device.
func bindingConditions(ready, failed []string, path *field.Path) field.ErrorList {
	name := func(text *string, at *field.Path) field.ErrorList {
		return metav1validation.ValidateLabelName(*text, at)
	}
	list, other := path.Child("bindingConditions"), path.Child("bindingFailureConditions")
	errs := each(ready, resourcev1.BindingConditionsMaxSize, list, name)
	errs = append(errs, unique(ready, list, same)...)
	errs = append(errs, each(failed, resourcev1.BindingFailureConditionsMaxSize, other, name)...)
	errs = append(errs, unique(failed, other, same)...)
	switch {
	case len(ready) == 0 && len(failed) > 0:
		errs = append(errs, field.Invalid(list, ready, "bindingConditions are required to use bindingFailureConditions"))
	case len(failed) == 0 && len(ready) > 0:
		errs = append(errs, field.Invalid(other, failed, "bindingFailureConditions are required to use bindingConditions"))
	}
	for i, c := range failed {
		if slices.Contains(ready, c) {
			errs = append(errs, field.Invalid(other.Index(i), c, "bindingFailureConditions must not overlap with bindingConditions"))
		}
	}
	return errs
}
