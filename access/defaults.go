package access

import (
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/apis/api"
)

// What marks an object as a default, and how its owner opts out of updates to it.
const (
	AutoUpdate       = "rbac.authorization.kubernetes.io/autoupdate"
	bootstrapLabel   = "kubernetes.io/bootstrapping"
	bootstrapValue   = "rbac-defaults"
	aggregateToAdmin = "rbac.authorization.k8s.io/aggregate-to-admin"
	aggregateToEdit  = "rbac.authorization.k8s.io/aggregate-to-edit"
	aggregateToView  = "rbac.authorization.k8s.io/aggregate-to-view"
)

// Verbs that belong together in most rules.
const (
	read      = "get list watch"
	follow    = "list watch"
	write     = "create delete deletecollection patch update"
	readWrite = "create delete deletecollection get list patch update watch"
)

// DefaultObjects gives the roles and bindings that every cluster has (Kubernetes' published
// bootstrap policy, and what kubeadm adds so that machines can join). The caller owns them.
func DefaultObjects() []api.Object {
	var out []api.Object
	out = append(out, userRoles()...)
	out = append(out, componentRoles()...)
	out = append(out, controllerRoles()...)
	out = append(out, namespacedRoles()...)
	return append(out, joinRoles()...)
}

// on makes a rule; each argument is a list separated by blanks, "core" is the core group.
func on(verbs, groups, resources string) rbacv1.PolicyRule {
	r := rbacv1.PolicyRule{Verbs: strings.Fields(verbs), Resources: strings.Fields(resources)}
	for _, g := range strings.Fields(groups) {
		if g == "core" {
			g = ""
		}
		r.APIGroups = append(r.APIGroups, g)
	}
	return r
}

// onNamed is on, for the objects of these names only.
func onNamed(verbs, groups, resources, names string) rbacv1.PolicyRule {
	r := on(verbs, groups, resources)
	r.ResourceNames = strings.Fields(names)
	return r
}

func onPaths(verbs, paths string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: strings.Fields(verbs), NonResourceURLs: strings.Fields(paths)}
}

// events is what everyone needs who reports what he did.
func events() rbacv1.PolicyRule { return on("create patch update", "core events.k8s.io", "events") }

func defaultMeta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name:        name,
		Labels:      map[string]string{bootstrapLabel: bootstrapValue},
		Annotations: map[string]string{AutoUpdate: "true"},
	}
}

func clusterRole(name string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{
		TypeMeta:   metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRole"},
		ObjectMeta: defaultMeta(name), Rules: rules,
	}
}

// aggregating is a cluster role that collects those with the label; it is collected by others in turn.
func aggregating(name, label string, into ...string) *rbacv1.ClusterRole {
	role := labelled(clusterRole(name), into...)
	role.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{label: "true"}}}}
	return role
}

func labelled(role *rbacv1.ClusterRole, labels ...string) *rbacv1.ClusterRole {
	for _, l := range labels {
		role.Labels[l] = "true"
	}
	return role
}

func user(name string) rbacv1.Subject {
	return rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}
}

func group(name string) rbacv1.Subject {
	return rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: name}
}

func account(name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Name: name, Namespace: metav1.NamespaceSystem}
}

func bindCluster(name, role string, subjects ...rbacv1.Subject) *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRoleBinding"},
		ObjectMeta: defaultMeta(name), Subjects: subjects,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
	}
}

func role(namespace, name string, rules ...rbacv1.PolicyRule) *rbacv1.Role {
	m := defaultMeta(name)
	m.Namespace = namespace
	return &rbacv1.Role{
		TypeMeta:   metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "Role"},
		ObjectMeta: m, Rules: rules,
	}
}

func bindRole(namespace, name, to string, subjects ...rbacv1.Subject) *rbacv1.RoleBinding {
	m := defaultMeta(name)
	m.Namespace = namespace
	return &rbacv1.RoleBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "RoleBinding"},
		ObjectMeta: m, Subjects: subjects,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: to},
	}
}
