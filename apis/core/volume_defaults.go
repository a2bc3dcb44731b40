package core

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// What the kinds of volumes that other systems serve are by default; pods and persistent volumes
// have types of their own for most.

func defaultRBD(pool, user, keyring *string) {
	fill(pool, "rbd")
	fill(user, "admin")
	fill(keyring, "/etc/ceph/keyring")
}

func defaultAzureDisk(d *corev1.AzureDiskVolumeSource) {
	fillPtr(&d.CachingMode, corev1.AzureDataDiskCachingReadWrite)
	fillPtr(&d.Kind, corev1.AzureSharedBlobDisk)
	fillPtr(&d.FSType, "ext4")
	fillPtr(&d.ReadOnly, false)
}

func defaultScaleIO(mode, fsType *string) {
	fill(mode, "ThinProvisioned")
	fill(fsType, "xfs")
}

// defaultForeignSource fills in a pod's volume that another system serves.
func defaultForeignSource(s *corev1.VolumeSource) {
	if v := s.ISCSI; v != nil {
		fill(&v.ISCSIInterface, "default")
	}
	if v := s.RBD; v != nil {
		defaultRBD(&v.RBDPool, &v.RadosUser, &v.Keyring)
	}
	if v := s.AzureDisk; v != nil {
		defaultAzureDisk(v)
	}
	if v := s.ScaleIO; v != nil {
		defaultScaleIO(&v.StorageMode, &v.FSType)
	}
}

// defaultForeignVolume fills in a persistent volume that another system serves.
func defaultForeignVolume(s *corev1.PersistentVolumeSource) {
	if v := s.ISCSI; v != nil {
		fill(&v.ISCSIInterface, "default")
	}
	if v := s.RBD; v != nil {
		defaultRBD(&v.RBDPool, &v.RadosUser, &v.Keyring)
	}
	if v := s.AzureDisk; v != nil {
		defaultAzureDisk(v)
	}
	if v := s.ScaleIO; v != nil {
		defaultScaleIO(&v.StorageMode, &v.FSType)
	}
}

// sourceWarnings tell of the kinds of volumes that are not served any more.
func sourceWarnings(volumes []corev1.Volume, path *field.Path) []string {
	var list []string
	for i := range volumes {
		s := &volumes[i].VolumeSource
		for _, f := range []struct {
			used       bool
			name, text string
		}{
			{s.PhotonPersistentDisk != nil, "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"},
			{s.GitRepo != nil, "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"},
			{s.ScaleIO != nil, "scaleIO", "deprecated in v1.16, non-functional in v1.22+"},
			{s.Flocker != nil, "flocker", "deprecated in v1.22, non-functional in v1.25+"},
			{s.StorageOS != nil, "storageOS", "deprecated in v1.22, non-functional in v1.25+"},
			{s.Quobyte != nil, "quobyte", "deprecated in v1.22, non-functional in v1.25+"},
			{s.Glusterfs != nil, "glusterfs", "deprecated in v1.25, non-functional in v1.26+"},
			{s.CephFS != nil, "cephfs", "deprecated in v1.28, non-functional in v1.31+"},
			{s.RBD != nil, "rbd", "deprecated in v1.28, non-functional in v1.31+"},
		} {
			if f.used {
				list = append(list, fmt.Sprintf("%s: %s", path.Index(i).Child(f.name), f.text))
			}
		}
	}
	return list
}
