package admission

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/access/internal/memory"
	"github.com/proa-dev/proa/apis/api"
)

var (
	everyVerb = []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "proxy", "escalate", "bind", "impersonate", "approve", "sign", "attest", "*"}
	everySub  = []string{"", "status", "scale", "token", "exec", "log", "proxy", "binding", "eviction", "finalize", "approval", "ephemeralcontainers", "resize", "attach"}
)

// common is what any node may do, whatever its pods: "group/plural[/subresource]" and verbs.
var common = map[string]string{
	"/services": "get list watch", "/nodes": "create", "/events": "create patch update", "events.k8s.io/events": "create patch update",
	"/endpoints": "get", "/pods": "create delete", "/pods/status": "update patch", "/pods/eviction": "create",
	"authentication.k8s.io/tokenreviews": "create", "authorization.k8s.io/subjectaccessreviews": "create",
	"authorization.k8s.io/localsubjectaccessreviews":        "create",
	"certificates.k8s.io/certificatesigningrequests":        "create get list watch",
	"certificates.k8s.io/clustertrustbundles":               "get list watch",
	"certificates.k8s.io/podcertificaterequests":            "create",
	"storage.k8s.io/csidrivers":                             "get list watch",
	"storage.k8s.io/csinodes":                               "create",
	"node.k8s.io/runtimeclasses":                            "get list watch",
	"resource.k8s.io/resourceslices":                        "create",
	"storage.k8s.io/csinodes (own)":                         "get update patch delete",
	"/nodes (own)":                                          "get list watch update patch",
	"/nodes/status (own)":                                   "update patch",
	"coordination.k8s.io/leases (own)":                      "get create update patch delete",
	"/secrets (used)":                                       "get list watch",
	"/configmaps (used)":                                    "get list watch",
	"/persistentvolumeclaims (used)":                        "get",
	"/persistentvolumeclaims/status (used)":                 "get update patch",
	"/persistentvolumes (used)":                             "get",
	"/serviceaccounts (used)":                               "get",
	"/serviceaccounts/token (used)":                         "create",
	"/pods (used)":                                          "get list watch",
	"resource.k8s.io/resourceclaims (used)":                 "get",
	"resource.k8s.io/resourceslices (used)":                 "get update patch delete",
	"storage.k8s.io/volumeattachments (used)":               "get",
	"certificates.k8s.io/podcertificaterequests (used)":     "get",
	"/nodes (selected)":                                     "list watch",
	"/pods (selected)":                                      "list watch",
	"resource.k8s.io/resourceslices (selected)":             "list watch deletecollection",
	"certificates.k8s.io/podcertificaterequests (selected)": "list watch",
}

// fleet is a random cluster of two nodes, and what n1 uses in it, noted while it is made.
type fleet struct {
	*rand.Rand
	*memory.Reader
	used map[string]bool // "plural namespace/name"
}

var kinds = map[string]schema.GroupResource{
	"pods": pods, "persistentvolumes": {Resource: "persistentvolumes"}, "volumeattachments": {Group: "storage.k8s.io", Resource: "volumeattachments"},
	"resourceslices": {Group: "resource.k8s.io", Resource: "resourceslices"}, "podcertificaterequests": {Group: "certificates.k8s.io", Resource: "podcertificaterequests"},
}

func (f *fleet) name() string { return fmt.Sprint("o", f.IntN(6)) }

func newFleet(r *rand.Rand) *fleet {
	f := &fleet{Rand: r, Reader: memory.New(), used: map[string]bool{}}
	f.Put(nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "n1"}}, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2", UID: "n2"}})
	for i := range 6 {
		f.pod(fmt.Sprint("o", i))
	}
	for i := range 6 {
		f.others(fmt.Sprint("o", i))
	}
	return f
}

// pod draws a pod that refers to one object of each kind.
func (f *fleet) pod(name string) {
	node, mirror := []string{"n1", "n2", ""}[f.IntN(3)], f.IntN(4) == 0
	secret, pull, env, config, claim, account, device := f.name(), f.name(), f.name(), f.name(), f.name(), f.name(), f.name()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid-" + name)}, Spec: corev1.PodSpec{
		NodeName: node, ServiceAccountName: account, ImagePullSecrets: []corev1.LocalObjectReference{{Name: pull}},
		Containers: []corev1.Container{{EnvFrom: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: env}}}}}},
		Volumes: []corev1.Volume{
			{Name: "s", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: secret}}},
			{Name: "c", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: config}}}},
			{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim}}},
			{Name: "t", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{}}}}}},
		},
		ResourceClaims: []corev1.PodResourceClaim{{Name: "d", ResourceClaimName: &device}},
	}}
	if mirror {
		p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
	}
	f.Put(pods, p)
	if node != "n1" {
		return
	}
	f.used["pods ns/"+name] = true
	if mirror {
		return
	}
	for _, key := range []string{"secrets ns/" + secret, "secrets ns/" + pull, "secrets ns/" + env, "configmaps ns/" + config,
		"persistentvolumeclaims ns/" + claim, "serviceaccounts ns/" + account, "resourceclaims ns/" + device} {
		f.used[key] = true
	}
}

// others draws objects that name a node or a claim themselves.
func (f *fleet) others(name string) {
	claim, stage, publish, node := f.name(), f.name(), f.name(), []string{"n1", "n2"}[f.IntN(2)]
	f.Put(kinds["persistentvolumes"], &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PersistentVolumeSpec{
		ClaimRef: &corev1.ObjectReference{Namespace: "ns", Name: claim},
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
			NodeStageSecretRef: &corev1.SecretReference{Namespace: "sys", Name: stage}, ControllerPublishSecretRef: &corev1.SecretReference{Namespace: "top", Name: publish}}},
	}})
	if f.used["persistentvolumeclaims ns/"+claim] {
		f.used["persistentvolumes /"+name], f.used["secrets sys/"+stage] = true, true
	}
	f.Put(kinds["volumeattachments"], &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: storagev1.VolumeAttachmentSpec{NodeName: node}})
	f.Put(kinds["resourceslices"], &resourcev1.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: resourcev1.ResourceSliceSpec{NodeName: &node}})
	f.Put(kinds["podcertificaterequests"], &certificatesv1.PodCertificateRequest{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
		Spec: certificatesv1.PodCertificateRequestSpec{NodeName: types.NodeName(node)}})
	if node == "n1" {
		for _, key := range []string{"volumeattachments /", "resourceslices /", "podcertificaterequests ns/"} {
			f.used[key+name] = true
		}
	}
}

// may is what node n1 may do, said as a table.
func (f *fleet) may(a *access.Attributes) bool {
	key := a.Group + "/" + a.Plural
	if a.Subresource != "" {
		key += "/" + a.Subresource
	}
	has := func(note string) bool { return slices.Contains(strings.Fields(common[key+note]), a.Verb) }
	own := a.Name == "n1" && (a.Plural != "leases" || a.Namespace == "kube-node-lease") || a.Plural == "leases" && a.Verb == "create" && a.Name == "" && a.Namespace == "kube-node-lease"
	anonymous := a.Name == "" && (a.Plural == "nodes" || a.Plural == "csinodes") && slices.Contains([]string{"update", "patch", "create"}, a.Verb) && a.Plural == "nodes"
	switch {
	case a.Verb == "create" && a.Name != "" && a.Name != "n1" && (a.Plural == "nodes" || a.Plural == "csinodes"):
		return false
	case has(""), own && has(" (own)"), anonymous && has(" (own)"):
		return true
	case f.used[a.Plural+" "+a.Namespace+"/"+a.Name] && has(" (used)"):
		return true
	}
	field := map[string]string{"nodes": "metadata.name"}[a.Plural]
	if field == "" {
		field = "spec.nodeName"
	}
	return has(" (selected)") && a.FieldSelector == field+"=n1"
}

// TestNodeMayDoNothingElse asks for every verb on every subresource of every kind.
func TestNodeMayDoNothingElse(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 2))
	asker := &api.User{Name: "system:node:n1", Groups: []string{access.Nodes, access.Authenticated}}
	seen := map[schema.GroupResource]bool{}
	for gvk := range scheme.Scheme.AllKnownTypes() {
		plural, _ := meta.UnsafeGuessKindToResource(gvk)
		seen[plural.GroupResource()] = true
	}
	selectors := []string{"", "spec.nodeName=n1", "spec.nodeName=n2", "metadata.name=n1", "metadata.name=n2", "spec.nodeName!=n1", "spec.nodeName=n1,x=y"}
	f := newFleet(r)
	z := access.NewNode(f.Reader)
	names, spaces := []string{"", "n1", "n2", "o0", "o1", "o2", "o3"}, []string{"", "ns", "sys", "top", "kube-node-lease"}
	allowed := 0
	for gr := range seen {
		for _, verb := range everyVerb {
			for _, sub := range everySub {
				for range 12 {
					a := &access.Attributes{User: asker, Resource: true, Verb: verb, Group: gr.Group, Plural: gr.Resource, Subresource: sub,
						Namespace: spaces[r.IntN(len(spaces))], Name: names[r.IntN(len(names))], FieldSelector: selectors[r.IntN(len(selectors)-1)]}
					if slices.Contains([]string{"persistentvolumes", "volumeattachments", "resourceslices", "nodes", "csinodes"}, gr.Resource) {
						a.Namespace = ""
					}
					d, reason := z.Authorize(t.Context(), a)
					if d == access.Deny || (d == access.Allow) != f.may(a) {
						t.Errorf("seed %d: %s %s/%s/%s %q/%q %s: %v (%s), the table says %v", seed, verb, gr.Group, gr.Resource, sub, a.Namespace, a.Name, a.FieldSelector, d, reason, f.may(a))
					}
					if d == access.Allow {
						allowed++
					}
				}
			}
		}
	}
	if allowed < 100 {
		t.Errorf("seed %d: only %d questions were allowed", seed, allowed)
	}
	for _, path := range []string{"/", "/api", "/metrics", "/healthz"} {
		if d, _ := z.Authorize(t.Context(), &access.Attributes{User: asker, Verb: "get", Path: path}); d == access.Allow {
			t.Errorf("a node as such may get %s", path)
		}
	}
}

func kind(group, k, plural string, namespaced bool) *api.Kind {
	gvk := schema.GroupVersionKind{Group: group, Version: "v1", Kind: k}
	return &api.Kind{GroupVersionKind: gvk, Resource: schema.GroupVersionResource{Group: group, Version: "v1", Resource: plural}, Namespaced: namespaced}
}

// TestNodeWritesOnlyItsOwn draws writes that the authorizer lets pass and looks at those
// that admission lets pass too: each must be of n1's own.
func TestNodeWritesOnlyItsOwn(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 3))
	passed := map[string]int{}
	for i := range 4000 {
		if i%200 == 0 {
			r = rand.New(rand.NewPCG(seed, uint64(i)))
		}
		f := newFleet(r)
		step := &nodeRestriction{Env{Reader: f.Reader, Authorizer: access.Authorizers{access.NewNode(f.Reader)}}}
		a, verb, owner := f.write()
		a.User = &api.User{Name: "system:node:n1", Groups: []string{access.Nodes}}
		ask := &access.Attributes{User: a.User, Resource: true, Verb: verb, Group: a.Kind.Group, Plural: a.Kind.Resource.Resource,
			Subresource: a.Subresource, Namespace: a.Namespace, Name: a.Name}
		if d, _ := access.NewNode(f.Reader).Authorize(t.Context(), ask); d != access.Allow {
			continue
		}
		if err := step.Mutate(t.Context(), a); err != nil {
			continue
		}
		what := verb + " " + a.Kind.Resource.Resource + "/" + a.Subresource
		passed[what]++
		if owner() != "n1" {
			t.Fatalf("seed %d write %d: %s of %q %+v by n1 was let pass", seed, i, what, a.Name, a.Object)
		}
	}
	if len(passed) < 9 {
		t.Errorf("seed %d: only %v were let pass", seed, passed)
	}
}

func (f *fleet) pick(list ...string) string { return list[f.IntN(len(list))] }

// write draws a write and says how to tell whose it is.
func (f *fleet) write() (a *Attributes, verb string, owner func() string) {
	node, name := f.pick("n1", "n2"), f.name()
	stored, _ := f.Get(pods, "ns", name)
	old := stored.(*corev1.Pod)
	podOwner := func() string { return old.Spec.NodeName }
	said := func() string { return node }
	switch f.IntN(10) {
	case 0: // a mirror pod, or what pretends to be one
		yes := true
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "new"}, Spec: corev1.PodSpec{NodeName: node}}
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "n1", UID: "n1", Controller: &yes}}
		owner := said
		if f.IntN(2) == 0 {
			p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
		} else {
			owner = func() string { return "nobody: not a mirror pod" }
		}
		if f.IntN(3) == 0 {
			p.Spec.ServiceAccountName = "admin"
			owner = func() string { return "admin" }
		}
		if f.IntN(3) == 0 {
			p.Spec.Volumes = old.Spec.Volumes
			owner = func() string { return "of other objects" }
		}
		return &Attributes{Kind: podKind, Namespace: "ns", Name: "new", Operation: Create, Object: p}, "create", owner
	case 1:
		return &Attributes{Kind: podKind, Namespace: "ns", Name: name, Operation: Delete, Old: old}, "delete", podOwner
	case 2:
		now := old.DeepCopy()
		if f.IntN(3) == 0 {
			now.Labels = map[string]string{"app": "stolen"}
			podOwner = func() string { return "labels" }
		}
		return &Attributes{Kind: podKind, Subresource: "status", Namespace: "ns", Name: name, Operation: Update, Old: old, Object: now}, "patch", podOwner
	case 3:
		return &Attributes{Kind: podKind, Subresource: "eviction", Namespace: "ns", Name: name, Operation: Create, Object: &policyv1.Eviction{}}, "create", podOwner
	case 4:
		return f.writeNode(node, said)
	case 5:
		k := kind("coordination.k8s.io", "Lease", "leases", true)
		return &Attributes{Kind: k, Namespace: f.pick("kube-node-lease", "kube-system"), Operation: Create,
			Object: &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: node}}}, "create", said
	case 6:
		k := kind("storage.k8s.io", "CSINode", "csinodes", false)
		return &Attributes{Kind: k, Operation: Create, Object: &storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: node}}}, "create", said
	case 7:
		k := kind("resource.k8s.io", "ResourceSlice", "resourceslices", false)
		return &Attributes{Kind: k, Name: "new", Operation: Create, Object: &resourcev1.ResourceSlice{Spec: resourcev1.ResourceSliceSpec{NodeName: &node}}}, "create", said
	case 8:
		req := &authenticationv1.TokenRequest{}
		if f.IntN(4) > 0 {
			req.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: name, UID: old.UID}
		}
		if f.IntN(4) == 0 {
			req.Spec.Audiences = []string{"vault"}
			podOwner = func() string { return "vault" }
		}
		return &Attributes{Kind: accountKind, Subresource: "token", Namespace: "ns", Name: f.pick(old.Spec.ServiceAccountName, f.name()), Operation: Create, Object: req}, "create",
			func() string {
				if req.Spec.BoundObjectRef == nil {
					return "nobody"
				}
				return podOwner()
			}
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: old.Spec.ServiceAccountName, UID: "a"}}
	f.Put(serviceAccounts, account)
	req := &certificatesv1.PodCertificateRequest{Spec: certificatesv1.PodCertificateRequestSpec{PodName: name, PodUID: old.UID, NodeName: types.NodeName(node), NodeUID: types.UID(node),
		ServiceAccountName: f.pick(account.Name, "o1"), ServiceAccountUID: "a"}}
	return &Attributes{Kind: kind("certificates.k8s.io", "PodCertificateRequest", "podcertificaterequests", true), Namespace: "ns", Name: "new", Operation: Create, Object: req}, "create", podOwner
}

func (f *fleet) writeNode(node string, owner func() string) (*Attributes, string, func() string) {
	stored, _ := f.Get(nodes, "", node)
	old := stored.(*corev1.Node)
	now := old.DeepCopy()
	bad := func() string { return "nobody's to change" }
	switch f.IntN(6) {
	case 0:
		now.Spec.Taints, owner = []corev1.Taint{{Key: "x"}}, bad
	case 1:
		now.Labels, owner = map[string]string{f.pick("node-role.kubernetes.io/control-plane", "x.node-restriction.kubernetes.io/y", "node-restriction.kubernetes.io/y", "sub.k8s.io/z"): "1"}, bad
	case 2:
		now.OwnerReferences, owner = []metav1.OwnerReference{{Name: "x"}}, bad
	case 3:
		now.Labels = map[string]string{"kubernetes.io/hostname": "h", "example.com/disk": "ssd"}
	}
	if f.IntN(4) == 0 {
		if len(now.Spec.Taints) > 0 {
			owner = func() string { return node } // a new node may come with taints
		}
		return &Attributes{Kind: nodeKind, Name: f.pick(node, ""), Operation: Create, Object: now}, "create", owner
	}
	return &Attributes{Kind: nodeKind, Subresource: f.pick("", "status"), Name: node, Operation: Update, Old: old, Object: runtime.Object(now)}, "patch", owner
}
