package node

import (
	"context"
	"fmt"
	"runtime"
	"sort"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func (n *Node) addresses() (out []corev1.NodeAddress) {
	for _, ip := range n.IPs {
		out = append(out, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip})
	}
	return append(out, corev1.NodeAddress{Type: corev1.NodeHostName, Address: n.Name})
}

// status computes the node's status on top of what it was, whose other conditions stay; and
// tells whether the node is ready.
func (n *Node) status(ctx context.Context, was *corev1.NodeStatus) (corev1.NodeStatus, bool) {
	out := *was.DeepCopy()
	out.Capacity, out.Allocatable = n.Capacity(), n.Allocatable()
	if !n.Cloud || len(out.Addresses) == 0 {
		out.Addresses = n.addresses()
	}
	out.DaemonEndpoints.KubeletEndpoint.Port = n.Port
	m := &n.machine
	out.NodeInfo = corev1.NodeSystemInfo{MachineID: m.machineID, SystemUUID: m.systemUUID, BootID: m.bootID, KernelVersion: m.kernel,
		OSImage: m.osImage, KubeletVersion: n.Version, OperatingSystem: runtime.GOOS, Architecture: runtime.GOARCH}
	out.DeclaredFeatures = declared
	n.ask(ctx)
	r := &n.report
	out.NodeInfo.ContainerRuntimeVersion, out.RuntimeHandlers, out.Images = r.version, r.handlers, r.images
	set(&out, corev1.NodeCondition{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionFalse, Reason: "KubeletHasSufficientMemory", Message: "kubelet has sufficient memory available"})
	set(&out, corev1.NodeCondition{Type: corev1.NodeDiskPressure, Status: corev1.ConditionFalse, Reason: "KubeletHasNoDiskPressure", Message: "kubelet has no disk pressure"})
	set(&out, corev1.NodeCondition{Type: corev1.NodePIDPressure, Status: corev1.ConditionFalse, Reason: "KubeletHasSufficientPID", Message: "kubelet has sufficient PID available"})
	n.pressure(ctx, &out)
	if r.why == "" {
		set(&out, corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", Message: "kubelet is posting ready status"})
	} else {
		set(&out, corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: "KubeletNotReady", Message: r.why})
	}
	return out, r.why == ""
}

// declared are the features, of those that pods may need of a node, that this kubelet has
// (KEP-5328). The names are those of k8s.io/component-helpers/nodedeclaredfeatures, sorted.
var declared = []string{"InPlacePodLevelResourcesVerticalScaling"}

// extended tells resources that Kubernetes does not know and anybody may add to a node.
func extended(name corev1.ResourceName) bool {
	return strings.Contains(string(name), "/") && !strings.Contains(string(name), corev1.ResourceDefaultNamespacePrefix)
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

// report is what the runtime tells of itself.
type report struct {
	version  string
	why      string // why no pods can run; empty when they can
	handlers []corev1.NodeRuntimeHandler
	images   []corev1.ContainerImage
}

// ask looks at the runtime where it may have changed. What it does not answer stays as it was.
func (n *Node) ask(ctx context.Context) {
	n.mu.Lock()
	what := n.asked
	n.asked = asked{}
	n.mu.Unlock()
	if what.status {
		n.report.why = n.runtimeReady(ctx, &n.report)
	}
	if what.images {
		n.images(ctx, &n.report)
	}
}

// runtimeReady asks the runtime how it is and answers why it cannot run pods, if so.
func (n *Node) runtimeReady(ctx context.Context, out *report) string {
	if v, err := n.Runtime.Version(ctx, &runtimeapi.VersionRequest{}); err == nil {
		out.version = v.RuntimeName + "://" + v.RuntimeVersion
	}
	got, err := n.Runtime.Status(ctx, &runtimeapi.StatusRequest{})
	if err != nil {
		return fmt.Sprintf("container runtime is down: %v", err)
	}
	out.handlers = handlers(got.RuntimeHandlers)
	seen := map[string]bool{}
	for _, c := range got.GetStatus().GetConditions() {
		seen[c.Type] = c.Status
		if c.Status || c.Type != runtimeapi.RuntimeReady && c.Type != runtimeapi.NetworkReady {
			continue
		}
		what := map[string]string{runtimeapi.RuntimeReady: "runtime", runtimeapi.NetworkReady: "runtime network"}[c.Type]
		return fmt.Sprintf("container %s not ready: %s=false reason:%s message:%s", what, c.Type, c.Reason, c.Message)
	}
	if !seen[runtimeapi.RuntimeReady] {
		return "container runtime status check may not have completed yet"
	}
	return ""
}

// Features of a runtime handler as the runtime told last; empty: none are known.
func (n *Node) Features(handler string) corev1.NodeRuntimeHandlerFeatures {
	if node := n.Node(); node != nil {
		for _, h := range node.Status.RuntimeHandlers {
			if h.Name == handler && h.Features != nil {
				return *h.Features
			}
		}
	}
	return corev1.NodeRuntimeHandlerFeatures{}
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
func (n *Node) images(ctx context.Context, out *report) {
	got, err := n.Images.ListImages(ctx, &runtimeapi.ListImagesRequest{})
	if err != nil {
		n.mu.Lock()
		n.asked.images = true
		n.mu.Unlock()
		return // shown as before
	}
	out.images = nil
	for _, i := range got.Images {
		names := append(append([]string(nil), i.RepoDigests...), i.RepoTags...)
		if len(names) > 5 {
			names = names[:5]
		}
		if len(names) > 0 {
			out.images = append(out.images, corev1.ContainerImage{Names: names, SizeBytes: int64(i.Size)})
		}
	}
	sort.Slice(out.images, func(i, j int) bool {
		a, b := out.images[i], out.images[j]
		if a.SizeBytes != b.SizeBytes {
			return a.SizeBytes > b.SizeBytes
		}
		return a.Names[0] < b.Names[0]
	})
	out.images = out.images[:min(len(out.images), maxImages)]
}

// calm is how long a resource must not have been short for the node to say so, as upstream's:
// else it would take back at once the pods that it has just sent away.
const calm = 5 * time.Minute

// pressure sets the conditions of resources that are or were just short and asks for relief.
func (n *Node) pressure(ctx context.Context, out *corev1.NodeStatus) {
	free, err := availableMemory()
	if n.short(corev1.NodeMemoryPressure, err == nil && free < n.Thresholds.Memory) {
		set(out, corev1.NodeCondition{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionTrue, Reason: "KubeletHasInsufficientMemory", Message: "kubelet has insufficient memory available"})
	}
	if err == nil && free < n.Thresholds.Memory {
		n.relieve(ctx, corev1.ResourceMemory, fmt.Sprintf("Threshold quantity: %d, available: %d. ", n.Thresholds.Memory, free))
	}
	space, inodes, err := freeDisk(n.Root)
	full := err == nil && (space < n.Thresholds.DiskPercent || inodes < n.Thresholds.InodePercent)
	if n.short(corev1.NodeDiskPressure, full) {
		set(out, corev1.NodeCondition{Type: corev1.NodeDiskPressure, Status: corev1.ConditionTrue, Reason: "KubeletHasDiskPressure", Message: "kubelet has disk pressure"})
	}
	if full {
		n.relieve(ctx, corev1.ResourceEphemeralStorage, fmt.Sprintf("Available: %.1f%% of space, %.1f%% of inodes. ", space, inodes))
	}
	if left, most, err := freePIDs(); n.short(corev1.NodePIDPressure, err == nil && left*pidShare < most) {
		set(out, corev1.NodeCondition{Type: corev1.NodePIDPressure, Status: corev1.ConditionTrue, Reason: "KubeletHasInsufficientPID", Message: "kubelet has insufficient PID available"})
	}
}

// pidShare: one in so many process ids must be free.
const pidShare = 20

// short remembers when a resource was last seen short, and tells whether that was just now.
func (n *Node) short(what corev1.NodeConditionType, is bool) bool {
	if is {
		n.shortAt[what] = time.Now()
	}
	at, was := n.shortAt[what]
	return was && time.Since(at) < calm
}

func (n *Node) relieve(ctx context.Context, what corev1.ResourceName, message string) {
	if n.Pressure != nil {
		n.Pressure(ctx, what, message)
	}
}
