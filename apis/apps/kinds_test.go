package apps

import (
	"context"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/randfill"
)

func FuzzKinds(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})
	f.Fuzz(func(_ *testing.T, data []byte) {
		fill := randfill.NewFromGoFuzz(data).NilChance(0.3).NumElements(0, 3).MaxDepth(12).Funcs(func(raw *runtime.RawExtension, c randfill.Continue) { c.Fill(&raw.Raw) })
		for _, k := range Kinds {
			o, old := k.New(), k.New()
			fill.Fill(o)
			fill.Fill(old)
			k.PrepareCreate(context.Background(), o)
			for _, c := range k.Columns {
				c.Value(o)
			}
			k.Default(o)
			k.Validate(o)
			k.ValidateUpdate(o, old)
			k.ValidateStatus(o, old)
			if k.Scale != nil {
				k.Scale.Get(o)
			}
		}
	})
}

func deployment() *appsv1.Deployment {
	l := map[string]string{"app": "web"}
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"}, Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: l},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: l},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "img"}}}},
	}}
}

func TestDeploymentValidation(t *testing.T) {
	amount := func(unavailable, surge intstr.IntOrString) func(*appsv1.Deployment) {
		return func(d *appsv1.Deployment) {
			d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxUnavailable: &unavailable, MaxSurge: &surge}
		}
	}
	for _, c := range []struct {
		name string
		edit func(*appsv1.Deployment)
		want string // part of the error; empty: valid
	}{
		{"plain", func(*appsv1.Deployment) {}, ""},
		{"no selector", func(d *appsv1.Deployment) { d.Spec.Selector = nil }, "spec.selector: Required value"},
		{"other labels", func(d *appsv1.Deployment) { d.Spec.Template.Labels = nil }, "`selector` does not match template `labels`"},
		{"both zero", amount(intstr.FromInt32(0), intstr.FromString("0%")), "may not be 0 when `maxSurge` is 0"},
		{"over 100%", amount(intstr.FromString("101%"), intstr.FromInt32(1)), "must not be greater than 100%"},
		{"surge over 100%", amount(intstr.FromInt32(0), intstr.FromString("200%")), ""},
		{"recreate with rolling", func(d *appsv1.Deployment) {
			d.Spec.Strategy.Type = appsv1.RecreateDeploymentStrategyType
			d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{}
		}, "may not be specified when strategy `type` is 'Recreate'"},
		{"restart", func(d *appsv1.Deployment) { d.Spec.Template.Spec.RestartPolicy = "Never" }, `supported values: "Always"`},
		{"deadline", func(d *appsv1.Deployment) { d.Spec.MinReadySeconds = 600 }, "must be greater than minReadySeconds"},
	} {
		d := deployment()
		c.edit(d)
		Deployments.Default(d)
		err := Deployments.Validate(d).ToAggregate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
	d, old := deployment(), deployment()
	d.Spec.Selector.MatchLabels = map[string]string{"app": "other"}
	if errs := Deployments.ValidateUpdate(d, old); len(errs) != 1 || errs[0].Detail != "field is immutable" {
		t.Error(errs)
	}
}
