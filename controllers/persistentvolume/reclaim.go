package persistentvolume

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/volume"

	"github.com/proa-dev/proa/controllers/loop"
	"github.com/proa-dev/proa/internal/localpath"
)

// annNode is a local volume's annotation: the node that has its folder.
const annNode = "proa.dev/node"

// reclaim does with a released volume what its policy says.
func (c *Controller) reclaim(ctx context.Context, pv *corev1.PersistentVolume) error {
	switch pv.Spec.PersistentVolumeReclaimPolicy {
	case corev1.PersistentVolumeReclaimDelete:
		return c.deleteVolume(ctx, pv)
	case corev1.PersistentVolumeReclaimRecycle:
		return c.fail(ctx, pv, "VolumeFailedRecycle", "No recycler plugin found for the volume!")
	}
	if pv.DeletionTimestamp != nil {
		return c.letGo(ctx, pv) // what is in it stays
	}
	return nil
}

// deleteVolume removes what is behind a volume, then the volume. External provisioners
// remove their own.
func (c *Controller) deleteVolume(ctx context.Context, pv *corev1.PersistentVolume) error {
	by := pv.Annotations[volume.AnnDynamicallyProvisioned]
	switch {
	case by == localpath.Provisioner:
		if err := c.remove(ctx, pv.Annotations[annNode], pv.Name); err != nil {
			c.recorder.Event(pv, corev1.EventTypeWarning, "VolumeFailedDelete", err.Error())
			return err // the node may come back
		}
	case by != "":
		return nil
	case pv.Spec.HostPath != nil:
		if err := removeTemporary(pv.Spec.HostPath.Path); err != nil {
			return c.fail(ctx, pv, "VolumeFailedDelete", err.Error())
		}
	default:
		return c.fail(ctx, pv, "VolumeFailedDelete", fmt.Sprintf("error getting deleter volume plugin for volume %q: no deletable volume plugin matched", pv.Name))
	}
	if pv.DeletionTimestamp == nil {
		err := c.deps.Client.CoreV1().PersistentVolumes().Delete(ctx, pv.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(pv.UID))})
		if err != nil {
			return loop.Gone(err)
		}
	}
	return c.letGo(ctx, pv)
}

// letGo takes our finalizer away.
func (c *Controller) letGo(ctx context.Context, pv *corev1.PersistentVolume) error {
	if !slices.Contains(pv.Finalizers, volume.PVDeletionInTreeProtectionFinalizer) {
		return nil
	}
	changed, err := c.deps.Client.CoreV1().PersistentVolumes().Get(ctx, pv.Name, metav1.GetOptions{})
	if err != nil || changed.UID != pv.UID {
		return loop.Gone(err)
	}
	changed.Finalizers = slices.DeleteFunc(changed.Finalizers, func(f string) bool { return f == volume.PVDeletionInTreeProtectionFinalizer })
	_, err = c.deps.Client.CoreV1().PersistentVolumes().Update(ctx, changed, metav1.UpdateOptions{})
	return loop.Gone(err)
}

func (c *Controller) fail(ctx context.Context, pv *corev1.PersistentVolume, reason, message string) error {
	if pv.Status.Phase == corev1.VolumeFailed {
		return nil
	}
	c.recorder.Event(pv, corev1.EventTypeWarning, reason, message)
	_, err := c.volumePhase(ctx, pv, corev1.VolumeFailed, message)
	return loop.Gone(err)
}

// removeFromNode asks the kubelet that has a local volume's folder. A node that is gone
// for good took it along.
func (c *Controller) removeFromNode(ctx context.Context, node, name string) error {
	if _, err := c.nodes.Get(node); apierrors.IsNotFound(err) {
		if _, err := c.deps.Client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{}); apierrors.IsNotFound(err) {
			return nil
		}
	}
	err := c.deps.Client.CoreV1().RESTClient().Delete().
		Resource("nodes").Name(node).SubResource("proxy").Suffix(localpath.Endpoint, name).Do(ctx).Error()
	if err != nil {
		return fmt.Errorf("remove local volume %s from node %s: %w", name, node, err)
	}
	return nil
}

// removeTemporary deletes a host path on this machine: only below /tmp, as for tests.
func removeTemporary(path string) error {
	rest, below := strings.CutPrefix(filepath.Clean(path), "/tmp/")
	if !below || rest == "" {
		return fmt.Errorf("host_path deleter only supports /tmp/.+ but received provided %s", path)
	}
	tmp, err := os.OpenRoot("/tmp")
	if err != nil {
		return fmt.Errorf("open /tmp: %w", err)
	}
	defer tmp.Close()
	return tmp.RemoveAll(rest)
}
