// Package serviceaccount makes the service account "default" in each namespace.
//
// Used by controllers.All.
package serviceaccount

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"

	"github.com/proa-dev/proa/controllers/loop"
)

const defaultName = "default"

// Controller is the loop.
type Controller struct {
	*loop.Loop[string]
	deps       loop.Deps
	namespaces corelisters.NamespaceLister
	accounts   corelisters.ServiceAccountLister
}

// New registers the loop's informers.
func New(deps loop.Deps) (*Controller, error) {
	core := deps.Informers.Core().V1()
	c := &Controller{deps: deps, namespaces: core.Namespaces().Lister(), accounts: core.ServiceAccounts().Lister()}
	c.Loop = loop.New("serviceaccount", deps, c.reconcile)
	c.Watch(core.Namespaces().Informer(), func(obj any) []string {
		k, _ := loop.KeyOf(obj)
		return []string{k.Name}
	})
	c.Watch(core.ServiceAccounts().Informer(), func(obj any) []string {
		if k, ok := loop.KeyOf(obj); ok && k.Name == defaultName {
			return []string{k.Namespace}
		}
		return nil
	})
	return c, nil
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.Loop.Run(ctx, 2) }

func (c *Controller) reconcile(ctx context.Context, namespace string) error {
	ns, err := c.namespaces.Get(namespace)
	if err != nil || ns.DeletionTimestamp != nil {
		return loop.Gone(err)
	}
	if _, err := c.accounts.ServiceAccounts(namespace).Get(defaultName); !apierrors.IsNotFound(err) {
		return err
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: defaultName, Namespace: namespace}}
	_, err = c.deps.Client.CoreV1().ServiceAccounts(namespace).Create(ctx, account, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil
	}
	return loop.Gone(err)
}
