// Package volumeprotection keeps claims while pods use them and volumes while claims have
// them: a finalizer holds what is deleted until then.
//
// The one idea: two questions with one answer each, "does a pod use this claim" and "is
// this volume bound"; the finalizer is there while the answer may be yes.
//
// Used by controllers.All.
package volumeprotection

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/proa-dev/proa/controllers/loop"
)

const (
	claimFinalizer  = "kubernetes.io/pvc-protection"
	volumeFinalizer = "kubernetes.io/pv-protection"
)

// Controller is the loop over claims, and over volumes (keys without a namespace).
type Controller struct {
	*loop.Loop[loop.Key]
	deps    loop.Deps
	claims  corelisters.PersistentVolumeClaimLister
	volumes corelisters.PersistentVolumeLister
	podsOf  func(claim loop.Key) []*corev1.Pod
}

// New registers the loop's informers.
func New(deps loop.Deps) (*Controller, error) {
	core := deps.Informers.Core().V1()
	pods := core.Pods().Informer()
	podsOf, err := loop.PodsByClaim(pods)
	if err != nil {
		return nil, err
	}
	c := &Controller{deps: deps, claims: core.PersistentVolumeClaims().Lister(), volumes: core.PersistentVolumes().Lister(), podsOf: podsOf}
	c.Loop = loop.New("volumeprotection", deps, c.reconcile)
	c.Watch(core.PersistentVolumeClaims().Informer(), loop.Self)
	c.Watch(core.PersistentVolumes().Informer(), loop.Self)
	c.Handle(pods, cache.ResourceEventHandlerFuncs{
		// Only a pod that goes sets a claim free; one whose claims are another's is another pod.
		UpdateFunc: func(old, _ any) { c.freed(old) },
		DeleteFunc: func(obj any) {
			if tombstone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = tombstone.Obj
			}
			c.freed(obj)
		},
	})
	return c, nil
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.Loop.Run(ctx, 2) }

// freed wakes the claims of a pod that are being deleted.
func (c *Controller) freed(obj any) {
	for _, k := range loop.ClaimsOf(obj) {
		if claim, err := c.claims.PersistentVolumeClaims(k.Namespace).Get(k.Name); err == nil && claim.DeletionTimestamp != nil {
			c.Add(k)
		}
	}
}

func (c *Controller) reconcile(ctx context.Context, k loop.Key) error {
	if k.Namespace == "" {
		return c.volume(ctx, k.Name)
	}
	claim, err := c.claims.PersistentVolumeClaims(k.Namespace).Get(k.Name)
	if err != nil {
		return loop.Gone(err)
	}
	has := slices.Contains(claim.Finalizers, claimFinalizer)
	if has == (claim.DeletionTimestamp == nil) || !has && claim.DeletionTimestamp != nil {
		return nil
	}
	if has {
		if used, err := c.used(ctx, claim); used || err != nil {
			return err
		}
	}
	changed := claim.DeepCopy()
	changed.Finalizers = toggled(claim.Finalizers, claimFinalizer)
	_, err = c.deps.Client.CoreV1().PersistentVolumeClaims(k.Namespace).Update(ctx, changed, metav1.UpdateOptions{})
	return loop.Gone(err)
}

func (c *Controller) volume(ctx context.Context, name string) error {
	pv, err := c.volumes.Get(name)
	if err != nil {
		return loop.Gone(err)
	}
	has := slices.Contains(pv.Finalizers, volumeFinalizer)
	if has == (pv.DeletionTimestamp == nil) || !has && pv.DeletionTimestamp != nil || has && pv.Status.Phase == corev1.VolumeBound {
		return nil
	}
	changed := pv.DeepCopy()
	changed.Finalizers = toggled(pv.Finalizers, volumeFinalizer)
	_, err = c.deps.Client.CoreV1().PersistentVolumes().Update(ctx, changed, metav1.UpdateOptions{})
	return loop.Gone(err)
}

// toggled takes a finalizer away, or adds it where it was missing.
func toggled(list []string, one string) []string {
	kept := slices.DeleteFunc(slices.Clone(list), func(f string) bool { return f == one })
	if len(kept) == len(list) {
		return append(kept, one)
	}
	return kept
}

// used says whether a pod with a node has the claim: one without will not be started with
// a claim that is being deleted. When the cache knows none, the server has the last word.
func (c *Controller) used(ctx context.Context, claim *corev1.PersistentVolumeClaim) (bool, error) {
	for _, pod := range c.podsOf(loop.Key{Namespace: claim.Namespace, Name: claim.Name}) {
		if uses(pod, claim) {
			return true, nil
		}
	}
	now, err := c.deps.Client.CoreV1().Pods(claim.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(now.Items, func(pod corev1.Pod) bool { return uses(&pod, claim) }), nil
}

func uses(pod *corev1.Pod, claim *corev1.PersistentVolumeClaim) bool {
	if pod.Spec.NodeName == "" {
		return false
	}
	over := pod.DeletionTimestamp != nil && pod.DeletionGracePeriodSeconds != nil && *pod.DeletionGracePeriodSeconds == 0
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if loop.ClaimName(pod, v) != claim.Name {
			continue
		}
		if v.Ephemeral == nil || !over && metav1.IsControlledBy(claim, pod) {
			return true
		}
	}
	return false
}
