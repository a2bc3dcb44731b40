package nodelifecycle

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// conditionTaints are those that keep new pods away, by the condition that asks for them.
var conditionTaints = []struct {
	condition corev1.NodeConditionType
	status    corev1.ConditionStatus
	taint     string
}{
	{corev1.NodeReady, corev1.ConditionFalse, corev1.TaintNodeNotReady},
	{corev1.NodeReady, corev1.ConditionUnknown, corev1.TaintNodeUnreachable},
	{corev1.NodeMemoryPressure, corev1.ConditionTrue, corev1.TaintNodeMemoryPressure},
	{corev1.NodeDiskPressure, corev1.ConditionTrue, corev1.TaintNodeDiskPressure},
	{corev1.NodeNetworkUnavailable, corev1.ConditionTrue, corev1.TaintNodeNetworkUnavailable},
	{corev1.NodePIDPressure, corev1.ConditionTrue, corev1.TaintNodePIDPressure},
}

// wantedTaints is the part of a node's taints that this package writes, as the node's
// state asks for it. expel allows the one that makes pods leave.
func wantedTaints(node *corev1.Node, expel bool) []corev1.Taint {
	var out []corev1.Taint
	for _, c := range conditionTaints {
		if found := condition(node, c.condition); found != nil && found.Status == c.status {
			out = append(out, corev1.Taint{Key: c.taint, Effect: corev1.TaintEffectNoSchedule})
		}
	}
	if node.Spec.Unschedulable {
		out = append(out, corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule})
	}
	if key := expelKey(node); key != "" && expel {
		out = append(out, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoExecute})
	}
	return out
}

// expelKey is the taint that a node's readiness asks for; empty for a ready node, and for
// one that has never said anything (its pods, if any, have not been started by it).
func expelKey(node *corev1.Node) string {
	ready := condition(node, corev1.NodeReady)
	switch {
	case ready == nil:
		return ""
	case ready.Status == corev1.ConditionFalse:
		return corev1.TaintNodeNotReady
	case ready.Status == corev1.ConditionUnknown:
		return corev1.TaintNodeUnreachable
	}
	return ""
}

// ours says whether a taint is written by this package alone.
func ours(t corev1.Taint) bool {
	if t.Effect == corev1.TaintEffectNoExecute {
		return t.Key == corev1.TaintNodeNotReady || t.Key == corev1.TaintNodeUnreachable
	}
	if t.Effect != corev1.TaintEffectNoSchedule {
		return false
	}
	for _, c := range conditionTaints {
		if c.taint == t.Key {
			return true
		}
	}
	return t.Key == corev1.TaintNodeUnschedulable
}

// expelled says whether a node has a taint of ours that makes pods leave.
func expelled(node *corev1.Node) bool {
	for _, t := range node.Spec.Taints {
		if t.Effect == corev1.TaintEffectNoExecute && ours(t) {
			return true
		}
	}
	return false
}

// mergeTaints replaces our part of a node's taints; others', and the times of those that
// stay, are kept. changed is false when there is nothing to write.
func mergeTaints(now []corev1.Taint, wanted []corev1.Taint, at time.Time) (out []corev1.Taint, changed bool) {
	is := func(list []corev1.Taint, t corev1.Taint) bool {
		for i := range list {
			if list[i].Key == t.Key && list[i].Effect == t.Effect {
				return true
			}
		}
		return false
	}
	out = []corev1.Taint{}
	for _, t := range now {
		if ours(t) && !is(wanted, t) {
			changed = true
			continue
		}
		out = append(out, t)
	}
	for _, t := range wanted {
		if !is(now, t) {
			t.TimeAdded = &metav1.Time{Time: at}
			out, changed = append(out, t), true
		}
	}
	return out, changed
}

// silentConditions are those that nobody but the kubelet can know.
var silentConditions = []corev1.NodeConditionType{
	corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure,
}

// unknownConditions is what changes in the conditions of a node that has fallen silent.
func unknownConditions(node *corev1.Node, at time.Time) []corev1.NodeCondition {
	var out []corev1.NodeCondition
	now := metav1.NewTime(at)
	for _, kind := range silentConditions {
		was := condition(node, kind)
		if was == nil {
			out = append(out, corev1.NodeCondition{
				Type: kind, Status: corev1.ConditionUnknown, Reason: "NodeStatusNeverUpdated",
				Message:           "Kubelet never posted node status.",
				LastHeartbeatTime: node.CreationTimestamp, LastTransitionTime: now,
			})
			continue
		}
		if was.Status == corev1.ConditionUnknown {
			continue
		}
		c := *was
		c.Status, c.Reason, c.Message = corev1.ConditionUnknown, "NodeStatusUnknown", "Kubelet stopped posting node status."
		c.LastTransitionTime = now
		out = append(out, c)
	}
	return out
}
