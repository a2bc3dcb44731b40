package storage

import (
	"math"

	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/core"
	"github.com/proa-dev/proa/apis/internal/check"
)

type attachment = *storagev1.VolumeAttachment

var attachmentDoc = storagev1.VolumeAttachmentSpec{}.SwaggerDoc()

var volumeAttachments = api.Define(api.Resource[attachment]{
	Group: storagev1.GroupName, Version: "v1", Kind: "VolumeAttachment", Plural: "volumeattachments",
	Alike:     []string{"v1beta1"},
	HasStatus: true,
	Unowned:   map[string][]string{"status": {"spec", "metadata"}},
	ValidateCreate: func(a attachment) field.ErrorList {
		var errs field.ErrorList
		if a.Spec.Attacher != "" { // that is found by the rest
			errs = driverName(a.Spec.Attacher, field.NewPath("spec", "attacher"))
		}
		if name := a.Spec.Source.PersistentVolumeName; name != nil {
			errs = append(errs, check.Subdomain(field.NewPath("spec.source.persistentVolumeName"), *name)...)
		}
		return errs
	},
	Validate: validateAttachment,
	ValidateUpdate: func(a, old attachment) field.ErrorList {
		return check.Unchanged(field.NewPath("spec"), a.Spec, old.Spec)
	},
	ValidateStatus: func(a, _ attachment) field.ErrorList {
		return validateAttachmentStatus(&a.Status, field.NewPath("status"))
	},
	Columns: []api.Column[attachment]{
		{Name: "Attacher", Format: "name", Description: attachmentDoc["attacher"], Value: func(a attachment) any { return a.Spec.Attacher }},
		api.Text("PV", storagev1.VolumeAttachmentSource{}.SwaggerDoc()["persistentVolumeName"], func(a attachment) string {
			if a.Spec.Source.PersistentVolumeName == nil {
				return ""
			}
			return *a.Spec.Source.PersistentVolumeName
		}),
		api.Text("Node", attachmentDoc["nodeName"], func(a attachment) string { return a.Spec.NodeName }),
		{Name: "Attached", Type: "boolean", Description: storagev1.VolumeAttachmentStatus{}.SwaggerDoc()["attached"], Value: func(a attachment) any { return a.Status.Attached }},
		api.Age[attachment](),
	},
})

func validateAttachment(a attachment) field.ErrorList {
	path := field.NewPath("spec")
	var errs field.ErrorList
	if a.Spec.Attacher == "" {
		errs = append(errs, field.Required(path.Child("attacher"), a.Spec.Attacher))
	}
	errs = append(errs, validateAttachmentSource(&a.Spec.Source, path.Child("source"))...)
	errs = append(errs, check.Subdomain(path.Child("nodeName"), a.Spec.NodeName)...)
	return append(errs, validateAttachmentStatus(&a.Status, field.NewPath("status"))...)
}

func validateAttachmentSource(s *storagev1.VolumeAttachmentSource, path *field.Path) field.ErrorList {
	const one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
	switch {
	case s.InlineVolumeSpec == nil && s.PersistentVolumeName == nil:
		return field.ErrorList{field.Required(path, one)}
	case s.InlineVolumeSpec != nil && s.PersistentVolumeName != nil:
		return field.ErrorList{field.Forbidden(path, one)}
	case s.PersistentVolumeName != nil:
		return check.Required(path.Child("persistentVolumeName"), *s.PersistentVolumeName, "must specify non empty persistentVolumeName")
	}
	return core.ValidateInlineVolume(s.InlineVolumeSpec, path.Child("inlineVolumeSpec"))
}

func validateAttachmentStatus(s *storagev1.VolumeAttachmentStatus, path *field.Path) field.ErrorList {
	errs := smaller(s.AttachmentMetadata, path.Child("attachmentMetadata"), maxMetadataSize)
	errs = append(errs, validateVolumeError(s.AttachError, path.Child("attachError"))...)
	return append(errs, validateVolumeError(s.DetachError, path.Child("detachError"))...)
}

func validateVolumeError(e *storagev1.VolumeError, path *field.Path) field.ErrorList {
	if e == nil {
		return nil
	}
	errs := check.Longest(path.Child("message"), e.Message, maxErrorMessage)
	if e.ErrorCode != nil && *e.ErrorCode < 0 {
		errs = append(errs, field.Invalid(path.Child("errorCode"), *e.ErrorCode, validation.InclusiveRangeError(0, math.MaxInt32)))
	}
	return errs
}
