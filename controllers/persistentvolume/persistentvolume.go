// Package persistentvolume brings claims and volumes together: it finds a volume for each
// claim, has one made where a storage class says how, and gives back what was released.
//
// The one idea: what to do with a claim, or a volume, is decided by a pure function from
// what is there (claim.go, volume.go) to one verdict; performing it is a row of writes
// (bind.go) of which each can be the last before a crash, since the next look begins anew.
// Both sides of a binding name each other; the volume's side is written first and decides.
//
//	claim:   unbound -> bound when both name each other; lost when its volume went
//	volume:  available -> bound -> released (-> deleted, by its reclaim policy)
//
// Used by controllers.All.
package persistentvolume

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/component-helpers/storage/volume"

	"github.com/proa-dev/proa/controllers/loop"
)

// key is a claim, or without a namespace a volume.
type key = loop.Key

// Controller is the loop.
type Controller struct {
	*loop.Loop[key]
	deps     loop.Deps
	claims   corelisters.PersistentVolumeClaimLister
	volumes  corelisters.PersistentVolumeLister
	classes  storagelisters.StorageClassLister
	nodes    corelisters.NodeLister
	informer struct{ claims, volumes cache.SharedIndexInformer }
	podsOf   func(claim key) []*corev1.Pod
	recorder record.EventRecorder
	remove   func(ctx context.Context, node, name string) error // a local volume's folder
}

// Indexes of what has to be found from the other side.
const (
	unbound = "proa/unboundClaimsOfClass"
	ofClaim = "proa/volumesOfClaim"
)

// New registers the loop's informers.
func New(deps loop.Deps) (*Controller, error) {
	core, storage := deps.Informers.Core().V1(), deps.Informers.Storage().V1()
	c := &Controller{
		deps: deps, claims: core.PersistentVolumeClaims().Lister(), volumes: core.PersistentVolumes().Lister(),
		classes: storage.StorageClasses().Lister(), nodes: core.Nodes().Lister(), recorder: deps.Recorder("persistentvolume-controller"),
	}
	c.remove = c.removeFromNode
	c.informer.claims, c.informer.volumes = core.PersistentVolumeClaims().Informer(), core.PersistentVolumes().Informer()
	var err error
	if c.podsOf, err = loop.PodsByClaim(core.Pods().Informer()); err != nil {
		return nil, err
	}
	for _, add := range []struct {
		to     cache.SharedIndexInformer
		name   string
		values func(any) []string
	}{{c.informer.claims, unbound, unboundClass}, {c.informer.volumes, ofClaim, claimOf}} {
		if err := loop.Index(add.to, add.name, add.values); err != nil {
			return nil, err
		}
	}
	c.Loop = loop.New("persistentvolume", deps, c.reconcile)
	c.Watch(c.informer.claims, c.claimChanged)
	c.Watch(c.informer.volumes, c.volumeChanged)
	c.Watch(storage.StorageClasses().Informer(), func(obj any) []key {
		k, _ := loop.KeyOf(obj)
		return append(c.waiting(k.Name), c.waiting("")...) // it may be the default
	})
	c.Needs(core.Nodes().Informer(), core.Pods().Informer())
	return c, nil
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.Loop.Run(ctx, 4) }

func unboundClass(obj any) []string {
	if claim, ok := obj.(*corev1.PersistentVolumeClaim); ok && claim.Annotations[volume.AnnBindCompleted] == "" {
		return []string{volume.GetPersistentVolumeClaimClass(claim)}
	}
	return nil
}

func claimOf(obj any) []string {
	if pv, ok := obj.(*corev1.PersistentVolume); ok && pv.Spec.ClaimRef != nil {
		return []string{pv.Spec.ClaimRef.Namespace + "/" + pv.Spec.ClaimRef.Name}
	}
	return nil
}

// claimChanged wakes a claim, and the volumes that it names or that name it.
func (c *Controller) claimChanged(obj any) []key {
	claim, ok := obj.(*corev1.PersistentVolumeClaim)
	if !ok {
		return nil
	}
	keys := []key{{Namespace: claim.Namespace, Name: claim.Name}}
	for _, pv := range loop.Indexed[*corev1.PersistentVolume](c.informer.volumes, ofClaim, keys[0].String()) {
		keys = append(keys, key{Name: pv.Name})
	}
	if claim.Spec.VolumeName != "" {
		keys = append(keys, key{Name: claim.Spec.VolumeName})
	}
	return keys
}

// volumeChanged wakes a volume, the claim that it names, and while it is to be had those
// that wait for one of its class or by its name.
func (c *Controller) volumeChanged(obj any) []key {
	pv, ok := obj.(*corev1.PersistentVolume)
	if !ok {
		return nil
	}
	keys := []key{{Name: pv.Name}}
	if ref := pv.Spec.ClaimRef; ref != nil {
		return append(keys, key{Namespace: ref.Namespace, Name: ref.Name})
	}
	return append(keys, c.waiting(volume.GetPersistentVolumeClass(pv))...)
}

// waiting are the claims of a class that have no volume.
func (c *Controller) waiting(class string) []key {
	var keys []key
	for _, claim := range loop.Indexed[*corev1.PersistentVolumeClaim](c.informer.claims, unbound, class) {
		keys = append(keys, key{Namespace: claim.Namespace, Name: claim.Name})
	}
	return keys
}

func (c *Controller) reconcile(ctx context.Context, k key) error {
	if k.Namespace == "" {
		pv, err := c.volumes.Get(k.Name)
		if err != nil {
			return loop.Gone(err)
		}
		return c.syncVolume(ctx, pv)
	}
	claim, err := c.claims.PersistentVolumeClaims(k.Namespace).Get(k.Name)
	if err != nil {
		return loop.Gone(err)
	}
	return c.syncClaim(ctx, claim)
}

// candidates are the volumes that have the access modes which a claim asks for.
func (c *Controller) candidates(claim *corev1.PersistentVolumeClaim) []*corev1.PersistentVolume {
	all, err := c.volumes.List(labels.Everything())
	if err != nil {
		return nil // the cache never fails
	}
	return slices.DeleteFunc(all, func(pv *corev1.PersistentVolume) bool { return !volume.CheckAccessModes(claim, pv) })
}
