package podspec

import (
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/kubectl/pkg/util/qos"

	"github.com/proa-dev/proa/kubelet/cgroups"
	"github.com/proa-dev/proa/kubelet/plan"
)

// Class is a pod's quality of service class: the one it was created with when known.
func Class(pod *corev1.Pod) corev1.PodQOSClass { return qos.GetPodQOS(pod) }

// ResourceField answers a container's request or limit, rounded up to the divisor. A limit
// that is not set is what the node has.
func ResourceField(pod *corev1.Pod, c *corev1.Container, ref *corev1.ResourceFieldSelector, node corev1.ResourceList) (string, error) {
	if ref.ContainerName != "" && ref.ContainerName != c.Name {
		if c = find(pod, ref.ContainerName); c == nil {
			return "", fmt.Errorf("container %s not found", ref.ContainerName)
		}
	}
	from, name, ok := cutResource(ref.Resource)
	if !ok {
		return "", fmt.Errorf("unsupported container resource : %v", ref.Resource)
	}
	list := c.Resources.Requests
	if from == "limits" {
		list = c.Resources.Limits
	}
	q, set := list[name]
	if !set && from == "limits" {
		q = node[name]
	}
	divisor := ref.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	if name == corev1.ResourceCPU {
		return ceil(q.MilliValue(), divisor.MilliValue()), nil
	}
	return ceil(q.Value(), divisor.Value()), nil
}

func ceil(a, b int64) string {
	if b <= 0 {
		b = 1
	}
	return strconv.FormatInt((a+b-1)/b, 10)
}

func cutResource(s string) (from string, name corev1.ResourceName, ok bool) {
	for _, p := range []string{"limits", "requests"} {
		if len(s) > len(p)+1 && s[:len(p)+1] == p+"." {
			return p, corev1.ResourceName(s[len(p)+1:]), true
		}
	}
	return "", "", false
}

func find(pod *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// Resources are a container's limits for the runtime.
func Resources(pod *corev1.Pod, c *corev1.Container, memory int64) *runtimeapi.LinuxContainerResources {
	cpu := c.Resources.Requests.Cpu()
	if _, set := c.Resources.Requests[corev1.ResourceCPU]; !set {
		cpu = c.Resources.Limits.Cpu()
	}
	r := &runtimeapi.LinuxContainerResources{
		CpuShares:          cgroups.Shares(cpu.MilliValue()),
		MemoryLimitInBytes: c.Resources.Limits.Memory().Value(),
		OomScoreAdj:        OOMScore(pod, c, memory),
		CpuPeriod:          cgroups.Period,
		CpuQuota:           cgroups.Quota(c.Resources.Limits.Cpu().MilliValue()),
	}
	return r
}

const (
	oomCritical   = -997
	oomGuaranteed = -997
	oomBestEffort = 1000
)

// OOMScore is how early the kernel kills a container when memory runs out: the more of the
// node's memory it asked for, the later.
func OOMScore(pod *corev1.Pod, c *corev1.Container, memory int64) int64 {
	if pod.Spec.Priority != nil && *pod.Spec.Priority >= 2000000000 {
		return oomCritical
	}
	switch Class(pod) {
	case corev1.PodQOSGuaranteed:
		return oomGuaranteed
	case corev1.PodQOSBestEffort:
		return oomBestEffort
	}
	if memory <= 0 {
		return oomBestEffort - 1
	}
	score := 1000 - 1000*c.Resources.Requests.Memory().Value()/memory
	if isSidecar(pod, c) {
		for i := range pod.Spec.Containers {
			score = min(score, 1000-1000*pod.Spec.Containers[i].Resources.Requests.Memory().Value()/memory)
		}
	}
	return min(max(score, 1000+oomGuaranteed), oomBestEffort-1)
}

func isSidecar(pod *corev1.Pod, c *corev1.Container) bool {
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == c.Name {
			return plan.Sidecar(c)
		}
	}
	return false
}
