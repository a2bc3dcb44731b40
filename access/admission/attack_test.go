package admission

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/access/internal/memory"
	"github.com/proa-dev/proa/apis/api"
)

// secretWays are all ways in which a pod can name a secret.
func secretWays(name string) map[string]corev1.PodSpec {
	ref := corev1.LocalObjectReference{Name: name}
	env := []corev1.EnvVar{{Name: "x", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: ref, Key: "k"}}}}
	from := []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: ref}}}
	volume := func(s corev1.VolumeSource) corev1.PodSpec {
		return corev1.PodSpec{Volumes: []corev1.Volume{{Name: "v", VolumeSource: s}}}
	}
	common := func(env []corev1.EnvVar, from []corev1.EnvFromSource) []corev1.EphemeralContainer {
		return []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "e", Env: env, EnvFrom: from}}}
	}
	return map[string]corev1.PodSpec{
		"env":                  {Containers: []corev1.Container{{Name: "c", Env: env}}},
		"envFrom":              {Containers: []corev1.Container{{Name: "c", EnvFrom: from}}},
		"env of init":          {InitContainers: []corev1.Container{{Name: "c", Env: env}}},
		"envFrom of init":      {InitContainers: []corev1.Container{{Name: "c", EnvFrom: from}}},
		"env of ephemeral":     {EphemeralContainers: common(env, nil)},
		"envFrom of ephemeral": {EphemeralContainers: common(nil, from)},
		"volume":               volume(corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: name}}),
		"projected":            volume(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{Secret: &corev1.SecretProjection{LocalObjectReference: ref}}}}}),
		"driver":               volume(corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: "d", NodePublishSecretRef: &ref}}),
		"flex driver":          volume(corev1.VolumeSource{FlexVolume: &corev1.FlexVolumeSource{SecretRef: &ref}}),
		"azure file":           volume(corev1.VolumeSource{AzureFile: &corev1.AzureFileVolumeSource{SecretName: name}}),
		"pull secret":          {ImagePullSecrets: []corev1.LocalObjectReference{ref}},
	}
}

// An account that is limited to its secrets gets no other into a pod, by whatever field and
// container (CVE-2023-2727, CVE-2023-2728, CVE-2024-3177).
func TestAttackSecretsOfAccount(t *testing.T) {
	r := memory.New()
	r.Put(serviceAccounts, &corev1.ServiceAccount{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "limited", Annotations: map[string]string{mountableSecrets: "true"}},
		Secrets:    []corev1.ObjectReference{{Name: "own"}}, ImagePullSecrets: []corev1.LocalObjectReference{{Name: "own"}},
	})
	step := &serviceAccount{Env{Reader: r}}
	for secret, want := range map[string]bool{"own": true, "other": false} {
		for way, spec := range secretWays(secret) {
			spec.ServiceAccountName = "limited"
			a := &Attributes{Kind: podKind, Namespace: "ns", Name: "p", Operation: Create, Object: &corev1.Pod{Spec: spec}, User: &api.User{}}
			if len(spec.EphemeralContainers) > 0 {
				a.Operation, a.Subresource, a.Old = Update, "ephemeralcontainers", &corev1.Pod{}
			}
			if err := step.Validate(t.Context(), a); (err == nil) != want {
				t.Errorf("%s of %s: %v", way, secret, err)
			}
		}
	}
}

// A node that says it has a pod of its own gets no API object with it (CVE-2025-4563 and what is like it).
func TestAttackMirrorPod(t *testing.T) {
	r := memory.New()
	r.Put(nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "n1"}})
	step := &nodeRestriction{Env{Reader: r, Authorizer: access.Authorizers{access.NewNode(r)}}}
	claim, yes := "c", true
	ways := secretWays("s")
	delete(ways, "env of ephemeral") // not in a pod that is made
	delete(ways, "envFrom of ephemeral")
	source := func(s corev1.VolumeSource) corev1.PodSpec {
		return corev1.PodSpec{Volumes: []corev1.Volume{{Name: "v", VolumeSource: s}}}
	}
	ways["claims of devices"] = corev1.PodSpec{ResourceClaims: []corev1.PodResourceClaim{{Name: "d", ResourceClaimName: &claim}}}
	ways["claims of devices by template"] = corev1.PodSpec{ResourceClaims: []corev1.PodResourceClaim{{Name: "d", ResourceClaimTemplateName: &claim}}}
	ways["account"] = corev1.PodSpec{ServiceAccountName: "admin"}
	ways["config map"] = source(corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{}})
	ways["claim"] = source(corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}})
	ways["claim by template"] = source(corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}})
	for name, p := range map[string]corev1.VolumeProjection{"token": {ServiceAccountToken: &corev1.ServiceAccountTokenProjection{}}, "projected config map": {ConfigMap: &corev1.ConfigMapProjection{}},
		"trust": {ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{}}, "certificate": {PodCertificate: &corev1.PodCertificateProjection{}}} {
		ways[name] = source(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{p}}})
	}
	ways["nothing"] = corev1.PodSpec{}
	for way, spec := range ways {
		spec.NodeName = "n1"
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "m", Annotations: map[string]string{corev1.MirrorPodAnnotationKey: "x"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "n1", UID: "n1", Controller: &yes}}}, Spec: spec}
		a := &Attributes{Kind: podKind, Namespace: "ns", Name: "m", Operation: Create, Object: p, User: &api.User{Name: "system:node:n1", Groups: []string{access.Nodes}}}
		err := step.Mutate(t.Context(), a)
		if way == "nothing" {
			if err != nil {
				t.Errorf("an honest mirror pod: %v", err)
			}
		} else if err == nil || !strings.Contains(err.Error(), "can not create pods that reference") {
			t.Errorf("%s: %v", way, err)
		}
	}
}
