package access

import (
	"fmt"
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
