package authorization

import (
	"context"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

// LocalSubjectAccessReviews ask what somebody else may do in one namespace.
var LocalSubjectAccessReviews = virtual("LocalSubjectAccessReview", "localsubjectaccessreviews", true,
	func() *authorizationv1.LocalSubjectAccessReview { return &authorizationv1.LocalSubjectAccessReview{} }, localSubjectAccess)

func localSubjectAccess(ctx context.Context, env *api.Env, _ api.Call, r *authorizationv1.LocalSubjectAccessReview) (err error) {
	p := field.NewPath("spec")
	errs := validateSubject(&r.Spec, p)
	meta := r.ObjectMeta
	meta.Namespace = ""
	errs = append(errs, validateMeta(meta, "must be empty except for namespace")...)
	if asked := r.Spec.ResourceAttributes; asked != nil && asked.Namespace != r.Namespace {
		errs = append(errs, field.Invalid(p.Child("resourceAttributes", "namespace"), asked.Namespace, "must match metadata.namespace"))
	}
	if r.Spec.NonResourceAttributes != nil {
		errs = append(errs, field.Invalid(p.Child("nonResourceAttributes"), r.Spec.NonResourceAttributes, "disallowed on this kind of request"))
	}
	if err := invalid(errs); err != nil {
		return err
	}
	r.Status, err = ask(ctx, env, subject(&r.Spec), r.Spec.ResourceAttributes, nil)
	return err
}
