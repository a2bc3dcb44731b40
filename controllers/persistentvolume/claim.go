package persistentvolume

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/component-helpers/storage/volume"
)

// note is an event to record.
type note struct{ kind, reason, message string }

// verdict is what to do with a claim.
type verdict struct {
	bind      *corev1.PersistentVolume // to this one
	provision bool                     // have one made
	phase     corev1.PersistentVolumeClaimPhase
	note      *note
}

func pending(reason, format string, args ...any) verdict {
	kind := corev1.EventTypeNormal
	if reason == "VolumeMismatch" {
		kind = corev1.EventTypeWarning
	}
	return verdict{phase: corev1.ClaimPending, note: &note{kind, reason, fmt.Sprintf(format, args...)}}
}

func lost(reason, message string) verdict {
	return verdict{phase: corev1.ClaimLost, note: &note{corev1.EventTypeWarning, reason, message}}
}

// view is what a claim's fate depends on.
type view struct {
	named      *corev1.PersistentVolume   // the volume that the claim names; nil: there is none
	candidates []*corev1.PersistentVolume // those with its access modes
	class      *storagev1.StorageClass    // nil: none, or not there
	waitsFor   string                     // the pod that uses the claim and has no node yet
}

func judgeClaim(claim *corev1.PersistentVolumeClaim, v view) (verdict, error) {
	if claim.Annotations[volume.AnnBindCompleted] != "" {
		return judgeBound(claim, v.named), nil
	}
	if claim.Spec.VolumeName != "" {
		return judgeNamed(claim, v.named), nil
	}
	class := volume.GetPersistentVolumeClaimClass(claim)
	_, selected := claim.Annotations[volume.AnnSelectedNode]
	delayed := v.class != nil && v.class.VolumeBindingMode != nil && *v.class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
	pv, err := volume.FindMatchingVolume(claim, v.candidates, nil, nil, delayed, true)
	switch {
	case err != nil:
		return verdict{}, fmt.Errorf("find a volume: %w", err)
	case pv != nil:
		return verdict{bind: pv}, nil
	case delayed && !selected && v.waitsFor != "":
		return pending("WaitForPodScheduled", "waiting for pod %s to be scheduled", v.waitsFor), nil
	case delayed && !selected:
		return pending("WaitForFirstConsumer", "waiting for first consumer to be created before binding"), nil
	case class != "":
		return verdict{phase: corev1.ClaimPending, provision: true}, nil
	}
	return pending("FailedBinding", "no persistent volumes available for this claim and no storage class is set"), nil
}

// judgeNamed is for a claim that names the volume it wants, or began to be bound to it.
func judgeNamed(claim *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) verdict {
	switch {
	case pv == nil:
		return verdict{phase: corev1.ClaimPending} // it may come yet
	case pv.Spec.ClaimRef == nil:
		if why := mismatch(claim, pv); why != "" {
			return pending("VolumeMismatch", "Cannot bind to requested volume %q: %s", pv.Name, why)
		}
		return verdict{bind: pv}
	case volume.IsVolumeBoundToClaim(pv, claim):
		return verdict{bind: pv}
	}
	return pending("FailedBinding", "volume %q already bound to a different claim.", pv.Name)
}

// mismatch says why a volume is not what a claim asks for.
func mismatch(claim *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) string {
	want, have := claim.Spec.Resources.Requests[corev1.ResourceStorage], pv.Spec.Capacity[corev1.ResourceStorage]
	name := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	switch {
	case have.Cmp(want) < 0:
		return "requested PV is too small"
	case volume.GetPersistentVolumeClass(pv) != volume.GetPersistentVolumeClaimClass(claim):
		return "storageClassName does not match"
	case name(claim.Spec.VolumeAttributesClassName) != name(pv.Spec.VolumeAttributesClassName):
		return "volumeAttributesClassName does not match"
	case volume.CheckVolumeModeMismatches(&claim.Spec, &pv.Spec):
		return "incompatible volumeMode"
	case !volume.CheckAccessModes(claim, pv):
		return "incompatible accessMode"
	}
	return ""
}

// judgeBound is for a claim that was bound once: never again to another volume.
func judgeBound(claim *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) verdict {
	switch {
	case claim.Spec.VolumeName == "":
		return lost("ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!")
	case pv == nil:
		return lost("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
	case pv.Spec.ClaimRef == nil || pv.Spec.ClaimRef.UID == claim.UID:
		return verdict{bind: pv}
	}
	return lost("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
}
