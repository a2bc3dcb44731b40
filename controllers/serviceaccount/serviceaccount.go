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
	deps     loop.Deps
	accounts corelisters.ServiceAccountLister
}

// New registers the loop's informers.
func New(deps loop.Deps) (*Controller, error) {
	accounts := deps.Informers.Core().V1().ServiceAccounts()
	c := &Controller{deps: deps, accounts: accounts.Lister()}
	c.Loop = loop.InEachNamespace("serviceaccount", deps, defaultName, accounts.Informer(), c.ensure)
	return c, nil
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.Loop.Run(ctx, 2) }

func (c *Controller) ensure(ctx context.Context, namespace string) error {
	if _, err := c.accounts.ServiceAccounts(namespace).Get(defaultName); !apierrors.IsNotFound(err) {
		return err
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: defaultName, Namespace: namespace}}
	_, err := c.deps.Client.CoreV1().ServiceAccounts(namespace).Create(ctx, account, metav1.CreateOptions{})
	return err
}
