package access

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
)

// Near is a rule that a user holds and that almost allows what he asked for.
type Near struct {
	Binding string // `RoleBinding "ed" in namespace "team"`
	Role    string // `ClusterRole "view"`
	Rule    rbacv1.PolicyRule
	Lacks   []string // in words: "the verb delete", "the namespace shop"
}

// Policy is all of RBAC, for explanations.
type Policy struct {
	Roles               []rbacv1.Role
	ClusterRoles        []rbacv1.ClusterRole
	RoleBindings        []rbacv1.RoleBinding
	ClusterRoleBindings []rbacv1.ClusterRoleBinding
}

// Nearest gives the rules of the user that lack least of what is asked, the nearest first,
// at most limit of them. A rule that lacks nothing means that it is allowed.
func (p *Policy) Nearest(a *Attributes, limit int) []Near {
	var out []Near
	each := func(binding, namespace string, ref rbacv1.RoleRef, subjects []rbacv1.Subject) {
		if !slices.ContainsFunc(subjects, func(s rbacv1.Subject) bool { return isSubject(s, namespace, a) }) {
			return
		}
		for _, rule := range p.rules(ref, namespace) {
			lacks, related := lacking(&rule, a)
			if namespace != "" && namespace != a.Namespace {
				lacks = append(lacks, "the namespace "+orAll(a.Namespace)+" (it is for "+namespace+")")
			}
			if related {
				out = append(out, Near{Binding: binding, Role: fmt.Sprintf("%s %q", ref.Kind, ref.Name), Rule: rule, Lacks: lacks})
			}
		}
	}
	for i := range p.ClusterRoleBindings {
		b := &p.ClusterRoleBindings[i]
		each(fmt.Sprintf("ClusterRoleBinding %q", b.Name), "", b.RoleRef, b.Subjects)
	}
	for i := range p.RoleBindings {
		b := &p.RoleBindings[i]
		each(fmt.Sprintf("RoleBinding %q in namespace %q", b.Name, b.Namespace), b.Namespace, b.RoleRef, b.Subjects)
	}
	slices.SortStableFunc(out, func(x, y Near) int { return cmp.Compare(len(x.Lacks), len(y.Lacks)) })
	return out[:min(len(out), limit)]
}

func orAll(namespace string) string {
	if namespace == "" {
		return "(all)"
	}
	return namespace
}

func isSubject(s rbacv1.Subject, namespace string, a *Attributes) bool {
	key := subjectKey(s, namespace)
	if name, ok := strings.CutPrefix(key, groupKey); ok {
		return hasGroup(a.User, name)
	}
	return key == userKey+a.User.Name
}

func (p *Policy) rules(ref rbacv1.RoleRef, namespace string) []rbacv1.PolicyRule {
	if ref.Kind == "ClusterRole" {
		for i := range p.ClusterRoles {
			if p.ClusterRoles[i].Name == ref.Name {
				return p.ClusterRoles[i].Rules
			}
		}
		return nil
	}
	for i := range p.Roles {
		if p.Roles[i].Name == ref.Name && p.Roles[i].Namespace == namespace {
			return p.Roles[i].Rules
		}
	}
	return nil
}

// lacking says what a rule would need besides; related is false for rules about other things.
func lacking(rule *rbacv1.PolicyRule, a *Attributes) (lacks []string, related bool) {
	if !hasOrAll(rule.Verbs, a.Verb) {
		lacks = append(lacks, "the verb "+a.Verb)
	}
	if !a.Resource {
		if !pathMatches(rule.NonResourceURLs, a.Path) {
			lacks = append(lacks, "the path "+a.Path)
		}
		return lacks, len(rule.NonResourceURLs) > 0
	}
	if len(rule.Resources) == 0 {
		return nil, false
	}
	group, resource := hasOrAll(rule.APIGroups, a.Group), resourceMatches(rule.Resources, a.Plural, a.Subresource)
	if !group {
		lacks = append(lacks, fmt.Sprintf("the API group %q", a.Group))
	}
	full := a.Plural
	if a.Subresource != "" {
		full += "/" + a.Subresource
	}
	related = group && resource
	if !resource {
		lacks = append(lacks, "the resource "+full)
		related = group && a.Subresource != "" && resourceMatches(rule.Resources, a.Plural, "")
	}
	if len(rule.ResourceNames) > 0 && !slices.Contains(rule.ResourceNames, a.Name) {
		lacks = append(lacks, fmt.Sprintf("the name %q (it is for %s)", a.Name, strings.Join(rule.ResourceNames, ", ")))
	}
	return lacks, related
}

// Granting gives the cluster roles that would allow it, those with the fewest rules first;
// the cluster's own (system:...) are left out.
func (p *Policy) Granting(a *Attributes) []string {
	type found struct {
		name string
		size int
	}
	var out []found
	for i := range p.ClusterRoles {
		r := &p.ClusterRoles[i]
		if strings.HasPrefix(r.Name, "system:") || strings.HasPrefix(r.Name, "kubeadm:") {
			continue
		}
		if slices.ContainsFunc(r.Rules, func(rule rbacv1.PolicyRule) bool { return ruleAllows(&rule, a) }) {
			out = append(out, found{r.Name, len(r.Rules)})
		}
	}
	slices.SortFunc(out, func(x, y found) int {
		return cmp.Or(ranked(x.name)-ranked(y.name), x.size-y.size, cmp.Compare(x.name, y.name))
	})
	names := make([]string, len(out))
	for i := range out {
		names[i] = out[i].name
	}
	return names
}

// ranked orders the roles made for people by how much they give, all others before cluster-admin.
func ranked(name string) int {
	switch name {
	case "cluster-admin":
		return 2
	case "admin":
		return 1
	}
	return 0
}
