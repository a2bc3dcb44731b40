// Package check says what is wrong with single values in the words of Kubernetes.
//
// The one idea: each function takes a value and the path of its field and gives errors,
// none when all is well, so that a kind's validation reads as a list of its rules.
//
// Used by the packages of apis/.
package check

import (
	"slices"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Each makes one Invalid error of each message.
func Each(at *field.Path, value any, messages []string) field.ErrorList {
	var errs field.ErrorList
	for _, m := range messages {
		errs = append(errs, field.Invalid(at, value, m))
	}
	return errs
}

// Required refuses an empty value; detail may be empty.
func Required[T comparable](at *field.Path, value T, detail string) field.ErrorList {
	var zero T
	if value == zero {
		return field.ErrorList{field.Required(at, detail)}
	}
	return nil
}

// OneOf refuses what is not in a closed set.
func OneOf[T ~string](at *field.Path, value T, allowed ...T) field.ErrorList {
	if slices.Contains(allowed, value) {
		return nil
	}
	return field.ErrorList{field.NotSupported(at, value, allowed)}
}

// Immutable refuses any change.
func Immutable(at *field.Path, now, old any) field.ErrorList {
	return apivalidation.ValidateImmutableField(now, old, at)
}

// Unchanged refuses any change without saying to what, as Kubernetes does where it declares a field immutable.
func Unchanged(at *field.Path, now, old any) field.ErrorList {
	if apiequality.Semantic.DeepEqual(now, old) {
		return nil
	}
	return field.ErrorList{field.Invalid(at, nil, "field is immutable")}
}

// Label wants a DNS label.
func Label(at *field.Path, value string) field.ErrorList {
	return Each(at, value, validation.IsDNS1123Label(value))
}

// Subdomain wants a DNS subdomain.
func Subdomain(at *field.Path, value string) field.ErrorList {
	return Each(at, value, validation.IsDNS1123Subdomain(value))
}

// Segment wants what fits between two slashes of a URL.
func Segment(at *field.Path, value string) field.ErrorList {
	return Each(at, value, path.IsValidPathSegmentName(value))
}

// NeededSegment wants a segment that is not empty.
func NeededSegment(at *field.Path, value string) field.ErrorList {
	if value == "" {
		return Required(at, value, "")
	}
	return Segment(at, value)
}

// Longest refuses text of more than limit bytes.
func Longest[T ~string](at *field.Path, value T, limit int) field.ErrorList {
	if len(value) > limit {
		return field.ErrorList{field.TooLong(at, "", limit)}
	}
	return nil
}

// NotNegative wants zero or more.
func NotNegative(at *field.Path, value int64) field.ErrorList {
	return apivalidation.ValidateNonnegativeField(value, at)
}
