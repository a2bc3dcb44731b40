package custom

import (
	"fmt"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

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
