package admission

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/access"
)

// nodeRestriction keeps what a node writes within its own affairs. The authorizer let the
// request pass by name and verb; here its content is looked at.
type nodeRestriction struct{ env Env }

// node gives the asking node's name; ok is false for users that are not nodes.
func (n *nodeRestriction) node(a *Attributes) (string, bool, error) {
	name, isNode := access.NodeOf(a.User)
	if isNode && name == "" {
		return "", true, forbidden(a, fmt.Errorf("could not determine node from user %q", a.User.Name))
	}
	return name, isNode, nil
}

// Mutate is where upstream runs these checks too: before other steps fill in anything.
func (n *nodeRestriction) Mutate(ctx context.Context, a *Attributes) error {
	node, isNode, err := n.node(a)
	if !isNode || err != nil {
		return err
	}
	if a.Operation == Connect {
		return nil
	}
	switch r := a.Kind.GroupResource(); {
	case r == pods:
		return n.pod(a, node)
	case r == nodes:
		return n.nodeObject(a, node)
	case r.Group == "" && r.Resource == "persistentvolumeclaims":
		return n.claim(a)
	case r == serviceAccounts:
		return n.token(ctx, a, node)
	case r.Group == "coordination.k8s.io" && r.Resource == "leases":
		return ownNamed[*coordinationv1.Lease](a, node, "lease")
	case r.Group == "storage.k8s.io" && r.Resource == "csinodes":
		return ownNamed[*storagev1.CSINode](a, node, "CSINode")
	case r.Group == "certificates.k8s.io" && r.Resource == "podcertificaterequests":
		return n.podCertificate(a, node)
	case r.Group == "resource.k8s.io" && r.Resource == "resourceslices":
		return n.slice(a, node)
	}
	return nil
}

func refuse(a *Attributes, format string, args ...any) error {
	return forbidden(a, fmt.Errorf(format, args...))
}

func (n *nodeRestriction) pod(a *Attributes, node string) error {
	switch {
	case a.Subresource == "" && a.Operation == Create:
		return n.mirror(a, node)
	case a.Subresource == "" && a.Operation == Delete:
		return n.ownPod(a, node, a.Name, "can only delete pods with spec.nodeName set to itself")
	case a.Subresource == "":
		return refuse(a, "unexpected operation %q, node %q can only create and delete mirror pods", a.Operation, node)
	case a.Subresource == "status" && a.Operation == Update:
		return n.podStatus(a, node)
	case a.Subresource == "eviction" && a.Operation == Create:
		e, ok := a.Object.(*policyv1.Eviction)
		if !ok {
			return refuse(a, "unexpected type %T", a.Object)
		}
		name := a.Name
		if name == "" {
			name = e.Name
		}
		if name == "" {
			return refuse(a, "could not determine pod from request data")
		}
		return n.ownPod(a, node, name, "can only evict pods with spec.nodeName set to itself")
	}
	return refuse(a, "unexpected pod subresource %q, only 'status' and 'eviction' are allowed", a.Subresource)
}

func (n *nodeRestriction) ownPod(a *Attributes, node, name, message string) error {
	obj, ok := n.env.Reader.Get(pods, a.Namespace, name)
	p, typed := obj.(*corev1.Pod)
	if !ok || !typed {
		return nil // not found is what the verb itself answers
	}
	if p.Spec.NodeName != node {
		return refuse(a, "node %q %s", node, message)
	}
	return nil
}

// podStatus: of its own pods only; labels stay as they are, and so do the resource claims
// that the control plane wrote.
func (n *nodeRestriction) podStatus(a *Attributes, node string) error {
	old, ok := a.Old.(*corev1.Pod)
	p, isPod := a.Object.(*corev1.Pod)
	if !ok || !isPod {
		return refuse(a, "unexpected type %T", a.Object)
	}
	if old.Spec.NodeName != node {
		return refuse(a, "node %q can only update pod status for pods with spec.nodeName set to itself", node)
	}
	if !maps.Equal(p.Labels, old.Labels) {
		return refuse(a, "node %q cannot update labels through pod status", node)
	}
	if !reflect.DeepEqual(p.Status.ResourceClaimStatuses, old.Status.ResourceClaimStatuses) && len(p.Status.ResourceClaimStatuses)+len(old.Status.ResourceClaimStatuses) > 0 {
		return refuse(a, "node %q cannot update resource claim statuses", node)
	}
	if !reflect.DeepEqual(p.Status.ExtendedResourceClaimStatus, old.Status.ExtendedResourceClaimStatus) {
		return refuse(a, "node %q cannot update extended resource claim status", node)
	}
	return nil
}

// nodeObject: its own Node, without touching taints, foreign labels, or its owners
// (a node that writes an owner reference could have itself deleted: CVE-2025-5187).
func (n *nodeRestriction) nodeObject(a *Attributes, node string) error {
	requested := a.Name
	switch a.Operation {
	case Create:
		created, ok := a.Object.(*corev1.Node)
		if !ok {
			return refuse(a, "unexpected type %T", a.Object)
		}
		if created.Spec.ConfigSource != nil {
			return refuse(a, "node %q is not allowed to create pods with a non-nil configSource", node)
		}
		if len(created.OwnerReferences) > 0 {
			return refuse(a, "node %q is not allowed to set ownerReferences", node)
		}
		if bad := foreignLabels(created.Labels, nil); len(bad) > 0 {
			return refuse(a, "node %q is not allowed to set the following labels: %s", node, strings.Join(bad, ", "))
		}
		if requested == "" {
			requested = created.Name
		}
	case Update:
		if err := n.nodeUpdate(a, node); err != nil {
			return err
		}
	}
	if requested != node {
		return refuse(a, "node %q is not allowed to modify node %q", node, requested)
	}
	return nil
}

func (n *nodeRestriction) nodeUpdate(a *Attributes, node string) error {
	now, ok := a.Object.(*corev1.Node)
	old, wasNode := a.Old.(*corev1.Node)
	if !ok || !wasNode {
		return refuse(a, "unexpected type %T", a.Object)
	}
	if now.Spec.ConfigSource != nil && !reflect.DeepEqual(now.Spec.ConfigSource, old.Spec.ConfigSource) {
		return refuse(a, "node %q is not allowed to update configSource to a new non-nil configSource", node)
	}
	if !reflect.DeepEqual(now.Spec.Taints, old.Spec.Taints) && len(now.Spec.Taints)+len(old.Spec.Taints) > 0 {
		return refuse(a, "node %q is not allowed to modify taints", node)
	}
	if !reflect.DeepEqual(now.OwnerReferences, old.OwnerReferences) && len(now.OwnerReferences)+len(old.OwnerReferences) > 0 {
		return refuse(a, "node %q is not allowed to modify ownerReferences", node)
	}
	if bad := foreignLabels(now.Labels, old.Labels); len(bad) > 0 {
		return refuse(a, "is not allowed to modify labels: %s", strings.Join(bad, ", "))
	}
	return nil
}

// kubeletLabels are those below kubernetes.io that a node may set on itself.
var kubeletLabels = []string{
	corev1.LabelHostname, corev1.LabelTopologyZone, corev1.LabelTopologyRegion,
	corev1.LabelFailureDomainBetaZone, corev1.LabelFailureDomainBetaRegion,
	corev1.LabelInstanceType, corev1.LabelInstanceTypeStable, corev1.LabelOSStable, corev1.LabelArchStable,
	"beta.kubernetes.io/os", "beta.kubernetes.io/arch",
}

// foreignLabels gives the changed labels that are not a node's to change.
func foreignLabels(now, old map[string]string) []string {
	changed := map[string]bool{}
	for k, v := range now {
		if before, ok := old[k]; !ok || before != v {
			changed[k] = true
		}
	}
	for k := range old {
		if _, ok := now[k]; !ok {
			changed[k] = true
		}
	}
	var bad []string
	for k := range changed {
		if !ownLabel(k) {
			bad = append(bad, k)
		}
	}
	slices.Sort(bad)
	return bad
}

func ownLabel(key string) bool {
	domain, _, hasDomain := strings.Cut(key, "/")
	if !hasDomain {
		return true
	}
	below := func(parent string) bool { return domain == parent || strings.HasSuffix(domain, "."+parent) }
	if below("node-restriction.kubernetes.io") {
		return false
	}
	if !below("kubernetes.io") && !below("k8s.io") {
		return true
	}
	return slices.Contains(kubeletLabels, key) || below("kubelet.kubernetes.io") || below("node.kubernetes.io")
}

// claim: the node's share of a volume's resize is its status alone.
func (n *nodeRestriction) claim(a *Attributes) error {
	if a.Operation != Update || a.Subresource != "status" {
		return refuse(a, "unexpected operation %q", a.Operation)
	}
	now, ok := a.Object.(*corev1.PersistentVolumeClaim)
	old, was := a.Old.(*corev1.PersistentVolumeClaim)
	if !ok || !was {
		return refuse(a, "unexpected type %T", a.Object)
	}
	x, y := now.DeepCopy(), old.DeepCopy()
	for _, c := range []*corev1.PersistentVolumeClaim{x, y} {
		c.ResourceVersion, c.ManagedFields = "", nil
		c.Status.Capacity, c.Status.Conditions, c.Status.AllocatedResourceStatuses, c.Status.AllocatedResources = nil, nil, nil, nil
		c.TypeMeta = metav1.TypeMeta{}
	}
	if !reflect.DeepEqual(x, y) {
		return refuse(a, "node is not allowed to update fields other than status.quantity and status.conditions")
	}
	return nil
}

// token: only for a pod that runs on this node, of the service account asked for.
func (n *nodeRestriction) token(ctx context.Context, a *Attributes, node string) error {
	if a.Operation != Create || a.Subresource != "token" {
		return nil
	}
	req, ok := a.Object.(*authenticationv1.TokenRequest)
	if !ok {
		return refuse(a, "unexpected type %T", a.Object)
	}
	ref := req.Spec.BoundObjectRef
	if ref == nil || ref.APIVersion != "v1" || ref.Kind != "Pod" || ref.Name == "" {
		return refuse(a, "node requested token not bound to a pod")
	}
	if ref.UID == "" {
		return refuse(a, "node requested token with a pod binding without a uid")
	}
	obj, found := n.env.Reader.Get(pods, a.Namespace, ref.Name)
	p, typed := obj.(*corev1.Pod)
	if !found || !typed {
		return refuse(a, "pod %q not found", ref.Name)
	}
	if p.UID != ref.UID {
		return refuse(a, "the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID)
	}
	if p.Spec.NodeName != node {
		return refuse(a, "node requested token bound to a pod scheduled on a different node")
	}
	if p.Spec.ServiceAccountName != a.Name {
		return refuse(a, "node requested token for service account %q, but pod %q runs as %q", a.Name, p.Name, p.Spec.ServiceAccountName)
	}
	return n.audience(ctx, a, req, p)
}

func ownNamed[T interface{ GetName() string }](a *Attributes, node, what string) error {
	name := a.Name
	if a.Operation == Create {
		o, ok := a.Object.(T)
		if !ok {
			return refuse(a, "unexpected type %T", a.Object)
		}
		if name == "" {
			name = o.GetName()
		}
	}
	if what == "lease" && a.Namespace != corev1.NamespaceNodeLease {
		return refuse(a, "can only access leases in the %q system namespace", corev1.NamespaceNodeLease)
	}
	if name != node {
		if what == "lease" {
			what = "node lease"
		}
		return refuse(a, "can only access %s with the same name as the requesting node", what)
	}
	return nil
}

func (n *nodeRestriction) slice(a *Attributes, node string) error {
	if a.Operation != Create {
		return nil
	}
	s, ok := a.Object.(*resourcev1.ResourceSlice)
	if !ok {
		return refuse(a, "unexpected type %T", a.Object)
	}
	if s.Spec.NodeName == nil || *s.Spec.NodeName != node {
		return refuse(a, "can only create ResourceSlice with the same NodeName as the requesting node")
	}
	return nil
}
