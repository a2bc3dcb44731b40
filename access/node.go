package access

import (
	"context"
	"fmt"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/proa-dev/proa/apis/api"
)

const nodeLeases = "kube-node-lease"

// Node decides for users in system:nodes: a node may touch its own Node, lease and CSINode,
// the pods bound to it, and what these pods refer to. Everything else it may do is a fixed
// list of rules; what a node writes into objects is checked by admission (NodeRestriction).
//
// No graph is kept: each question is answered by a walk over the cached pods of one namespace.
type Node struct {
	reader api.Reader
	rules  []rbacv1.PolicyRule
}

var _ Authorizer = (*Node)(nil)

// NewNode decides from the cached objects of reader.
func NewNode(reader api.Reader) *Node { return &Node{reader: reader, rules: nodeRules()} }

// Authorize never denies: who is a node may also be allowed by RBAC.
func (n *Node) Authorize(_ context.Context, a *Attributes) (Decision, string) {
	node, isNode := NodeOf(a.User)
	if !isNode {
		return NoOpinion, ""
	}
	if node == "" {
		return NoOpinion, fmt.Sprintf("unknown node for user %q", a.User.Name)
	}
	if a.Resource {
		if decide := n.special(a); decide != nil {
			if reason := decide(node, a); reason != "" {
				return NoOpinion, reason
			}
			return Allow, ""
		}
	}
	for i := range n.rules {
		if ruleAllows(&n.rules[i], a) {
			return Allow, ""
		}
	}
	return NoOpinion, ""
}

// special finds the closer look that a resource needs. It returns why not, or "".
func (n *Node) special(a *Attributes) func(node string, a *Attributes) string {
	switch a.Group {
	case "":
		switch a.Plural {
		case "secrets", "configmaps":
			return n.namespacedRead
		case "persistentvolumeclaims":
			if a.Subresource == "status" {
				return n.claimStatus
			}
			return n.get
		case "persistentvolumes":
			return n.get
		case "serviceaccounts":
			return n.token
		case "nodes":
			return n.node
		case "pods":
			return n.pod
		}
	case "storage.k8s.io":
		switch a.Plural {
		case "volumeattachments":
			return n.get
		case "csinodes":
			return ownObject("CSINode")
		}
	case "coordination.k8s.io":
		if a.Plural == "leases" {
			return n.lease
		}
	case "certificates.k8s.io":
		if a.Plural == "podcertificaterequests" {
			return n.podCertificate
		}
	case "resource.k8s.io":
		switch a.Plural {
		case "resourceclaims":
			return n.get
		case "resourceslices":
			return n.slice
		}
	}
	return nil
}

func noRelation(node string) string {
	return fmt.Sprintf("no relationship found between node '%s' and this object", node)
}

func (n *Node) namespacedRead(node string, a *Attributes) string {
	switch {
	case a.Verb != "get" && a.Verb != "list" && a.Verb != "watch":
		return "can only read resources of this type"
	case a.Subresource != "":
		return "cannot read subresource"
	case a.Name == "":
		return "can only read namespaced object of this type"
	case !n.refersTo(node, a.Plural, a.Namespace, a.Name):
		return noRelation(node)
	}
	return ""
}

func (n *Node) get(node string, a *Attributes) string {
	switch {
	case a.Verb != "get":
		return "can only get individual resources of this type"
	case a.Subresource != "":
		return "cannot get subresource"
	case a.Name == "" || !n.refersTo(node, a.Plural, a.Namespace, a.Name):
		return noRelation(node)
	}
	return ""
}

func (n *Node) claimStatus(node string, a *Attributes) string {
	if a.Verb != "get" && a.Verb != "update" && a.Verb != "patch" {
		return "can only get/update/patch this type"
	}
	if a.Name == "" || !n.refersTo(node, a.Plural, a.Namespace, a.Name) {
		return noRelation(node)
	}
	return ""
}

func (n *Node) token(node string, a *Attributes) string {
	if a.Subresource == "" && a.Verb == "get" && a.Name != "" { // for image credential providers
		if n.refersTo(node, a.Plural, a.Namespace, a.Name) {
			return ""
		}
		return noRelation(node)
	}
	if a.Verb != "create" || a.Subresource != "token" {
		return "can only create tokens for individual service accounts"
	}
	if a.Name == "" || !n.refersTo(node, a.Plural, a.Namespace, a.Name) {
		return noRelation(node)
	}
	return ""
}

func (n *Node) lease(node string, a *Attributes) string {
	if !slices.Contains([]string{"get", "create", "update", "patch", "delete"}, a.Verb) {
		return "can only get, create, update, patch, or delete a node lease"
	}
	if a.Subresource != "" {
		return "cannot access lease subresource"
	}
	if a.Namespace != nodeLeases {
		return fmt.Sprintf("can only access leases in the %q system namespace", nodeLeases)
	}
	if a.Name != node && (a.Verb != "create" || a.Name != "") {
		return "can only access node lease with the same name as the requesting node"
	}
	return ""
}

// ownObject allows the object that is named as the node.
func ownObject(kind string) func(node string, a *Attributes) string {
	return func(node string, a *Attributes) string {
		if !slices.Contains([]string{"get", "create", "update", "patch", "delete"}, a.Verb) || a.Subresource != "" {
			return fmt.Sprintf("can only get, create, update, patch, or delete a %s", kind)
		}
		if a.Name != node && (a.Verb != "create" || a.Name != "") {
			return fmt.Sprintf("can only access %s with the same name as the requesting node", kind)
		}
		return ""
	}
}

// slice: which node a resource slice is written for is checked by admission.
func (n *Node) slice(node string, a *Attributes) string {
	if a.Subresource != "" {
		return "cannot access ResourceSlice subresource"
	}
	switch a.Verb {
	case "create":
		return ""
	case "get", "update", "patch", "delete":
		obj, ok := n.reader.Get(resourceSlices, "", a.Name)
		if ok && sliceNode(obj) == node {
			return ""
		}
		return noRelation(node)
	case "list", "watch", "deletecollection":
		if selects(a.FieldSelector, "spec.nodeName", node) {
			return ""
		}
		return "can only list/watch/deletecollection resourceslices with nodeName field selector"
	}
	return "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection"
}

func (n *Node) podCertificate(node string, a *Attributes) string {
	if a.Subresource != "" {
		return "nodes may not access the status subresource of PodCertificateRequests"
	}
	switch a.Verb {
	case "create": // admission checks whose pod it is
		return ""
	case "get":
		if n.ownPodCertificate(node, a.Namespace, a.Name) {
			return ""
		}
		return noRelation(node)
	case "list", "watch":
		if selects(a.FieldSelector, "spec.nodeName", node) {
			return ""
		}
		return "can only list/watch podcertificaterequests with nodeName field selector"
	}
	return fmt.Sprintf("nodes may not %s podcertificaterequests", a.Verb)
}

func (n *Node) node(node string, a *Attributes) string {
	switch a.Subresource {
	case "":
	case "status":
		if (a.Verb == "update" || a.Verb == "patch") && (a.Name == node || a.Name == "") {
			return ""
		}
		return fmt.Sprintf("node '%s' cannot update the status of another node", node)
	default:
		return fmt.Sprintf("unexpected subresource %q for node '%s'", a.Subresource, node)
	}
	switch a.Verb {
	case "create", "update", "patch": // admission checks the name, which on create is in the body
		if a.Name == "" || a.Name == node {
			return ""
		}
		return fmt.Sprintf("node '%s' cannot modify node '%s'", node, a.Name)
	case "get", "list", "watch":
		if a.Name == node || a.Verb != "get" && selects(a.FieldSelector, "metadata.name", node) {
			return ""
		}
		return fmt.Sprintf("node '%s' cannot read '%s', only its own Node object", node, a.Name)
	}
	return fmt.Sprintf("node '%s' cannot %s nodes", node, a.Verb)
}

func (n *Node) pod(node string, a *Attributes) string {
	switch a.Subresource {
	case "":
	case "status":
		if a.Verb == "update" || a.Verb == "patch" {
			return "" // admission checks whose pod it is
		}
		return fmt.Sprintf("unexpected verb %q for pod status", a.Verb)
	case "eviction":
		if a.Verb == "create" {
			return ""
		}
		return fmt.Sprintf("unexpected verb %q for pod eviction", a.Verb)
	default:
		return fmt.Sprintf("unexpected pod subresource %q, only 'status' and 'eviction' are allowed", a.Subresource)
	}
	switch a.Verb {
	case "create", "delete":
		return "" // admission checks: mirror pods, own pods
	case "get":
		if n.ownPod(node, a.Namespace, a.Name) {
			return ""
		}
		return noRelation(node)
	case "list", "watch":
		if selects(a.FieldSelector, "spec.nodeName", node) || a.Name != "" && n.ownPod(node, a.Namespace, a.Name) {
			return ""
		}
		return "can only list/watch pods with spec.nodeName field selector"
	}
	return fmt.Sprintf("node '%s' cannot %s pods", node, a.Verb)
}

func selects(selector, field, value string) bool {
	if selector == "" {
		return false
	}
	parsed, err := fields.ParseSelector(selector)
	if err != nil {
		return false
	}
	got, ok := parsed.RequiresExactMatch(field)
	return ok && got == value
}
