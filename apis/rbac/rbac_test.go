package rbac

import (
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
)

func TestValidate(t *testing.T) {
	rule := func(r rbacv1.PolicyRule) string {
		errs := Roles.Validate(&rbacv1.Role{Rules: []rbacv1.PolicyRule{r}})
		if len(errs) == 0 {
			return ""
		}
		return errs[0].Error()
	}
	for want, r := range map[string]rbacv1.PolicyRule{
		"":                               {Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}},
		"rules[0].verbs: Required value": {APIGroups: []string{""}, Resources: []string{"pods"}},
		"rules[0].apiGroups: Required value: resource rules must supply at least one api group":               {Verbs: []string{"get"}, Resources: []string{"pods"}},
		`rules[0].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs`: {Verbs: []string{"get"}, NonResourceURLs: []string{"/x"}},
	} {
		if got := rule(r); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	b := &rbacv1.ClusterRoleBinding{RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "view"}, Subjects: []rbacv1.Subject{{Kind: "User", Name: "u"}}}
	ClusterRoleBindings.Default(b)
	if errs := ClusterRoleBindings.Validate(b); len(errs) > 0 {
		t.Error(errs)
	}
	other := b.DeepCopy()
	other.RoleRef.Name = "edit"
	if errs := ClusterRoleBindings.ValidateUpdate(other, b); len(errs) != 1 || errs[0].Detail != "field is immutable" {
		t.Error(errs)
	}
	b.Subjects = []rbacv1.Subject{{Kind: "ServiceAccount", Name: "sa"}}
	if errs := ClusterRoleBindings.Validate(b); len(errs) != 1 || errs[0].Field != "subjects[0].namespace" {
		t.Error(errs)
	}
}
