package core

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

// Nodes is the kind Node.
var Nodes = api.Define(api.Resource[*corev1.Node]{
	Version: "v1", Kind: "Node", Plural: "nodes", Short: []string{"no"},
	Prefix:              "minions",
	UnconditionalUpdate: true,
	HasStatus:           true,
	StatusOnCreate:      true,
	Default:             defaultNode,
	PrepareCreate:       func(_ context.Context, n *corev1.Node) { n.Spec.ConfigSource = nil },
	Validate:            validateNode,
	ValidateUpdate:      validateNodeUpdate,
	ValidateStatus:      validateNodeStatus,
	Connects:            []api.Connect{proxyConnect("NodeProxyOptions", newNodeProxyOptions)},
	Fields: map[string]func(*corev1.Node) string{
		"spec.unschedulable": func(n *corev1.Node) string { return boolText(n.Spec.Unschedulable) },
	},
	Columns: []api.Column[*corev1.Node]{
		text("Status", "The status of the node", nodeStatus),
		text("Roles", "The roles of the node", nodeRoles),
		Age[*corev1.Node](),
		text("Version", corev1.NodeSystemInfo{}.SwaggerDoc()["kubeletVersion"], func(n *corev1.Node) string { return n.Status.NodeInfo.KubeletVersion }),
		wide("Internal-IP", corev1.NodeStatus{}.SwaggerDoc()["addresses"], func(n *corev1.Node) string { return nodeAddress(n, corev1.NodeInternalIP) }),
		wide("External-IP", corev1.NodeStatus{}.SwaggerDoc()["addresses"], func(n *corev1.Node) string { return nodeAddress(n, corev1.NodeExternalIP) }),
		wide("OS-Image", corev1.NodeSystemInfo{}.SwaggerDoc()["osImage"], func(n *corev1.Node) string { return orUnknown(n.Status.NodeInfo.OSImage) }),
		wide("Kernel-Version", corev1.NodeSystemInfo{}.SwaggerDoc()["kernelVersion"], func(n *corev1.Node) string { return orUnknown(n.Status.NodeInfo.KernelVersion) }),
		wide("Container-Runtime", corev1.NodeSystemInfo{}.SwaggerDoc()["containerRuntimeVersion"], func(n *corev1.Node) string { return orUnknown(n.Status.NodeInfo.ContainerRuntimeVersion) }),
	},
})

func boolText(b bool) string {
	if b {
		return "true"
	}
	return "false"
}

func orUnknown(s string) string {
	if s == "" {
		return unknown
	}
	return s
}

// defaultNode keeps podCIDR and podCIDRs[0] the same, and allocatable at capacity until
// the node says otherwise.
func defaultNode(n *corev1.Node) {
	if c := n.Spec.PodCIDRs; n.Spec.PodCIDR != "" && (len(c) == 0 || c[0] != n.Spec.PodCIDR) {
		n.Spec.PodCIDRs = []string{n.Spec.PodCIDR}
	}
	if n.Spec.PodCIDR == "" && len(n.Spec.PodCIDRs) > 0 {
		n.Spec.PodCIDR = n.Spec.PodCIDRs[0]
	}
	roundResources(n.Status.Capacity)
	if n.Status.Allocatable == nil && n.Status.Capacity != nil {
		n.Status.Allocatable = n.Status.Capacity.DeepCopy()
	}
	roundResources(n.Status.Allocatable)
}

func validateNode(n *corev1.Node) field.ErrorList {
	errs := validateTaints(n.Spec.Taints, field.NewPath("metadata", "taints"))
	errs = append(errs, validateNodeResources(n)...)
	return append(errs, validatePodCIDRs(n.Spec.PodCIDRs, field.NewPath("spec", "podCIDRs"))...)
}

func validateNodeResources(n *corev1.Node) field.ErrorList {
	var errs field.ErrorList
	for _, name := range sortedResources(n.Status.Capacity) {
		errs = append(errs, resourceAmount(name, n.Status.Capacity[name], field.NewPath("status", "capacity", string(name)))...)
	}
	for _, name := range sortedResources(n.Status.Allocatable) {
		errs = append(errs, resourceAmount(name, n.Status.Allocatable[name], field.NewPath("status", "allocatable", string(name)))...)
	}
	return errs
}

func validateTaints(taints []corev1.Taint, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i := range taints {
		t, p := &taints[i], path.Index(i)
		errs = append(errs, labelName(t.Key, p.Child("key"))...)
		errs = append(errs, invalid(p.Child("value"), t.Value, validation.IsValidLabelValue(t.Value))...)
		errs = append(errs, validateTaintEffect(t.Effect, false, p.Child("effect"))...)
		if id := t.Key + "\x00" + string(t.Effect); seen[id] {
			duplicate := field.Duplicate(p, *t)
			duplicate.Detail = "taints must be unique by key and effect pair"
			errs = append(errs, duplicate)
		} else {
			seen[id] = true
		}
	}
	return errs
}

func validateTaintEffect(effect corev1.TaintEffect, allowEmpty bool, path *field.Path) field.ErrorList {
	if effect == "" {
		if allowEmpty {
			return nil
		}
		return field.ErrorList{field.Required(path, "")}
	}
	return oneOf(effect, path, corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute)
}

func validatePodCIDRs(cidrs []string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, c := range cidrs {
		errs = append(errs, validation.IsValidCIDRForLegacyField(path.Index(i), c, false, nil)...)
	}
	if len(errs) > 0 || len(cidrs) < 2 {
		return errs
	}
	if len(cidrs) > 2 {
		return field.ErrorList{field.Invalid(path, cidrs, "may specify no more than one CIDR for each IP family")}
	}
	first, err1 := netip.ParsePrefix(cidrs[0])
	second, err2 := netip.ParsePrefix(cidrs[1])
	if err1 == nil && err2 == nil && first.Addr().Is4() == second.Addr().Is4() {
		errs = append(errs, field.Invalid(path, cidrs, "may specify no more than one CIDR for each IP family"))
	}
	return errs
}

func validateNodeUpdate(n, old *corev1.Node) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("spec")
	if len(old.Spec.PodCIDRs) > 0 && !slices.Equal(n.Spec.PodCIDRs, old.Spec.PodCIDRs) {
		errs = append(errs, field.Forbidden(path.Child("podCIDRs"), "node updates may not change podCIDR except from \"\" to valid"))
	}
	if old.Spec.ProviderID != "" && n.Spec.ProviderID != old.Spec.ProviderID {
		message := "field cannot be modified once set"
		if n.Spec.ProviderID == "" {
			message = "field cannot be cleared once set"
		}
		errs = append(errs, field.Invalid(path.Child("providerID"), nil, message))
	}
	if n.Spec.DoNotUseExternalID != old.Spec.DoNotUseExternalID {
		errs = append(errs, field.Forbidden(path.Child("externalID"), "may not be updated"))
	}
	return errs
}

func validateNodeStatus(n, _ *corev1.Node) field.ErrorList {
	errs := validateNodeResources(n)
	seen := map[corev1.NodeAddress]bool{}
	for i, a := range n.Status.Addresses {
		if seen[a] {
			errs = append(errs, field.Duplicate(field.NewPath("status", "addresses").Index(i), a))
		}
		seen[a] = true
	}
	return errs
}

func nodeStatus(n *corev1.Node) string {
	status := "Unknown"
	for _, c := range n.Status.Conditions {
		if c.Type != corev1.NodeReady {
			continue
		}
		if status = "NotReady"; c.Status == corev1.ConditionTrue {
			status = "Ready"
		}
	}
	if n.Spec.Unschedulable {
		status += ",SchedulingDisabled"
	}
	return status
}

func nodeRoles(n *corev1.Node) string {
	var roles []string
	for key, value := range n.Labels {
		if role, ok := strings.CutPrefix(key, "node-role.kubernetes.io/"); ok && role != "" {
			roles = append(roles, role)
		} else if key == "kubernetes.io/role" && value != "" {
			roles = append(roles, value)
		}
	}
	return orNone(joinSorted(roles))
}

func nodeAddress(n *corev1.Node, kind corev1.NodeAddressType) string {
	for _, a := range n.Status.Addresses {
		if a.Type == kind {
			return a.Address
		}
	}
	return none
}
