package kubelet

import (
	"context"
	"fmt"
	"sort"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/resource"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/proa-dev/proa/kubelet/cri"
	"github.com/proa-dev/proa/kubelet/podspec"
	"github.com/proa-dev/proa/kubelet/podstatus"
)

// criticalPriority is the priority from which on a pod is one that the cluster itself needs.
const criticalPriority = 2000000000

func critical(pod *corev1.Pod) bool {
	return pod.Spec.Priority != nil && *pod.Spec.Priority >= criticalPriority
}

// pressures are the conditions of the node that keep a new pod away: a short disk keeps all
// but critical ones, short memory those that have asked for none of it.
func (k *Kubelet) pressures(pod *corev1.Pod) []corev1.NodeConditionType {
	node := k.node.Node()
	if node == nil || critical(pod) {
		return nil
	}
	var out []corev1.NodeConditionType
	for _, c := range node.Status.Conditions {
		if c.Status != corev1.ConditionTrue || c.Type == corev1.NodeReady {
			continue
		}
		switch c.Type {
		case corev1.NodeMemoryPressure:
			if podspec.Class(pod) != corev1.PodQOSBestEffort || toleratesMemory(pod) {
				continue
			}
		case corev1.NodeDiskPressure, corev1.NodePIDPressure:
		default:
			continue
		}
		out = append(out, c.Type)
	}
	return out
}

func toleratesMemory(pod *corev1.Pod) bool {
	for _, t := range pod.Spec.Tolerations {
		if (t.Key == corev1.TaintNodeMemoryPressure || t.Key == "" && t.Operator == corev1.TolerationOpExists) &&
			(t.Effect == "" || t.Effect == corev1.TaintEffectNoSchedule) {
			return true
		}
	}
	return false
}

// candidate is a pod that may be evicted.
type candidate struct {
	w        *worker
	pod      *corev1.Pod
	over     int64 // what it uses beyond what it asked for, bytes; unknown figures count as none used
	priority int64
	class    int64
}

// relieve evicts one pod to free a resource: those that use it beyond what they asked for
// first, of these the lowest priority, then who is furthest beyond; never critical ones.
func (k *Kubelet) relieve(ctx context.Context, what corev1.ResourceName, message string) {
	used := map[types.UID]int64{}
	if what == corev1.ResourceMemory {
		used = k.memoryUsed(ctx)
	}
	var list []candidate
	for _, w := range k.all() {
		pod, counts := w.counted()
		if !counts || critical(pod) {
			continue
		}
		rank, asked := evictionRank(pod), resource.PodRequests(pod, resource.PodResourcesOptions{})[what]
		list = append(list, candidate{w, pod, used[pod.UID] - asked.Value(), rank[1], rank[0]})
	}
	if len(list) == 0 {
		return
	}
	sort.SliceStable(list, func(i, j int) bool { return list[i].before(&list[j]) })
	k.evict(&list[0], what, message)
}

// before tells whether c is evicted before o.
func (c *candidate) before(o *candidate) bool {
	switch {
	case (c.over > 0) != (o.over > 0):
		return c.over > 0
	case c.priority != o.priority:
		return c.priority < o.priority
	case c.class != o.class && c.over <= 0:
		return c.class < o.class
	}
	return c.over > o.over
}

func (k *Kubelet) evict(c *candidate, what corev1.ResourceName, message string) {
	text := fmt.Sprintf("The node was low on resource: %s. %s", what, message)
	k.counters.evicted.WithLabelValues(signalOf(what)).Inc()
	k.event(c.pod, "", corev1.EventTypeWarning, "Evicted", text)
	grace := int64(1)
	c.w.end(&podstatus.Final{Reason: "Evicted", Message: text, Conditions: []corev1.PodCondition{{Type: corev1.DisruptionTarget,
		Status: corev1.ConditionTrue, Reason: corev1.PodReasonTerminationByKubelet, Message: text}}}, &grace)
}

// memoryUsed asks the runtime what each pod uses, in bytes.
func (k *Kubelet) memoryUsed(ctx context.Context) map[types.UID]int64 {
	out := map[types.UID]int64{}
	got, err := k.cfg.Runtime.ListContainerStats(ctx, &runtimeapi.ListContainerStatsRequest{})
	if err != nil {
		k.log.Warn("ask what pods use", "error", err)
		return out
	}
	for _, s := range got.Stats {
		uid := types.UID(s.GetAttributes().GetLabels()[cri.LabelPodUID])
		out[uid] += int64(s.GetMemory().GetWorkingSetBytes().GetValue())
	}
	return out
}

// signalOf is what is measured of a resource that ran short.
func signalOf(what corev1.ResourceName) string {
	switch what {
	case corev1.ResourceMemory:
		return "memory.available"
	case corev1.ResourceEphemeralStorage:
		return "nodefs.available"
	}
	return string(what) + ".available"
}
