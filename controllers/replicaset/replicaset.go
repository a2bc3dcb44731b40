// Package replicaset keeps as many pods running as each ReplicaSet asks for.
//
// The one idea: the pods that a set controls are counted, the difference to the wish is
// created or deleted (rank.go says which), and nothing more is done until the cache shows
// what was done.
//
// Used by controllers.All.
package replicaset

import (
	"context"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	appslisters "k8s.io/client-go/listers/apps/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/proa-dev/proa/controllers/loop"
)

// burst bounds the pods that are created or deleted at once for one set.
const burst = 500

var kind = appsv1.SchemeGroupVersion.WithKind("ReplicaSet")

// Controller is the loop.
type Controller struct {
	*loop.Loop[loop.Key]
	deps     loop.Deps
	sets     appslisters.ReplicaSetLister
	pods     cache.SharedIndexInformer
	recorder record.EventRecorder
	pending  *loop.Pending
}

// New registers the loop's informers.
func New(deps loop.Deps) (*Controller, error) {
	sets, pods := deps.Informers.Apps().V1().ReplicaSets(), deps.Informers.Core().V1().Pods().Informer()
	if err := loop.IndexByController(pods); err != nil {
		return nil, err
	}
	c := &Controller{
		deps: deps, sets: sets.Lister(), pods: pods,
		recorder: deps.Recorder("replicaset-controller"), pending: loop.NewPending(deps.Clock.Now),
	}
	c.Loop = loop.New("replicaset", deps, c.reconcile)
	c.Watch(sets.Informer(), func(obj any) []loop.Key {
		k, _ := loop.KeyOf(obj)
		return []loop.Key{k}
	})
	c.Handle(pods, cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { c.podAdded(obj.(*corev1.Pod)) },
		UpdateFunc: func(old, obj any) { c.podUpdated(old.(*corev1.Pod), obj.(*corev1.Pod)) },
		DeleteFunc: func(obj any) {
			if tombstone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = tombstone.Obj
			}
			if pod, ok := obj.(*corev1.Pod); ok {
				c.podGoing(pod)
			}
		},
	})
	return c, nil
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.Loop.Run(ctx, 5) }

// owner is the key of the set that controls a pod.
func owner(pod *corev1.Pod) (*metav1.OwnerReference, loop.Key) {
	o := metav1.GetControllerOfNoCopy(pod)
	if o == nil || o.Kind != kind.Kind || o.APIVersion != kind.GroupVersion().String() {
		return nil, loop.Key{}
	}
	return o, loop.Key{Namespace: pod.Namespace, Name: o.Name}
}

func (c *Controller) podAdded(pod *corev1.Pod) {
	if pod.DeletionTimestamp != nil {
		c.podGoing(pod)
		return
	}
	if o, key := owner(pod); o != nil {
		c.pending.Created(o.UID)
		c.Add(key)
		return
	}
	c.wouldAdopt(pod)
}

func (c *Controller) podUpdated(old, pod *corev1.Pod) {
	if pod.DeletionTimestamp != nil {
		c.podGoing(pod)
		return
	}
	if o, key := owner(old); o != nil {
		c.Add(key)
	}
	if o, key := owner(pod); o != nil {
		c.Add(key)
		return
	}
	if metav1.GetControllerOfNoCopy(pod) == nil {
		c.wouldAdopt(pod)
	}
}

func (c *Controller) podGoing(pod *corev1.Pod) {
	if o, key := owner(pod); o != nil {
		c.pending.Deleted(o.UID, pod.UID)
		c.Add(key)
	}
}

// wouldAdopt wakes the sets whose selector matches a pod that nobody controls.
func (c *Controller) wouldAdopt(pod *corev1.Pod) {
	if metav1.GetControllerOfNoCopy(pod) != nil || len(pod.Labels) == 0 {
		return
	}
	sets, err := c.sets.ReplicaSets(pod.Namespace).List(labels.Everything())
	if err != nil {
		return
	}
	for _, rs := range sets {
		if s, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector); err == nil && !s.Empty() && s.Matches(labels.Set(pod.Labels)) {
			c.Add(loop.Key{Namespace: rs.Namespace, Name: rs.Name})
		}
	}
}

func (c *Controller) reconcile(ctx context.Context, key loop.Key) error {
	rs, err := c.sets.ReplicaSets(key.Namespace).Get(key.Name)
	if err != nil {
		return loop.Gone(err)
	}
	selector, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
	if err != nil {
		return nil // the API refuses such selectors; there is nothing to count
	}
	pods, terminating, err := c.claim(ctx, rs, selector)
	if err != nil {
		return err
	}
	var failure error
	if rs.DeletionTimestamp == nil && c.pending.Settled(rs.UID) {
		failure = c.scale(ctx, rs, pods)
	}
	status := newStatus(rs, pods, terminating, failure, c.deps.Clock.Now())
	if wait := untilAvailable(rs, pods, c.deps.Clock.Now()); wait > 0 {
		c.AddAfter(key, wait)
	}
	if err := c.writeStatus(ctx, rs, status); err != nil {
		return err
	}
	return failure
}

// claim gives the live pods that the set controls, having adopted those that match and
// are nobody's and released those that match no more; and how many others are on their way out.
func (c *Controller) claim(ctx context.Context, rs *appsv1.ReplicaSet, selector labels.Selector) (live []*corev1.Pod, terminating int32, err error) {
	for _, pod := range loop.ControlledBy[*corev1.Pod](c.pods, rs.UID) {
		switch {
		case pod.DeletionTimestamp != nil:
			if !loop.Ended(pod) {
				terminating++
			}
		case !selector.Matches(labels.Set(pod.Labels)):
			if rs.DeletionTimestamp != nil {
				continue
			}
			if err := loop.Release(ctx, c.deps.Client, pod, rs.UID); err != nil {
				return nil, 0, err
			}
		case !loop.Ended(pod):
			live = append(live, pod)
		}
	}
	if rs.DeletionTimestamp != nil {
		return live, terminating, nil
	}
	for _, pod := range loop.Orphans[*corev1.Pod](c.pods, rs.Namespace) {
		if pod.DeletionTimestamp != nil || loop.Ended(pod) || !selector.Matches(labels.Set(pod.Labels)) {
			continue
		}
		// Only a set that still exists may adopt: the cache could be behind.
		now, err := c.deps.Client.AppsV1().ReplicaSets(rs.Namespace).Get(ctx, rs.Name, metav1.GetOptions{})
		if err != nil || now.UID != rs.UID || now.DeletionTimestamp != nil {
			return live, terminating, loop.Gone(err)
		}
		if err := loop.Adopt(ctx, c.deps.Client, pod, metav1.NewControllerRef(rs, kind)); err != nil {
			return nil, 0, err
		}
		live = append(live, pod)
	}
	return live, terminating, nil
}

// scale creates or deletes the difference between what is and what should be.
func (c *Controller) scale(ctx context.Context, rs *appsv1.ReplicaSet, pods []*corev1.Pod) error {
	diff := int(*rs.Spec.Replicas) - len(pods)
	switch {
	case diff > 0:
		return c.create(ctx, rs, min(diff, burst))
	case diff < 0:
		return c.delete(ctx, rs, victims(pods, c.neighbours(pods), min(-diff, burst), c.deps.Clock.Now()))
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

// create makes n pods, one, then two, then four at once: when creating fails (quota), few
// requests were wasted.
func (c *Controller) create(ctx context.Context, rs *appsv1.ReplicaSet, n int) error {
	c.pending.Creating(rs.UID, n)
	tried, err := loop.SlowStart(n, func(int) error { return c.createOne(ctx, rs) })
	for range n - tried {
		c.pending.Created(rs.UID) // createOne took back what failed; the rest was not tried
	}
	return err
}

func (c *Controller) createOne(ctx context.Context, rs *appsv1.ReplicaSet) error {
	pod := loop.PodFromTemplate(&rs.Spec.Template, rs, kind)
	made, err := c.deps.Client.CoreV1().Pods(rs.Namespace).Create(ctx, pod, metav1.CreateOptions{})
	if err != nil {
		c.pending.Created(rs.UID)
		if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return nil
		}
		c.recorder.Eventf(rs, corev1.EventTypeWarning, "FailedCreate", "Error creating: %v", err)
		return failedCreate{err}
	}
	c.recorder.Eventf(rs, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: %s", made.Name)
	return nil
}

func (c *Controller) delete(ctx context.Context, rs *appsv1.ReplicaSet, pods []*corev1.Pod) error {
	for _, pod := range pods {
		c.pending.Deleting(rs.UID, pod.UID)
	}
	return loop.InParallel(len(pods), func(i int) error {
		pod := pods[i]
		err := c.deps.Client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(pod.UID))})
		if err != nil {
			c.pending.Deleted(rs.UID, pod.UID)
			if apierrors.IsNotFound(err) {
				return nil
			}
			c.recorder.Eventf(rs, corev1.EventTypeWarning, "FailedDelete", "Error deleting: %v", err)
			return failedDelete{err}
		}
		c.recorder.Eventf(rs, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %v", pod.Name)
		return nil
	})
}

type (
	failedCreate struct{ error }
	failedDelete struct{ error }
)

func (f failedCreate) Unwrap() error { return f.error }
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
