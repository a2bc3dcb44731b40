package admission

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/component-helpers/auth/rbac/validation"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/apis/api"
)

// escalation keeps users from granting what they do not hold themselves, unless they may
// "escalate" the role or "bind" it.
type escalation struct{ env Env }

// everything is what one must hold to make a role that collects others.
var everything = []rbacv1.PolicyRule{
	{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}},
	{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}},
}

func (e *escalation) Validate(ctx context.Context, a *Attributes) error {
	if a.Kind.Group != rbacv1.GroupName || a.User == nil || a.Operation != Create && a.Operation != Update {
		return nil
	}
	if slices.Contains(a.User.Groups, access.Masters) || slices.Contains(e.env.Admins, a.User.Name) || onlyCollectorFields(a) {
		return nil
	}
	switch o := a.Object.(type) {
	case *rbacv1.Role:
		return e.role(ctx, a, o.Rules, false)
	case *rbacv1.ClusterRole:
		return e.role(ctx, a, o.Rules, o.AggregationRule != nil)
	case *rbacv1.RoleBinding:
		return e.binding(ctx, a, o.RoleRef)
	case *rbacv1.ClusterRoleBinding:
		return e.binding(ctx, a, o.RoleRef)
	}
	return nil
}

func (e *escalation) may(ctx context.Context, a *Attributes, verb, plural, name string) bool {
	d, _ := e.env.Authorizer.Authorize(ctx, &access.Attributes{
		User: a.User, Verb: verb, Resource: true, Group: rbacv1.GroupName, Version: "*",
		Plural: plural, Namespace: a.Namespace, Name: name,
	})
	return d == access.Allow
}

func (e *escalation) role(ctx context.Context, a *Attributes, rules []rbacv1.PolicyRule, collects bool) error {
	name := objectNameOr(a)
	if e.may(ctx, a, "escalate", a.Kind.Resource.Resource, name) {
		return nil
	}
	kind := a.Kind.GroupResource()
	if err := e.holds(a.User, a.Namespace, rules); err != nil {
		return apierrors.NewForbidden(kind, name, err)
	}
	if collects && e.holds(a.User, a.Namespace, everything) != nil {
		return apierrors.NewForbidden(kind, name, errors.New("must have cluster-admin privileges to use an aggregationRule"))
	}
	return nil
}

func (e *escalation) binding(ctx context.Context, a *Attributes, ref rbacv1.RoleRef) error {
	plural := "clusterroles"
	if ref.Kind == "Role" {
		plural = "roles"
	}
	if e.may(ctx, a, "bind", plural, ref.Name) {
		return nil
	}
	rules, found := e.env.RBAC.RoleRules(ref, a.Namespace)
	if !found {
		return apierrors.NewNotFound(schema.GroupResource{Group: rbacv1.GroupName, Resource: plural}, ref.Name)
	}
	if err := e.holds(a.User, a.Namespace, rules); err != nil {
		return apierrors.NewForbidden(a.Kind.GroupResource(), objectNameOr(a), err)
	}
	return nil
}

// holds says which of the rules the user does not have.
func (e *escalation) holds(u *api.User, namespace string, rules []rbacv1.PolicyRule) error {
	held, problems := e.env.RBAC.RulesFor(u, namespace)
	ok, missing := validation.Covers(held, rules)
	if ok {
		return nil
	}
	lines := describeRules(missing)
	text := fmt.Sprintf("user %q (groups=%q) is attempting to grant RBAC permissions not currently held:\n%s", u.Name, u.Groups, strings.Join(lines, "\n"))
	if len(problems) > 0 {
		text += fmt.Sprintf("; resolution errors: %v", problems)
	}
	return errors.New(text)
}

// describeRules joins rules that differ in their verbs only, and sorts them.
func describeRules(rules []rbacv1.PolicyRule) []string {
	verbs := map[string][]string{}
	for _, r := range rules {
		var parts []string
		add := func(name string, list []string) {
			if len(list) > 0 {
				parts = append(parts, fmt.Sprintf("%s:%q", name, list))
			}
		}
		add("APIGroups", r.APIGroups)
		add("Resources", r.Resources)
		add("NonResourceURLs", r.NonResourceURLs)
		add("ResourceNames", r.ResourceNames)
		head := strings.Join(parts, ", ")
		verbs[head] = append(verbs[head], r.Verbs...)
	}
	lines := make([]string, 0, len(verbs))
	for head, v := range verbs {
		lines = append(lines, fmt.Sprintf("{%s, Verbs:%q}", head, v))
	}
	slices.Sort(lines)
	return lines
}

// onlyCollectorFields: the garbage collector edits references and finalizers of objects
// whose rules it does not hold.
func onlyCollectorFields(a *Attributes) bool {
	if a.Operation != Update || a.Old == nil {
		return false
	}
	o, ok := a.Object.(api.Object)
	if !ok {
		return false
	}
	x, y := o.DeepCopyObject().(api.Object), a.Old.DeepCopyObject().(api.Object)
	for _, o := range []api.Object{x, y} {
		o.SetOwnerReferences(nil)
		o.SetFinalizers(nil)
		o.SetManagedFields([]metav1.ManagedFieldsEntry(nil))
		o.SetResourceVersion("")
		o.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	}
	return reflect.DeepEqual(x, y)
}
