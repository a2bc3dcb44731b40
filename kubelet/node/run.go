package node

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/tools/cache"
)

// Waits between two looks while the node is not ready or its record could not be written:
// short at first, for a node that starts.
const (
	lookFirst = 25 * time.Millisecond
	lookMost  = 2 * time.Second
	looksFast = 200 // looks until the wait begins to grow
)

// runtimeEvery is how often the runtime is asked though nothing tells that it changed: its
// network has no events.
const runtimeEvery = time.Minute

// Run registers the node and keeps its record until ctx ends.
func (n *Node) Run(ctx context.Context) error {
	if !n.register(ctx) {
		return nil
	}
	close(n.registered)
	n.Recorder.Event(n.ref(), corev1.EventTypeNormal, "Starting", "Starting kubelet.")
	handle, err := n.Nodes.Informer().AddEventHandler(cache.FilteringResourceEventHandler{FilterFunc: n.own, Handler: n.handler()})
	if err != nil {
		return fmt.Errorf("watch the node: %w", err)
	}
	timer, again := time.NewTimer(0), time.NewTimer(runtimeEvery)
	defer timer.Stop()
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return n.Nodes.Informer().RemoveEventHandler(handle)
		case <-again.C:
			again.Reset(runtimeEvery)
			n.Look()
			continue
		case <-n.wake:
		case <-timer.C:
		}
		timer.Reset(n.keep(ctx))
	}
}

func (n *Node) ref() *corev1.ObjectReference {
	return &corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: n.Name, UID: types.UID(n.Name)}
}

// own tells whether obj is this node.
func (n *Node) own(obj any) bool {
	key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(obj)
	return err == nil && key == n.Name
}

func (n *Node) handler() cache.ResourceEventHandler {
	seen := func(obj any) {
		if node, ok := obj.(*corev1.Node); ok && n.learn(node) {
			n.poke()
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    seen,
		UpdateFunc: func(_, obj any) { seen(obj) },
		DeleteFunc: func(any) { n.forget(); n.poke() },
	}
}

// learn notes the node if it is newer than what is known, and tells whether it is.
func (n *Node) learn(node *corev1.Node) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.node != nil && n.node.UID == node.UID {
		order, err := resourceversion.CompareResourceVersion(node.ResourceVersion, n.node.ResourceVersion)
		if err == nil && order <= 0 {
			return false
		}
	}
	n.node = node
	return true
}

func (n *Node) forget() {
	n.mu.Lock()
	n.node = nil
	n.mu.Unlock()
}

func (n *Node) poke() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// Look tells that the runtime may have changed: it came, went, or is to be asked for another reason.
func (n *Node) Look() {
	n.mu.Lock()
	n.asked = asked{true, true}
	n.mu.Unlock()
	n.poke()
}

// ImagesChanged tells that the node may have other images than before; they are listed at the next turn.
func (n *Node) ImagesChanged() {
	n.mu.Lock()
	n.asked.images = true
	n.mu.Unlock()
}

// keep renews the lease when it is due, writes the status if it has to be, and answers when
// to look again.
func (n *Node) keep(ctx context.Context) time.Duration {
	now := time.Now()
	if !now.Before(n.leaseDue) {
		n.leaseDue = now.Add(leaseEvery)
		if err := n.renew(ctx); err != nil && ctx.Err() == nil {
			n.Log.Warn("renew node lease", "error", err)
			n.leaseDue = now.Add(min(lookMost, leaseEvery))
		}
	}
	ready, err := n.sync(ctx)
	if err != nil && ctx.Err() == nil {
		n.Log.Warn("write node status", "error", err)
	}
	if ready && err == nil {
		n.unready = 0
		if !n.told {
			n.told = true
			close(n.ready)
		}
		return time.Until(n.leaseDue)
	}
	return min(n.again(err != nil), max(0, time.Until(n.leaseDue)))
}

// again is the wait until the next look at a node that is not ready.
func (n *Node) again(failed bool) time.Duration {
	n.unready++
	n.mu.Lock()
	n.asked.status = true
	n.mu.Unlock()
	wait := lookFirst
	if over := n.unready - looksFast; over > 0 {
		wait <<= min(over, 7)
	}
	if failed {
		wait = max(wait, registerFirst<<min(n.unready, 5))
	}
	return min(wait, lookMost)
}

// sync writes the node's status if it changed or is old, and tells whether the node is ready.
func (n *Node) sync(ctx context.Context) (bool, error) {
	have := n.Node()
	if have == nil { // somebody deleted it while we live
		return false, n.tryRegister(ctx)
	}
	next := have.DeepCopy()
	var ready bool
	next.Status, ready = n.status(ctx, &have.Status)
	if same(&have.Status, &next.Status) && time.Since(n.written) < statusEvery {
		return ready, nil
	}
	stampConditions(&next.Status)
	patch, err := twoWay(have, next)
	if err != nil {
		return false, err
	}
	made, err := n.Client.CoreV1().Nodes().Patch(ctx, n.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if apierrors.IsNotFound(err) {
		n.forget()
	}
	if err != nil {
		return false, err
	}
	n.learn(made)
	n.written = time.Now()
	return ready, nil
}
