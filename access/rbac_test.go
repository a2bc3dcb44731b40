package access

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/proa-dev/proa/access/internal/memory"
	"github.com/proa-dev/proa/apis/api"
)

func resource(name string, groups []string, verb, apiGroup, plural, namespace, object string) *Attributes {
	plural, sub, _ := strings.Cut(plural, "/")
	return &Attributes{User: &api.User{Name: name, Groups: groups}, Resource: true, Verb: verb, Group: apiGroup, Plural: plural, Subresource: sub, Namespace: namespace, Name: object}
}

func TestDefaultsDecide(t *testing.T) {
	reader := memory.New()
	rbac := NewRBAC(reader)
	reader.Put(roleBindings, &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "ed"},
		Subjects: []rbacv1.Subject{user("ed")}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "edit"}})
	z := NewAuthorizer(reader, rbac)
	auth := []string{Authenticated}
	for _, c := range []struct {
		a    *Attributes
		want Decision
	}{
		{resource("a", []string{Masters}, "delete", "", "nodes", "", "x"), Allow},
		{resource("a", auth, "list", "", "pods", "ns", ""), NoOpinion},
		{resource("a", auth, "create", "authorization.k8s.io", "selfsubjectaccessreviews", "", ""), Allow},
		{resource("ed", auth, "create", "", "pods", "team", ""), Allow},
		{resource("ed", auth, "get", "", "pods/log", "team", "p"), Allow}, // edit collects view
		{resource("ed", auth, "create", "", "pods", "other", ""), NoOpinion},
		{resource("ed", auth, "create", "rbac.authorization.k8s.io", "roles", "team", ""), NoOpinion},
		{resource("system:kube-scheduler", auth, "create", "", "pods/binding", "team", "p"), Allow},
		{resource("system:serviceaccount:kube-system:deployment-controller", auth, "create", "apps", "replicasets", "team", ""), Allow},
		{&Attributes{User: &api.User{Name: Anonymous, Groups: []string{Unauthenticated}}, Verb: "get", Path: "/healthz"}, Allow},
		{&Attributes{User: &api.User{Name: Anonymous, Groups: []string{Unauthenticated}}, Verb: "get", Path: "/apis"}, NoOpinion},
		{&Attributes{User: &api.User{Name: "a", Groups: auth}, Verb: "get", Path: "/openapi/v3"}, Allow},
	} {
		if d, reason := z.Authorize(t.Context(), c.a); d != c.want {
			t.Errorf("%s %s/%s %s%s by %s: %v (%s), want %v", c.a.Verb, c.a.Plural, c.a.Subresource, c.a.Namespace, c.a.Path, c.a.User.Name, d, reason, c.want)
		}
	}
	_, reason := z.Authorize(t.Context(), resource("ed", auth, "create", "", "pods", "team", ""))
	if want := `RBAC: allowed by RoleBinding "ed/team" of ClusterRole "edit" to User "ed"`; reason != want {
		t.Errorf("reason %s, want %s", reason, want)
	}
}

func TestChangesCountAtOnce(t *testing.T) {
	reader := memory.New()
	rbac := NewRBAC(reader)
	a := resource("u", nil, "get", "", "secrets", "ns", "s")
	if d, _ := rbac.Authorize(t.Context(), a); d != NoOpinion {
		t.Fatal("allowed by nothing")
	}
	reader.Put(roles, &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "r"}, Rules: []rbacv1.PolicyRule{onNamed("get", "core", "secrets", "s")}})
	reader.Put(roleBindings, bindRole("ns", "b", "r", user("u")))
	if d, _ := rbac.Authorize(t.Context(), a); d != Allow {
		t.Error("a new binding does not count")
	}
	reader.Remove(roles, "ns", "r")
	if d, reason := rbac.Authorize(t.Context(), a); d != NoOpinion || reason != `RBAC: role.rbac.authorization.k8s.io "r" not found` {
		t.Errorf("%v %q", d, reason)
	}
}

func TestReconcileStoresAndSettles(t *testing.T) {
	reader := memory.New()
	rbac := NewRBAC(reader)
	client := fake.NewClientset()
	kept := clusterRole("view")
	kept.Annotations[AutoUpdate] = "false"
	reader.Put(clusterRoles, kept)
	if err := rbac.Reconcile(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	writes := len(client.Actions())
	if want := len(DefaultObjects()) - 1; writes != want {
		t.Errorf("%d writes, want %d", writes, want)
	}
	everyone := resource("a", []string{Authenticated}, "create", "authorization.k8s.io", "selfsubjectaccessreviews", "", "")
	if d, _ := rbac.Authorize(t.Context(), everyone); d != NoOpinion {
		t.Error("after settling only what is stored may count")
	}
}

func TestDefaultsAreNamedOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, o := range DefaultObjects() {
		key := fmt.Sprintf("%T %s/%s", o, o.GetNamespace(), o.GetName())
		if seen[key] {
			t.Errorf("%s twice", key)
		}
		seen[key] = true
	}
}

// allowed is RBAC said plainly: every binding, every subject, every rule.
func allowed(reader api.Reader, a *Attributes) bool {
	rulesOf := func(ref rbacv1.RoleRef, ns string) []rbacv1.PolicyRule {
		if ref.Kind == "Role" {
			if o, ok := reader.Get(roles, ns, ref.Name); ok {
				return o.(*rbacv1.Role).Rules
			}
			return nil
		}
		if o, ok := reader.Get(clusterRoles, "", ref.Name); ok {
			return o.(*rbacv1.ClusterRole).Rules
		}
		return nil
	}
	applies := func(subjects []rbacv1.Subject) bool {
		return slices.ContainsFunc(subjects, func(s rbacv1.Subject) bool {
			switch s.Kind {
			case "User":
				return s.Name == a.User.Name
			case "Group":
				return slices.Contains(a.User.Groups, s.Name)
			}
			return a.User.Name == ServiceAccountUser(s.Namespace, s.Name)
		})
	}
	any := func(list []string, options ...string) bool {
		return slices.ContainsFunc(options, func(o string) bool { return slices.Contains(list, o) })
	}
	matches := func(r rbacv1.PolicyRule) bool {
		full := []string{"*", a.Plural}
		if a.Subresource != "" {
			full = []string{"*", a.Plural + "/" + a.Subresource, "*/" + a.Subresource}
		}
		return any(r.Verbs, "*", a.Verb) && any(r.APIGroups, "*", a.Group) && any(r.Resources, full...) &&
			(len(r.ResourceNames) == 0 || slices.Contains(r.ResourceNames, a.Name))
	}
	for _, o := range reader.List(clusterRoleBindings, "") {
		b := o.(*rbacv1.ClusterRoleBinding)
		if applies(b.Subjects) && slices.ContainsFunc(rulesOf(b.RoleRef, ""), matches) {
			return true
		}
	}
	for _, o := range reader.List(roleBindings, a.Namespace) {
		b := o.(*rbacv1.RoleBinding)
		if a.Namespace != "" && applies(b.Subjects) && slices.ContainsFunc(rulesOf(b.RoleRef, b.Namespace), matches) {
			return true
		}
	}
	return false
}

func TestRandomParityWithNaiveModel(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 1))
	pick := func(list ...string) string { return list[rng.IntN(len(list))] }
	some := func(list ...string) []string {
		out := []string{pick(list...)}
		if rng.IntN(2) == 0 {
			out = append(out, pick(list...))
		}
		return out
	}
	verbs, groups := []string{"get", "list", "create", "*"}, []string{"", "apps", "*"}
	resources := []string{"pods", "pods/log", "*/scale", "deployments", "deployments/scale", "*"}
	spaces, names := []string{"a", "b"}, []string{"x", "y", ""}
	rule := func() rbacv1.PolicyRule {
		r := rbacv1.PolicyRule{Verbs: some(verbs...), APIGroups: some(groups...), Resources: some(resources...)}
		if rng.IntN(4) == 0 {
			r.ResourceNames = some("x", "y")
		}
		return r
	}
	subject := func() rbacv1.Subject {
		switch rng.IntN(3) {
		case 0:
			return user(pick("u1", "u2"))
		case 1:
			return group(pick("g1", "g2"))
		}
		return rbacv1.Subject{Kind: "ServiceAccount", Namespace: pick(spaces...), Name: "sa"}
	}
	reader := memory.New()
	rbac := NewRBAC(reader)
	rbac.Settled()
	for step := range 3000 {
		n := pick("1", "2", "3")
		switch rng.IntN(12) {
		case 0:
			reader.Put(clusterRoles, clusterRole(n, rule()))
		case 1:
			reader.Put(roles, role(pick(spaces...), n, rule()))
		case 2:
			if rng.IntN(3) == 0 {
				reader.Put(clusterRoleBindings, bindCluster(n, pick("1", "2", "3", "4"), subject()))
			} else {
				reader.Remove(clusterRoleBindings, "", n)
			}
		case 3:
			b := bindRole(pick(spaces...), n, pick("1", "2", "3", "4"), subject(), subject())
			b.RoleRef.Kind = pick("Role", "ClusterRole")
			reader.Put(roleBindings, b)
		case 4:
			reader.Remove(roleBindings, pick(spaces...), n)
		}
		a := resource(pick("u1", "u2", "u3", ServiceAccountUser("a", "sa")), some("g1", "g3"), pick("get", "list", "create", "delete"),
			pick("", "apps", "batch"), pick("pods", "pods/log", "deployments", "deployments/scale", "jobs"), pick("a", "b", ""), pick(names...))
		d, reason := rbac.Authorize(t.Context(), a)
		if want := allowed(reader, a); (d == Allow) != want {
			t.Fatalf("seed %d step %d: %+v of %+v: %v (%s), model says %v", seed, step, a, a.User, d, reason, want)
		}
	}
}

func TestNodeTouchesOnlyItsOwn(t *testing.T) {
	reader := memory.New()
	pod := func(ns, name, node, secret string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Spec: corev1.PodSpec{
			NodeName: node, ServiceAccountName: "sa-" + node,
			Volumes: []corev1.Volume{
				{Name: "s", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: secret}}},
				{Name: "c", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "pvc-" + node}}},
			}}}
	}
	mirror := pod("ns", "mirror", "n1", "stolen")
	mirror.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
	reader.Put(pods, pod("ns", "p1", "n1", "mine"), pod("ns", "p2", "n2", "theirs"), mirror)
	reader.Put(volumes, &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv"}, Spec: corev1.PersistentVolumeSpec{
		ClaimRef:               &corev1.ObjectReference{Namespace: "ns", Name: "pvc-n1"},
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{NodeStageSecretRef: &corev1.SecretReference{Namespace: "sys", Name: "stage"}}},
	}})
	n := NewNode(reader)
	can := func(verb, g, plural, ns, name, fields string) bool {
		a := resource("system:node:n1", []string{Nodes, Authenticated}, verb, g, plural, ns, name)
		a.FieldSelector = fields
		d, _ := n.Authorize(t.Context(), a)
		return d == Allow
	}
	for _, c := range []struct {
		verb, group, plural, ns, name, fields string
		want                                  bool
	}{
		{"get", "", "secrets", "ns", "mine", "", true}, {"get", "", "secrets", "ns", "theirs", "", false},
		{"get", "", "secrets", "ns", "stolen", "", false}, {"list", "", "secrets", "ns", "", "", false},
		{"get", "", "secrets", "other", "mine", "", false}, {"get", "", "secrets", "sys", "stage", "", true},
		{"update", "", "secrets", "ns", "mine", "", false}, {"get", "", "configmaps", "ns", "mine", "", false},
		{"get", "", "persistentvolumeclaims", "ns", "pvc-n1", "", true}, {"get", "", "persistentvolumeclaims", "ns", "pvc-n2", "", false},
		{"get", "", "persistentvolumes", "", "pv", "", true}, {"list", "", "persistentvolumes", "", "", "", false},
		{"create", "", "serviceaccounts/token", "ns", "sa-n1", "", true}, {"create", "", "serviceaccounts/token", "ns", "sa-n2", "", false},
		{"list", "", "pods", "", "", "spec.nodeName=n1", true}, {"list", "", "pods", "", "", "spec.nodeName=n2", false},
		{"list", "", "pods", "", "", "", false}, {"list", "", "pods", "", "", "spec.nodeName!=n1", false},
		{"get", "", "pods", "ns", "p1", "", true}, {"get", "", "pods", "ns", "p2", "", false}, {"create", "", "pods/exec", "ns", "p1", "", false},
		{"get", "", "nodes", "", "n1", "", true}, {"get", "", "nodes", "", "n2", "", false}, {"watch", "", "nodes", "", "", "metadata.name=n1", true},
		{"patch", "", "nodes/status", "", "n1", "", true}, {"delete", "", "nodes", "", "n1", "", false}, {"patch", "", "nodes", "", "n2", "", false},
		{"update", "coordination.k8s.io", "leases", "kube-node-lease", "n1", "", true},
		{"update", "coordination.k8s.io", "leases", "kube-node-lease", "n2", "", false},
		{"update", "coordination.k8s.io", "leases", "kube-system", "n1", "", false},
		{"list", "", "services", "", "", "", true}, {"list", "node.k8s.io", "runtimeclasses", "", "", "", true},
	} {
		if got := can(c.verb, c.group, c.plural, c.ns, c.name, c.fields); got != c.want {
			t.Errorf("%s %s %s/%s %s: %v, want %v", c.verb, c.plural, c.ns, c.name, c.fields, got, c.want)
		}
	}
}

func BenchmarkAuthorize(b *testing.B) {
	reader := memory.New()
	for i := range 1000 {
		reader.Put(roleBindings, bindRole(fmt.Sprint("ns", i), "b", "r", user(fmt.Sprint("u", i))))
		reader.Put(roles, role(fmt.Sprint("ns", i), "r", on(read, "core", "pods services")))
	}
	z := NewAuthorizer(reader, NewRBAC(reader))
	for name, a := range map[string]*Attributes{
		"user":    resource("u7", []string{Authenticated}, "get", "", "services", "ns7", "x"),
		"refused": resource("u7", []string{Authenticated}, "delete", "", "services", "ns7", "x"),
		"account": resource("system:serviceaccount:kube-system:deployment-controller", []string{serviceAccountsGroup, "system:serviceaccounts:kube-system", Authenticated}, "update", "apps", "replicasets", "ns", "x"),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				z.Authorize(b.Context(), a)
			}
		})
	}
}
