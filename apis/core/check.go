package core

import (
	"slices"
	"strings"

	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// invalid makes one Invalid error of each message.
func invalid(path *field.Path, value any, messages []string) field.ErrorList {
	var errs field.ErrorList
	for _, m := range messages {
		errs = append(errs, field.Invalid(path, value, m))
	}
	return errs
}

// oneOf checks a value against a closed set; required says that empty is an error too.
func oneOf[T ~string](value T, path *field.Path, allowed ...T) field.ErrorList {
	if slices.Contains(allowed, value) {
		return nil
	}
	return field.ErrorList{field.NotSupported(path, value, allowed)}
}

// given checks that a closed-set value is set, and then that it is in the set.
func given[T ~string](value T, path *field.Path, allowed ...T) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return oneOf(value, path, allowed...)
}

func required(value string, path *field.Path, detail string) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(path, detail)}
	}
	return nil
}

func nonNegative(value int64, path *field.Path) field.ErrorList {
	return apivalidation.ValidateNonnegativeField(value, path)
}

func immutable(now, old any, path *field.Path) field.ErrorList {
	return apivalidation.ValidateImmutableField(now, old, path)
}

func dnsLabel(value string, path *field.Path) field.ErrorList {
	return invalid(path, value, validation.IsDNS1123Label(value))
}

func dnsSubdomain(value string, path *field.Path) field.ErrorList {
	return invalid(path, value, validation.IsDNS1123Subdomain(value))
}

func labelName(value string, path *field.Path) field.ErrorList {
	return metav1validation.ValidateLabelName(value, path)
}

func portNumber(port int32, path *field.Path) field.ErrorList {
	return invalid(path, port, validation.IsValidPortNum(int(port)))
}

// localPath refuses paths that are absolute or climb upwards.
func localPath(value string, path *field.Path) field.ErrorList {
	if strings.HasPrefix(value, "/") {
		return field.ErrorList{field.Invalid(path, value, "must be a relative path")}
	}
	return noBackSteps(value, path)
}

func noBackSteps(value string, path *field.Path) field.ErrorList {
	if slices.Contains(strings.Split(value, "/"), "..") {
		return field.ErrorList{field.Invalid(path, value, "must not contain '..'")}
	}
	return nil
}

func ptr[T any](v T) *T { return &v }

// fill sets an unset field to its default.
func fill[T comparable](target *T, value T) {
	var zero T
	if *target == zero {
		*target = value
	}
}

// fillPtr sets an unset optional field to its default.
func fillPtr[T any](target **T, value T) {
	if *target == nil {
		*target = &value
	}
}
