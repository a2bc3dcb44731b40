package kubelet

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/component-helpers/resource"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/proa-dev/proa/kubelet/podstatus"
)

// admit tells why the node cannot take a pod; nil: it can. A pod of which something ran
// here already was taken before.
func (w *worker) admit(pod *corev1.Pod) *podstatus.Final {
	w.k.allocation.Lock()
	defer w.k.allocation.Unlock()
	w.mu.Lock()
	taken := w.observed.Sandbox() != nil || begun(pod)
	w.admitted = true
	w.mu.Unlock()
	if taken {
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
	if reason, message := k.unfit(pod); reason != "" {
		return reason, message
	}
	if under := k.pressures(pod); len(under) > 0 {
		return "Evicted", fmt.Sprintf("The node had condition: %v. ", under)
	}
	if n := k.node.Node(); n != nil {
		ok, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(n)
		if err != nil || !ok {
			return "NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
		}
	}
	used, ports, count := k.used(pod)
	for _, p := range hostPorts(pod) {
		if ports[p] {
			return "NodePorts", "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
		}
	}
	have := k.node.Allocatable()
	if most := have.Pods().Value(); count+1 > most {
		return "OutOfpods", fmt.Sprintf("Node didn't have enough resource: pods, requested: 1, used: %d, capacity: %d", count, most)
	}
	return short(resource.PodRequests(pod, resource.PodResourcesOptions{}), used, have)
}

// used sums what the other pods of the node were promised.
func (k *Kubelet) used(pod *corev1.Pod) (used corev1.ResourceList, ports map[string]bool, count int64) {
	used, ports = corev1.ResourceList{}, map[string]bool{}
	for _, w := range k.all() {
		other, counts := w.counted()
		if !counts || other.UID == pod.UID {
			continue
		}
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
	return used, ports, count
}

// begun tells whether a pod's status says that something of it ran.
func begun(pod *corev1.Pod) bool { return len(pod.Status.ContainerStatuses) > 0 }

func short(wants, used, have corev1.ResourceList) (reason, message string) {
	for name, want := range wants {
		if want.IsZero() {
			continue
		}
		u, h := used[name], have[name]
		sum := want.DeepCopy()
		sum.Add(u)
		if sum.Cmp(h) <= 0 {
			continue
		}
		w, x := amounts(name, want, u)
		_, y := amounts(name, want, h)
		return "OutOf" + string(name), fmt.Sprintf("Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", name, w, x, y)
	}
	return "", ""
}

// amounts are two quantities as messages have them: thousandths of processors, else whole units.
func amounts(name corev1.ResourceName, a, b apiresource.Quantity) (int64, int64) {
	if name == corev1.ResourceCPU {
		return a.MilliValue(), b.MilliValue()
	}
	return a.Value(), b.Value()
}

// counted tells whether the pod takes its share of the node.
func (w *worker) counted() (*corev1.Pod, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ended := terminal(w.pod) || w.final != nil || w.orphan || (w.status != nil && (w.status.Phase == corev1.PodFailed || w.status.Phase == corev1.PodSucceeded))
	if ended || !w.admitted && w.observed.Sandbox() == nil && !begun(w.pod) {
		return w.pod, false
	}
	if w.size.record != nil {
		return w.size.record.Allocated.On(w.pod), true
	}
	return w.pod, true
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
