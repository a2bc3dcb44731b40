package persistentvolume

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/component-helpers/storage/volume"

	"github.com/proa-dev/proa/controllers/loop"
)

func (c *Controller) syncClaim(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	v := view{}
	if name := claim.Spec.VolumeName; name != "" {
		pv, err := c.volumes.Get(name)
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		v.named = pv
		if pv == nil && claim.Annotations[volume.AnnBindCompleted] != "" { // the cache may lag; losing a volume is said only when it is so
			now, err := c.deps.Client.CoreV1().PersistentVolumes().Get(ctx, name, metav1.GetOptions{})
			if err != nil && !apierrors.IsNotFound(err) {
				return err
			}
			if err == nil {
				v.named = now
			}
		}
	} else if claim.Annotations[volume.AnnBindCompleted] == "" {
		v.candidates, v.waitsFor = c.candidates(claim), c.consumer(claim)
		class, err := c.classes.Get(volume.GetPersistentVolumeClaimClass(claim))
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		v.class = class
	}
	todo, err := judgeClaim(claim, v)
	switch {
	case err != nil:
		return err
	case todo.bind != nil:
		return c.bind(ctx, todo.bind, claim)
	}
	if v.class == nil && todo.phase == corev1.ClaimPending && claim.Spec.VolumeName == "" {
		if given, err := c.giveDefaultClass(ctx, claim); given || err != nil {
			return loop.Gone(err)
		}
	}
	if todo.note != nil && (todo.phase != corev1.ClaimLost || claim.Status.Phase != corev1.ClaimLost) {
		c.recorder.Event(claim, todo.note.kind, todo.note.reason, todo.note.message)
	}
	if claim, err = c.claimPhase(ctx, claim, todo.phase); err != nil || !todo.provision {
		return loop.Gone(err)
	}
	return c.provision(ctx, claim, v.class)
}

// giveDefaultClass sets the class of a claim that was made before there was a default.
func (c *Controller) giveDefaultClass(ctx context.Context, claim *corev1.PersistentVolumeClaim) (bool, error) {
	if volume.PersistentVolumeClaimHasClass(claim) {
		return false, nil
	}
	all, err := c.classes.List(labels.Everything())
	if err != nil {
		return false, err
	}
	var newest *storagev1.StorageClass
	for _, class := range all {
		if class.Annotations["storageclass.kubernetes.io/is-default-class"] != "true" && class.Annotations["storageclass.beta.kubernetes.io/is-default-class"] != "true" {
			continue
		}
		if newest == nil || newest.CreationTimestamp.Before(&class.CreationTimestamp) || newest.CreationTimestamp.Equal(&class.CreationTimestamp) && class.Name < newest.Name {
			newest = class
		}
	}
	if newest == nil {
		return false, nil
	}
	changed := claim.DeepCopy()
	changed.Spec.StorageClassName = &newest.Name
	_, err = c.deps.Client.CoreV1().PersistentVolumeClaims(claim.Namespace).Update(ctx, changed, metav1.UpdateOptions{})
	return true, err
}

// consumer names a pod that uses the claim and has no node.
func (c *Controller) consumer(claim *corev1.PersistentVolumeClaim) string {
	for _, pod := range c.podsOf(key{Namespace: claim.Namespace, Name: claim.Name}) {
		if pod.Spec.NodeName == "" && !loop.Ended(pod) {
			return pod.Name
		}
	}
	return ""
}

func (c *Controller) claimPhase(ctx context.Context, claim *corev1.PersistentVolumeClaim, phase corev1.PersistentVolumeClaimPhase) (*corev1.PersistentVolumeClaim, error) {
	if claim.Status.Phase == phase {
		return claim, nil
	}
	changed := claim.DeepCopy()
	changed.Status.Phase = phase
	if phase != corev1.ClaimBound {
		changed.Status.AccessModes, changed.Status.Capacity = nil, nil
	}
	return c.deps.Client.CoreV1().PersistentVolumeClaims(claim.Namespace).UpdateStatus(ctx, changed, metav1.UpdateOptions{})
}

// bind makes volume and claim name each other, in four writes of which each stands for
// itself: the volume's claim, its phase, the claim's volume, its status.
func (c *Controller) bind(ctx context.Context, pv *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) error {
	next, changed, err := volume.GetBindVolumeToClaim(pv, claim)
	if err != nil {
		return err
	}
	if changed {
		if pv, err = c.deps.Client.CoreV1().PersistentVolumes().Update(ctx, next, metav1.UpdateOptions{}); err != nil {
			return loop.Gone(err)
		}
	}
	if pv, err = c.volumePhase(ctx, pv, corev1.VolumeBound, ""); err != nil {
		return loop.Gone(err)
	}
	if next, changed := boundTo(claim, pv); changed {
		if claim, err = c.deps.Client.CoreV1().PersistentVolumeClaims(claim.Namespace).Update(ctx, next, metav1.UpdateOptions{}); err != nil {
			return loop.Gone(err)
		}
	}
	status := boundStatus(claim, pv)
	if apiequality.Semantic.DeepEqual(status, claim.Status) {
		return c.expand(ctx, pv, claim)
	}
	done := claim.DeepCopy()
	done.Status = status
	_, err = c.deps.Client.CoreV1().PersistentVolumeClaims(claim.Namespace).UpdateStatus(ctx, done, metav1.UpdateOptions{})
	return loop.Gone(err)
}

// boundTo is a claim that names its volume; false when it does already.
func boundTo(claim *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) (*corev1.PersistentVolumeClaim, bool) {
	next, changed := claim.DeepCopy(), false
	if claim.Spec.VolumeName != pv.Name {
		next.Spec.VolumeName, changed = pv.Name, true
		metav1.SetMetaDataAnnotation(&next.ObjectMeta, volume.AnnBoundByController, "yes")
	}
	if claim.Annotations[volume.AnnBindCompleted] == "" {
		metav1.SetMetaDataAnnotation(&next.ObjectMeta, volume.AnnBindCompleted, "yes")
		changed = true
	}
	return next, changed
}

// boundStatus is what a bound claim says of its volume. The size is taken over once: a
// volume that grew later has a file system that did not yet.
func boundStatus(claim *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) corev1.PersistentVolumeClaimStatus {
	status := *claim.Status.DeepCopy()
	if status.Phase != corev1.ClaimBound {
		status.Phase = corev1.ClaimBound
		status.Capacity = pv.Spec.Capacity.DeepCopy()
		status.CurrentVolumeAttributesClassName = pv.Spec.VolumeAttributesClassName
	}
	status.AccessModes = pv.Spec.AccessModes
	return status
}
