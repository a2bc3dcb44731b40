package access

import (
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/access/internal/memory"
	"github.com/proa-dev/proa/apis/api"
)

// No default role but cluster-admin's lets anybody see profiles, metrics, logs or another path
// that tells about the process (CVE-2019-11248); anonymous sees health and version alone.
func TestAttackProfiles(t *testing.T) {
	reader := memory.New()
	for _, role := range []string{"admin", "edit", "view"} {
		reader.Put(clusterRoleBindings, &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: role}, Subjects: []rbacv1.Subject{user(role)},
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role}})
	}
	z := NewAuthorizer(reader, NewRBAC(reader))
	users := []*api.User{
		{Name: Anonymous, Groups: []string{Unauthenticated}}, {Name: "a", Groups: []string{Authenticated}}, {Name: "admin", Groups: []string{Authenticated}},
		{Name: "edit", Groups: []string{Authenticated}}, {Name: "view", Groups: []string{Authenticated}}, {Name: "system:node:n", Groups: []string{Nodes, Authenticated}},
		{Name: "system:serviceaccount:ns:default", Groups: []string{Authenticated, "system:serviceaccounts"}}, {Name: "system:kube-scheduler", Groups: []string{Authenticated}},
	}
	open := map[string]bool{"/healthz": true, "/livez": true, "/readyz": true, "/version": true, "/version/": true}
	for _, u := range users {
		for _, path := range []string{"/debug/pprof", "/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/profile", "/debug/flags/v", "/debug/api_priority_and_fairness/dump_requests", "/metrics", "/metrics/slis", "/logs", "/logs/", "/configz", "/flagz", "/statusz",
			"//metrics", "/healthz", "/livez", "/readyz", "/version", "/version/"} {
			for _, verb := range []string{"get", "post", "put", "delete"} {
				d, reason := z.Authorize(t.Context(), &Attributes{User: u, Verb: verb, Path: path})
				if d == Allow && !(open[path] && verb == "get") {
					t.Errorf("%s may %s %s: %s", u.Name, verb, path, reason)
				}
			}
		}
	}
}
