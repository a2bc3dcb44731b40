package core

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A profile on the node is named by a path below the kubelet's folder of profiles: not by
// none, which once meant unconfined, nor by one that leads out of it (CVE-2023-2431).
func TestAttackProfilePaths(t *testing.T) {
	local := corev1.SeccompProfileTypeLocalhost
	at := map[string]func(*corev1.Pod, *corev1.SeccompProfile){
		"pod": func(p *corev1.Pod, s *corev1.SeccompProfile) {
			p.Spec.SecurityContext = &corev1.PodSecurityContext{SeccompProfile: s}
		},
		"container": func(p *corev1.Pod, s *corev1.SeccompProfile) {
			p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{SeccompProfile: s}
		},
		"init": func(p *corev1.Pod, s *corev1.SeccompProfile) {
			c := *p.Spec.Containers[0].DeepCopy()
			c.Name, c.SecurityContext = "i", &corev1.SecurityContext{SeccompProfile: s}
			p.Spec.InitContainers = []corev1.Container{c}
		},
	}
	for place, set := range at {
		for path, good := range map[string]bool{"": false, "..": false, "../x": false, "a/../../x": false, "/etc/shadow": false, "/": false, "a/b.json": true, "a..b": true} {
			p := newPod()
			set(p, &corev1.SeccompProfile{Type: local, LocalhostProfile: &path})
			if errs := validatePod(p); (len(errs) == 0) != good {
				t.Errorf("%s %q: %v", place, path, errs)
			}
		}
		p := newPod()
		set(p, &corev1.SeccompProfile{Type: local})
		if errs := validatePod(p); len(errs) == 0 {
			t.Errorf("%s: no profile at all is accepted", place)
		}
		for _, kind := range []corev1.SeccompProfileType{"", "localhost", "Unconfined ", "None"} {
			p := newPod()
			set(p, &corev1.SeccompProfile{Type: kind})
			if errs := validatePod(p); len(errs) == 0 {
				t.Errorf("%s: type %q is accepted", place, kind)
			}
		}
	}
}

// Paths in a pod that the kubelet follows on the node do not lead out of where they begin.
func TestAttackPodPaths(t *testing.T) {
	volume := func(s corev1.VolumeSource) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: s}} }
	}
	mount := func(m corev1.VolumeMount) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			volume(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})(p)
			m.Name = "v"
			if m.MountPath == "" {
				m.MountPath = "/m"
			}
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{m}
		}
	}
	items := func(path string) []corev1.KeyToPath { return []corev1.KeyToPath{{Key: "k", Path: path}} }
	field := &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.name"}
	seconds := int64(3600)
	for _, path := range []string{"../x", "a/../../x", "/etc", ".."} {
		for what, change := range map[string]func(*corev1.Pod){
			"subPath":     mount(corev1.VolumeMount{SubPath: path}),
			"subPathExpr": mount(corev1.VolumeMount{SubPathExpr: path}),
			"config map":  volume(corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "m"}, Items: items(path)}}),
			"secret":      volume(corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s", Items: items(path)}}),
			"downward":    volume(corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{{Path: path, FieldRef: field}}}}),
			"token": volume(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{
				ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: path, ExpirationSeconds: &seconds}}}}}),
			"git": volume(corev1.VolumeSource{GitRepo: &corev1.GitRepoVolumeSource{Repository: "r", Directory: path}}),
		} {
			p := newPod()
			change(p)
			defaultPod(p)
			if errs := validatePod(p); len(errs) == 0 {
				t.Errorf("%s %q is accepted", what, path)
			}
		}
	}
	for _, path := range []string{"/a/../etc", "..", "/.."} {
		p := newPod()
		volume(corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path}})(p)
		defaultPod(p)
		if errs := validatePod(p); len(errs) == 0 {
			t.Errorf("host path %q is accepted", path)
		}
	}
}

// Endpoints, which the proxies and the API server connect to, are never a machine's own
// addresses or a link's (CVE-2020-8555, CVE-2021-25740).
func TestAttackEndpoints(t *testing.T) {
	for ip, good := range map[string]bool{"10.0.0.1": true, "2001:db8::1": true, "127.0.0.1": false, "127.8.8.8": false, "::1": false, "169.254.169.254": false, "fe80::1": false,
		"0.0.0.0": false, "::": false, "224.0.0.1": false, "::ffff:127.0.0.1": false, "localhost": false, "10.0.0.1/8": false, "127.1": false, "": false} {
		e := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: "e", Namespace: "default"}, Subsets: []corev1.EndpointSubset{{
			Addresses: []corev1.EndpointAddress{{IP: ip}}, Ports: []corev1.EndpointPort{{Port: 80, Protocol: corev1.ProtocolTCP}}}}}
		if errs := validateEndpoints(e); (len(errs) == 0) != good {
			t.Errorf("%q: %v", ip, errs)
		}
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "default"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: "None",
			SessionAffinity: corev1.ServiceAffinityNone, ExternalIPs: []string{ip}, Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}}}}
		found := false
		for _, err := range validateService(s) {
			found = found || strings.HasPrefix(err.Field, "spec.externalIPs")
		}
		if found == good {
			t.Errorf("external address %q: refused is %v", ip, found)
		}
	}
}
