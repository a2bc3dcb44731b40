package kubelet

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/proa-dev/proa/kubelet/podspec"
	"github.com/proa-dev/proa/kubelet/podstatus"
)

// admit tells why the node cannot take a pod; nil: it can. A pod of which something ran
// here already was taken before.
func (w *worker) admit(pod *corev1.Pod) *podstatus.Final {
	w.admitted = true
	if w.observed.Sandbox() != nil || len(pod.Status.ContainerStatuses) > 0 {
		return nil
	}
	reason, message := w.k.refuse(pod)
	if reason == "" {
		return nil
	}
	message = "Pod was rejected: " + message
	w.k.event(pod, "", corev1.EventTypeWarning, reason, message)
	return &podstatus.Final{Reason: reason, Message: message}
}

func (k *Kubelet) refuse(pod *corev1.Pod) (reason, message string) {
	if n := k.node.Node(); n != nil {
		ok, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(n)
		if err != nil || !ok {
			return "NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
		}
	}
	used, ports, count := corev1.ResourceList{}, map[string]bool{}, int64(0)
	for _, w := range k.all() {
		if other, counts := w.counted(); counts && other.UID != pod.UID {
			count++
			for name, q := range resource.PodRequests(other, resource.PodResourcesOptions{}) {
				sum := used[name]
				sum.Add(q)
				used[name] = sum
			}
			for _, p := range hostPorts(other) {
				ports[p] = true
			}
		}
	}
	for _, p := range hostPorts(pod) {
		if ports[p] {
			return "NodePorts", "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
		}
	}
	have := k.node.Allocatable()
	if most := have.Pods().Value(); count+1 > most {
		return "OutOfpods", fmt.Sprintf("Node didn't have enough resource: pods, requested: 1, used: %d, capacity: %d", count, most)
	}
	return short(pod, used, have)
}

func short(pod *corev1.Pod, used, have corev1.ResourceList) (reason, message string) {
	for name, want := range resource.PodRequests(pod, resource.PodResourcesOptions{}) {
		if want.IsZero() {
			continue
		}
		u, h := used[name], have[name]
		sum := want.DeepCopy()
		sum.Add(u)
		if sum.Cmp(h) <= 0 {
			continue
		}
		w, x, y := want.Value(), u.Value(), h.Value()
		if name == corev1.ResourceCPU {
			w, x, y = want.MilliValue(), u.MilliValue(), h.MilliValue()
		}
		return "OutOf" + string(name), fmt.Sprintf("Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", name, w, x, y)
	}
	return "", ""
}

// counted tells whether the pod takes its share of the node.
func (w *worker) counted() (*corev1.Pod, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ended := terminal(w.pod) || w.final != nil || w.orphan || (w.status != nil && (w.status.Phase == corev1.PodFailed || w.status.Phase == corev1.PodSucceeded))
	return w.pod, !ended && w.observed != nil && len(w.observed.Sandboxes) > 0
}

func hostPorts(pod *corev1.Pod) []string {
	var out []string
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			for _, p := range list[i].Ports {
				if p.HostPort > 0 {
					out = append(out, fmt.Sprintf("%s/%s/%d", p.HostIP, p.Protocol, p.HostPort))
				}
			}
		}
	}
	return out
}

// relieve evicts one pod to free a resource: of those that use it beyond what they asked
// for first (best effort, then burstable), the lowest priority first; never critical ones.
func (k *Kubelet) relieve(_ context.Context, what corev1.ResourceName, message string) {
	var worst *worker
	var rank [2]int64
	for _, w := range k.all() {
		pod, counts := w.counted()
		if !counts || pod.Spec.Priority != nil && *pod.Spec.Priority >= 2000000000 {
			continue
		}
		r := evictionRank(pod)
		if worst == nil || r[0] < rank[0] || r[0] == rank[0] && r[1] < rank[1] {
			worst, rank = w, r
		}
	}
	if worst == nil {
		return
	}
	worst.mu.Lock()
	pod := worst.pod
	worst.mu.Unlock()
	text := fmt.Sprintf("The node was low on resource: %s. %s", what, message)
	k.event(pod, "", corev1.EventTypeWarning, "Evicted", text)
	grace := int64(1)
	worst.end(&podstatus.Final{Reason: "Evicted", Message: text, Conditions: []corev1.PodCondition{{Type: corev1.DisruptionTarget,
		Status: corev1.ConditionTrue, Reason: corev1.PodReasonTerminationByKubelet, Message: text}}}, &grace)
}

func evictionRank(pod *corev1.Pod) [2]int64 {
	class := int64(2)
	switch podspec.Class(pod) {
	case corev1.PodQOSBestEffort:
		class = 0
	case corev1.PodQOSBurstable:
		class = 1
	}
	priority := int64(0)
	if pod.Spec.Priority != nil {
		priority = int64(*pod.Spec.Priority)
	}
	return [2]int64{class, priority}
}
