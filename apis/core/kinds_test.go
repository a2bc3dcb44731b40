package core

import (
	"context"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/randfill"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/core/allocate"
)

// FuzzKinds: nothing that decodes may make a kind's functions panic.
func FuzzKinds(f *testing.F) {
	f.Add([]byte("proa"))
	for seed := range byte(20) {
		f.Add([]byte{seed, 1, 2, 3, 4, 5, 6, 7, 8, 9, seed, seed})
	}
	f.Fuzz(func(_ *testing.T, data []byte) {
		fill := randfill.NewFromGoFuzz(data).NilChance(0.3).NumElements(0, 3).MaxDepth(12)
		for _, k := range Kinds {
			if k.Virtual != nil {
				continue
			}
			o, old := k.New(), k.New()
			fill.Fill(o)
			fill.Fill(old)
			exercise(k, o, old)
		}
	})
}

func exercise(k *api.Kind, o, old api.Object) {
	ctx := context.Background()
	k.Default(o)
	k.PrepareUpdate(ctx, o, old)
	k.Validate(o)
	k.ValidateUpdate(o, old)
	k.ValidateStatus(o, old)
	k.PrepareStatus(o, old)
	for _, c := range k.Columns {
		c.Value(o)
	}
	for _, get := range k.Fields {
		get(o)
	}
	for _, u := range k.Updates {
		u.Apply(ctx, o, old)
		u.Validate(o, old)
	}
	if k.BeforeDelete != nil {
		k.BeforeDelete(o, &metav1.DeleteOptions{})
	}
	k.PrepareCreate(ctx, o)
}

func TestServiceTypes(t *testing.T) {
	addresses, err := allocate.NewAddresses(netip.MustParsePrefix("10.96.0.0/24"))
	if err != nil {
		t.Fatal(err)
	}
	ports, err := allocate.NewPorts(30000, 32767)
	if err != nil {
		t.Fatal(err)
	}
	env := &api.Env{Services: addresses, Ports: ports}
	ctx := context.Background()
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "s"}}
	s.Spec.Type, s.Spec.Ports, s.Spec.Selector = corev1.ServiceTypeNodePort, []corev1.ServicePort{{Port: 80}}, map[string]string{"a": "b"}
	defaultService(s)
	prepareService(ctx, s)
	if errs := validateService(s); len(errs) > 0 {
		t.Fatal(errs)
	}
	if _, err := reserveService(ctx, env, s, nil); err != nil {
		t.Fatal(err)
	}
	if s.Spec.ClusterIP == "" || s.Spec.Ports[0].NodePort == 0 || len(s.Spec.IPFamilies) != 1 {
		t.Fatalf("not reserved: %+v", s.Spec)
	}
	now := s.DeepCopy()
	now.Spec.Type, now.Spec.ExternalName = corev1.ServiceTypeExternalName, "example.org"
	defaultService(now)
	prepareServiceUpdate(ctx, now, s)
	if errs := append(validateService(now), validateServiceUpdate(now, s)...); len(errs) > 0 {
		t.Fatal(errs)
	}
	if _, err := reserveService(ctx, env, now, s); err != nil {
		t.Fatal(err)
	}
	if err := addresses.Take(netip.MustParseAddr(s.Spec.ClusterIP)); err != nil {
		t.Fatalf("address was not given back: %v", err)
	}
}
