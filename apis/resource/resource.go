// Package resource describes the kinds of resource.k8s.io to the server: devices that
// drivers publish, classes of them, and claims that pods make on them.
package resource

import (
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/internal/check"
)

// Kinds are the group's kinds.
var Kinds = []*api.Kind{deviceClasses, deviceTaintRules, resourceClaims, resourceClaimTemplates, resourceSlices}

// each checks the items of a list that may hold at most limit of them (0: any number).
func each[T any](list []T, limit int, path *field.Path, one func(*T, *field.Path) field.ErrorList) field.ErrorList {
	var errs field.ErrorList
	if limit > 0 && len(list) > limit {
		errs = append(errs, field.TooMany(path, len(list), limit))
	}
	for i := range list {
		errs = append(errs, one(&list[i], path.Index(i))...)
	}
	return errs
}

// unique refuses items whose key was there before; an empty name is the child that the
// error is about.
func unique[T any, K comparable](list []T, path *field.Path, key func(*T) K) field.ErrorList {
	var errs field.ErrorList
	seen := map[K]bool{}
	for i := range list {
		k := key(&list[i])
		if seen[k] {
			errs = append(errs, field.Duplicate(path.Index(i), k))
		}
		seen[k] = true
	}
	return errs
}

func same[T any](v *T) T { return *v }

func driver(name string, path *field.Path) field.ErrorList {
	errs := check.Required(path, name, "")
	errs = append(errs, check.Longest(path, name, resourcev1.DriverNameMaxLength)...)
	if name != "" {
		errs = append(errs, check.Each(path, name, validation.IsDNS1123Subdomain(strings.ToLower(name)))...)
	}
	return errs
}

// pool is the name of a pool: segments like node names, with slashes between them.
func pool(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	errs := check.Longest(path, name, resourcev1.PoolNameMaxLength)
	for part := range strings.SplitSeq(name, "/") {
		errs = append(errs, check.Each(path, part, validation.IsDNS1123Subdomain(part))...)
	}
	return errs
}

func label(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return check.Label(path, name)
}

func subdomain(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return check.Subdomain(path, name)
}

// qualified is the name of an attribute or a capacity: "model", or "example.com/model".
func qualified(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "name required")}
	}
	domain, id, ok := strings.Cut(name, "/")
	if !ok {
		return identifier(name, path)
	}
	var errs field.ErrorList
	if domain == "" {
		errs = append(errs, field.Invalid(path, "", "the domain must not be empty"))
	} else {
		errs = append(errs, driver(domain, path)...)
	}
	if id == "" {
		return append(errs, field.Invalid(path, "", "the name must not be empty"))
	}
	return append(errs, identifier(id, path)...)
}

func fullyQualified(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	if strings.Count(name, "/") != 1 {
		return field.ErrorList{field.Invalid(path, name, "a fully qualified name must be a domain and a name separated by a slash")}
	}
	return qualified(name, path)
}

func identifier(id string, path *field.Path) field.ErrorList {
	errs := check.Longest(path, id, resourcev1.DeviceMaxIDLength)
	return append(errs, check.Each(path, id, validation.IsCIdentifier(id))...)
}

var effects = []resourcev1.DeviceTaintEffect{resourcev1.DeviceTaintEffectNoExecute, resourcev1.DeviceTaintEffectNoSchedule, resourcev1.DeviceTaintEffectNone}

func taint(t *resourcev1.DeviceTaint, path *field.Path) field.ErrorList {
	errs := metav1validation.ValidateLabelName(t.Key, path.Child("key"))
	if t.Value != "" {
		errs = append(errs, check.Each(path.Child("value"), t.Value, validation.IsValidLabelValue(t.Value))...)
	}
	if t.Effect == "" {
		return append(errs, field.Required(path.Child("effect"), ""))
	}
	return append(errs, check.OneOf(path.Child("effect"), t.Effect, effects...)...)
}

func toleration(t *resourcev1.DeviceToleration, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if t.Key != "" {
		errs = append(errs, metav1validation.ValidateLabelName(t.Key, path.Child("key"))...)
	} else if t.Operator == resourcev1.DeviceTolerationOpEqual {
		errs = append(errs, field.Required(path.Child("key"), "may only be empty for operator `Exists`"))
	}
	switch t.Operator {
	case resourcev1.DeviceTolerationOpExists:
		if t.Value != "" {
			errs = append(errs, field.Invalid(path.Child("value"), t.Value, "must be empty for operator `Exists`"))
		}
	case resourcev1.DeviceTolerationOpEqual:
		errs = append(errs, check.Each(path.Child("value"), t.Value, validation.IsValidLabelValue(t.Value))...)
	case "":
		errs = append(errs, field.Required(path.Child("operator"), ""))
	default:
		errs = append(errs, check.OneOf(path.Child("operator"), t.Operator, resourcev1.DeviceTolerationOpEqual, resourcev1.DeviceTolerationOpExists)...)
	}
	if t.Effect != "" {
		errs = append(errs, check.OneOf(path.Child("effect"), t.Effect, effects...)...)
	}
	return errs
}
