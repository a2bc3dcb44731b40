package access

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/component-helpers/auth/rbac/validation"

	"github.com/proa-dev/proa/apis/api"
)

// Reconcile stores the defaults that are missing and extends those that lost something,
// except where their owner set the autoupdate annotation to "false". It makes one pass and
// tells the authorizer when all are stored. The namespaces kube-system and kube-public
// must exist. Run it again when it returns an error; it is idempotent.
func (r *RBAC) Reconcile(ctx context.Context, client kubernetes.Interface) error {
	var problems []error
	for _, o := range r.defaults {
		if err := r.reconcile(ctx, client, o); err != nil {
			problems = append(problems, fmt.Errorf("store default %s: %w", o.GetName(), err))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if err := errors.Join(problems...); err != nil {
		return err
	}
	r.Settled()
	return nil
}

// verbs is the part of a typed client that reconciling needs.
type verbs[T api.Object] interface {
	Create(context.Context, T, metav1.CreateOptions) (T, error)
	Update(context.Context, T, metav1.UpdateOptions) (T, error)
	Delete(context.Context, string, metav1.DeleteOptions) error
}

func (r *RBAC) reconcile(ctx context.Context, client kubernetes.Interface, o api.Object) error {
	c := client.RbacV1()
	switch want := o.DeepCopyObject().(type) {
	case *rbacv1.ClusterRole:
		if want.AggregationRule != nil { // for readers; decisions compute them
			want.Rules = r.current().computed[want.Name]
		}
		return put(ctx, r.reader, clusterRoles.Resource, want, c.ClusterRoles(), extendClusterRole)
	case *rbacv1.ClusterRoleBinding:
		return put(ctx, r.reader, clusterRoleBindings.Resource, want, c.ClusterRoleBindings(), func(have, want *rbacv1.ClusterRoleBinding) bool {
			have.Subjects = addSubjects(have.Subjects, want.Subjects)
			return have.RoleRef == want.RoleRef
		})
	case *rbacv1.Role:
		return put(ctx, r.reader, roles.Resource, want, c.Roles(want.Namespace), func(have, want *rbacv1.Role) bool {
			have.Rules = addRules(have.Rules, want.Rules)
			return true
		})
	case *rbacv1.RoleBinding:
		return put(ctx, r.reader, roleBindings.Resource, want, c.RoleBindings(want.Namespace), func(have, want *rbacv1.RoleBinding) bool {
			have.Subjects = addSubjects(have.Subjects, want.Subjects)
			return have.RoleRef == want.RoleRef
		})
	}
	return fmt.Errorf("unknown default %T", o)
}

// put creates want, or extends what is there. extend says false when the object must be made
// anew because a part that cannot change differs.
func put[T api.Object](ctx context.Context, reader api.Reader, plural string, want T, c verbs[T], extend func(have, want T) bool) error {
	obj, ok := reader.Get(rbacResource(plural), want.GetNamespace(), want.GetName())
	stored, typed := obj.(T)
	if !ok || !typed {
		_, err := c.Create(ctx, want, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return nil // another server was quicker
		}
		return err
	}
	if stored.GetAnnotations()[AutoUpdate] == "false" {
		return nil
	}
	have := stored.DeepCopyObject().(T)
	addMissing(have, want)
	if !extend(have, want) {
		if err := c.Delete(ctx, want.GetName(), metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		_, err := c.Create(ctx, want, metav1.CreateOptions{})
		return err
	}
	if reflect.DeepEqual(have, stored) {
		return nil
	}
	_, err := c.Update(ctx, have, metav1.UpdateOptions{})
	return err
}

func addMissing(have, want api.Object) {
	have.SetLabels(merge(have.GetLabels(), want.GetLabels()))
	have.SetAnnotations(merge(have.GetAnnotations(), want.GetAnnotations()))
}

func merge(have, want map[string]string) map[string]string {
	for k, v := range want {
		if _, ok := have[k]; !ok {
			if have == nil {
				have = map[string]string{}
			}
			have[k] = v
		}
	}
	return have
}

func extendClusterRole(have, want *rbacv1.ClusterRole) bool {
	if want.AggregationRule == nil {
		have.Rules = addRules(have.Rules, want.Rules)
		return true
	}
	if have.AggregationRule == nil {
		have.AggregationRule = want.AggregationRule
		return true
	}
	for _, s := range want.AggregationRule.ClusterRoleSelectors {
		if !slices.ContainsFunc(have.AggregationRule.ClusterRoleSelectors, func(h metav1.LabelSelector) bool { return reflect.DeepEqual(h, s) }) {
			have.AggregationRule.ClusterRoleSelectors = append(have.AggregationRule.ClusterRoleSelectors, s)
		}
	}
	return true
}

func addRules(have, want []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	_, missing := validation.Covers(have, want)
	return append(have, missing...)
}

func addSubjects(have, want []rbacv1.Subject) []rbacv1.Subject {
	for _, s := range want {
		if !slices.Contains(have, s) {
			have = append(have, s)
		}
	}
	return have
}
