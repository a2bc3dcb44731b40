package authentication

import (
	"context"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/proa-dev/proa/apis/api"
)

// SelfSubjectReviews ask who the asker is (kubectl auth whoami).
var SelfSubjectReviews = api.DefineVirtual(api.Virtual{
	Group: group, Version: version, Kind: "SelfSubjectReview", Plural: "selfsubjectreviews",
	Action: api.Action{
		Group: group, Version: version, Kind: "SelfSubjectReview",
		New: func() runtime.Object { return &authenticationv1.SelfSubjectReview{} },
		Do:  whoAmI,
	},
})

func whoAmI(_ context.Context, _ *api.Env, call api.Call, object runtime.Object) (runtime.Object, error) {
	review, ok := object.(*authenticationv1.SelfSubjectReview)
	if !ok {
		return nil, apierrors.NewBadRequest("not a SelfSubjectReview")
	}
	if review.CreationTimestamp.IsZero() {
		review.CreationTimestamp = metav1.Now()
	}
	info := authenticationv1.UserInfo{Username: call.User.Name, UID: call.User.UID, Groups: call.User.Groups}
	for key, values := range call.User.Extra {
		if info.Extra == nil {
			info.Extra = map[string]authenticationv1.ExtraValue{}
		}
		info.Extra[key] = values
	}
	review.Status = authenticationv1.SelfSubjectReviewStatus{UserInfo: info}
	return review, nil
}
