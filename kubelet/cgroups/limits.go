package cgroups

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
)

// Limits of one group. 0: none.
type Limits struct {
	Shares int64 // cpu.shares as v1 has it, 2..262144
	Quota  int64 // microseconds of processor time in each Period
	Memory int64 // bytes
	Pids   int64
}

// Period of the processor quota, in microseconds.
const Period = 100000

const (
	minShares = 2
	maxShares = 262144
	minQuota  = 1000
)

// Shares of a processor request in thousandths.
func Shares(milli int64) int64 {
	if milli == 0 {
		return minShares
	}
	return min(max(milli*1024/1000, minShares), maxShares)
}

// Quota of a processor limit in thousandths; 0 for none.
func Quota(milli int64) int64 {
	if milli == 0 {
		return 0
	}
	return max(milli*Period/1000, minQuota)
}

// Weight is what v2 calls v1's shares.
func Weight(shares int64) int64 {
	if shares == 0 {
		return 0
	}
	shares = min(max(shares, minShares), maxShares)
	return 1 + ((shares-2)*9999)/262142
}

// Wider answers limits that leave room for both.
func Wider(a, b Limits) Limits {
	wide := func(x, y int64) int64 {
		if x == 0 || y == 0 {
			return 0 // none
		}
		return max(x, y)
	}
	return Limits{Shares: max(a.Shares, b.Shares), Quota: wide(a.Quota, b.Quota), Memory: wide(a.Memory, b.Memory), Pids: wide(a.Pids, b.Pids)}
}

// ForPod computes a pod's limits from its spec: a limit holds for the pod only when every
// container has one.
func ForPod(pod *corev1.Pod, class corev1.PodQOSClass) Limits {
	if class == corev1.PodQOSBestEffort {
		return Limits{Shares: minShares}
	}
	cpuAll, memoryAll := allLimited(pod, corev1.ResourceCPU), allLimited(pod, corev1.ResourceMemory)
	requests := resource.PodRequests(pod, resource.PodResourcesOptions{})
	limits := resource.PodLimits(pod, resource.PodResourcesOptions{})
	if pod.Spec.Resources != nil {
		cpuAll = cpuAll || !pod.Spec.Resources.Limits.Cpu().IsZero()
		memoryAll = memoryAll || !pod.Spec.Resources.Limits.Memory().IsZero()
	}
	out := Limits{Shares: Shares(requests.Cpu().MilliValue())}
	if cpuAll {
		out.Quota = Quota(limits.Cpu().MilliValue())
	}
	if memoryAll {
		out.Memory = limits.Memory().Value()
	}
	return out
}

func allLimited(pod *corev1.Pod, name corev1.ResourceName) bool {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if q := list[i].Resources.Limits[name]; q.IsZero() {
				return false
			}
		}
	}
	return true
}

type setting struct{ file, value string }

func (l Limits) v1(controller string) []setting {
	switch controller {
	case "cpu":
		quota := int64(-1)
		if l.Quota > 0 {
			quota = l.Quota
		}
		return []setting{{"cpu.shares", num(l.Shares)}, {"cpu.cfs_period_us", num(Period)}, {"cpu.cfs_quota_us", num(quota)}}
	case "memory":
		limit := int64(-1)
		if l.Memory > 0 {
			limit = l.Memory
		}
		return []setting{{"memory.limit_in_bytes", num(limit)}}
	case "pids":
		return []setting{{"pids.max", orMax(l.Pids)}}
	}
	return nil
}

func (l Limits) v2() []setting {
	quota := orMax(l.Quota) + " " + num(Period)
	return []setting{{"cpu.weight", num(Weight(l.Shares))}, {"cpu.max", quota},
		{"memory.max", orMax(l.Memory)}, {"pids.max", orMax(l.Pids)}}
}

func num(n int64) string { return strconv.FormatInt(n, 10) }

func orMax(n int64) string {
	if n <= 0 {
		return "max"
	}
	return num(n)
}
