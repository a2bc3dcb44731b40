package apps

import (
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// amount is a number of a status or spec with the name of its field.
type amount struct {
	name  string
	value int64
}

func notNegative(path *field.Path, amounts ...amount) field.ErrorList {
	var errs field.ErrorList
	for _, a := range amounts {
		errs = append(errs, apivalidation.ValidateNonnegativeField(a.value, path.Child(a.name))...)
	}
	return errs
}

// notMore refuses parts that are more than the whole; what names the whole.
func notMore(whole int64, what string, path *field.Path, parts ...amount) field.ErrorList {
	var errs field.ErrorList
	for _, a := range parts {
		if a.value > whole {
			errs = append(errs, field.Invalid(path.Child(a.name), a.value, "cannot be greater than "+what))
		}
	}
	return errs
}

func fill[T any](p **T, v T) {
	if *p == nil {
		*p = &v
	}
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
