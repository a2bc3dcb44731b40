package apps

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/core"
)

// validateSelected checks a selector and the template whose pods it must select.
// set names the kind in the message on an empty selector, kind in that on a deadline.
func validateSelected(s *metav1.LabelSelector, t *corev1.PodTemplateSpec, set, kind string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	at := path.Child("selector")
	if s == nil {
		errs = append(errs, field.Required(at, ""))
	} else {
		errs = append(errs, metav1validation.ValidateLabelSelector(s, metav1validation.LabelSelectorValidationOptions{}, at)...)
		if len(s.MatchLabels)+len(s.MatchExpressions) == 0 {
			errs = append(errs, field.Invalid(at, s, "empty selector is invalid for "+set))
		}
	}
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return append(errs, field.Invalid(at, s, "invalid label selector"))
	}
	return append(errs, validateTemplate(t, selector, kind, path.Child("template"))...)
}

// validateTemplate checks the template of pods that run for ever.
func validateTemplate(t *corev1.PodTemplateSpec, selector labels.Selector, kind string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if !selector.Empty() && !selector.Matches(labels.Set(t.Labels)) {
		errs = append(errs, field.Invalid(path.Child("metadata", "labels"), t.Labels, "`selector` does not match template `labels`"))
	}
	errs = append(errs, core.ValidatePodTemplate(t, path)...)
	if t.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		errs = append(errs, field.NotSupported(path.Child("spec", "restartPolicy"), t.Spec.RestartPolicy, []corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	if t.Spec.ActiveDeadlineSeconds != nil {
		errs = append(errs, field.Forbidden(path.Child("spec", "activeDeadlineSeconds"), "activeDeadlineSeconds in "+kind+" is not Supported"))
	}
	return errs
}

func immutableSelector(s, old *metav1.LabelSelector) field.ErrorList {
	return apivalidation.ValidateImmutableField(s, old, field.NewPath("spec", "selector"))
}

// templateColumns are the wide columns of the kinds that hold a template.
func templateColumns[T api.Object](doc map[string]string, get func(T) (*corev1.PodTemplateSpec, *metav1.LabelSelector)) []api.Column[T] {
	return []api.Column[T]{
		{Name: "Containers", Priority: 1, Description: "Names of each container in the template.", Value: func(o T) any {
			t, _ := get(o)
			return core.ContainerNames(t.Spec.Containers)
		}},
		{Name: "Images", Priority: 1, Description: "Images referenced by each container in the template.", Value: func(o T) any {
			t, _ := get(o)
			return core.ContainerImages(t.Spec.Containers)
		}},
		{Name: "Selector", Priority: 1, Description: doc["selector"], Value: func(o T) any {
			_, s := get(o)
			return metav1.FormatLabelSelector(s)
		}},
	}
}

// selectorText is a selector as the scale subresource shows it.
func selectorText(s *metav1.LabelSelector) string {
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return "" // refused by validation
	}
	return selector.String()
}

// labelsText is a set of labels as a column shows it.
func labelsText(l map[string]string) string {
	if len(l) == 0 {
		return "<none>"
	}
	return labels.FormatLabels(l)
}

// controllerText names a controlling owner as a column shows it.
func controllerText(o *metav1.OwnerReference) string {
	kind := strings.ToLower(o.Kind)
	if group, _, grouped := strings.Cut(o.APIVersion, "/"); grouped {
		kind += "." + group
	}
	return kind + "/" + o.Name
}
