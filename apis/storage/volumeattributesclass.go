package storage

import (
	"maps"

	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

type attributesClass = *storagev1.VolumeAttributesClass

// defaultAttributes marks the class that claims without one get.
const defaultAttributes = "volumeattributesclass.alpha.kubernetes.io/is-default-class"

var volumeAttributesClasses = api.Define(api.Resource[attributesClass]{
	Group: storagev1.GroupName, Version: "v1", Kind: "VolumeAttributesClass", Plural: "volumeattributesclasses", Short: []string{"vac"},
	Alike:               []string{"v1alpha1", "v1beta1"},
	UnconditionalUpdate: true,
	Validate: func(c attributesClass) field.ErrorList {
		errs := provisionerName(c.DriverName, field.NewPath("driverName"))
		if len(c.Parameters) == 0 {
			return append(errs, field.Required(field.NewPath("parameters"), "must contain at least one key/value pair"))
		}
		return append(errs, parameters(c.Parameters, field.NewPath("parameters"))...)
	},
	ValidateUpdate: func(c, old attributesClass) field.ErrorList {
		var errs field.ErrorList
		if c.DriverName != old.DriverName {
			errs = append(errs, field.Forbidden(field.NewPath("driverName"), "updates to driverName are forbidden."))
		}
		if !maps.Equal(c.Parameters, old.Parameters) {
			errs = append(errs, field.Forbidden(field.NewPath("parameters"), "updates to parameters are forbidden."))
		}
		return errs
	},
	Columns: []api.Column[attributesClass]{
		{Name: "Name", Format: "name", Description: metav1.ObjectMeta{}.SwaggerDoc()["name"], Value: func(c attributesClass) any {
			if c.Annotations[defaultAttributes] == "true" {
				return c.Name + " (default)"
			}
			return c.Name
		}},
		api.Text("DriverName", storagev1.VolumeAttributesClass{}.SwaggerDoc()["driverName"], func(c attributesClass) string { return c.DriverName }),
		api.Age[attributesClass](),
	},
})
