package volumes

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// claim resolves a PersistentVolumeClaim to the path of its volume on this node: local and
// hostPath volumes; others need a driver.
func (m *Manager) claim(ctx context.Context, pod *corev1.Pod, name string) (string, error) {
	pvc, err := m.cfg.Client.CoreV1().PersistentVolumeClaims(pod.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("error processing PVC %s/%s: %w", pod.Namespace, name, notFound("persistentvolumeclaim", name, err))
	}
	if pvc.Status.Phase != corev1.ClaimBound || pvc.Spec.VolumeName == "" {
		return "", fmt.Errorf("error processing PVC %s/%s: PVC is not bound", pod.Namespace, name)
	}
	if pvc.DeletionTimestamp != nil && pod.Status.StartTime == nil {
		return "", fmt.Errorf("error processing PVC %s/%s: PVC is being deleted", pod.Namespace, name)
	}
	pv, err := m.cfg.Client.CoreV1().PersistentVolumes().Get(ctx, pvc.Spec.VolumeName, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("error processing PVC %s/%s: %w", pod.Namespace, name, notFound("persistentvolume", pvc.Spec.VolumeName, err))
	}
	if ref := pv.Spec.ClaimRef; ref == nil || ref.UID != pvc.UID {
		return "", fmt.Errorf("error processing PVC %s/%s: volume %s is bound to another claim", pod.Namespace, name, pv.Name)
	}
	if pv.Spec.VolumeMode != nil && *pv.Spec.VolumeMode == corev1.PersistentVolumeBlock {
		return "", errPermanent{fmt.Errorf("persistent volume %s: block mode is not supported yet", pv.Name)}
	}
	switch {
	case pv.Spec.Local != nil:
		path, err := m.localPath(pv.Spec.Local)
		if err != nil {
			return "", err
		}
		return path, m.ownTree(pod, path)
	case pv.Spec.HostPath != nil:
		return hostPath(pv.Spec.HostPath)
	}
	return "", errPermanent{fmt.Errorf("persistent volume %s: only local and hostPath volumes are supported yet", pv.Name)}
}
