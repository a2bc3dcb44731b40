// Package authorization tells the server about authorization.k8s.io: questions about what
// somebody may do.
//
// The one idea: nothing here is stored; each kind is one Action answered through api.Env.
//
// Used by cluster, which collects all kinds.
package authorization

import (
	"context"
	"fmt"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

// Kinds of the group.
var Kinds = []*api.Kind{SubjectAccessReviews, LocalSubjectAccessReviews, SelfSubjectAccessReviews, SelfSubjectRulesReviews}

const (
	group   = authorizationv1.GroupName
	version = "v1"
)

// virtual makes a kind whose Do gets an object of its own type.
func virtual[T runtime.Object](kind, plural string, namespaced bool, fresh func() T, do func(context.Context, *api.Env, api.Call, T) error) *api.Kind {
	return api.DefineVirtual(api.Virtual{
		Group: group, Version: version, Kind: kind, Plural: plural, Namespaced: namespaced,
		Action: api.Action{
			Group: group, Version: version, Kind: kind,
			New: func() runtime.Object { return fresh() },
			Do: func(ctx context.Context, env *api.Env, call api.Call, object runtime.Object) (runtime.Object, error) {
				review, ok := object.(T)
				if !ok {
					return nil, apierrors.NewBadRequest("not a " + kind)
				}
				return review, do(ctx, env, call, review)
			},
		},
	})
}

// invalid names no kind: Kubernetes does not either.
func invalid(errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(schema.GroupKind{Group: group}, "", errs)
}

// validateMeta: a question has no name or labels.
func validateMeta(m metav1.ObjectMeta, text string) field.ErrorList {
	m.ManagedFields = nil
	if equality.Semantic.DeepEqual(m, metav1.ObjectMeta{}) {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("metadata"), m, text)}
}

// validateAttributes: exactly one of the two says what is asked.
func validateAttributes(res *authorizationv1.ResourceAttributes, path *authorizationv1.NonResourceAttributes, p *field.Path) field.ErrorList {
	if res != nil && path != nil {
		return field.ErrorList{field.Invalid(p, path, "exactly one of nonResourceAttributes or resourceAttributes must be specified")}
	}
	if res == nil && path == nil {
		return field.ErrorList{field.Invalid(p, path, "exactly one of nonResourceAttributes or resourceAttributes must be specified")}
	}
	return validateSelectors(res, p.Child("resourceAttributes"))
}

func validateSelectors(res *authorizationv1.ResourceAttributes, p *field.Path) field.ErrorList {
	if res == nil {
		return nil
	}
	var errs field.ErrorList
	if f := res.FieldSelector; f != nil {
		at := p.Child("fieldSelector")
		errs = append(errs, validateSelector(f.RawSelector, len(f.Requirements), at)...)
		for i, r := range f.Requirements {
			errs = append(errs, metav1validation.ValidateFieldSelectorRequirement(r,
				metav1validation.FieldSelectorValidationOptions{AllowUnknownOperatorInRequirement: true}, at.Child("requirements").Index(i))...)
		}
	}
	if l := res.LabelSelector; l != nil {
		at := p.Child("labelSelector")
		errs = append(errs, validateSelector(l.RawSelector, len(l.Requirements), at)...)
		for i, r := range l.Requirements {
			errs = append(errs, metav1validation.ValidateLabelSelectorRequirement(r,
				metav1validation.LabelSelectorValidationOptions{AllowUnknownOperatorInRequirement: true}, at.Child("requirements").Index(i))...)
		}
	}
	return errs
}

// validateSelector wants either text or requirements.
func validateSelector(raw string, requirements int, at *field.Path) field.ErrorList {
	switch {
	case raw != "" && requirements > 0:
		return field.ErrorList{field.Invalid(at.Child("rawSelector"), raw, "may not specified at the same time as requirements")}
	case raw == "" && requirements == 0:
		return field.ErrorList{field.Required(at.Child("requirements"), fmt.Sprintf("when %s is specified, requirements or rawSelector is required", at))}
	}
	return nil
}

func validateSubject(spec *authorizationv1.SubjectAccessReviewSpec, p *field.Path) field.ErrorList {
	errs := validateAttributes(spec.ResourceAttributes, spec.NonResourceAttributes, p)
	if spec.User == "" && len(spec.Groups) == 0 {
		errs = append(errs, field.Invalid(p.Child("user"), spec.User, "at least one of user or group must be specified"))
	}
	return errs
}

func subject(spec *authorizationv1.SubjectAccessReviewSpec) api.User {
	u := api.User{Name: spec.User, UID: spec.UID, Groups: spec.Groups}
	for key, values := range spec.Extra {
		if u.Extra == nil {
			u.Extra = map[string][]string{}
		}
		u.Extra[key] = values
	}
	return u
}

func ask(ctx context.Context, env *api.Env, u api.User, res *authorizationv1.ResourceAttributes, path *authorizationv1.NonResourceAttributes) (authorizationv1.SubjectAccessReviewStatus, error) {
	if env.Reviews == nil {
		return authorizationv1.SubjectAccessReviewStatus{}, apierrors.NewServiceUnavailable("authorization is not ready")
	}
	return env.Reviews.Access(ctx, u, res, path), nil
}
