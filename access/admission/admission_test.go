package admission

import (
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/access/internal/memory"
	"github.com/proa-dev/proa/apis/api"
	rbackinds "github.com/proa-dev/proa/apis/rbac"
)

var (
	podKind     = api.Define(api.Resource[*corev1.Pod]{Version: "v1", Kind: "Pod", Plural: "pods", Namespaced: true})
	nodeKind    = api.Define(api.Resource[*corev1.Node]{Version: "v1", Kind: "Node", Plural: "nodes"})
	spaceKind   = api.Define(api.Resource[*corev1.Namespace]{Version: "v1", Kind: "Namespace", Plural: "namespaces"})
	accountKind = api.Define(api.Resource[*corev1.ServiceAccount]{Version: "v1", Kind: "ServiceAccount", Plural: "serviceaccounts", Namespaced: true})
)

func newChain(t *testing.T) (*memory.Reader, Chain) {
	r := memory.New()
	rbac := access.NewRBAC(r)
	chain, err := DefaultChain(Env{Reader: r, RBAC: rbac, Authorizer: access.NewAuthorizer(r, rbac)})
	if err != nil {
		t.Fatal(err)
	}
	r.Put(namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}})
	r.Put(serviceAccounts, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "default"}})
	return r, chain
}

func admit(t *testing.T, c Chain, a *Attributes) error {
	t.Helper()
	if a.User == nil {
		a.User = &api.User{Name: "u", Groups: []string{access.Authenticated}}
	}
	if err := c.Mutate(t.Context(), a); err != nil {
		return err
	}
	return c.Validate(t.Context(), a)
}

func createPod(p *corev1.Pod) *Attributes {
	p.Namespace = "ns"
	if len(p.Spec.Containers) == 0 {
		p.Spec.Containers = []corev1.Container{{Name: "c", Image: "i"}}
	}
	return &Attributes{Kind: podKind, Namespace: "ns", Name: p.Name, Operation: Create, Object: p}
}

func TestPodGetsItsDefaults(t *testing.T) {
	_, c := newChain(t)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}}
	if err := admit(t, c, createPod(p)); err != nil {
		t.Fatal(err)
	}
	if p.Spec.ServiceAccountName != "default" || *p.Spec.Priority != 0 || len(p.Spec.Tolerations) != 2 || *p.Spec.Tolerations[0].TolerationSeconds != 300 {
		t.Errorf("%+v", p.Spec)
	}
	v, m := p.Spec.Volumes[0], p.Spec.Containers[0].VolumeMounts[0]
	if !strings.HasPrefix(v.Name, "kube-api-access-") || m.Name != v.Name || m.MountPath != "/var/run/secrets/kubernetes.io/serviceaccount" || len(v.Projected.Sources) != 3 {
		t.Errorf("%+v %+v", v, m)
	}
}

func TestRefusals(t *testing.T) {
	r, c := newChain(t)
	r.Put(namespaces,
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "going"}, Status: corev1.NamespaceStatus{Phase: corev1.NamespaceTerminating}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "strict", Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}}})
	r.Put(serviceAccounts, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "strict", Name: "default"}})
	in := func(ns string, spec corev1.PodSpec) *Attributes {
		a := createPod(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: spec})
		a.Namespace = ns
		return a
	}
	for name, x := range map[string]struct {
		a    *Attributes
		code int32
		want string
	}{
		"no namespace":   {in("none", corev1.PodSpec{}), 404, `namespaces "none" not found`},
		"terminating":    {in("going", corev1.PodSpec{}), 403, "unable to create new content in namespace going because it is being terminated"},
		"no account":     {in("ns", corev1.PodSpec{ServiceAccountName: "x"}), 403, `pods "p" is forbidden: error looking up service account ns/x: serviceaccount "x" not found`},
		"no class":       {in("ns", corev1.PodSpec{PriorityClassName: "x"}), 403, "no PriorityClass with name x was found"},
		"restricted":     {in("strict", corev1.PodSpec{}), 403, `violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false`},
		"immortal":       {&Attributes{Kind: spaceKind, Name: "kube-system", Operation: Delete}, 403, "this namespace may not be deleted"},
		"label nonsense": {&Attributes{Kind: spaceKind, Operation: Create, Object: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "x", Labels: map[string]string{"pod-security.kubernetes.io/enforce": "very"}}}}, 422, "very"},
	} {
		err := admit(t, c, x.a)
		status, ok := err.(apierrors.APIStatus)
		if !ok || status.Status().Code != x.code || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %d %s", name, err, x.code, x.want)
		}
	}
	err := admit(t, c, in("going", corev1.PodSpec{}))
	if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		t.Errorf("cause of %v", err)
	}
}

func TestEscalation(t *testing.T) {
	r, c := newChain(t)
	read := rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}
	secret := rbacv1.PolicyRule{Verbs: []string{"get", "list"}, APIGroups: []string{""}, Resources: []string{"secrets"}}
	r.Put(rbackinds.Roles.GroupResource(), &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "mine"}, Rules: []rbacv1.PolicyRule{read}})
	r.Put(rbackinds.RoleBindings.GroupResource(), &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "b"},
		Subjects: []rbacv1.Subject{{Kind: "User", Name: "u"}}, RoleRef: rbacv1.RoleRef{Kind: "Role", Name: "mine"}})
	write := func(kind *api.Kind, ns string, o runtime.Object) error {
		return admit(t, c, &Attributes{Kind: kind, Namespace: ns, Name: "new", Operation: Create, Object: o})
	}
	if err := write(rbackinds.Roles, "ns", &rbacv1.Role{Rules: []rbacv1.PolicyRule{read}}); err != nil {
		t.Errorf("granting what one holds: %v", err)
	}
	want := "user \"u\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"list\"]}"
	if err := write(rbackinds.Roles, "ns", &rbacv1.Role{Rules: []rbacv1.PolicyRule{secret}}); err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	if err := write(rbackinds.ClusterRoles, "", &rbacv1.ClusterRole{Rules: []rbacv1.PolicyRule{read}}); err == nil {
		t.Error("held in one namespace, granted in all")
	}
	ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"}
	if err := write(rbackinds.RoleBindings, "ns", &rbacv1.RoleBinding{RoleRef: ref}); err == nil {
		t.Error("bound cluster-admin")
	}
	ref.Name = "none"
	if err := write(rbackinds.RoleBindings, "ns", &rbacv1.RoleBinding{RoleRef: ref}); !apierrors.IsNotFound(err) {
		t.Errorf("binding an unknown role: %v", err)
	}
	if err := write(rbackinds.ClusterRoles, "", &rbacv1.ClusterRole{AggregationRule: &rbacv1.AggregationRule{}}); err == nil || !strings.Contains(err.Error(), "must have cluster-admin privileges") {
		t.Errorf("collecting role: %v", err)
	}
}

func TestNodeRestriction(t *testing.T) {
	r, c := newChain(t)
	asNode := func(a *Attributes) error {
		a.User = &api.User{Name: "system:node:n1", Groups: []string{access.Nodes}}
		return admit(t, c, a)
	}
	yes, no := true, false
	owner := metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: "n1", UID: "u1", Controller: &yes, BlockOwnerDeletion: &no}
	old := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "u1", Labels: map[string]string{"a": "b"}}}
	r.Put(nodes, old)
	mine := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "mine", UID: "p1"}, Spec: corev1.PodSpec{NodeName: "n1", ServiceAccountName: "default",
		Volumes: []corev1.Volume{{Name: "t", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{}}}}}}}}}
	theirs := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "theirs", UID: "p2"}, Spec: corev1.PodSpec{NodeName: "n2", ServiceAccountName: "default"}}
	r.Put(pods, mine, theirs)
	node := func(change func(*corev1.Node)) *Attributes {
		n := old.DeepCopy()
		change(n)
		return &Attributes{Kind: nodeKind, Name: n.Name, Operation: Update, Object: n, Old: old}
	}
	mirror := func(change func(*corev1.Pod)) *Attributes {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "m", Annotations: map[string]string{corev1.MirrorPodAnnotationKey: "x"}, OwnerReferences: []metav1.OwnerReference{owner}}, Spec: corev1.PodSpec{NodeName: "n1"}}
		change(p)
		return createPod(p)
	}
	token := func(pod, uid, account string) *Attributes {
		return &Attributes{Kind: accountKind, Subresource: "token", Namespace: "ns", Name: account, Operation: Create, Object: &authenticationv1.TokenRequest{
			Spec: authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod, UID: types.UID(uid)}}}}
	}
	status := func(old *corev1.Pod, change func(*corev1.Pod)) *Attributes {
		p := old.DeepCopy()
		change(p)
		return &Attributes{Kind: podKind, Subresource: "status", Namespace: "ns", Name: p.Name, Operation: Update, Object: p, Old: old}
	}
	for name, x := range map[string]struct {
		a  *Attributes
		ok bool
	}{
		"own label":          {node(func(n *corev1.Node) { n.Labels["example.com/x"] = "1" }), true},
		"hostname":           {node(func(n *corev1.Node) { n.Labels[corev1.LabelHostname] = "1" }), true},
		"role label":         {node(func(n *corev1.Node) { n.Labels["node-role.kubernetes.io/control-plane"] = "" }), false},
		"restriction label":  {node(func(n *corev1.Node) { n.Labels["x.node-restriction.kubernetes.io/y"] = "" }), false},
		"taints":             {node(func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "x"}} }), false},
		"owners":             {node(func(n *corev1.Node) { n.OwnerReferences = []metav1.OwnerReference{owner} }), false},
		"mirror":             {mirror(func(*corev1.Pod) {}), true},
		"plain pod":          {mirror(func(p *corev1.Pod) { p.Annotations = nil }), false},
		"other node":         {mirror(func(p *corev1.Pod) { p.Spec.NodeName = "n2" }), false},
		"no owner":           {mirror(func(p *corev1.Pod) { p.OwnerReferences = nil }), false},
		"account":            {mirror(func(p *corev1.Pod) { p.Spec.ServiceAccountName = "default" }), false},
		"claims":             {mirror(func(p *corev1.Pod) { p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "x"}} }), false},
		"own token":          {token("mine", "p1", "default"), true},
		"unbound uid":        {token("mine", "", "default"), false},
		"wrong uid":          {token("mine", "p2", "default"), false},
		"their token":        {token("theirs", "p2", "default"), false},
		"other account":      {token("mine", "p1", "admin"), false},
		"own status":         {status(mine, func(p *corev1.Pod) { p.Status.Phase = corev1.PodRunning }), true},
		"their status":       {status(theirs, func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }), false},
		"label by status":    {status(mine, func(p *corev1.Pod) { p.Labels = map[string]string{"app": "db"} }), false},
		"delete their pod":   {&Attributes{Kind: podKind, Namespace: "ns", Name: "theirs", Operation: Delete}, false},
		"delete own pod":     {&Attributes{Kind: podKind, Namespace: "ns", Name: "mine", Operation: Delete}, true},
		"create another one": {&Attributes{Kind: nodeKind, Operation: Create, Object: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2"}}}, false},
	} {
		if err := asNode(x.a); (err == nil) != x.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
