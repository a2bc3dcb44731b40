package authorization

import (
	"context"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/proa-dev/proa/apis/api"
)

// SelfSubjectRulesReviews ask for all that the asker may do in a namespace.
var SelfSubjectRulesReviews = virtual("SelfSubjectRulesReview", "selfsubjectrulesreviews", false,
	func() *authorizationv1.SelfSubjectRulesReview { return &authorizationv1.SelfSubjectRulesReview{} }, selfSubjectRules)

func selfSubjectRules(ctx context.Context, env *api.Env, call api.Call, r *authorizationv1.SelfSubjectRulesReview) error {
	if r.Spec.Namespace == "" {
		return apierrors.NewBadRequest("no namespace on request")
	}
	if env.Reviews == nil {
		return apierrors.NewServiceUnavailable("authorization is not ready")
	}
	namespace := r.Spec.Namespace
	r.Spec = authorizationv1.SelfSubjectRulesReviewSpec{} // the answer does not repeat the question
	r.Status = env.Reviews.Rules(ctx, call.User, namespace)
	return nil
}
