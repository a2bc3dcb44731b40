package storage

import (
	storagev1 "k8s.io/api/storage/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/internal/check"
)

type capacity = *storagev1.CSIStorageCapacity

var csiStorageCapacities = api.Define(api.Resource[capacity]{
	Group: storagev1.GroupName, Version: "v1", Kind: "CSIStorageCapacity", Plural: "csistoragecapacities", Namespaced: true,
	Alike:          []string{"v1beta1"},
	Validate:       validateCapacity,
	ValidateUpdate: validateCapacityUpdate,
})

func validateCapacity(c capacity) field.ErrorList {
	class := field.NewPath("storageClassName")
	errs := check.Subdomain(class, c.StorageClassName)
	errs = append(errs, metav1validation.ValidateLabelSelector(c.NodeTopology, metav1validation.LabelSelectorValidationOptions{}, field.NewPath("nodeTopology"))...)
	errs = append(errs, notNegative(c.Capacity, field.NewPath("capacity"))...)
	return append(errs, notNegative(c.MaximumVolumeSize, field.NewPath("maximumVolumeSize"))...)
}

func notNegative(q *resource.Quantity, path *field.Path) field.ErrorList {
	if q == nil || q.Sign() >= 0 {
		return nil
	}
	return field.ErrorList{field.Invalid(path, q.String(), "must be greater than or equal to 0")}
}

func validateCapacityUpdate(c, old capacity) field.ErrorList {
	var errs field.ErrorList
	if !apiequality.Semantic.DeepEqual(c.NodeTopology, old.NodeTopology) {
		errs = append(errs, field.Invalid(field.NewPath("nodeTopology"), c.NodeTopology, "field is immutable"))
	}
	if c.StorageClassName != old.StorageClassName {
		errs = append(errs, field.Invalid(field.NewPath("storageClassName"), c.StorageClassName, "field is immutable"))
	}
	return errs
}
