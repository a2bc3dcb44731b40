package authorization

import (
	"context"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

// SubjectAccessReviews ask what somebody else may do.
var SubjectAccessReviews = virtual("SubjectAccessReview", "subjectaccessreviews", false,
	func() *authorizationv1.SubjectAccessReview { return &authorizationv1.SubjectAccessReview{} }, subjectAccess)

func subjectAccess(ctx context.Context, env *api.Env, _ api.Call, r *authorizationv1.SubjectAccessReview) (err error) {
	errs := append(validateSubject(&r.Spec, field.NewPath("spec")), validateMeta(r.ObjectMeta, "must be empty")...)
	if err := invalid(errs); err != nil {
		return err
	}
	r.Status, err = ask(ctx, env, subject(&r.Spec), r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes)
	return err
}
