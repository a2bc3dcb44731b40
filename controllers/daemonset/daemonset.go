// Package daemonset keeps one pod of each DaemonSet on every node that suits it.
//
// The one idea: nodes and pods give a plan (plan.go: which nodes get a pod, which pods go,
// what the status says); the plan is carried out, and what it changes wakes the loop again.
//
// Used by controllers.All.
package daemonset

import (
	"context"
	"reflect"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	appslisters "k8s.io/client-go/listers/apps/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/proa-dev/proa/controllers/internal/revision"
	"github.com/proa-dev/proa/controllers/loop"
)

// burst bounds the pods that are created or deleted at once for one set.
const burst = 250

var kind = appsv1.SchemeGroupVersion.WithKind("DaemonSet")

// Controller is the loop.
type Controller struct {
	*loop.Loop[loop.Key]
	deps     loop.Deps
	sets     appslisters.DaemonSetLister
	nodes    corelisters.NodeLister
	owned    *loop.Owned
	history  *revision.History
	recorder record.EventRecorder
}

// New registers the loop's informers.
func New(deps loop.Deps) (*Controller, error) {
	apps, core := deps.Informers.Apps().V1(), deps.Informers.Core().V1()
	c := &Controller{
		deps: deps, sets: apps.DaemonSets().Lister(), nodes: core.Nodes().Lister(), recorder: deps.Recorder("daemonset-controller"),
		history: &revision.History{Kind: kind, Client: deps.Client, Revisions: apps.ControllerRevisions().Informer(), Label: appsv1.DefaultDaemonSetUniqueLabelKey},
	}
	c.Loop = loop.New("daemonset", deps, c.reconcile)
	if err := loop.IndexByController(c.history.Revisions); err != nil {
		return nil, err
	}
	var err error
	if c.owned, err = loop.Own(c.Loop, deps, kind, c.recorder, c.matching); err != nil {
		return nil, err
	}
	c.Watch(apps.DaemonSets().Informer(), loop.Self)
	c.Watch(c.history.Revisions, func(obj any) []loop.Key {
		r, ok := obj.(*appsv1.ControllerRevision)
		if !ok {
			return nil
		}
		if o := metav1.GetControllerOfNoCopy(r); o != nil && o.Kind == kind.Kind {
			return []loop.Key{{Namespace: r.Namespace, Name: o.Name}}
		}
		return nil
	})
	c.Handle(core.Nodes().Informer(), cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { c.all() }, DeleteFunc: func(any) { c.all() },
		UpdateFunc: func(old, obj any) {
			a, b := old.(*corev1.Node), obj.(*corev1.Node)
			if !equality.Semantic.DeepEqual(a.Labels, b.Labels) || !equality.Semantic.DeepEqual(a.Spec.Taints, b.Spec.Taints) {
				c.all()
			}
		},
	})
	return c, nil
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.Loop.Run(ctx, 2) }

// all wakes every set: a node changed in what they ask of it.
func (c *Controller) all() {
	sets, err := c.sets.List(labels.Everything())
	if err != nil {
		return // the lister reads a map; it has no errors
	}
	for _, ds := range sets {
		c.Add(loop.Key{Namespace: ds.Namespace, Name: ds.Name})
	}
}

func (c *Controller) matching(pod *corev1.Pod) []loop.Key {
	sets, err := c.sets.DaemonSets(pod.Namespace).List(labels.Everything())
	if err != nil {
		return nil // the lister reads a map; it has no errors
	}
	return loop.Selecting(pod, sets, func(ds *appsv1.DaemonSet) *metav1.LabelSelector { return ds.Spec.Selector })
}

func (c *Controller) reconcile(ctx context.Context, key loop.Key) error {
	cached, err := c.sets.DaemonSets(key.Namespace).Get(key.Name)
	if err != nil {
		return loop.Gone(err)
	}
	selector, err := metav1.LabelSelectorAsSelector(cached.Spec.Selector)
	if err != nil || selector.Empty() {
		c.recorder.Eventf(cached, corev1.EventTypeWarning, "SelectingAll", "This daemon set is selecting all pods. A non-empty selector is required.")
		return nil
	}
	if cached.DeletionTimestamp != nil {
		return nil
	}
	ds := cached.DeepCopy()
	pods, err := c.owned.Claim(ctx, ds, selector, nil, func(ctx context.Context) (metav1.Object, error) {
		return c.deps.Client.AppsV1().DaemonSets(ds.Namespace).Get(ctx, ds.Name, metav1.GetOptions{})
	})
	if err != nil {
		return err
	}
	hash, failure := c.revise(ctx, ds, pods)
	if failure != nil && !apierrors.IsAlreadyExists(failure) {
		return failure
	}
	if failure != nil { // another's name: the count of collisions is kept for the next try
		return c.writeStatus(ctx, cached, ds.Status, failure)
	}
	v, err := c.view(ds, hash, pods)
	if err != nil {
		return err
	}
	p := decide(v)
	if c.owned.Pending.Settled(ds.UID) {
		failure = c.carryOut(ctx, ds, hash, p)
	}
	if p.wait > 0 {
		c.AddAfter(key, p.wait)
	}
	return c.writeStatus(ctx, cached, p.status(ds), failure)
}

// revise gives the hash of the present template's revision and drops old history.
func (c *Controller) revise(ctx context.Context, ds *appsv1.DaemonSet, pods []*corev1.Pod) (string, error) {
	all := c.history.Of(ds)
	if ds.Status.CollisionCount == nil {
		ds.Status.CollisionCount = new(int32)
	}
	before := *ds.Status.CollisionCount
	current, err := c.history.Current(ctx, ds, all, &ds.Spec.Template, ds.Spec.Template.Labels, ds.Status.CollisionCount)
	if err != nil {
		return "", err
	}
	if before == 0 && *ds.Status.CollisionCount == 0 {
		ds.Status.CollisionCount = nil
	}
	hash := current.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]
	return hash, c.history.Truncate(ctx, all, int(*ds.Spec.RevisionHistoryLimit), func(r *appsv1.ControllerRevision) bool {
		return r.Name == current.Name || slices.ContainsFunc(pods, func(p *corev1.Pod) bool {
			return p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] == r.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]
		})
	})
}

func (c *Controller) view(ds *appsv1.DaemonSet, hash string, pods []*corev1.Pod) (view, error) {
	nodes, err := c.nodes.List(labels.Everything())
	if err != nil {
		return view{}, err
	}
	slices.SortFunc(nodes, func(a, b *corev1.Node) int { return strings.Compare(a.Name, b.Name) })
	v := view{ds: ds, hash: hash, nodes: nodes, pods: map[string][]*corev1.Pod{}, now: c.deps.Clock.Now()}
	for _, pod := range pods {
		node := nodeOf(pod)
		v.pods[node] = append(v.pods[node], pod)
	}
	return v, nil
}

func (c *Controller) carryOut(ctx context.Context, ds *appsv1.DaemonSet, hash string, p plan) error {
	for _, pod := range p.ended {
		if pod.Status.Phase == corev1.PodFailed {
			c.recorder.Eventf(ds, corev1.EventTypeWarning, "FailedDaemonPod", "Found failed daemon pod %s/%s on node %s, will try to kill it", pod.Namespace, pod.Name, nodeOf(pod))
		} else {
			c.recorder.Eventf(ds, corev1.EventTypeNormal, "SucceededDaemonPod", "Found succeeded daemon pod %s/%s on node %s, will try to delete it", pod.Namespace, pod.Name, nodeOf(pod))
		}
	}
	if err := c.owned.Delete(ctx, ds, p.delete[:min(len(p.delete), burst)]); err != nil {
		return err
	}
	nodes := p.create[:min(len(p.create), burst)]
	return c.owned.Create(ctx, ds, len(nodes), func(i int) *corev1.Pod { return podFor(ds, hash, nodes[i]) })
}

// writeStatus writes the status and answers why the work was not done, if it was not.
func (c *Controller) writeStatus(ctx context.Context, ds *appsv1.DaemonSet, status appsv1.DaemonSetStatus, failure error) error {
	if reflect.DeepEqual(ds.Status, status) {
		return failure
	}
	changed := ds.DeepCopy()
	changed.Status = status
	if _, err := c.deps.Client.AppsV1().DaemonSets(ds.Namespace).UpdateStatus(ctx, changed, metav1.UpdateOptions{}); loop.Gone(err) != nil {
		return err
	}
	return failure
}
