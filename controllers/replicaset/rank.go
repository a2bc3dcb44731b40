package replicaset

import (
	"math"
	"sort"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/proa-dev/proa/controllers/loop"
)

// victims chooses the n pods to delete: those whose loss costs least come first.
func victims(pods []*corev1.Pod, onNode map[string]int, n int, now time.Time) []*corev1.Pod {
	if n >= len(pods) {
		return pods
	}
	ranked := make([]*corev1.Pod, len(pods))
	copy(ranked, pods)
	sort.SliceStable(ranked, func(i, j int) bool { return cheaper(ranked[i], ranked[j], onNode, now) })
	return ranked[:n]
}

// cheaper says whether losing a costs less than losing b: not assigned before assigned,
// pending before unknown before running, not ready before ready, by deletion cost, on a
// crowded node before a lonely one, ready for less time, restarted more often, younger.
func cheaper(a, b *corev1.Pod, onNode map[string]int, now time.Time) bool {
	if x, y := a.Spec.NodeName != "", b.Spec.NodeName != ""; x != y {
		return y
	}
	phase := map[corev1.PodPhase]int{corev1.PodPending: 0, corev1.PodUnknown: 1, corev1.PodRunning: 2}
	if x, y := phase[a.Status.Phase], phase[b.Status.Phase]; x != y {
		return x < y
	}
	since, ready := loop.ReadySince(a)
	sinceB, readyB := loop.ReadySince(b)
	if ready != readyB {
		return readyB
	}
	if x, y := deletionCost(a), deletionCost(b); x != y {
		return x < y
	}
	if x, y := onNode[a.Spec.NodeName], onNode[b.Spec.NodeName]; x != y {
		return x > y
	}
	if x, y := magnitude(now.Sub(since)), magnitude(now.Sub(sinceB)); ready && readyB && x != y {
		return x < y
	}
	if x, y := restarts(a), restarts(b); x != y {
		return x > y
	}
	if x, y := magnitude(now.Sub(a.CreationTimestamp.Time)), magnitude(now.Sub(b.CreationTimestamp.Time)); x != y {
		return x < y
	}
	return a.UID < b.UID
}

// magnitude puts ages into buckets that double, so that pods of about one age are equals
// and not always the youngest goes.
func magnitude(d time.Duration) int {
	if d < time.Second {
		return 0
	}
	return int(math.Log2(d.Seconds())) + 1
}

func deletionCost(pod *corev1.Pod) int64 {
	cost, err := strconv.ParseInt(pod.Annotations[corev1.PodDeletionCost], 10, 32)
	if err != nil {
		return 0 // none, or not a number: the API refuses the latter
	}
	return cost
}

func restarts(pod *corev1.Pod) int32 {
	var most int32
	for _, s := range pod.Status.ContainerStatuses {
		most = max(most, s.RestartCount)
	}
	return most
}
