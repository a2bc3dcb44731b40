package authentication

import (
	"context"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/proa-dev/proa/apis/api"
)

// TokenReviews ask whose a token is.
var TokenReviews = api.DefineVirtual(api.Virtual{
	Group: group, Version: version, Kind: "TokenReview", Plural: "tokenreviews",
	Action: api.Action{
		Group: group, Version: version, Kind: "TokenReview",
		New: func() runtime.Object { return &authenticationv1.TokenReview{} },
		Do:  reviewToken,
	},
})

func reviewToken(ctx context.Context, env *api.Env, call api.Call, object runtime.Object) (runtime.Object, error) {
	review, ok := object.(*authenticationv1.TokenReview)
	if !ok {
		return nil, apierrors.NewBadRequest("not a TokenReview")
	}
	if call.Namespace != "" || review.Namespace != "" {
		return nil, apierrors.NewBadRequest("namespace is not allowed on this type: " + review.Namespace)
	}
	if review.Spec.Token == "" {
		return nil, apierrors.NewBadRequest("token is required for TokenReview in authentication")
	}
	if env.Tokens == nil {
		return review, nil
	}
	review.Status = env.Tokens.Review(ctx, review.Spec)
	return review, nil
}
