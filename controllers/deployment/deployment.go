// Package deployment rolls out the pod template of each Deployment through ReplicaSets.
//
// The one idea: the sets there are and the wish give the next step (plan.go); one step is
// taken, the status that shows it is written (status.go), and the change that it brings
// about wakes the loop for the next.
//
// Used by controllers.All.
package deployment

import (
	"context"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	appslisters "k8s.io/client-go/listers/apps/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/proa-dev/proa/controllers/loop"
)

var kind = appsv1.SchemeGroupVersion.WithKind("Deployment")

// Controller is the loop.
type Controller struct {
	*loop.Loop[loop.Key]
	deps        loop.Deps
	deployments appslisters.DeploymentLister
	sets        cache.SharedIndexInformer
	recorder    record.EventRecorder

	mu      sync.Mutex
	written map[types.UID]string // versions of sets written that the cache may not show yet
}

// New registers the loop's informers.
func New(deps loop.Deps) (*Controller, error) {
	apps := deps.Informers.Apps().V1()
	c := &Controller{
		deps: deps, deployments: apps.Deployments().Lister(), sets: apps.ReplicaSets().Informer(),
		recorder: deps.Recorder("deployment-controller"), written: map[types.UID]string{},
	}
	if err := loop.IndexByController(c.sets); err != nil {
		return nil, err
	}
	c.Loop = loop.New("deployment", deps, c.reconcile)
	c.Watch(apps.Deployments().Informer(), loop.Self)
	c.Watch(c.sets, c.owners)
	c.Handle(c.sets, cache.ResourceEventHandlerFuncs{DeleteFunc: func(obj any) {
		if tombstone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = tombstone.Obj
		}
		if rs, ok := obj.(*appsv1.ReplicaSet); ok {
			c.mu.Lock()
			defer c.mu.Unlock()
			delete(c.written, rs.UID)
		}
	}})
	return c, nil
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.Loop.Run(ctx, 5) }

// owners are the deployments that a set concerns: the one that controls it or, if none
// does, those that would adopt it.
func (c *Controller) owners(obj any) []loop.Key {
	rs, ok := obj.(*appsv1.ReplicaSet)
	if !ok {
		return nil
	}
	if o := metav1.GetControllerOfNoCopy(rs); o != nil {
		if o.Kind != kind.Kind || o.APIVersion != kind.GroupVersion().String() {
			return nil
		}
		return []loop.Key{{Namespace: rs.Namespace, Name: o.Name}}
	}
	all, err := c.deployments.Deployments(rs.Namespace).List(labels.Everything())
	if err != nil {
		return nil // the lister reads a map; it has no errors
	}
	var keys []loop.Key
	for _, d := range all {
		if s, err := metav1.LabelSelectorAsSelector(d.Spec.Selector); err == nil && !s.Empty() && s.Matches(labels.Set(rs.Labels)) {
			keys = append(keys, loop.Key{Namespace: d.Namespace, Name: d.Name})
		}
	}
	return keys
}

func (c *Controller) reconcile(ctx context.Context, key loop.Key) error {
	cached, err := c.deployments.Deployments(key.Namespace).Get(key.Name)
	if err != nil {
		return loop.Gone(err)
	}
	selector, err := metav1.LabelSelectorAsSelector(cached.Spec.Selector)
	if err != nil || selector.Empty() {
		c.recorder.Eventf(cached, corev1.EventTypeWarning, "SelectingAll", "This deployment is selecting all pods. A non-empty selector is required.")
		return nil
	}
	sets, err := c.claim(ctx, cached, selector)
	if err != nil {
		return err
	}
	if !c.shown(sets) {
		return nil // the event that shows it wakes us
	}
	r := &rollout{Controller: c, was: cached, d: cached.DeepCopy(), all: sets}
	r.current, r.old = split(r.d, sets)
	err = r.step(ctx)
	if after := r.finish(); after > 0 {
		c.AddAfter(key, after)
	}
	if failed := r.writeStatus(ctx); failed != nil {
		return failed
	}
	return err
}

// shown says whether the cache has what was written to the sets.
func (c *Controller) shown(sets []*appsv1.ReplicaSet) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rs := range sets {
		version, ours := c.written[rs.UID]
		if !ours {
			continue
		}
		if order, err := resourceversion.CompareResourceVersion(rs.ResourceVersion, version); err == nil && order < 0 {
			return false
		}
		delete(c.written, rs.UID)
	}
	return true
}

func (c *Controller) wrote(rs *appsv1.ReplicaSet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.written[rs.UID] = rs.ResourceVersion
}

// claim gives the sets that the deployment controls, having adopted those that match and
// are nobody's and released those that match no more.
func (c *Controller) claim(ctx context.Context, d *appsv1.Deployment, selector labels.Selector) ([]*appsv1.ReplicaSet, error) {
	var mine []*appsv1.ReplicaSet
	for _, rs := range loop.ControlledBy[*appsv1.ReplicaSet](c.sets, d.UID) {
		if selector.Matches(labels.Set(rs.Labels)) || d.DeletionTimestamp != nil {
			mine = append(mine, rs)
			continue
		}
		released := rs.DeepCopy()
		released.OwnerReferences = nil
		for _, o := range rs.OwnerReferences {
			if o.UID != d.UID {
				released.OwnerReferences = append(released.OwnerReferences, o)
			}
		}
		if _, err := c.update(ctx, released); err != nil {
			return nil, err
		}
	}
	if d.DeletionTimestamp != nil {
		return mine, nil
	}
	for _, rs := range loop.Orphans[*appsv1.ReplicaSet](c.sets, d.Namespace) {
		if rs.DeletionTimestamp != nil || !selector.Matches(labels.Set(rs.Labels)) {
			continue
		}
		// Only a deployment that still exists may adopt: the cache could be behind.
		now, err := c.deps.Client.AppsV1().Deployments(d.Namespace).Get(ctx, d.Name, metav1.GetOptions{})
		if err != nil || now.UID != d.UID || now.DeletionTimestamp != nil {
			return mine, loop.Gone(err)
		}
		adopted := rs.DeepCopy()
		adopted.OwnerReferences = append(adopted.OwnerReferences, *metav1.NewControllerRef(d, kind))
		if adopted, err = c.update(ctx, adopted); err != nil {
			return nil, err
		}
		mine = append(mine, adopted)
	}
	return mine, nil
}

// update writes a set and remembers to wait until the cache shows it.
func (c *Controller) update(ctx context.Context, rs *appsv1.ReplicaSet) (*appsv1.ReplicaSet, error) {
	made, err := c.deps.Client.AppsV1().ReplicaSets(rs.Namespace).Update(ctx, rs, metav1.UpdateOptions{})
	if err != nil {
		return nil, err
	}
	c.wrote(made)
	return made, nil
}
