package custom

import (
	"fmt"
	"math"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

func steps(path string) []string { return strings.Split(strings.TrimPrefix(path, "."), ".") }

// scaleOf is the scale of a version, by the paths that its definition names; nil when it has none.
func scaleOf(v *apiextensionsv1.CustomResourceDefinitionVersion) *api.Scale[object] {
	if v.Subresources == nil || v.Subresources.Scale == nil {
		return nil
	}
	s := *v.Subresources.Scale
	return &api.Scale[object]{
		Replicas: strings.TrimPrefix(s.SpecReplicasPath, "."),
		Get: func(u object) *autoscalingv1.Scale {
			scale := &autoscalingv1.Scale{}
			scale.Spec.Replicas = number(u, s.SpecReplicasPath)
			scale.Status.Replicas = number(u, s.StatusReplicasPath)
			if s.LabelSelectorPath != nil && *s.LabelSelectorPath != "" {
				// One that is no text is shown as none.
				scale.Status.Selector, _, _ = unstructured.NestedString(u.Object, steps(*s.LabelSelectorPath)...)
			}
			return scale
		},
		Set: func(u object, n int32) {
			// What is in the way of the path is refused by validation, which finds it unchanged or wrong.
			_ = unstructured.SetNestedField(u.Object, int64(n), steps(s.SpecReplicasPath)...)
		},
	}
}

// scaleFaults is what is wrong with the fields that a scale shows; of a change of the status alone,
// those of the spec are not looked at.
func scaleFaults(s *apiextensionsv1.CustomResourceSubresourceScale, u object, spec bool) (errs field.ErrorList) {
	if s == nil {
		return nil
	}
	paths := []string{s.SpecReplicasPath, s.StatusReplicasPath}
	if !spec {
		paths = paths[1:]
	}
	for _, path := range paths {
		n, _, err := unstructured.NestedInt64(u.Object, steps(path)...)
		switch {
		case err != nil:
			errs = append(errs, field.Invalid(field.NewPath(path), n, err.Error()))
		case n < 0:
			errs = append(errs, field.Invalid(field.NewPath(path), n, "should be a non-negative integer"))
		case n > math.MaxInt32:
			errs = append(errs, field.Invalid(field.NewPath(path), n, fmt.Sprintf("should be less than or equal to %v", math.MaxInt32)))
		}
	}
	if path := s.LabelSelectorPath; path != nil && *path != "" {
		if text, _, err := unstructured.NestedString(u.Object, steps(*path)...); err != nil {
			errs = append(errs, field.Invalid(field.NewPath(*path), text, err.Error()))
		}
	}
	return errs
}

func number(u object, path string) int32 {
	v, _, err := unstructured.NestedFieldNoCopy(u.Object, steps(path)...)
	if err != nil {
		return 0
	}
	switch n := v.(type) {
	case int64:
		return int32(n)
	case float64:
		return int32(n)
	}
	return 0
}

// scaled says why an object has no scale.
func scaled(v *apiextensionsv1.CustomResourceDefinitionVersion) func(api.Object) error {
	if v.Subresources == nil || v.Subresources.Scale == nil {
		return func(api.Object) error { return nil }
	}
	path := v.Subresources.Scale.SpecReplicasPath
	return func(obj api.Object) error {
		if _, found, err := unstructured.NestedFieldNoCopy(obj.(object).Object, steps(path)...); err != nil || !found {
			return apierrors.NewInternalError(fmt.Errorf("the spec replicas field %q does not exist", path))
		}
		return nil
	}
}
