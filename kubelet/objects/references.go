package objects

import corev1 "k8s.io/api/core/v1"

// references lists each ConfigMap and Secret the pod names, once.
func references(pod *corev1.Pod) []key {
	seen := map[key]bool{}
	var out []key
	add := func(r resource, name string) {
		k := key{r, pod.Namespace, name}
		if name != "" && !seen[k] {
			seen[k] = true
			out = append(out, k)
		}
	}
	for _, s := range pod.Spec.ImagePullSecrets {
		add(secret, s.Name)
	}
	for i := range pod.Spec.Volumes {
		volumeReferences(&pod.Spec.Volumes[i], add)
	}
	for i := range pod.Spec.InitContainers {
		envReferences(pod.Spec.InitContainers[i].EnvFrom, pod.Spec.InitContainers[i].Env, add)
	}
	for i := range pod.Spec.Containers {
		envReferences(pod.Spec.Containers[i].EnvFrom, pod.Spec.Containers[i].Env, add)
	}
	for i := range pod.Spec.EphemeralContainers {
		envReferences(pod.Spec.EphemeralContainers[i].EnvFrom, pod.Spec.EphemeralContainers[i].Env, add)
	}
	return out
}

func volumeReferences(v *corev1.Volume, add func(resource, string)) {
	switch {
	case v.ConfigMap != nil:
		add(configMap, v.ConfigMap.Name)
	case v.Secret != nil:
		add(secret, v.Secret.SecretName)
	case v.Projected != nil:
		for _, s := range v.Projected.Sources {
			if s.ConfigMap != nil {
				add(configMap, s.ConfigMap.Name)
			}
			if s.Secret != nil {
				add(secret, s.Secret.Name)
			}
		}
	}
}

func envReferences(from []corev1.EnvFromSource, env []corev1.EnvVar, add func(resource, string)) {
	for _, f := range from {
		if f.ConfigMapRef != nil {
			add(configMap, f.ConfigMapRef.Name)
		}
		if f.SecretRef != nil {
			add(secret, f.SecretRef.Name)
		}
	}
	for _, e := range env {
		if e.ValueFrom == nil {
			continue
		}
		if r := e.ValueFrom.ConfigMapKeyRef; r != nil {
			add(configMap, r.Name)
		}
		if r := e.ValueFrom.SecretKeyRef; r != nil {
			add(secret, r.Name)
		}
	}
}
