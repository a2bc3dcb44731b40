package admission

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/access/internal/memory"
	"github.com/proa-dev/proa/apis/api"
)

const admissionHead = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\n"

func settingsFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "admission.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSettingsThatAreWrong(t *testing.T) {
	for text, want := range map[string]string{
		"":                           "is empty",
		"kind: AdmissionConfig\n":    "AdmissionConfiguration",
		admissionHead + "plugin: []": "unknown field",
		admissionHead + "plugins: [{name: EventRateLimit}]":                                                                                                                               "plugins[0] (EventRateLimit)",
		admissionHead + "plugins: [{name: PodNodeSelector, path: a, configuration: {}}]":                                                                                                  "both path and configuration",
		admissionHead + "plugins: [{name: PodNodeSelector, path: nowhere.yaml}]":                                                                                                          "nowhere.yaml",
		admissionHead + "plugins: [{name: PodNodeSelector, configuration: {podNodeSelectorPluginConfig: {ns: a in b}}}]":                                                                  "podNodeSelectorPluginConfig[ns]",
		admissionHead + "plugins: [{name: PodSecurity}, {name: PodSecurity}]":                                                                                                             "twice",
		admissionHead + "plugins: [{name: PodSecurity, configuration: {kind: X}}]":                                                                                                        "plugins[0] (PodSecurity)",
		admissionHead + "plugins: [{name: PodSecurity, configuration: {apiVersion: pod-security.admission.config.k8s.io/v1, kind: PodSecurityConfiguration, defaults: {enforce: much}}}]": "defaults.enforce",
	} {
		if _, err := ReadSettings(settingsFile(t, text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", text, err, want)
		}
	}
}

func TestSettings(t *testing.T) {
	s, err := ReadSettings(settingsFile(t, admissionHead+`plugins:
- name: PodSecurity
  configuration:
    apiVersion: pod-security.admission.config.k8s.io/v1
    kind: PodSecurityConfiguration
    defaults: {enforce: baseline}
    exemptions: {usernames: [builder], namespaces: [free], runtimeClasses: [kata]}
- name: PodNodeSelector
  configuration: {podNodeSelectorPluginConfig: {clusterDefaultNodeSelector: "env=prod", ns: "env=prod,disk=ssd"}}
`))
	if err != nil {
		t.Fatal(err)
	}
	r := memory.New()
	rbac := access.NewRBAC(r)
	chain, err := DefaultChain(Env{Reader: r, RBAC: rbac, Authorizer: access.NewAuthorizer(r, rbac), Settings: s})
	if err != nil {
		t.Fatal(err)
	}
	if chain, err = chain.Switched([]string{"PodNodeSelector"}, []string{"ServiceAccount"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ns", "free", "own"} {
		space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if name == "own" {
			space.Annotations = map[string]string{nodeSelectorAnnotation: "env=test"}
		}
		r.Put(namespaces, space)
	}
	kata := "kata"
	for name, c := range map[string]struct {
		namespace, user string
		spec            corev1.PodSpec
		want            string            // in the error; empty: admitted
		selector        map[string]string // afterwards
	}{
		"default level":         {"ns", "u", corev1.PodSpec{HostNetwork: true}, "violates PodSecurity \"baseline", nil},
		"exempt namespace":      {"free", "u", corev1.PodSpec{HostNetwork: true}, "", map[string]string{"env": "prod"}},
		"exempt user":           {"ns", "builder", corev1.PodSpec{HostNetwork: true}, "", map[string]string{"env": "prod"}},
		"cluster's selector":    {"ns", "u", corev1.PodSpec{}, "", map[string]string{"env": "prod"}},
		"namespace's selector":  {"own", "u", corev1.PodSpec{}, "", map[string]string{"env": "test"}},
		"another selector":      {"own", "u", corev1.PodSpec{NodeSelector: map[string]string{"env": "prod"}}, "conflicts with its namespace node label selector", nil},
		"what is allowed":       {"ns", "u", corev1.PodSpec{NodeSelector: map[string]string{"disk": "ssd"}}, "", map[string]string{"env": "prod", "disk": "ssd"}},
		"more than is allowed":  {"ns", "u", corev1.PodSpec{NodeSelector: map[string]string{"gpu": "a"}}, "conflict with its namespace whitelist", nil},
		"another runtime class": {"ns", "u", corev1.PodSpec{HostNetwork: true, RuntimeClassName: &kata}, "RuntimeClass \"kata\" not found", nil},
	} {
		a := createPod(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: c.spec})
		a.Namespace, a.User = c.namespace, &api.User{Name: c.user}
		pod := a.Object.(*corev1.Pod)
		pod.Namespace = c.namespace
		err := admit(t, chain, a)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if err == nil && len(pod.Spec.NodeSelector) != len(c.selector) {
			t.Errorf("%s: selector %v, want %v", name, pod.Spec.NodeSelector, c.selector)
		}
	}
}
