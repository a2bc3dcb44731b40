package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateForeignSource checks a pod's volume that another system serves: all that it cannot be found without.
func validateForeignSource(s *corev1.VolumeSource, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	need := func(kind, name, value string) {
		errs = append(errs, required(value, path.Child(kind, name), "")...)
	}
	list := func(kind, name string, values []string) {
		if len(values) == 0 {
			errs = append(errs, field.Required(path.Child(kind, name), ""))
		}
	}
	switch {
	case s.ISCSI != nil:
		need("iscsi", "targetPortal", s.ISCSI.TargetPortal)
		need("iscsi", "iqn", s.ISCSI.IQN)
	case s.FC != nil:
		return validateFibre(s.FC, path.Child("fc"))
	case s.RBD != nil:
		list("rbd", "monitors", s.RBD.CephMonitors)
		need("rbd", "image", s.RBD.RBDImage)
	case s.CephFS != nil:
		list("cephfs", "monitors", s.CephFS.Monitors)
	case s.Glusterfs != nil:
		need("glusterfs", "endpoints", s.Glusterfs.EndpointsName)
		need("glusterfs", "path", s.Glusterfs.Path)
	case s.GitRepo != nil:
		need("gitRepo", "repository", s.GitRepo.Repository)
	case s.AzureFile != nil:
		need("azureFile", "secretName", s.AzureFile.SecretName)
		need("azureFile", "shareName", s.AzureFile.ShareName)
	case s.AzureDisk != nil:
		need("azureDisk", "diskName", s.AzureDisk.DiskName)
		need("azureDisk", "diskURI", s.AzureDisk.DataDiskURI)
	case s.GCEPersistentDisk != nil:
		need("persistentDisk", "pdName", s.GCEPersistentDisk.PDName)
	case s.AWSElasticBlockStore != nil:
		need("awsElasticBlockStore", "volumeID", s.AWSElasticBlockStore.VolumeID)
	case s.Cinder != nil:
		need("cinder", "volumeID", s.Cinder.VolumeID)
	case s.FlexVolume != nil:
		need("flexVolume", "driver", s.FlexVolume.Driver)
	case s.PortworxVolume != nil:
		need("portworxVolume", "volumeID", s.PortworxVolume.VolumeID)
	case s.PhotonPersistentDisk != nil:
		need("photonPersistentDisk", "pdID", s.PhotonPersistentDisk.PdID)
	case s.VsphereVolume != nil:
		need("vsphereVolume", "volumePath", s.VsphereVolume.VolumePath)
	case s.ScaleIO != nil:
		need("scaleIO", "gateway", s.ScaleIO.Gateway)
		need("scaleIO", "system", s.ScaleIO.System)
		need("scaleIO", "volumeName", s.ScaleIO.VolumeName)
	}
	return errs
}

func validateFibre(v *corev1.FCVolumeSource, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	wwns := path.Child("targetWWNs")
	switch {
	case len(v.TargetWWNs) == 0 && len(v.WWIDs) == 0:
		errs = append(errs, field.Required(wwns, "must specify either targetWWNs or wwids, but not both"))
	case len(v.TargetWWNs) > 0 && len(v.WWIDs) > 0:
		errs = append(errs, field.Invalid(wwns, v.TargetWWNs, "targetWWNs and wwids can not be specified simultaneously"))
	}
	if len(v.TargetWWNs) > 0 && v.Lun == nil {
		errs = append(errs, field.Required(path.Child("lun"), "lun is required if targetWWNs is specified"))
	}
	return errs
}

// validateForeignVolume checks a persistent volume that another system serves.
func validateForeignVolume(s *corev1.PersistentVolumeSource, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	need := func(kind, name, value string) {
		errs = append(errs, required(value, path.Child(kind, name), "")...)
	}
	if v := s.NFS; v != nil {
		need("nfs", "server", v.Server)
		need("nfs", "path", v.Path)
	}
	if v := s.CSI; v != nil {
		need("csi", "driver", v.Driver)
		need("csi", "volumeHandle", v.VolumeHandle)
		for _, ref := range []struct {
			name string
			to   *corev1.SecretReference
		}{
			{"controllerPublishSecretRef", v.ControllerPublishSecretRef}, {"controllerExpandSecretRef", v.ControllerExpandSecretRef},
			{"nodePublishSecretRef", v.NodePublishSecretRef}, {"nodeExpandSecretRef", v.NodeExpandSecretRef},
		} {
			if ref.to != nil {
				errs = append(errs, validateSecretRef(ref.to, path.Child("csi", ref.name))...)
			}
		}
	}
	if v := s.ISCSI; v != nil {
		need("iscsi", "targetPortal", v.TargetPortal)
		need("iscsi", "iqn", v.IQN)
	}
	if v := s.FC; v != nil {
		errs = append(errs, validateFibre(v, path.Child("fc"))...)
	}
	if v := s.Glusterfs; v != nil {
		need("glusterfs", "endpoints", v.EndpointsName)
		need("glusterfs", "path", v.Path)
	}
	if v := s.AzureFile; v != nil {
		need("azureFile", "secretName", v.SecretName)
		need("azureFile", "shareName", v.ShareName)
	}
	if v := s.Cinder; v != nil {
		need("cinder", "volumeID", v.VolumeID)
	}
	if v := s.VsphereVolume; v != nil {
		need("vsphereVolume", "volumePath", v.VolumePath)
	}
	return errs
}

func validateSecretRef(ref *corev1.SecretReference, path *field.Path) field.ErrorList {
	errs := required(ref.Name, path.Child("name"), "")
	if ref.Namespace == "" {
		return append(errs, field.Required(path.Child("namespace"), ""))
	}
	return append(errs, dnsLabel(ref.Namespace, path.Child("namespace"))...)
}
