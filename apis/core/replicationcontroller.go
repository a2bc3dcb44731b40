package core

import (
	"maps"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

// ReplicationControllers is the kind ReplicationController.
var ReplicationControllers = api.Define(api.Resource[*corev1.ReplicationController]{
	Version: "v1", Kind: "ReplicationController", Plural: "replicationcontrollers", Short: []string{"rc"}, Categories: []string{"all"}, Namespaced: true,
	Prefix:              "controllers",
	UnconditionalUpdate: true,
	HasStatus:           true, Dependents: api.Orphaned,
	HasGeneration:  true,
	Default:        defaultController,
	Validate:       validateController,
	ValidateStatus: func(c, _ *corev1.ReplicationController) field.ErrorList { return validateControllerStatus(&c.Status) },
	Fields: map[string]func(*corev1.ReplicationController) string{
		"status.replicas": func(c *corev1.ReplicationController) string { return int32Text(c.Status.Replicas) },
	},
	Scale: &api.Scale[*corev1.ReplicationController]{
		Get: func(c *corev1.ReplicationController) *autoscalingv1.Scale {
			return &autoscalingv1.Scale{
				Spec:   autoscalingv1.ScaleSpec{Replicas: deref(c.Spec.Replicas)},
				Status: autoscalingv1.ScaleStatus{Replicas: c.Status.Replicas, Selector: labels.Set(c.Spec.Selector).String()},
			}
		},
		Set:      func(c *corev1.ReplicationController, n int32) { c.Spec.Replicas = &n },
		Replicas: "spec.replicas",
	},
	Columns: []api.Column[*corev1.ReplicationController]{
		integer("Desired", corev1.ReplicationControllerSpec{}.SwaggerDoc()["replicas"], func(c *corev1.ReplicationController) int64 { return int64(deref(c.Spec.Replicas)) }),
		integer("Current", corev1.ReplicationControllerStatus{}.SwaggerDoc()["replicas"], func(c *corev1.ReplicationController) int64 { return int64(c.Status.Replicas) }),
		integer("Ready", corev1.ReplicationControllerStatus{}.SwaggerDoc()["readyReplicas"], func(c *corev1.ReplicationController) int64 { return int64(c.Status.ReadyReplicas) }),
		Age[*corev1.ReplicationController](),
		wide("Containers", "Names of each container in the template.", func(c *corev1.ReplicationController) string {
			if c.Spec.Template == nil {
				return ""
			}
			return ContainerNames(c.Spec.Template.Spec.Containers)
		}),
		wide("Images", "Images referenced by each container in the template.", func(c *corev1.ReplicationController) string {
			if c.Spec.Template == nil {
				return ""
			}
			return ContainerImages(c.Spec.Template.Spec.Containers)
		}),
		wide("Selector", corev1.ReplicationControllerSpec{}.SwaggerDoc()["selector"], func(c *corev1.ReplicationController) string { return formatLabels(c.Spec.Selector) }),
	},
})

func deref(n *int32) int32 {
	if n == nil {
		return 0
	}
	return *n
}

func defaultController(c *corev1.ReplicationController) {
	fillPtr(&c.Spec.Replicas, 1)
	if c.Spec.Template == nil {
		return
	}
	DefaultPodTemplate(c.Spec.Template)
	if len(c.Spec.Template.Labels) == 0 {
		return
	}
	if len(c.Spec.Selector) == 0 {
		c.Spec.Selector = maps.Clone(c.Spec.Template.Labels)
	}
	if len(c.Labels) == 0 {
		c.Labels = maps.Clone(c.Spec.Template.Labels)
	}
}

func validateController(c *corev1.ReplicationController) field.ErrorList {
	path := field.NewPath("spec")
	errs := nonNegative(int64(c.Spec.MinReadySeconds), path.Child("minReadySeconds"))
	if len(c.Spec.Selector) == 0 {
		errs = append(errs, field.Required(path.Child("selector"), ""))
	}
	if c.Spec.Replicas == nil {
		errs = append(errs, field.Required(path.Child("replicas"), ""))
	} else {
		errs = append(errs, nonNegative(int64(*c.Spec.Replicas), path.Child("replicas"))...)
	}
	t, tpath := c.Spec.Template, path.Child("template")
	if t == nil {
		return append(errs, field.Required(tpath, ""))
	}
	if len(c.Spec.Selector) > 0 && !labels.SelectorFromSet(c.Spec.Selector).Matches(labels.Set(t.Labels)) {
		errs = append(errs, field.Invalid(tpath.Child("metadata", "labels"), t.Labels, "`selector` does not match template `labels`"))
	}
	errs = append(errs, ValidatePodTemplate(t, tpath)...)
	return append(errs, templateRestart(t, tpath)...)
}

func validateControllerStatus(s *corev1.ReplicationControllerStatus) field.ErrorList {
	path := field.NewPath("status")
	errs := nonNegative(int64(s.Replicas), path.Child("replicas"))
	errs = append(errs, nonNegative(int64(s.FullyLabeledReplicas), path.Child("fullyLabeledReplicas"))...)
	errs = append(errs, nonNegative(int64(s.ReadyReplicas), path.Child("readyReplicas"))...)
	errs = append(errs, nonNegative(int64(s.AvailableReplicas), path.Child("availableReplicas"))...)
	errs = append(errs, nonNegative(s.ObservedGeneration, path.Child("observedGeneration"))...)
	for _, part := range []struct {
		name string
		n    int32
	}{{"fullyLabeledReplicas", s.FullyLabeledReplicas}, {"readyReplicas", s.ReadyReplicas}, {"availableReplicas", s.AvailableReplicas}} {
		if part.n > s.Replicas {
			errs = append(errs, field.Invalid(path.Child(part.name), part.n, "cannot be greater than status.replicas"))
		}
	}
	if s.AvailableReplicas > s.ReadyReplicas {
		errs = append(errs, field.Invalid(path.Child("availableReplicas"), s.AvailableReplicas, "cannot be greater than readyReplicas"))
	}
	return errs
}
