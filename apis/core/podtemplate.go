package core

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

// PodTemplates is the kind PodTemplate.
var PodTemplates = api.Define(api.Resource[*corev1.PodTemplate]{
	Version: "v1", Kind: "PodTemplate", Plural: "podtemplates", Namespaced: true,
	UnconditionalUpdate: true,
	HasGeneration:       true,
	Default:             func(t *corev1.PodTemplate) { DefaultPodTemplate(&t.Template) },
	Validate: func(t *corev1.PodTemplate) field.ErrorList {
		return ValidatePodTemplate(&t.Template, field.NewPath("template"))
	},
	Columns: []api.Column[*corev1.PodTemplate]{
		text("Containers", "Names of each container in the template.", func(t *corev1.PodTemplate) string { return ContainerNames(t.Template.Spec.Containers) }),
		text("Images", "Images referenced by each container in the template.", func(t *corev1.PodTemplate) string { return ContainerImages(t.Template.Spec.Containers) }),
		text("Pod Labels", "The labels for the pod template.", func(t *corev1.PodTemplate) string { return formatLabels(t.Template.Labels) }),
	},
})

// ContainerNames is the cell "Containers" of the kinds that hold a pod template.
func ContainerNames(list []corev1.Container) string {
	var names []string
	for i := range list {
		names = append(names, list[i].Name)
	}
	return strings.Join(names, ",")
}

// ContainerImages is the cell "Images" of the kinds that hold a pod template.
func ContainerImages(list []corev1.Container) string {
	var images []string
	for i := range list {
		images = append(images, list[i].Image)
	}
	return strings.Join(images, ",")
}

// templateRestart refuses what cannot be kept running by a controller.
func templateRestart(t *corev1.PodTemplateSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if t.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		errs = append(errs, field.NotSupported(path.Child("spec", "restartPolicy"), t.Spec.RestartPolicy, []corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	if t.Spec.ActiveDeadlineSeconds != nil {
		errs = append(errs, field.Forbidden(path.Child("spec", "activeDeadlineSeconds"), fmt.Sprintf("activeDeadlineSeconds in %s is not Supported", "ReplicationController")))
	}
	return errs
}
