// Package statefulset keeps the numbered pods of each StatefulSet and their storage.
//
// The one idea: the name of a pod is its number, so what is missing, too many or old
// follows from the names alone (plan.go); a step repeated after a crash meets its own
// object and changes nothing.
//
// Used by controllers.All.
package statefulset

import (
	"context"
	"reflect"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	appslisters "k8s.io/client-go/listers/apps/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/proa-dev/proa/controllers/internal/revision"
	"github.com/proa-dev/proa/controllers/loop"
)

// burst bounds the pods that are created at once for one set.
const burst = 500

var kind = appsv1.SchemeGroupVersion.WithKind("StatefulSet")

// Controller is the loop.
type Controller struct {
	*loop.Loop[loop.Key]
	deps     loop.Deps
	sets     appslisters.StatefulSetLister
	claims   corelisters.PersistentVolumeClaimLister
	owned    *loop.Owned
	history  *revision.History
	recorder record.EventRecorder
	written  loop.Written
}

// New registers the loop's informers.
func New(deps loop.Deps) (*Controller, error) {
	apps, core := deps.Informers.Apps().V1(), deps.Informers.Core().V1()
	c := &Controller{
		deps: deps, sets: apps.StatefulSets().Lister(), claims: core.PersistentVolumeClaims().Lister(),
		recorder: deps.Recorder("statefulset-controller"),
		history:  &revision.History{Kind: kind, Client: deps.Client, Revisions: apps.ControllerRevisions().Informer(), Label: "controller.kubernetes.io/hash"},
	}
	c.Loop = loop.New("statefulset", deps, c.reconcile)
	if err := loop.IndexByController(c.history.Revisions); err != nil {
		return nil, err
	}
	var err error
	if c.owned, err = loop.Own(c.Loop, deps, kind, c.recorder, c.matching); err != nil {
		return nil, err
	}
	c.Watch(apps.StatefulSets().Informer(), loop.Self)
	c.Needs(core.PersistentVolumeClaims().Informer(), c.history.Revisions)
	return c, nil
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.Loop.Run(ctx, 5) }

func (c *Controller) matching(pod *corev1.Pod) []loop.Key {
	sets, err := c.sets.StatefulSets(pod.Namespace).List(labels.Everything())
	if err != nil {
		return nil // the lister reads a map; it has no errors
	}
	keys := loop.Selecting(pod, sets, func(set *appsv1.StatefulSet) *metav1.LabelSelector { return set.Spec.Selector })
	return slices.DeleteFunc(keys, func(k loop.Key) bool { return ordinal(k.Name, pod.Name) < 0 })
}

func (c *Controller) reconcile(ctx context.Context, key loop.Key) error {
	cached, err := c.sets.StatefulSets(key.Namespace).Get(key.Name)
	if err != nil {
		return loop.Gone(err)
	}
	if !c.written.Shown(cached) || cached.DeletionTimestamp != nil {
		return nil
	}
	selector, err := metav1.LabelSelectorAsSelector(cached.Spec.Selector)
	if err != nil {
		return nil // the API refuses such selectors
	}
	set := cached.DeepCopy()
	named := func(pod *corev1.Pod) bool { return ordinal(set.Name, pod.Name) >= 0 }
	pods, err := c.owned.Claim(ctx, set, selector, named, func(ctx context.Context) (metav1.Object, error) {
		return c.deps.Client.AppsV1().StatefulSets(set.Namespace).Get(ctx, set.Name, metav1.GetOptions{})
	})
	if err != nil {
		return err
	}
	current, update, err := c.revise(ctx, set, pods)
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	if err != nil { // another's name: the count of collisions is kept for the next try
		return c.writeStatus(ctx, cached, set.Status, err)
	}
	v := view{set: set, current: current.Name, update: update.Name, pods: pods, now: c.deps.Clock.Now()}
	p := decide(v)
	if c.owned.Pending.Settled(set.UID) {
		err = c.carryOut(ctx, v, p, map[string]*appsv1.ControllerRevision{current.Name: current, update.Name: update})
	}
	if p.wait > 0 {
		c.AddAfter(key, p.wait)
	}
	return c.writeStatus(ctx, cached, p.status, err)
}

// revise gives the revision that the set is at and the one of its present template.
func (c *Controller) revise(ctx context.Context, set *appsv1.StatefulSet, pods []*corev1.Pod) (current, update *appsv1.ControllerRevision, err error) {
	all := c.history.Of(set)
	if set.Status.CollisionCount == nil {
		set.Status.CollisionCount = new(int32)
	}
	update, err = c.history.Current(ctx, set, all, &set.Spec.Template, set.Spec.Selector.MatchLabels, set.Status.CollisionCount)
	if err != nil {
		return nil, nil, err
	}
	current = update
	for _, r := range all {
		if r.Name == set.Status.CurrentRevision {
			current = r
		}
	}
	return current, update, c.history.Truncate(ctx, all, int(*set.Spec.RevisionHistoryLimit), func(r *appsv1.ControllerRevision) bool {
		return r.Name == current.Name || r.Name == update.Name || slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return revisionOf(p) == r.Name })
	})
}

func (c *Controller) carryOut(ctx context.Context, v view, p plan, revisions map[string]*appsv1.ControllerRevision) error {
	for _, pod := range p.ended {
		c.recorder.Eventf(v.set, corev1.EventTypeWarning, "RecreatingFailedPod", "StatefulSet %s/%s is recreating failed Pod %s", v.set.Namespace, v.set.Name, pod.Name)
	}
	if err := c.remove(ctx, v.set, p); err != nil {
		return err
	}
	pending := c.owned.Pending
	pending.Creating(v.set.UID, len(p.create))
	tried, err := loop.SlowStart(len(p.create), func(i int) error {
		r := revisions[v.revisionFor(p.create[i])]
		err := c.create(ctx, v.set, r, p.create[i])
		if err != nil {
			pending.Created(v.set.UID)
		}
		if apierrors.IsAlreadyExists(err) {
			return nil // the cache is behind; the event that shows the pod wakes us
		}
		return err
	})
	for range len(p.create) - tried {
		pending.Created(v.set.UID)
	}
	return err
}

// create makes a pod and first, if they are not there, the claims of its storage.
func (c *Controller) create(ctx context.Context, set *appsv1.StatefulSet, r *appsv1.ControllerRevision, n int) error {
	template, err := revision.Template(r)
	if err != nil {
		return err
	}
	pod := podFor(set, template, r.Name, n)
	for _, claim := range claimsFor(set, pod.Name) {
		if _, err := c.claims.PersistentVolumeClaims(claim.Namespace).Get(claim.Name); err == nil {
			continue
		}
		_, err := c.deps.Client.CoreV1().PersistentVolumeClaims(claim.Namespace).Create(ctx, claim, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			continue
		}
		if err != nil {
			c.recorder.Eventf(set, corev1.EventTypeWarning, "FailedCreate", "create Claim %s for Pod %s in StatefulSet %s failed error: %s", claim.Name, pod.Name, set.Name, err)
			return err
		}
		c.recorder.Eventf(set, corev1.EventTypeNormal, "SuccessfulCreate", "create Claim %s Pod %s in StatefulSet %s success", claim.Name, pod.Name, set.Name)
	}
	if _, err := c.deps.Client.CoreV1().Pods(set.Namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		if !apierrors.IsAlreadyExists(err) {
			c.recorder.Eventf(set, corev1.EventTypeWarning, "FailedCreate", "create Pod %s in StatefulSet %s failed error: %s", pod.Name, set.Name, err)
		}
		return err
	}
	c.recorder.Eventf(set, corev1.EventTypeNormal, "SuccessfulCreate", "create Pod %s in StatefulSet %s successful", pod.Name, set.Name)
	return nil
}

func (c *Controller) remove(ctx context.Context, set *appsv1.StatefulSet, p plan) error {
	if r := set.Spec.PersistentVolumeClaimRetentionPolicy; r != nil && r.WhenScaled == appsv1.DeletePersistentVolumeClaimRetentionPolicyType {
		for _, pod := range p.drop {
			if err := c.handOver(ctx, set, pod); err != nil {
				return err
			}
		}
	}
	for _, pod := range p.delete {
		c.owned.Pending.Deleting(set.UID, pod.UID)
	}
	return loop.InParallel(len(p.delete), func(i int) error {
		pod := p.delete[i]
		err := c.deps.Client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(pod.UID))})
		if err != nil {
			c.owned.Pending.Deleted(set.UID, pod.UID)
			if apierrors.IsNotFound(err) {
				return nil
			}
			c.recorder.Eventf(set, corev1.EventTypeWarning, "FailedDelete", "delete Pod %s in StatefulSet %s failed error: %s", pod.Name, set.Name, err)
			return err
		}
		c.recorder.Eventf(set, corev1.EventTypeNormal, "SuccessfulDelete", "delete Pod %s in StatefulSet %s successful", pod.Name, set.Name)
		return nil
	})
}

// handOver makes a pod own its claims, so that they go with it.
func (c *Controller) handOver(ctx context.Context, set *appsv1.StatefulSet, pod *corev1.Pod) error {
	for _, t := range set.Spec.VolumeClaimTemplates {
		claim, err := c.claims.PersistentVolumeClaims(pod.Namespace).Get(claimName(t.Name, pod.Name))
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
		if slices.ContainsFunc(claim.OwnerReferences, func(o metav1.OwnerReference) bool { return o.UID == pod.UID }) {
			continue
		}
		changed := claim.DeepCopy()
		changed.OwnerReferences = append(changed.OwnerReferences[:0], *metav1.NewControllerRef(pod, corev1.SchemeGroupVersion.WithKind("Pod")))
		if _, err := c.deps.Client.CoreV1().PersistentVolumeClaims(claim.Namespace).Update(ctx, changed, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// writeStatus writes the status and answers why the work was not done, if it was not.
func (c *Controller) writeStatus(ctx context.Context, set *appsv1.StatefulSet, status appsv1.StatefulSetStatus, failure error) error {
	if reflect.DeepEqual(set.Status, status) {
		return failure
	}
	changed := set.DeepCopy()
	changed.Status = status
	made, err := c.deps.Client.AppsV1().StatefulSets(set.Namespace).UpdateStatus(ctx, changed, metav1.UpdateOptions{})
	if err != nil {
		return loop.Gone(err)
	}
	c.written.Note(made)
	return failure
}
