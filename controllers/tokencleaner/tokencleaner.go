// Package tokencleaner deletes bootstrap tokens when they expire.
//
// Used by controllers.All.
package tokencleaner

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"

	"github.com/proa-dev/proa/controllers/loop"
)

const (
	tokenType  = corev1.SecretType("bootstrap.kubernetes.io/token")
	expiration = "expiration" // in a token's data, RFC 3339
)

// Controller is the loop.
type Controller struct {
	*loop.Loop[string]
	deps    loop.Deps
	secrets corelisters.SecretLister
}

// New registers the loop's informers.
func New(deps loop.Deps) (*Controller, error) {
	secrets := deps.Informers.Core().V1().Secrets()
	c := &Controller{deps: deps, secrets: secrets.Lister()}
	c.Loop = loop.New("tokencleaner", deps, c.reconcile)
	c.Watch(secrets.Informer(), func(obj any) []string {
		if s, ok := obj.(*corev1.Secret); ok && s.Namespace == metav1.NamespaceSystem && s.Type == tokenType {
			return []string{s.Name}
		}
		return nil
	})
	return c, nil
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.Loop.Run(ctx, 1) }

func (c *Controller) reconcile(ctx context.Context, name string) error {
	secret, err := c.secrets.Secrets(metav1.NamespaceSystem).Get(name)
	if err != nil || secret.Type != tokenType {
		return loop.Gone(err)
	}
	text := string(secret.Data[expiration])
	if text == "" {
		return nil // never
	}
	if at, err := time.Parse(time.RFC3339, text); err != nil {
		c.deps.Log.Warn("a bootstrap token's expiration is not a time; it counts as expired", "secret", name, "expiration", text)
	} else if wait := at.Sub(c.deps.Clock.Now()); wait > 0 {
		c.AddAfter(name, wait)
		return nil
	}
	return loop.Gone(c.deps.Client.CoreV1().Secrets(secret.Namespace).Delete(ctx, name,
		metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(secret.UID))}))
}
