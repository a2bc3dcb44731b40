package core

import (
	"context"
	"fmt"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

// PersistentVolumes is the kind PersistentVolume.
var PersistentVolumes = api.Define(api.Resource[*corev1.PersistentVolume]{
	Version: "v1", Kind: "PersistentVolume", Plural: "persistentvolumes", Short: []string{"pv"},
	UnconditionalUpdate: true,
	HasStatus:           true,
	Default:             defaultVolumeObject,
	PrepareCreate:       preparePersistentVolume,
	PrepareStatus:       timePhase,
	Validate:            validateVolumeObject,
	ValidateUpdate:      validateVolumeObjectUpdate,
	Warnings:            volumeWarnings,
	Columns: []api.Column[*corev1.PersistentVolume]{
		text("Capacity", corev1.PersistentVolumeSpec{}.SwaggerDoc()["capacity"], func(v *corev1.PersistentVolume) string { return storage(v.Spec.Capacity) }),
		text("Access Modes", corev1.PersistentVolumeSpec{}.SwaggerDoc()["accessModes"], func(v *corev1.PersistentVolume) string { return accessModesText(v.Spec.AccessModes) }),
		text("Reclaim Policy", corev1.PersistentVolumeSpec{}.SwaggerDoc()["persistentVolumeReclaimPolicy"], func(v *corev1.PersistentVolume) string { return string(v.Spec.PersistentVolumeReclaimPolicy) }),
		text("Status", corev1.PersistentVolumeStatus{}.SwaggerDoc()["phase"], func(v *corev1.PersistentVolume) string {
			if v.DeletionTimestamp != nil {
				return "Terminating"
			}
			return string(v.Status.Phase)
		}),
		text("Claim", corev1.PersistentVolumeSpec{}.SwaggerDoc()["claimRef"], func(v *corev1.PersistentVolume) string {
			if v.Spec.ClaimRef == nil {
				return ""
			}
			return v.Spec.ClaimRef.Namespace + "/" + v.Spec.ClaimRef.Name
		}),
		text("StorageClass", "StorageClass of the pv", func(v *corev1.PersistentVolume) string {
			if class, ok := v.Annotations[corev1.BetaStorageClassAnnotation]; ok {
				return class
			}
			return v.Spec.StorageClassName
		}),
		text("VolumeAttributesClass", "VolumeAttributesClass of the pv", func(v *corev1.PersistentVolume) string { return attributesClass(v.Spec.VolumeAttributesClassName) }),
		text("Reason", corev1.PersistentVolumeStatus{}.SwaggerDoc()["reason"], func(v *corev1.PersistentVolume) string { return v.Status.Reason }),
		Age[*corev1.PersistentVolume](),
		wide("VolumeMode", corev1.PersistentVolumeSpec{}.SwaggerDoc()["volumeMode"], func(v *corev1.PersistentVolume) string { return volumeMode(v.Spec.VolumeMode) }),
	},
})

func defaultVolumeObject(v *corev1.PersistentVolume) {
	fill(&v.Status.Phase, corev1.VolumePending)
	fill(&v.Spec.PersistentVolumeReclaimPolicy, corev1.PersistentVolumeReclaimRetain)
	fillPtr(&v.Spec.VolumeMode, corev1.PersistentVolumeFilesystem)
	roundResources(v.Spec.Capacity)
	defaultForeignVolume(&v.Spec.PersistentVolumeSource)
	if v.Spec.HostPath != nil {
		fillPtr(&v.Spec.HostPath.Type, corev1.HostPathUnset)
	}
}

func validateVolumeObject(v *corev1.PersistentVolume) field.ErrorList {
	return validateVolumeSpec(&v.Spec, field.NewPath("spec"))
}

// ValidateInlineVolume checks a volume that an attachment holds instead of naming it
// (storage.k8s.io): only where it is and how it is accessed counts.
func ValidateInlineVolume(s *corev1.PersistentVolumeSpec, path *field.Path) field.ErrorList {
	errs := validateAccessModes(s.AccessModes, path.Child("accessModes"), "")
	if len(s.Capacity) > 0 {
		errs = append(errs, field.Forbidden(path.Child("capacity"), "may not be specified in the context of inline volumes"))
	}
	if s.CSI == nil {
		errs = append(errs, field.Required(path.Child("csi"), "has to be specified in the context of inline volumes"))
	}
	if s.StorageClassName != "" {
		errs = append(errs, field.Forbidden(path.Child("storageClassName"), "may not be specified in the context of inline volumes"))
	}
	return append(errs, validateVolumeObjectSource(s, path)...)
}

func validateVolumeSpec(v *corev1.PersistentVolumeSpec, path *field.Path) field.ErrorList {
	errs := validateAccessModes(v.AccessModes, path.Child("accessModes"), "")
	if len(v.Capacity) == 0 {
		errs = append(errs, field.Required(path.Child("capacity"), ""))
	}
	if q, ok := v.Capacity[corev1.ResourceStorage]; !ok || len(v.Capacity) > 1 {
		errs = append(errs, field.NotSupported(path.Child("capacity"), v.Capacity, []string{"storage"}))
	} else if q.Sign() <= 0 {
		errs = append(errs, field.Invalid(path.Child("capacity").Key("storage"), q.String(), "must be greater than zero"))
	}
	errs = append(errs, oneOf(v.PersistentVolumeReclaimPolicy, path.Child("persistentVolumeReclaimPolicy"),
		corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRecycle, corev1.PersistentVolumeReclaimRetain)...)
	errs = append(errs, validateVolumeObjectSource(v, path)...)
	if a := v.NodeAffinity; a != nil {
		if a.Required == nil {
			errs = append(errs, field.Required(path.Child("nodeAffinity", "required"), "must specify required node constraints"))
		} else {
			errs = append(errs, validateNodeSelector(a.Required, path.Child("nodeAffinity", "required"))...)
		}
	} else if v.Local != nil {
		errs = append(errs, field.Required(path.Child("nodeAffinity"), "Local volume requires node affinity"))
	}
	if v.StorageClassName != "" {
		errs = append(errs, dnsSubdomain(v.StorageClassName, path.Child("storageClassName"))...)
	}
	if v.VolumeMode != nil {
		errs = append(errs, oneOf(*v.VolumeMode, path.Child("volumeMode"), corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)...)
	}
	return errs
}

func validateVolumeObjectSource(v *corev1.PersistentVolumeSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	source := reflect.ValueOf(v.PersistentVolumeSource)
	n := 0
	for i := range source.NumField() {
		if !source.Field(i).IsNil() {
			if n++; n > 1 {
				name, _, _ := strings.Cut(source.Type().Field(i).Tag.Get("json"), ",")
				errs = append(errs, field.Forbidden(path.Child(name), "may not specify more than 1 volume type"))
			}
		}
	}
	if n == 0 {
		errs = append(errs, field.Required(path, "must specify a volume type"))
	}
	errs = append(errs, validateForeignVolume(&v.PersistentVolumeSource, path)...)
	if s := v.NFS; s != nil && s.Path != "" && !strings.HasPrefix(s.Path, "/") {
		errs = append(errs, field.Invalid(path.Child("nfs", "path"), s.Path, "must be an absolute path"))
	}
	if h := v.HostPath; h != nil {
		errs = append(errs, validateHostPath(h, path.Child("hostPath"))...)
		if h.Path == "/" && v.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
			errs = append(errs, field.Forbidden(path.Child("persistentVolumeReclaimPolicy"), "may not be 'recycle' for a hostPath mount of '/'"))
		}
	}
	if l := v.Local; l != nil {
		if l.Path == "" {
			errs = append(errs, field.Required(path.Child("local", "path"), ""))
		} else {
			errs = append(errs, noBackSteps(l.Path, path.Child("local", "path"))...)
		}
	}
	return errs
}

// volumeWarnings tell of what is not supported any more.
func volumeWarnings(v, _ *corev1.PersistentVolume) []string {
	path, s := field.NewPath("spec"), &v.Spec
	var list []string
	if s.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
		list = append(list, path.Child("persistentVolumeReclaimPolicy").String()+": The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.")
	}
	for _, f := range []struct {
		used              bool
		name, since, dead string
	}{
		{s.CephFS != nil, "cephfs", "1.28", "1.31"}, {s.PhotonPersistentDisk != nil, "photonPersistentDisk", "1.11", "1.16"},
		{s.ScaleIO != nil, "scaleIO", "1.16", "1.22"}, {s.StorageOS != nil, "storageOS", "1.22", "1.25"},
		{s.Glusterfs != nil, "glusterfs", "1.25", "1.26"}, {s.RBD != nil, "rbd", "1.28", "1.31"},
	} {
		if f.used {
			list = append(list, fmt.Sprintf("%s: deprecated in v%s, non-functional in v%s+", path.Child(f.name), f.since, f.dead))
		}
	}
	return list
}

func validateVolumeObjectUpdate(v, old *corev1.PersistentVolume) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("spec")
	if !apiequality.Semantic.DeepEqual(v.Spec.PersistentVolumeSource, old.Spec.PersistentVolumeSource) {
		errs = append(errs, field.Forbidden(path.Child("persistentvolumesource"), "spec.persistentvolumesource is immutable after creation\n"+specDiff(old.Spec.PersistentVolumeSource, v.Spec.PersistentVolumeSource)))
	}
	errs = append(errs, immutable(v.Spec.VolumeMode, old.Spec.VolumeMode, field.NewPath("volumeMode"))...)
	if old.Spec.NodeAffinity != nil && !apiequality.Semantic.DeepEqual(v.Spec.NodeAffinity, old.Spec.NodeAffinity) {
		errs = append(errs, field.Invalid(field.NewPath("nodeAffinity"), v.Spec.NodeAffinity, "field is immutable, except for updating from beta label to GA"))
	}
	return errs
}

func preparePersistentVolume(_ context.Context, v *corev1.PersistentVolume) {
	now := metav1.Now()
	v.Status = corev1.PersistentVolumeStatus{Phase: corev1.VolumePending, LastPhaseTransitionTime: &now}
}

// timePhase notes when the phase changed, unless the client does.
func timePhase(v, old *corev1.PersistentVolume) {
	now, at, was := metav1.Now(), &v.Status.LastPhaseTransitionTime, old.Status.LastPhaseTransitionTime
	switch same := v.Status.Phase == old.Status.Phase; {
	case same && *at == nil:
		*at = was
	case !same && (*at == nil || (*at).Equal(was)):
		*at = &now
	}
}
