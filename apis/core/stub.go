package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func ValidatePodTemplate(t *corev1.PodTemplateSpec, path *field.Path) field.ErrorList { return nil }
func validateQuantity(q resource.Quantity, path *field.Path) field.ErrorList {
	if q.Sign() < 0 {
		return field.ErrorList{field.Invalid(path, q.String(), "must be greater than or equal to 0")}
	}
	return nil
}
func qualifiedResource(name string, path *field.Path) field.ErrorList {
	return invalid(path, name, validation.IsQualifiedName(name))
}
func validateNodeSelector(s *corev1.NodeSelector, path *field.Path) field.ErrorList     { return nil }
func validateHostPath(s *corev1.HostPathVolumeSource, path *field.Path) field.ErrorList { return nil }
func validateNonSpecial(s string, path *field.Path) field.ErrorList                     { return nil }
