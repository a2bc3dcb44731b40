// Package replicaset keeps as many pods running as each ReplicaSet asks for, and as each
// ReplicationController does, its forerunner.
//
// The one idea: the pods that a set controls are counted, the difference to the wish is
// created or deleted (rank.go says which), and nothing more is done until the cache shows
// what was done. A replication controller is seen as a set (source.go); from there on all is one.
//
// Used by controllers.All.
package replicaset

import (
	"context"
	"errors"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"

	"github.com/proa-dev/proa/controllers/loop"
)

// burst bounds the pods that are created or deleted at once for one set.
const burst = 500

// Controller is the loop over one kind of sets.
type Controller struct {
	*loop.Loop[loop.Key]
	deps     loop.Deps
	source   source
	recorder record.EventRecorder
	owned    *loop.Owned
}

// New makes the loop over ReplicaSets.
func New(deps loop.Deps) (*Controller, error) { return newFor(deps, replicaSets(deps)) }

// NewReplicationControllers makes the loop over ReplicationControllers.
func NewReplicationControllers(deps loop.Deps) (*Controller, error) {
	return newFor(deps, replicationControllers(deps))
}

func newFor(deps loop.Deps, from source) (*Controller, error) {
	c := &Controller{deps: deps, source: from, recorder: deps.Recorder(from.name + "-controller")}
	c.Loop = loop.New(from.name, deps, c.reconcile)
	var err error
	if c.owned, err = loop.Own(c.Loop, deps, from.kind, c.recorder, c.matching); err != nil {
		return nil, err
	}
	c.owned.Adoptable = func(pod *corev1.Pod) bool { return !loop.Ended(pod) }
	c.Watch(from.informer, loop.Self)
	return c, nil
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.Loop.Run(ctx, 5) }

// matching are the sets whose selector matches a pod.
func (c *Controller) matching(pod *corev1.Pod) []loop.Key {
	return loop.Selecting(pod, c.source.list(pod.Namespace), func(rs *appsv1.ReplicaSet) *metav1.LabelSelector { return rs.Spec.Selector })
}

func (c *Controller) reconcile(ctx context.Context, key loop.Key) error {
	rs, err := c.source.get(key)
	if err != nil {
		return loop.Gone(err)
	}
	selector, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
	if err != nil {
		return nil // the API refuses such selectors; there is nothing to count
	}
	claimed, err := c.owned.Claim(ctx, rs, selector, nil, func(ctx context.Context) (metav1.Object, error) { return c.source.present(ctx, key) })
	if err != nil {
		return err
	}
	pods, terminating := living(claimed)
	var failure error
	if rs.DeletionTimestamp == nil && c.owned.Pending.Settled(rs.UID) {
		failure = c.scale(ctx, rs, pods)
	}
	status := newStatus(rs, pods, terminating, failure, c.deps.Clock.Now())
	if wait := untilAvailable(rs, pods, c.deps.Clock.Now()); wait > 0 {
		c.AddAfter(key, wait)
	}
	if !c.source.same(rs.Status, status) {
		changed := *rs
		changed.Status = status
		if err := c.source.writeStatus(ctx, &changed); err != nil {
			return errors.Join(loop.Gone(err), failure)
		}
	}
	return failure
}

// living are the pods that count; of the others, how many are on their way out.
func living(pods []*corev1.Pod) (live []*corev1.Pod, terminating int32) {
	for _, pod := range pods {
		switch {
		case loop.Ended(pod):
		case pod.DeletionTimestamp != nil:
			terminating++
		default:
			live = append(live, pod)
		}
	}
	return live, terminating
}

// scale creates or deletes the difference between what is and what should be.
func (c *Controller) scale(ctx context.Context, rs *appsv1.ReplicaSet, pods []*corev1.Pod) error {
	diff := int(*rs.Spec.Replicas) - len(pods)
	switch {
	case diff > 0:
		return c.owned.Create(ctx, rs, min(diff, burst), func(int) *corev1.Pod { return loop.PodFromTemplate(&rs.Spec.Template, rs, c.source.kind) })
	case diff < 0:
		if err := c.owned.Delete(ctx, rs, victims(pods, c.neighbours(pods), min(-diff, burst), c.deps.Clock.Now())); err != nil {
			return failedDelete{err}
		}
	}
	return nil
}

// neighbours counts, per node, the pods there that belong to the same owner of sets, so
// that scaling down prefers nodes that hold several.
func (c *Controller) neighbours(pods []*corev1.Pod) map[string]int {
	count := map[string]int{}
	for _, p := range pods {
		if p.Spec.NodeName != "" {
			count[p.Spec.NodeName]++
		}
	}
	return count
}

// failedDelete tells failing to delete from failing to create.
type failedDelete struct{ error }

func (f failedDelete) Unwrap() error { return f.error }

// untilAvailable is when the next ready pod has been so for minReadySeconds; 0: none waits.
func untilAvailable(rs *appsv1.ReplicaSet, pods []*corev1.Pod, now time.Time) time.Duration {
	var wait time.Duration
	for _, pod := range pods {
		since, ready := loop.ReadySince(pod)
		if !ready {
			continue
		}
		if left := since.Add(time.Duration(rs.Spec.MinReadySeconds) * time.Second).Sub(now); left > 0 && (wait == 0 || left < wait) {
			wait = left
		}
	}
	return wait
}
