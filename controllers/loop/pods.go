package loop

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// PodFromTemplate is a new pod that the owner controls, named after it.
func PodFromTemplate(template *corev1.PodTemplateSpec, owner metav1.Object, kind schema.GroupVersionKind) *corev1.Pod {
	prefix := owner.GetName() + "-"
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: owner.GetNamespace(), GenerateName: prefix,
			Labels: maps.Clone(template.Labels), Annotations: maps.Clone(template.Annotations),
			Finalizers:      slices.Clone(template.Finalizers),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(owner, kind)},
		},
		Spec: *template.Spec.DeepCopy(),
	}
}

// ReadySince is since when a pod has been ready; false when it is not.
func ReadySince(pod *corev1.Pod) (time.Time, bool) {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.LastTransitionTime.Time, c.Status == corev1.ConditionTrue
		}
	}
	return time.Time{}, false
}

// Adopt makes an owner control a pod that nobody controls.
func Adopt(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod, owner *metav1.OwnerReference) error {
	return patchOwners(ctx, client, pod, append(slices.Clone(pod.OwnerReferences), *owner))
}

// Release makes an owner let go of a pod.
func Release(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod, owner types.UID) error {
	kept := slices.DeleteFunc(slices.Clone(pod.OwnerReferences), func(o metav1.OwnerReference) bool { return o.UID == owner })
	return patchOwners(ctx, client, pod, kept)
}

// patchOwners replaces a pod's owners, unless it changed meanwhile.
func patchOwners(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod, owners []metav1.OwnerReference) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": pod.UID, "resourceVersion": pod.ResourceVersion, "ownerReferences": owners,
	}})
	if err != nil {
		return fmt.Errorf("patch owners: %w", err)
	}
	_, err = client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	return Gone(err)
}

// ClaimName is the claim that a pod's volume stands on, "" for volumes that do not.
func ClaimName(pod *corev1.Pod, v *corev1.Volume) string {
	switch {
	case v.PersistentVolumeClaim != nil:
		return v.PersistentVolumeClaim.ClaimName
	case v.Ephemeral != nil:
		return pod.Name + "-" + v.Name
	}
	return ""
}
