package admission

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// pullImages has every image asked for with the credentials of the pod that uses it, also
// one that the node has already: else who knows its name may run another's image.
type pullImages struct{}

func (pullImages) Mutate(_ context.Context, a *Attributes) error {
	if pod := pulling(a); pod != nil {
		eachPull(pod, func(_ *field.Path, policy *corev1.PullPolicy) { *policy = corev1.PullAlways })
	}
	return nil
}

func (pullImages) Validate(_ context.Context, a *Attributes) error {
	pod := pulling(a)
	if pod == nil {
		return nil
	}
	var all field.ErrorList
	eachPull(pod, func(at *field.Path, policy *corev1.PullPolicy) {
		if *policy != corev1.PullAlways {
			all = append(all, field.NotSupported(at, *policy, []corev1.PullPolicy{corev1.PullAlways}))
		}
	})
	if len(all) == 0 {
		return nil
	}
	return apierrors.NewInvalid(a.Kind.GroupKind(), objectNameOr(a), all)
}

// pulling is the pod whose images may be new, nil when there is none.
func pulling(a *Attributes) *corev1.Pod {
	if a.Kind.GroupResource() != pods || a.Subresource != "" && a.Subresource != "ephemeralcontainers" || a.Operation != Create && a.Operation != Update {
		return nil
	}
	pod, _ := a.Object.(*corev1.Pod)
	return pod
}

func eachPull(pod *corev1.Pod, do func(*field.Path, *corev1.PullPolicy)) {
	spec := field.NewPath("spec")
	for i := range pod.Spec.InitContainers {
		do(spec.Child("initContainers").Index(i).Child("imagePullPolicy"), &pod.Spec.InitContainers[i].ImagePullPolicy)
	}
	for i := range pod.Spec.Containers {
		do(spec.Child("containers").Index(i).Child("imagePullPolicy"), &pod.Spec.Containers[i].ImagePullPolicy)
	}
	for i := range pod.Spec.EphemeralContainers {
		do(spec.Child("ephemeralContainers").Index(i).Child("imagePullPolicy"), &pod.Spec.EphemeralContainers[i].ImagePullPolicy)
	}
	for i := range pod.Spec.Volumes {
		if image := pod.Spec.Volumes[i].Image; image != nil {
			do(spec.Child("volumes").Index(i).Child("image", "pullPolicy"), &image.PullPolicy)
		}
	}
}
