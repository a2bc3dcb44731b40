package node

import (
	"context"
	"fmt"
	"runtime"
	"sort"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// status computes the node's status on top of what it was, whose other conditions stay.
func (n *Node) status(ctx context.Context, was *corev1.NodeStatus) corev1.NodeStatus {
	out := *was.DeepCopy()
	out.Capacity, out.Allocatable = n.Capacity(), n.Allocatable()
	out.Addresses = nil
	for _, ip := range n.IPs {
		out.Addresses = append(out.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip})
	}
	out.Addresses = append(out.Addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: n.Name})
	out.DaemonEndpoints.KubeletEndpoint.Port = n.Port
	m := &n.machine
	out.NodeInfo = corev1.NodeSystemInfo{MachineID: m.machineID, SystemUUID: m.systemUUID, BootID: m.bootID, KernelVersion: m.kernel,
		OSImage: m.osImage, KubeletVersion: n.Version, OperatingSystem: runtime.GOOS, Architecture: runtime.GOARCH}
	ready, why := n.runtimeReady(ctx, &out)
	n.images(ctx, &out)
	set(&out, corev1.NodeCondition{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionFalse, Reason: "KubeletHasSufficientMemory", Message: "kubelet has sufficient memory available"})
	set(&out, corev1.NodeCondition{Type: corev1.NodeDiskPressure, Status: corev1.ConditionFalse, Reason: "KubeletHasNoDiskPressure", Message: "kubelet has no disk pressure"})
	set(&out, corev1.NodeCondition{Type: corev1.NodePIDPressure, Status: corev1.ConditionFalse, Reason: "KubeletHasSufficientPID", Message: "kubelet has sufficient PID available"})
	n.pressure(ctx, &out)
	if ready {
		set(&out, corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", Message: "kubelet is posting ready status"})
	} else {
		set(&out, corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: "KubeletNotReady", Message: why})
	}
	return out
}

// set puts a condition in its place; the time of transition changes with the status alone.
func set(s *corev1.NodeStatus, c corev1.NodeCondition) {
	now := metav1.Now().Rfc3339Copy()
	c.LastHeartbeatTime, c.LastTransitionTime = now, now
	for i := range s.Conditions {
		have := &s.Conditions[i]
		if have.Type != c.Type {
			continue
		}
		if have.Status == c.Status {
			c.LastTransitionTime = have.LastTransitionTime
		}
		c.LastHeartbeatTime = have.LastHeartbeatTime
		*have = c
		return
	}
	s.Conditions = append(s.Conditions, c)
}

// runtimeReady asks the runtime how it is and fills in what it tells of itself.
func (n *Node) runtimeReady(ctx context.Context, out *corev1.NodeStatus) (bool, string) {
	if v, err := n.Runtime.Version(ctx, &runtimeapi.VersionRequest{}); err == nil {
		out.NodeInfo.ContainerRuntimeVersion = v.RuntimeName + "://" + v.RuntimeVersion
	}
	got, err := n.Runtime.Status(ctx, &runtimeapi.StatusRequest{})
	if err != nil {
		return false, fmt.Sprintf("container runtime is down: %v", err)
	}
	out.RuntimeHandlers = handlers(got.RuntimeHandlers)
	seen := map[string]bool{}
	for _, c := range got.GetStatus().GetConditions() {
		seen[c.Type] = c.Status
		if c.Status {
			continue
		}
		switch c.Type {
		case runtimeapi.RuntimeReady:
			return false, fmt.Sprintf("container runtime not ready: RuntimeReady=false reason:%s message:%s", c.Reason, c.Message)
		case runtimeapi.NetworkReady:
			return false, fmt.Sprintf("container runtime network not ready: NetworkReady=false reason:%s message:%s", c.Reason, c.Message)
		}
	}
	if !seen[runtimeapi.RuntimeReady] {
		return false, "container runtime status check may not have completed yet"
	}
	return true, ""
}

func handlers(in []*runtimeapi.RuntimeHandler) []corev1.NodeRuntimeHandler {
	var out []corev1.NodeRuntimeHandler
	for _, h := range in {
		rro, userns := h.GetFeatures().GetRecursiveReadOnlyMounts(), h.GetFeatures().GetUserNamespaces()
		out = append(out, corev1.NodeRuntimeHandler{Name: h.Name, Features: &corev1.NodeRuntimeHandlerFeatures{RecursiveReadOnlyMounts: &rro, UserNamespaces: &userns}})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// images lists the node's largest images.
func (n *Node) images(ctx context.Context, out *corev1.NodeStatus) {
	got, err := n.Images.ListImages(ctx, &runtimeapi.ListImagesRequest{})
	if err != nil {
		return // shown as before
	}
	out.Images = nil
	for _, i := range got.Images {
		names := append(append([]string(nil), i.RepoDigests...), i.RepoTags...)
		if len(names) > 5 {
			names = names[:5]
		}
		if len(names) > 0 {
			out.Images = append(out.Images, corev1.ContainerImage{Names: names, SizeBytes: int64(i.Size)})
		}
	}
	sort.Slice(out.Images, func(i, j int) bool {
		a, b := out.Images[i], out.Images[j]
		if a.SizeBytes != b.SizeBytes {
			return a.SizeBytes > b.SizeBytes
		}
		return a.Names[0] < b.Names[0]
	})
	out.Images = out.Images[:min(len(out.Images), maxImages)]
}

// pressure sets the conditions of short resources and asks for relief.
func (n *Node) pressure(ctx context.Context, out *corev1.NodeStatus) {
	if free, err := availableMemory(); err == nil && free < n.Thresholds.Memory {
		set(out, corev1.NodeCondition{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionTrue, Reason: "KubeletHasInsufficientMemory", Message: "kubelet has insufficient memory available"})
		n.relieve(ctx, corev1.ResourceMemory, fmt.Sprintf("Threshold quantity: %d, available: %d.", n.Thresholds.Memory, free))
	}
	space, inodes, err := freeDisk(n.Root)
	if err == nil && (space < n.Thresholds.DiskPercent || inodes < n.Thresholds.InodePercent) {
		set(out, corev1.NodeCondition{Type: corev1.NodeDiskPressure, Status: corev1.ConditionTrue, Reason: "KubeletHasDiskPressure", Message: "kubelet has disk pressure"})
		n.relieve(ctx, corev1.ResourceEphemeralStorage, fmt.Sprintf("Available: %.1f%% of space, %.1f%% of inodes.", space, inodes))
	}
}

func (n *Node) relieve(ctx context.Context, what corev1.ResourceName, message string) {
	if n.Pressure != nil {
		n.Pressure(ctx, what, message)
	}
}
