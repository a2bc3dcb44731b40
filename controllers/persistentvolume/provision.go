package persistentvolume

import (
	"context"
	"fmt"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/volume"

	"github.com/proa-dev/proa/controllers/loop"
	"github.com/proa-dev/proa/internal/localpath"
)

// provision has a volume made: by us for local paths, else by whoever the class names,
// who is told by annotations.
func (c *Controller) provision(ctx context.Context, claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) error {
	switch {
	case class == nil:
		c.recorder.Eventf(claim, corev1.EventTypeWarning, "ProvisioningFailed", "storageclass.storage.k8s.io %q not found", volume.GetPersistentVolumeClaimClass(claim))
		return nil
	case class.Provisioner == volume.NotSupportedProvisioner:
		c.recorder.Eventf(claim, corev1.EventTypeWarning, "ProvisioningFailed", "no volume plugin matched name: %s", class.Provisioner)
		return nil
	case class.Provisioner != localpath.Provisioner:
		return c.askProvisioner(ctx, claim, class.Provisioner)
	}
	name := "pvc-" + string(claim.UID)
	if _, err := c.volumes.Get(name); err == nil {
		return nil // made; its event binds it
	}
	node, why, err := c.place(ctx, claim, class)
	if err != nil || why != "" {
		if why != "" {
			c.recorder.Eventf(claim, corev1.EventTypeWarning, "ProvisioningFailed", "failed to provision volume with StorageClass %q: %s", class.Name, why)
		}
		return err
	}
	_, err = c.deps.Client.CoreV1().PersistentVolumes().Create(ctx, localVolume(name, claim, class, node), metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return err
	}
	c.recorder.Eventf(claim, corev1.EventTypeNormal, "ProvisioningSucceeded", "Successfully provisioned volume %s", name)
	return nil
}

// askProvisioner tells the provisioner outside, which watches claims for its name.
func (c *Controller) askProvisioner(ctx context.Context, claim *corev1.PersistentVolumeClaim, name string) error {
	if claim.Annotations[volume.AnnStorageProvisioner] != name {
		changed := claim.DeepCopy()
		metav1.SetMetaDataAnnotation(&changed.ObjectMeta, volume.AnnBetaStorageProvisioner, name)
		metav1.SetMetaDataAnnotation(&changed.ObjectMeta, volume.AnnStorageProvisioner, name)
		if _, err := c.deps.Client.CoreV1().PersistentVolumeClaims(claim.Namespace).Update(ctx, changed, metav1.UpdateOptions{}); err != nil {
			return loop.Gone(err)
		}
	}
	c.recorder.Eventf(claim, corev1.EventTypeNormal, "ExternalProvisioning", "Waiting for a volume to be created either by the external provisioner '%s' or manually by the system administrator. "+
		"If volume creation is delayed, please verify that the provisioner is running and correctly registered.", name)
	return nil
}

// place is the node that is to hold a local volume: the one that the scheduler chose for
// the claim's first pod. why says that there cannot be one.
func (c *Controller) place(ctx context.Context, claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) (node *corev1.Node, why string, err error) {
	for _, mode := range claim.Spec.AccessModes {
		if mode != corev1.ReadWriteOnce && mode != corev1.ReadWriteOncePod {
			return nil, fmt.Sprintf("local volumes belong to one node: access mode %s is not to be had, only ReadWriteOnce and ReadWriteOncePod", mode), nil
		}
	}
	selected := claim.Annotations[volume.AnnSelectedNode]
	switch {
	case claim.Spec.VolumeMode != nil && *claim.Spec.VolumeMode == corev1.PersistentVolumeBlock:
		return nil, "local volumes are folders: volumeMode Block is not to be had", nil
	case claim.Spec.Selector != nil:
		return nil, "claim.Spec.Selector is not supported", nil
	case selected == "":
		return nil, fmt.Sprintf("local volumes need a storage class with volumeBindingMode %s", storagev1.VolumeBindingWaitForFirstConsumer), nil
	}
	node, err = c.nodes.Get(selected)
	switch {
	case apierrors.IsNotFound(err):
		// The scheduler chooses again when its choice is taken back.
		changed := claim.DeepCopy()
		delete(changed.Annotations, volume.AnnSelectedNode)
		_, err = c.deps.Client.CoreV1().PersistentVolumeClaims(claim.Namespace).Update(ctx, changed, metav1.UpdateOptions{})
		return nil, fmt.Sprintf("node %q not found", selected), loop.Gone(err)
	case err != nil:
		return nil, "", err
	case !filepath.IsAbs(node.Annotations[localpath.Folder]):
		return nil, fmt.Sprintf("node %q has no folder for local volumes (annotation %s)", selected, localpath.Folder), nil
	}
	return node, "", nil
}

func localVolume(name string, claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass, node *corev1.Node) *corev1.PersistentVolume {
	mode, policy := corev1.PersistentVolumeFilesystem, corev1.PersistentVolumeReclaimDelete
	if class.ReclaimPolicy != nil {
		policy = *class.ReclaimPolicy
	}
	host := node.Labels[corev1.LabelHostname]
	if host == "" {
		host = node.Name
	}
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Finalizers: []string{volume.PVDeletionInTreeProtectionFinalizer},
			Annotations: map[string]string{
				volume.AnnDynamicallyProvisioned: localpath.Provisioner, volume.AnnBoundByController: "yes", annNode: node.Name,
			},
		},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: claim.Spec.Resources.Requests[corev1.ResourceStorage]},
			AccessModes:                   claim.Spec.AccessModes,
			PersistentVolumeReclaimPolicy: policy, StorageClassName: class.Name, MountOptions: class.MountOptions, VolumeMode: &mode,
			PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: filepath.Join(node.Annotations[localpath.Folder], name)}},
			ClaimRef: &corev1.ObjectReference{
				Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID, ResourceVersion: claim.ResourceVersion,
			},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{host}}},
			}}}},
		},
	}
}

// expand gives a bound claim of a local volume the size it asks for: a folder has as much
// room as its disk. Volumes of others are for their drivers.
func (c *Controller) expand(ctx context.Context, pv *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) error {
	want, have := claim.Spec.Resources.Requests[corev1.ResourceStorage], claim.Status.Capacity[corev1.ResourceStorage]
	if pv.Annotations[volume.AnnDynamicallyProvisioned] != localpath.Provisioner || want.Cmp(have) <= 0 {
		return nil
	}
	if size := pv.Spec.Capacity[corev1.ResourceStorage]; size.Cmp(want) < 0 {
		grown := pv.DeepCopy()
		grown.Spec.Capacity[corev1.ResourceStorage] = want
		if _, err := c.deps.Client.CoreV1().PersistentVolumes().Update(ctx, grown, metav1.UpdateOptions{}); err != nil {
			return loop.Gone(err)
		}
	}
	done := claim.DeepCopy()
	if done.Status.Capacity == nil {
		done.Status.Capacity = corev1.ResourceList{}
	}
	done.Status.Capacity[corev1.ResourceStorage] = want
	if _, err := c.deps.Client.CoreV1().PersistentVolumeClaims(claim.Namespace).UpdateStatus(ctx, done, metav1.UpdateOptions{}); err != nil {
		return loop.Gone(err)
	}
	c.recorder.Eventf(claim, corev1.EventTypeNormal, "VolumeResizeSuccessful", "Resize volume succeeded")
	return nil
}
