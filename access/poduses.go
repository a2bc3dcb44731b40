package access

import corev1 "k8s.io/api/core/v1"

// podUses says whether a pod refers to an object of its namespace.
func podUses(p *corev1.Pod, plural, name string) bool {
	switch plural {
	case "serviceaccounts":
		return p.Spec.ServiceAccountName == name
	case "resourceclaims":
		return claims(p, name)
	case "persistentvolumeclaims":
		return usesClaim(p, name)
	case "configmaps":
		return usesConfigMap(p, name)
	case "secrets":
		return usesSecret(p, name)
	}
	return false
}

func claims(p *corev1.Pod, name string) bool {
	for _, c := range p.Spec.ResourceClaims {
		if c.ResourceClaimName != nil && *c.ResourceClaimName == name {
			return true
		}
	}
	if s := p.Status.ExtendedResourceClaimStatus; s != nil && s.ResourceClaimName == name && name != "" {
		return true
	}
	for _, s := range p.Status.ResourceClaimStatuses {
		if s.ResourceClaimName != nil && *s.ResourceClaimName == name {
			return true
		}
	}
	return false
}

func usesClaim(p *corev1.Pod, name string) bool {
	for _, v := range p.Spec.Volumes {
		if v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == name ||
			v.Ephemeral != nil && p.Name+"-"+v.Name == name {
			return true
		}
	}
	return false
}

func usesConfigMap(p *corev1.Pod, name string) bool {
	for _, v := range p.Spec.Volumes {
		if v.ConfigMap != nil && v.ConfigMap.Name == name {
			return true
		}
		if v.Projected != nil {
			for _, s := range v.Projected.Sources {
				if s.ConfigMap != nil && s.ConfigMap.Name == name {
					return true
				}
			}
		}
	}
	return anyContainer(p, func(env []corev1.EnvVar, from []corev1.EnvFromSource) bool {
		for _, f := range from {
			if f.ConfigMapRef != nil && f.ConfigMapRef.Name == name {
				return true
			}
		}
		for _, e := range env {
			if e.ValueFrom != nil && e.ValueFrom.ConfigMapKeyRef != nil && e.ValueFrom.ConfigMapKeyRef.Name == name {
				return true
			}
		}
		return false
	})
}

func usesSecret(p *corev1.Pod, name string) bool {
	return AnySecret(p, func(one string) bool { return one == name })
}

// AnySecret visits the names of all secrets that a pod refers to, wherever that is, until
// found says yes.
func AnySecret(p *corev1.Pod, found func(name string) bool) bool {
	for _, s := range p.Spec.ImagePullSecrets {
		if found(s.Name) {
			return true
		}
	}
	for i := range p.Spec.Volumes {
		if anyVolumeSecret(&p.Spec.Volumes[i].VolumeSource, found) {
			return true
		}
	}
	return anyContainer(p, func(env []corev1.EnvVar, from []corev1.EnvFromSource) bool {
		for _, f := range from {
			if f.SecretRef != nil && found(f.SecretRef.Name) {
				return true
			}
		}
		for _, e := range env {
			if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil && found(e.ValueFrom.SecretKeyRef.Name) {
				return true
			}
		}
		return false
	})
}

func anyVolumeSecret(v *corev1.VolumeSource, found func(string) bool) bool {
	is := func(r *corev1.LocalObjectReference) bool { return r != nil && found(r.Name) }
	switch {
	case v.Secret != nil:
		return found(v.Secret.SecretName)
	case v.Projected != nil:
		for _, s := range v.Projected.Sources {
			if s.Secret != nil && found(s.Secret.Name) {
				return true
			}
		}
	case v.CSI != nil:
		return is(v.CSI.NodePublishSecretRef)
	case v.AzureFile != nil:
		return found(v.AzureFile.SecretName)
	case v.CephFS != nil:
		return is(v.CephFS.SecretRef)
	case v.Cinder != nil:
		return is(v.Cinder.SecretRef)
	case v.FlexVolume != nil:
		return is(v.FlexVolume.SecretRef)
	case v.ISCSI != nil:
		return is(v.ISCSI.SecretRef)
	case v.RBD != nil:
		return is(v.RBD.SecretRef)
	case v.ScaleIO != nil:
		return is(v.ScaleIO.SecretRef)
	case v.StorageOS != nil:
		return is(v.StorageOS.SecretRef)
	}
	return false
}

// anyContainer visits containers of all three sorts.
func anyContainer(p *corev1.Pod, found func([]corev1.EnvVar, []corev1.EnvFromSource) bool) bool {
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			if found(list[i].Env, list[i].EnvFrom) {
				return true
			}
		}
	}
	for i := range p.Spec.EphemeralContainers {
		c := &p.Spec.EphemeralContainers[i]
		if found(c.Env, c.EnvFrom) {
			return true
		}
	}
	return false
}
