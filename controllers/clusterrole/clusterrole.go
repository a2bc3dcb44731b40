// Package clusterrole keeps the stored rules of cluster roles that collect others' current.
//
// Used by controllers.All.
package clusterrole

import (
	"context"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	rbaclisters "k8s.io/client-go/listers/rbac/v1"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/controllers/loop"
)

// Controller is the loop.
type Controller struct {
	*loop.Loop[string]
	deps  loop.Deps
	roles rbaclisters.ClusterRoleLister
}

// New registers the loop's informers.
func New(deps loop.Deps) (*Controller, error) {
	roles := deps.Informers.Rbac().V1().ClusterRoles()
	c := &Controller{deps: deps, roles: roles.Lister()}
	c.Loop = loop.New("clusterrole", deps, c.reconcile)
	c.Watch(roles.Informer(), c.collectors)
	return c, nil
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.Loop.Run(ctx, 1) }

// collectors are the roles that a change of any role can matter to.
func (c *Controller) collectors(any) []string {
	all, err := c.roles.List(labels.Everything())
	if err != nil {
		return nil // a lister of a cache does not fail
	}
	var out []string
	for _, role := range all {
		if role.AggregationRule != nil {
			out = append(out, role.Name)
		}
	}
	return out
}

func (c *Controller) reconcile(ctx context.Context, name string) error {
	role, err := c.roles.Get(name)
	if err != nil || role.AggregationRule == nil {
		return loop.Gone(err)
	}
	all, err := c.roles.List(labels.Everything())
	if err != nil {
		return err
	}
	rules := access.AggregateRules(role, all)
	if equality.Semantic.DeepEqual(rules, role.Rules) {
		return nil
	}
	changed := role.DeepCopy()
	changed.Rules = rules
	if changed.Rules == nil {
		changed.Rules = []rbacv1.PolicyRule{}
	}
	_, err = c.deps.Client.RbacV1().ClusterRoles().Update(ctx, changed, metav1.UpdateOptions{})
	return loop.Gone(err)
}
