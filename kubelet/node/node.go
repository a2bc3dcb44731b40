// Package node keeps the node's own record: it registers the node, renews its lease,
// writes its status when something changed, and watches memory and disk for pressure.
//
// The one idea: the status is computed whole, from what is known already, and compared; only
// a difference, or five minutes, make a write. The node is known from its informer and the
// runtime is asked when it may have changed, so that a quiet node costs its lease alone. The
// kubelet alone calls it.
package node

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/proa-dev/proa/internal/informers"
)

// Thresholds below which the node is under pressure: bytes of memory, and percents of the
// disk's space and inodes.
type Thresholds struct {
	Memory       int64   // default 100 MiB
	DiskPercent  float64 // default 10
	InodePercent float64 // default 5
}

// Config of a node's record.
type Config struct {
	Client  kubernetes.Interface
	Nodes   informers.Nodes // started by others
	Runtime runtimeapi.RuntimeServiceClient
	Images  runtimeapi.ImageServiceClient
	Name    string
	IPs     []string
	Root    string // on the disk that is watched
	MaxPods int64
	Labels  map[string]string
	// Annotations are set beside upstream's own.
	Annotations map[string]string
	Taints      []corev1.Taint // of a node that is registered anew
	ProviderID  string         // what a cloud calls it; empty: its controller manager fills it in
	// Cloud says that the controller manager of a cloud writes the node's addresses.
	Cloud      bool
	Port       int32
	Version    string
	Reserved   corev1.ResourceList
	Thresholds Thresholds
	Recorder   record.EventRecorder
	Log        *slog.Logger
	// Pressure is called while a resource is short; it evicts at most one pod.
	Pressure func(ctx context.Context, what corev1.ResourceName, message string)
}

// Times of the record, as upstream's.
const (
	leaseEvery    = 10 * time.Second // the one slow timer: lease and pressure
	leaseSeconds  = 40
	statusEvery   = 5 * time.Minute
	registerFirst = 100 * time.Millisecond
	registerMost  = 7 * time.Second
	maxImages     = 50
	leaseSpace    = corev1.NamespaceNodeLease
)

// Node is the record.
type Node struct {
	Config
	machine    machine
	registered chan struct{}
	ready      chan struct{}
	wake       chan struct{}

	mu    sync.Mutex
	node  *corev1.Node // the newest that is known, read-only
	asked asked

	// of the loop alone
	report   report // what the runtime told last
	written  time.Time
	lease    leaseState
	leaseDue time.Time
	unready  int // looks in a row at which the node was not ready, or not written
	told     bool
	shortAt  map[corev1.NodeConditionType]time.Time // when a resource was last short
}

// asked is what of the runtime has to be looked at.
type asked struct{ status, images bool }

// New reads the machine; it writes nothing.
func New(cfg Config) (*Node, error) {
	m, err := readMachine(cfg.Root)
	if err != nil {
		return nil, fmt.Errorf("read the machine: %w", err)
	}
	if cfg.Reserved == nil {
		cfg.Reserved = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("100Mi")}
	}
	t := &cfg.Thresholds
	if t.Memory == 0 {
		t.Memory = 100 << 20
	}
	if t.DiskPercent == 0 {
		t.DiskPercent = 10
	}
	if t.InodePercent == 0 {
		t.InodePercent = 5
	}
	return &Node{Config: cfg, machine: m, registered: make(chan struct{}), ready: make(chan struct{}),
		wake: make(chan struct{}, 1), asked: asked{true, true}, shortAt: map[corev1.NodeConditionType]time.Time{}}, nil
}

// Registered is closed once the API server has the node.
func (n *Node) Registered() <-chan struct{} { return n.registered }

// Ready is closed once the API server was told that the node is ready.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// Node is the node as last known; nil before it is registered.
func (n *Node) Node() *corev1.Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.node
}

// Memory of the node in bytes.
func (n *Node) Memory() int64 { return n.machine.memory }

// Hard are the thresholds as upstream's configuration writes them.
func (n *Node) Hard() map[string]string {
	t := &n.Thresholds
	return map[string]string{"memory.available": resource.NewQuantity(t.Memory, resource.BinarySI).String(),
		"nodefs.available": fmt.Sprintf("%g%%", t.DiskPercent), "nodefs.inodesFree": fmt.Sprintf("%g%%", t.InodePercent)}
}

// Capacity is all that the machine has, and what others have put on the node's record.
func (n *Node) Capacity() corev1.ResourceList {
	out := corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewQuantity(int64(n.machine.cpus), resource.DecimalSI),
		corev1.ResourceMemory:           *resource.NewQuantity(n.machine.memory, resource.BinarySI),
		corev1.ResourcePods:             *resource.NewQuantity(n.MaxPods, resource.DecimalSI),
		corev1.ResourceEphemeralStorage: *resource.NewQuantity(n.machine.disk, resource.BinarySI),
	}
	for size, bytes := range n.machine.hugepages {
		out[corev1.ResourceName(corev1.ResourceHugePagesPrefix+size)] = *resource.NewQuantity(bytes, resource.BinarySI)
	}
	if known := n.Node(); known != nil {
		for name, q := range known.Status.Capacity {
			if extended(name) {
				out[name] = q
			}
		}
	}
	return out
}

// Allocatable is what pods may have of it.
func (n *Node) Allocatable() corev1.ResourceList {
	out := n.Capacity()
	for name, q := range n.Reserved {
		left := out[name]
		left.Sub(q)
		if left.Sign() < 0 {
			left = resource.Quantity{Format: left.Format}
		}
		out[name] = left
	}
	disk := out[corev1.ResourceEphemeralStorage]
	disk.Set(int64(float64(disk.Value()) * (100 - n.Thresholds.DiskPercent) / 100))
	out[corev1.ResourceEphemeralStorage] = disk
	return out
}

func (n *Node) register(ctx context.Context) bool {
	for wait := registerFirst; ctx.Err() == nil; wait = min(wait*2, registerMost) {
		err := n.tryRegister(ctx)
		if err == nil {
			return true
		}
		n.Log.Warn("register node", "error", err, "retry", wait)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return false
}

func (n *Node) labels() map[string]string {
	out := map[string]string{corev1.LabelHostname: n.Name, corev1.LabelOSStable: runtime.GOOS, corev1.LabelArchStable: runtime.GOARCH,
		"beta.kubernetes.io/os": runtime.GOOS, "beta.kubernetes.io/arch": runtime.GOARCH}
	for k, v := range n.Labels {
		out[k] = v
	}
	return out
}

func (n *Node) annotations() map[string]string {
	out := map[string]string{"volumes.kubernetes.io/controller-managed-attach-detach": "true"}
	maps.Copy(out, n.Annotations)
	return out
}

func (n *Node) tryRegister(ctx context.Context) error {
	fresh := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: n.labels(),
		Annotations: n.annotations()},
		Spec: corev1.NodeSpec{Taints: n.Taints, ProviderID: n.ProviderID}}
	fresh.Status, _ = n.status(ctx, &fresh.Status)
	made, err := n.Client.CoreV1().Nodes().Create(ctx, fresh, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		made, err = n.relabel(ctx)
	}
	if err != nil {
		return fmt.Errorf("register node: %w", err)
	}
	n.learn(made)
	return nil
}

// relabel gives a node that is known already the labels and annotations it should have.
func (n *Node) relabel(ctx context.Context) (*corev1.Node, error) {
	have, err := n.Client.CoreV1().Nodes().Get(ctx, n.Name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	missing := func(want, have map[string]string) map[string]string {
		maps.DeleteFunc(want, func(k, v string) bool { return have[k] == v })
		return want
	}
	labels, annotations := missing(n.labels(), have.Labels), missing(n.annotations(), have.Annotations)
	if len(labels)+len(annotations) == 0 {
		return have, nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": labels, "annotations": annotations}})
	if err != nil {
		return nil, err
	}
	return n.Client.CoreV1().Nodes().Patch(ctx, n.Name, types.MergePatchType, patch, metav1.PatchOptions{})
}

func twoWay(have, next *corev1.Node) ([]byte, error) {
	a, err := json.Marshal(have)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(next)
	if err != nil {
		return nil, err
	}
	return strategicpatch.CreateTwoWayMergePatch(a, b, &corev1.Node{})
}

func same(a, b *corev1.NodeStatus) bool {
	x, y := a.DeepCopy(), b.DeepCopy()
	for _, s := range []*corev1.NodeStatus{x, y} {
		for i := range s.Conditions {
			s.Conditions[i].LastHeartbeatTime = metav1.Time{}
		}
	}
	return equality.Semantic.DeepEqual(x, y)
}

func stampConditions(s *corev1.NodeStatus) {
	now := metav1.Now().Rfc3339Copy()
	for i := range s.Conditions {
		switch s.Conditions[i].Type {
		case corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure:
			s.Conditions[i].LastHeartbeatTime = now
		}
	}
}
