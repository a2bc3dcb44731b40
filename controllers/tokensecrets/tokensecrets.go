// Package tokensecrets fills secrets of type kubernetes.io/service-account-token: whoever
// makes one, naming a service account, finds a token in it, and the CA to use it with.
//
// The one idea: the token is an ordinary one, bound to its secret, with a life as long as
// the API gives; so it ends with the secret or the account and nothing else has to know it.
//
// Used by controllers.All.
package tokensecrets

import (
	"bytes"
	"context"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/proa-dev/proa/controllers/loop"
)

// longest is the life of such a token: what the API allows at most, in seconds.
const longest = int64(1) << 32

const ofAccount = "proa/tokenSecretsOfAccount"

// Controller is the loop over such secrets.
type Controller struct {
	*loop.Loop[loop.Key]
	deps     loop.Deps
	secrets  corelisters.SecretLister
	accounts corelisters.ServiceAccountLister
}

// New registers the loop's informers.
func New(deps loop.Deps) (*Controller, error) {
	core := deps.Informers.Core().V1()
	c := &Controller{deps: deps, secrets: core.Secrets().Lister(), accounts: core.ServiceAccounts().Lister()}
	err := loop.Index(core.Secrets().Informer(), ofAccount, func(obj any) []string {
		if s, ok := obj.(*corev1.Secret); ok && s.Type == corev1.SecretTypeServiceAccountToken {
			return []string{s.Namespace + "/" + s.Annotations[corev1.ServiceAccountNameKey]}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	c.Loop = loop.New("tokensecrets", deps, c.reconcile)
	c.Watch(core.Secrets().Informer(), func(obj any) []loop.Key {
		if s, ok := obj.(*corev1.Secret); ok && s.Type == corev1.SecretTypeServiceAccountToken {
			return []loop.Key{{Namespace: s.Namespace, Name: s.Name}}
		}
		return nil
	})
	c.Handle(core.ServiceAccounts().Informer(), cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { c.accountChanged(core.Secrets().Informer(), obj) },
		DeleteFunc: func(obj any) {
			if tombstone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = tombstone.Obj
			}
			c.accountChanged(core.Secrets().Informer(), obj)
		},
	})
	return c, nil
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.Loop.Run(ctx, 2) }

func (c *Controller) accountChanged(secrets cache.SharedIndexInformer, obj any) {
	if k, ok := loop.KeyOf(obj); ok {
		for _, s := range loop.Indexed[*corev1.Secret](secrets, ofAccount, k.String()) {
			c.Add(loop.Key{Namespace: s.Namespace, Name: s.Name})
		}
	}
}

func (c *Controller) reconcile(ctx context.Context, k loop.Key) error {
	secret, err := c.secrets.Secrets(k.Namespace).Get(k.Name)
	if err != nil || secret.DeletionTimestamp != nil {
		return loop.Gone(err)
	}
	name := secret.Annotations[corev1.ServiceAccountNameKey]
	if name == "" {
		return nil
	}
	account, err := c.accounts.ServiceAccounts(k.Namespace).Get(name)
	uid := secret.Annotations[corev1.ServiceAccountUIDKey]
	if apierrors.IsNotFound(err) || err == nil && uid != "" && uid != string(account.UID) {
		return c.removeOrphan(ctx, secret, name, uid)
	}
	if err != nil {
		return err
	}
	want := map[string][]byte{corev1.ServiceAccountRootCAKey: c.deps.RootCA, corev1.ServiceAccountNamespaceKey: []byte(k.Namespace)}
	complete := uid != "" && len(secret.Data[corev1.ServiceAccountTokenKey]) > 0
	for key, value := range want {
		complete = complete && bytes.Equal(secret.Data[key], value)
	}
	if complete {
		return nil
	}
	changed := secret.DeepCopy()
	metav1.SetMetaDataAnnotation(&changed.ObjectMeta, corev1.ServiceAccountUIDKey, string(account.UID))
	if changed.Data == nil {
		changed.Data = map[string][]byte{}
	}
	for key, value := range want {
		changed.Data[key] = value
	}
	if len(changed.Data[corev1.ServiceAccountTokenKey]) == 0 {
		token, err := c.token(ctx, secret, account)
		if err != nil {
			return loop.Gone(err)
		}
		changed.Data[corev1.ServiceAccountTokenKey] = token
	}
	_, err = c.deps.Client.CoreV1().Secrets(k.Namespace).Update(ctx, changed, metav1.UpdateOptions{})
	return loop.Gone(err)
}

func (c *Controller) token(ctx context.Context, secret *corev1.Secret, account *corev1.ServiceAccount) ([]byte, error) {
	life := longest
	got, err := c.deps.Client.CoreV1().ServiceAccounts(account.Namespace).CreateToken(ctx, account.Name, &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{
			ExpirationSeconds: &life,
			BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Secret", Name: secret.Name, UID: secret.UID},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	return []byte(got.Status.Token), nil
}

// removeOrphan deletes a token whose account is gone; the server is asked, as the account
// may only not have been seen yet.
func (c *Controller) removeOrphan(ctx context.Context, secret *corev1.Secret, name, uid string) error {
	now, err := c.deps.Client.CoreV1().ServiceAccounts(secret.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) || err == nil && (uid == "" || string(now.UID) == uid) {
		return err // its event comes
	}
	return loop.Gone(c.deps.Client.CoreV1().Secrets(secret.Namespace).Delete(ctx, secret.Name, metav1.DeleteOptions{
		Preconditions: metav1.NewUIDPreconditions(string(secret.UID)),
	}))
}
