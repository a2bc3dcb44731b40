package authorization

import (
	"context"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

// LocalSubjectAccessReviews ask what somebody else may do in one namespace.
var LocalSubjectAccessReviews = virtual("LocalSubjectAccessReview", "localsubjectaccessreviews", true,
	func() *authorizationv1.LocalSubjectAccessReview { return &authorizationv1.LocalSubjectAccessReview{} }, localSubjectAccess)

func localSubjectAccess(ctx context.Context, env *api.Env, call api.Call, r *authorizationv1.LocalSubjectAccessReview) (err error) {
	p := field.NewPath("spec")
	errs := validateSubject(&r.Spec, p)
	if r.Spec.NonResourceAttributes != nil {
		errs = append(errs, field.Invalid(p.Child("nonResourceAttributes"), r.Spec.NonResourceAttributes, "disallowed on this kind of request"))
	}
	if err := invalid("LocalSubjectAccessReview", errs); err != nil {
		return err
	}
	if call.Namespace == "" {
		return apierrors.NewBadRequest("namespace is required on this type: " + call.Namespace)
	}
	if call.Namespace != r.Spec.ResourceAttributes.Namespace {
		return apierrors.NewBadRequest("spec.resourceAttributes.namespace must match namespace: " + call.Namespace)
	}
	r.Status, err = ask(ctx, env, subject(&r.Spec), r.Spec.ResourceAttributes, nil)
	return err
}
