package admission

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/apis/api"
)

var serviceKind = api.Define(api.Resource[*corev1.Service]{Version: "v1", Kind: "Service", Plural: "services", Namespaced: true})

func TestSwitched(t *testing.T) {
	_, c := newChain(t)
	for name, row := range map[string]struct{ enable, disable, on, off, err string }{
		"as they are":          {on: "NodeRestriction PodSecurity", off: "DenyServiceExternalIPs AlwaysPullImages"},
		"one on, one off":      {enable: "DenyServiceExternalIPs", disable: "DefaultStorageClass", on: "DenyServiceExternalIPs", off: "DefaultStorageClass AlwaysPullImages"},
		"what is on":           {enable: "NodeRestriction NamespaceExists CertificateSigning", on: "NodeRestriction"},
		"off is not there":     {disable: "EventRateLimit"},
		"on is not there":      {enable: "EventRateLimit", err: "there is no EventRateLimit here"},
		"both":                 {enable: "PodSecurity", disable: "PodSecurity", err: "both"},
		"unknown on":           {enable: "PodSecurty", err: `--enable-admission-plugins: plugin "PodSecurty" is unknown`},
		"unknown off":          {disable: "x", err: `--disable-admission-plugins: plugin "x" is unknown`},
		"part of another":      {disable: "CertificateSigning", err: "cannot be switched off"},
		"no setting names it":  {disable: "RBACEscalation", err: "unknown"},
		"nor does this one":    {enable: "CertificateRequester", err: "unknown"},
		"empty name (a comma)": {enable: "NodeRestriction,", err: "unknown"},
	} {
		got, err := c.Switched(strings.FieldsFunc(row.enable, isSpace), strings.FieldsFunc(row.disable, isSpace))
		if (err == nil) != (row.err == "") || err != nil && !strings.Contains(err.Error(), row.err) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		has := func(step string) bool { return slices.ContainsFunc(got, func(s Step) bool { return s.Name == step }) }
		for _, step := range strings.Fields(row.on) {
			if !has(step) {
				t.Errorf("%s: %s is off", name, step)
			}
		}
		for _, step := range strings.Fields(row.off) {
			if has(step) {
				t.Errorf("%s: %s is on", name, step)
			}
		}
	}
}

func isSpace(r rune) bool { return r == ' ' }

// Who may write services claims no address of another with the plugin on.
func TestAttackExternalAddresses(t *testing.T) {
	_, all := newChain(t)
	with := func(ips ...string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "ns"}, Spec: corev1.ServiceSpec{ExternalIPs: ips}}
	}
	for name, row := range map[string]struct {
		old, is *corev1.Service
		refused bool
	}{
		"made without":    {is: with()},
		"made with":       {is: with("192.0.2.1"), refused: true},
		"added":           {old: with(), is: with("192.0.2.1"), refused: true},
		"one more":        {old: with("192.0.2.1"), is: with("192.0.2.1", "192.0.2.2"), refused: true},
		"another instead": {old: with("192.0.2.1"), is: with("192.0.2.2"), refused: true},
		"kept":            {old: with("192.0.2.1"), is: with("192.0.2.1")},
		"one less":        {old: with("192.0.2.1", "192.0.2.2"), is: with("192.0.2.2")},
	} {
		for _, enable := range [][]string{nil, {"DenyServiceExternalIPs"}} {
			c, err := all.Switched(enable, nil)
			if err != nil {
				t.Fatal(err)
			}
			a := &Attributes{Kind: serviceKind, Namespace: "ns", Name: "s", Operation: Create, Object: row.is}
			if row.old != nil {
				a.Operation, a.Old = Update, row.old
			}
			err = admit(t, c, a)
			if refused := row.refused && enable != nil; (err != nil) != refused {
				t.Errorf("%s, %v: %v", name, enable, err)
			} else if refused && err.Error() != `services "s" is forbidden: Use of external IPs is denied by admission control.` {
				t.Error(err)
			}
		}
	}
}

func TestEveryImageIsPulled(t *testing.T) {
	_, all := newChain(t)
	c, err := all.Switched([]string{"AlwaysPullImages"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns"}, Spec: corev1.PodSpec{
		InitContainers: []corev1.Container{{Name: "i", ImagePullPolicy: corev1.PullNever}},
		Containers:     []corev1.Container{{Name: "c", ImagePullPolicy: corev1.PullIfNotPresent}},
		Volumes:        []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "r"}}}},
	}}
	if err := admit(t, c, &Attributes{Kind: podKind, Namespace: "ns", Name: "p", Operation: Create, Object: pod}); err != nil {
		t.Fatal(err)
	}
	for _, got := range []corev1.PullPolicy{pod.Spec.InitContainers[0].ImagePullPolicy, pod.Spec.Containers[0].ImagePullPolicy, pod.Spec.Volumes[0].Image.PullPolicy} {
		if got != corev1.PullAlways {
			t.Errorf("policy %q", got)
		}
	}
	pod.Spec.Containers[0].ImagePullPolicy = corev1.PullNever // as a webhook might
	err = pullImages{}.Validate(t.Context(), &Attributes{Kind: podKind, Namespace: "ns", Name: "p", Operation: Create, Object: pod})
	if err == nil || !strings.Contains(err.Error(), "spec.containers[0].imagePullPolicy") {
		t.Error(err)
	}
}
