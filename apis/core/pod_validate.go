package core

import (
	"math"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	maxDeadline   = math.MaxInt32
	deadlineRange = "must be between 0 and 2147483647, inclusive"
)

func validatePod(p *corev1.Pod) field.ErrorList {
	return validatePodSpec(&p.Spec, field.NewPath("spec"))
}
func validatePodSpec(s *corev1.PodSpec, path *field.Path) field.ErrorList { return nil }
