package persistentvolume

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/volume"

	"github.com/proa-dev/proa/controllers/loop"
)

// state is where a volume stands.
type state int

const (
	free     state = iota // nobody has it; or it is kept for a claim that has not come
	taking                // it names a claim that does not name it yet
	bound                 // both name each other
	released              // the claim that had it is gone
	mistaken              // its claim has another volume: it was never used
)

// judgeVolume decides on a volume and the claim it names; nil: there is none.
func judgeVolume(pv *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) state {
	ref := pv.Spec.ClaimRef
	switch {
	case ref == nil || ref.UID == "":
		return free
	case claim == nil || claim.UID != ref.UID:
		return released
	case claim.Spec.VolumeName == "":
		return taking
	case claim.Spec.VolumeName == pv.Name:
		return bound
	case pv.Annotations[volume.AnnDynamicallyProvisioned] != "" && pv.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete:
		return released // made for the claim, which found another: nobody else wants it
	}
	return mistaken
}

func (c *Controller) syncVolume(ctx context.Context, pv *corev1.PersistentVolume) error {
	claim, err := c.claimOfVolume(ctx, pv)
	if err != nil {
		return err
	}
	switch judgeVolume(pv, claim) {
	case free:
		_, err = c.volumePhase(ctx, pv, corev1.VolumeAvailable, "")
	case bound:
		_, err = c.volumePhase(ctx, pv, corev1.VolumeBound, "")
	case taking: // the claim's turn
	case mistaken:
		err = c.unbind(ctx, pv)
	case released:
		if pv.Status.Phase != corev1.VolumeReleased && pv.Status.Phase != corev1.VolumeFailed {
			if pv, err = c.volumePhase(ctx, pv, corev1.VolumeReleased, ""); err != nil {
				return loop.Gone(err)
			}
		}
		return c.reclaim(ctx, pv)
	}
	return loop.Gone(err)
}

// claimOfVolume asks the server where the cache says that the claim is not there: what
// follows may delete data.
func (c *Controller) claimOfVolume(ctx context.Context, pv *corev1.PersistentVolume) (*corev1.PersistentVolumeClaim, error) {
	ref := pv.Spec.ClaimRef
	if ref == nil || ref.UID == "" {
		return nil, nil
	}
	claim, err := c.claims.PersistentVolumeClaims(ref.Namespace).Get(ref.Name)
	if err == nil && claim.UID == ref.UID {
		return claim, nil
	}
	claim, err = c.deps.Client.CoreV1().PersistentVolumeClaims(ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return claim, err
}

// volumePhase writes a phase, unless the volume has it.
func (c *Controller) volumePhase(ctx context.Context, pv *corev1.PersistentVolume, phase corev1.PersistentVolumePhase, message string) (*corev1.PersistentVolume, error) {
	if pv.Status.Phase == phase {
		return pv, nil
	}
	changed := pv.DeepCopy()
	changed.Status.Phase, changed.Status.Message = phase, message
	now := metav1.NewTime(c.deps.Clock.Now())
	changed.Status.LastPhaseTransitionTime = &now
	return c.deps.Client.CoreV1().PersistentVolumes().UpdateStatus(ctx, changed, metav1.UpdateOptions{})
}

// unbind gives a volume back to everybody, or to the claim that a user keeps it for.
func (c *Controller) unbind(ctx context.Context, pv *corev1.PersistentVolume) error {
	changed := pv.DeepCopy()
	if pv.Annotations[volume.AnnBoundByController] != "" {
		changed.Spec.ClaimRef = nil
		delete(changed.Annotations, volume.AnnBoundByController)
	} else {
		changed.Spec.ClaimRef.UID, changed.Spec.ClaimRef.ResourceVersion = "", ""
	}
	pv, err := c.deps.Client.CoreV1().PersistentVolumes().Update(ctx, changed, metav1.UpdateOptions{})
	if err != nil {
		return err
	}
	_, err = c.volumePhase(ctx, pv, corev1.VolumeAvailable, "")
	return err
}
