package authorization

import (
	"context"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

// SelfSubjectAccessReviews ask what the asker may do (kubectl auth can-i).
var SelfSubjectAccessReviews = virtual("SelfSubjectAccessReview", "selfsubjectaccessreviews", false,
	func() *authorizationv1.SelfSubjectAccessReview { return &authorizationv1.SelfSubjectAccessReview{} }, selfSubjectAccess)

func selfSubjectAccess(ctx context.Context, env *api.Env, call api.Call, r *authorizationv1.SelfSubjectAccessReview) (err error) {
	errs := validateAttributes(r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes, field.NewPath("spec"))
	errs = append(errs, validateMeta(r.ObjectMeta, "must be empty")...)
	if err := invalid(errs); err != nil {
		return err
	}
	r.Status, err = ask(ctx, env, call.User, r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes)
	return err
}
