package access

import (
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestNearestRule(t *testing.T) {
	p := &Policy{
		ClusterRoles: []rbacv1.ClusterRole{
			*clusterRole("view", on(read, "core", "pods services")), *clusterRole("edit", on("*", "core", "pods"), on("*", "core", "services")),
			*clusterRole("cluster-admin", on("*", "*", "*")), *clusterRole("system:x", on("*", "core", "pods")),
		},
		Roles: []rbacv1.Role{*role("team", "one", onNamed("delete", "core", "pods", "web"))},
		RoleBindings: []rbacv1.RoleBinding{
			{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "v"}, Subjects: []rbacv1.Subject{group("devs")}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "view"}},
			*bindRole("team", "o", "one", user("ann")), *bindRole("team", "b", "one", user("bob")),
		},
	}
	for _, c := range []struct {
		a     *Attributes
		first string // what the nearest lacks
		count int
	}{
		{resource("ann", []string{"devs"}, "delete", "", "pods", "team", "db"), "the verb delete", 2},
		{resource("ann", []string{"devs"}, "delete", "", "pods", "shop", "web"), "the namespace shop (it is for team)", 2},
		{resource("ann", []string{"devs"}, "delete", "", "pods", "team", "web"), "", 2},
		{resource("cat", []string{"devs"}, "create", "", "services", "team", ""), "the verb create", 1},
		{resource("cat", []string{"devs"}, "create", "apps", "deployments", "team", ""), "", 0},
		{resource("dan", nil, "get", "", "pods", "team", ""), "", 0},
	} {
		near := p.Nearest(c.a, 5)
		if len(near) != c.count || len(near) > 0 && strings.Join(near[0].Lacks, "; ") != c.first {
			t.Errorf("%+v: %+v, want %d, the first lacking %q", c.a, near, c.count, c.first)
		}
	}
	if got := p.Granting(resource("x", nil, "delete", "", "pods", "team", "")); !slices.Equal(got, []string{"edit", "cluster-admin"}) {
		t.Errorf("granting: %v", got)
	}
}
