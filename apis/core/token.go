package core

import (
	"context"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

// Limits of the life of a token, in seconds.
const (
	defaultTokenSeconds = 60 * 60
	minTokenSeconds     = 10 * 60
	maxTokenSeconds     = 1 << 32
)

// issueToken serves serviceaccounts/token: a signed token bound to the objects asked for.
func issueToken(_ context.Context, env *api.Env, call api.Call, object runtime.Object) (runtime.Object, error) {
	req := object.(*authenticationv1.TokenRequest)
	if req.Name != "" && req.Name != call.Name {
		return nil, apierrors.NewInvalid(schema.GroupKind{Group: "authentication.k8s.io", Kind: "TokenRequest"}, call.Name, field.ErrorList{
			field.Invalid(field.NewPath("metadata", "name"), req.Name, "must match the service account name if specified"),
		})
	}
	if req.Namespace != "" && req.Namespace != call.Namespace {
		return nil, apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	fillPtr(&req.Spec.ExpirationSeconds, defaultTokenSeconds)
	if errs := validateTokenRequest(req); len(errs) > 0 {
		return nil, apierrors.NewInvalid(schema.GroupKind{Group: "authentication.k8s.io", Kind: "TokenRequest"}, "", errs)
	}
	account, ok := api.Sure(env.Reader, accountResource, call.Namespace, call.Name)
	if !ok {
		return nil, apierrors.NewNotFound(accountResource, call.Name)
	}
	claims := api.TokenClaims{
		Namespace: call.Namespace, ServiceAccount: call.Name, ServiceAccountUID: string(account.GetUID()),
		Audiences: req.Spec.Audiences,
		Expires:   time.Duration(min(*req.Spec.ExpirationSeconds, maxTokenSeconds)) * time.Second,
	}
	if err := bindToken(env, call, req.Spec.BoundObjectRef, &claims); err != nil {
		return nil, err
	}
	token, expires, err := env.Tokens.Issue(claims)
	if err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("failed to generate token: %w", err))
	}
	out := req.DeepCopy()
	out.Name, out.Namespace = call.Name, call.Namespace
	out.UID, out.CreationTimestamp = account.GetUID(), metav1.Now()
	if len(out.Spec.Audiences) == 0 {
		out.Spec.Audiences = env.Tokens.Audiences()
	}
	out.Status = authenticationv1.TokenRequestStatus{Token: token, ExpirationTimestamp: metav1.NewTime(expires)}
	return out, nil
}

func validateTokenRequest(req *authenticationv1.TokenRequest) field.ErrorList {
	path := field.NewPath("spec").Child("expirationSeconds")
	seconds := *req.Spec.ExpirationSeconds
	if seconds < minTokenSeconds {
		return field.ErrorList{field.Invalid(path, seconds, "may not specify a duration less than 10 minutes")}
	}
	if seconds > maxTokenSeconds {
		return field.ErrorList{field.Invalid(path, seconds, "may not specify a duration larger than 2^32 seconds")}
	}
	return nil
}

// bindToken fills in what ends the token's life early: its pod, secret or node going away.
func bindToken(env *api.Env, call api.Call, ref *authenticationv1.BoundObjectReference, claims *api.TokenClaims) error {
	if ref == nil {
		return nil
	}
	kind := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind)
	switch kind {
	case schema.GroupVersionKind{Version: "v1", Kind: "Pod"}:
		return bindTokenToPod(env, call, ref, claims)
	case schema.GroupVersionKind{Version: "v1", Kind: "Secret"}:
		secret, err := boundObject(env, secretResource, call.Namespace, ref)
		if err != nil {
			return err
		}
		claims.SecretName, claims.SecretUID = ref.Name, string(secret.GetUID())
	case schema.GroupVersionKind{Version: "v1", Kind: "Node"}:
		node, err := boundObject(env, nodeResource, "", ref)
		if err != nil {
			return err
		}
		claims.NodeName, claims.NodeUID = ref.Name, string(node.GetUID())
	default:
		return apierrors.NewBadRequest(fmt.Sprintf("cannot bind token to object of type %s", kind.String()))
	}
	return nil
}

func bindTokenToPod(env *api.Env, call api.Call, ref *authenticationv1.BoundObjectReference, claims *api.TokenClaims) error {
	found, err := boundObject(env, podResource, call.Namespace, ref)
	if err != nil {
		return err
	}
	pod, ok := found.(*corev1.Pod)
	if !ok || pod.Spec.ServiceAccountName != call.Name {
		return apierrors.NewBadRequest(fmt.Sprintf("cannot bind token for serviceaccount %q to pod running with different serviceaccount name.", call.Name))
	}
	claims.PodName, claims.PodUID = pod.Name, string(pod.UID)
	if pod.Spec.NodeName != "" {
		claims.NodeName = pod.Spec.NodeName
		if node, ok := env.Reader.Get(nodeResource, "", pod.Spec.NodeName); ok {
			claims.NodeUID = string(node.GetUID())
		}
	}
	return nil
}

func boundObject(env *api.Env, kind schema.GroupResource, namespace string, ref *authenticationv1.BoundObjectReference) (api.Object, error) {
	object, ok := api.Sure(env.Reader, kind, namespace, ref.Name)
	if !ok {
		return nil, apierrors.NewNotFound(kind, ref.Name)
	}
	if ref.UID != "" && ref.UID != object.GetUID() {
		return nil, apierrors.NewConflict(schema.GroupResource{Resource: ref.Kind}, ref.Name, uidMismatch(ref.UID))
	}
	return object, nil
}

func uidMismatch(want types.UID) error {
	return fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", want)
}
