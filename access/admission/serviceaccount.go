package admission

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/proa-dev/proa/access"

	"github.com/proa-dev/proa/apis/api"
)

// What Kubernetes calls the token volume of a pod, and where it is seen.
const (
	defaultAccount   = "default"
	tokenVolume      = "kube-api-access-"
	tokenPath        = "/var/run/secrets/kubernetes.io/serviceaccount"
	tokenSeconds     = int64(3607)
	projectedMode    = int32(0o644)
	rootCAConfigMap  = "kube-root-ca.crt"
	mountableSecrets = "kubernetes.io/enforce-mountable-secrets"
)

// serviceAccount gives each pod its account, and the account's token as a volume.
type serviceAccount struct{ env Env }

func (s *serviceAccount) Mutate(_ context.Context, a *Attributes) error {
	pod := podOf(a, Create)
	if pod == nil || isMirror(pod) {
		return nil
	}
	if pod.Spec.ServiceAccountName == "" {
		pod.Spec.ServiceAccountName = defaultAccount
	}
	pod.Spec.DeprecatedServiceAccount = pod.Spec.ServiceAccountName
	account, err := s.account(a, pod)
	if err != nil {
		return err
	}
	if wantsToken(pod, account) {
		mountToken(pod)
	}
	if len(pod.Spec.ImagePullSecrets) == 0 {
		pod.Spec.ImagePullSecrets = slices.Clone(account.ImagePullSecrets)
	}
	return nil
}

func (s *serviceAccount) account(a *Attributes, pod *corev1.Pod) (*corev1.ServiceAccount, error) {
	name := pod.Spec.ServiceAccountName
	obj, ok := api.Sure(s.env.Reader, serviceAccounts, a.Namespace, name)
	account, typed := obj.(*corev1.ServiceAccount)
	if !ok || !typed {
		return nil, forbidden(a, fmt.Errorf("error looking up service account %s/%s: serviceaccount %q not found", a.Namespace, name, name))
	}
	return account, nil
}

func wantsToken(pod *corev1.Pod, account *corev1.ServiceAccount) bool {
	if v := pod.Spec.AutomountServiceAccountToken; v != nil {
		return *v
	}
	if v := account.AutomountServiceAccountToken; v != nil {
		return *v
	}
	return true
}

// mountToken adds the volume where a container does not already have something at its path.
func mountToken(pod *corev1.Pod) {
	name := ""
	for _, v := range pod.Spec.Volumes {
		if len(v.Name) > len(tokenVolume) && v.Name[:len(tokenVolume)] == tokenVolume {
			name = v.Name
		}
	}
	known := name != ""
	if !known {
		name = tokenVolume + rand.String(5)
	}
	used := false
	mount := corev1.VolumeMount{Name: name, ReadOnly: true, MountPath: tokenPath}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			c := &list[i]
			if !slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == tokenPath }) {
				c.VolumeMounts = append(c.VolumeMounts, mount)
				used = true
			}
		}
	}
	if used && !known {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Projected: tokenSource()}})
	}
}

// tokenSource is a token that is renewed, the cluster's CA and the pod's namespace.
func tokenSource() *corev1.ProjectedVolumeSource {
	mode, seconds := projectedMode, tokenSeconds
	return &corev1.ProjectedVolumeSource{
		DefaultMode: &mode,
		Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: &seconds}},
			{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: rootCAConfigMap},
				Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
			}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{
				Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"},
			}}}},
		},
	}
}

// Validate checks mirror pods, and the secrets that an account may be limited to.
func (s *serviceAccount) Validate(_ context.Context, a *Attributes) error {
	pod := podOf(a, Create)
	if a.Kind.GroupResource() == pods && a.Subresource == "ephemeralcontainers" && a.Operation == Update {
		pod, _ = a.Object.(*corev1.Pod) // a container that comes later is one of the account's too (CVE-2023-2728)
	}
	if pod == nil {
		return nil
	}
	if isMirror(pod) {
		return validateMirror(a, pod)
	}
	account, err := s.account(a, pod)
	if err != nil {
		return err
	}
	if account.Annotations[mountableSecrets] != "true" {
		return nil
	}
	return limitSecrets(a, pod, account)
}

func validateMirror(a *Attributes, pod *corev1.Pod) error {
	if pod.Spec.ServiceAccountName != "" {
		return forbidden(a, fmt.Errorf("a mirror pod may not reference service accounts"))
	}
	for _, v := range pod.Spec.Volumes {
		if v.Projected == nil {
			continue
		}
		for _, p := range v.Projected.Sources {
			if p.ServiceAccountToken != nil {
				return forbidden(a, fmt.Errorf("a mirror pod may not use ServiceAccountToken volume projections"))
			}
		}
	}
	return nil
}

func limitSecrets(a *Attributes, pod *corev1.Pod, account *corev1.ServiceAccount) error {
	allowed := func(name string) bool {
		return slices.ContainsFunc(account.Secrets, func(r corev1.ObjectReference) bool { return r.Name == name })
	}
	for _, v := range pod.Spec.Volumes {
		if v.Secret != nil && !allowed(v.Secret.SecretName) {
			return forbidden(a, fmt.Errorf("volume with secret.secretName=%q is not allowed because service account %s does not reference that secret", v.Secret.SecretName, account.Name))
		}
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for _, c := range list {
			for _, e := range c.Env {
				if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil && !allowed(e.ValueFrom.SecretKeyRef.Name) {
					return forbidden(a, fmt.Errorf("container %s with envVar %s referencing secret.secretName=%q is not allowed because service account %s does not reference that secret", c.Name, e.Name, e.ValueFrom.SecretKeyRef.Name, account.Name))
				}
			}
			for _, f := range c.EnvFrom {
				if f.SecretRef != nil && !allowed(f.SecretRef.Name) {
					return forbidden(a, fmt.Errorf("container %s with envFrom referencing secret.secretName=%q is not allowed because service account %s does not reference that secret", c.Name, f.SecretRef.Name, account.Name))
				}
			}
		}
	}
	for _, c := range pod.Spec.EphemeralContainers {
		for _, e := range c.Env {
			if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil && !allowed(e.ValueFrom.SecretKeyRef.Name) {
				return forbidden(a, fmt.Errorf("ephemeral container %s with envVar %s referencing secret.secretName=%q is not allowed because service account %s does not reference that secret", c.Name, e.Name, e.ValueFrom.SecretKeyRef.Name, account.Name))
			}
		}
		for _, f := range c.EnvFrom {
			if f.SecretRef != nil && !allowed(f.SecretRef.Name) {
				return forbidden(a, fmt.Errorf("ephemeral container %s with envFrom referencing secret.secretName=%q is not allowed because service account %s does not reference that secret", c.Name, f.SecretRef.Name, account.Name))
			}
		}
	}
	if a.Subresource != "" {
		return nil // what else the pod has was looked at when it was made
	}
	for i, r := range pod.Spec.ImagePullSecrets {
		if !slices.ContainsFunc(account.ImagePullSecrets, func(have corev1.LocalObjectReference) bool { return have.Name == r.Name }) {
			return forbidden(a, fmt.Errorf("imagePullSecrets[%d].name=%q is not allowed because service account %s does not reference that imagePullSecret", i, r.Name, account.Name))
		}
	}
	return limitOtherSecrets(a, pod, account, allowed)
}

// limitOtherSecrets: projected volumes and volumes of drivers refer to secrets as well.
func limitOtherSecrets(a *Attributes, pod *corev1.Pod, account *corev1.ServiceAccount, allowed func(string) bool) error {
	volumes := &corev1.Pod{Spec: corev1.PodSpec{Volumes: pod.Spec.Volumes}}
	var err error
	access.AnySecret(volumes, func(name string) bool {
		if !allowed(name) {
			err = forbidden(a, fmt.Errorf("volume with secret.secretName=%q is not allowed because service account %s does not reference that secret", name, account.Name))
		}
		return err != nil
	})
	return err
}
