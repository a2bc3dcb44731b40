package admission

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/apis/api"
)

var (
	claimKind   = api.Define(api.Resource[*corev1.PersistentVolumeClaim]{Version: "v1", Kind: "PersistentVolumeClaim", Plural: "persistentvolumeclaims", Namespaced: true})
	volumeKind  = api.Define(api.Resource[*corev1.PersistentVolume]{Version: "v1", Kind: "PersistentVolume", Plural: "persistentvolumes"})
	ingressKind = api.Define(api.Resource[*networkingv1.Ingress]{Group: "networking.k8s.io", Version: "v1", Kind: "Ingress", Plural: "ingresses", Namespaced: true})
)

func named(name string, minute int, annotations map[string]string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Annotations: annotations, CreationTimestamp: metav1.Time{Time: time.Date(2026, 1, 1, 0, minute, 0, 0, time.UTC)}}
}

func TestClaimGetsTheNewestDefaultClass(t *testing.T) {
	isDefault := map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}
	older := map[string]string{"storageclass.beta.kubernetes.io/is-default-class": "true"}
	r, c := newChain(t)
	create := func(claim *corev1.PersistentVolumeClaim) *corev1.PersistentVolumeClaim {
		claim.Name, claim.Namespace = "c", "ns"
		if err := admit(t, c, &Attributes{Kind: claimKind, Namespace: "ns", Operation: Create, Object: claim}); err != nil {
			t.Fatal(err)
		}
		return claim
	}
	if got := create(&corev1.PersistentVolumeClaim{}); got.Spec.StorageClassName != nil || got.Finalizers[0] != "kubernetes.io/pvc-protection" {
		t.Errorf("without a default class: %+v", got)
	}
	r.Put(storageClasses,
		&storagev1.StorageClass{ObjectMeta: named("b", 5, isDefault)}, &storagev1.StorageClass{ObjectMeta: named("a", 5, older)},
		&storagev1.StorageClass{ObjectMeta: named("old", 1, isDefault)}, &storagev1.StorageClass{ObjectMeta: named("z", 9, nil)})
	if got := create(&corev1.PersistentVolumeClaim{}); *got.Spec.StorageClassName != "a" {
		t.Errorf("got %s, want the newest, and of two the first by name", *got.Spec.StorageClassName)
	}
	empty := ""
	if got := create(&corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: &empty}}); *got.Spec.StorageClassName != "" {
		t.Error("a claim that wants no class got one")
	}
	got := create(&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{corev1.BetaStorageClassAnnotation: "x"}}})
	if got.Spec.StorageClassName != nil {
		t.Error("a claim with the old annotation got a class")
	}
}

func TestVolumeIsProtected(t *testing.T) {
	_, c := newChain(t)
	v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "v", Finalizers: []string{"mine"}}}
	for range 2 {
		if err := admit(t, c, &Attributes{Kind: volumeKind, Operation: Create, Object: v}); err != nil {
			t.Fatal(err)
		}
	}
	if strings.Join(v.Finalizers, " ") != "mine kubernetes.io/pv-protection" {
		t.Error(v.Finalizers)
	}
}

func TestClaimGrows(t *testing.T) {
	r, c := newChain(t)
	yes := true
	r.Put(storageClasses, &storagev1.StorageClass{ObjectMeta: named("grows", 0, nil), AllowVolumeExpansion: &yes}, &storagev1.StorageClass{ObjectMeta: named("stays", 0, nil)})
	claim := func(class, size string, phase corev1.PersistentVolumeClaimPhase) *corev1.PersistentVolumeClaim {
		return &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Name: "c", Namespace: "ns"},
			Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: &class, Resources: corev1.VolumeResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)},
			}},
			Status: corev1.PersistentVolumeClaimStatus{Phase: phase},
		}
	}
	const bound, pending = corev1.ClaimBound, corev1.ClaimPending
	for name, x := range map[string]struct {
		old, now *corev1.PersistentVolumeClaim
		want     string
	}{
		"grows":         {claim("grows", "1Gi", bound), claim("grows", "2Gi", bound), ""},
		"same":          {claim("stays", "1Gi", pending), claim("stays", "1Gi", pending), ""},
		"not bound":     {claim("grows", "1Gi", pending), claim("grows", "2Gi", pending), "Only bound persistent volume claims can be expanded"},
		"class does no": {claim("stays", "1Gi", bound), claim("stays", "2Gi", bound), "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"},
		"no class":      {claim("", "1Gi", bound), claim("", "2Gi", bound), "only dynamically provisioned pvc"},
		"class is gone": {claim("gone", "1Gi", bound), claim("gone", "2Gi", bound), "only dynamically provisioned pvc"},
	} {
		err := admit(t, c, &Attributes{Kind: claimKind, Namespace: "ns", Name: "c", Operation: Update, Object: x.now, Old: x.old})
		if (err == nil) != (x.want == "") || err != nil && !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %q", name, err, x.want)
		}
	}
}

func TestIngressGetsTheDefaultClass(t *testing.T) {
	r, c := newChain(t)
	r.Put(ingressClasses, &networkingv1.IngressClass{ObjectMeta: named("web", 0, map[string]string{"ingressclass.kubernetes.io/is-default-class": "true"})})
	i := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Name: "i", Namespace: "ns"}}
	if err := admit(t, c, &Attributes{Kind: ingressKind, Namespace: "ns", Operation: Create, Object: i}); err != nil || *i.Spec.IngressClassName != "web" {
		t.Fatal(err, i.Spec)
	}
	i = &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Name: "i", Namespace: "ns", Annotations: map[string]string{ingressClassAnnotation: "x"}}}
	if err := admit(t, c, &Attributes{Kind: ingressKind, Namespace: "ns", Operation: Create, Object: i}); err != nil || i.Spec.IngressClassName != nil {
		t.Fatal(err, i.Spec)
	}
}

func TestRuntimeClass(t *testing.T) {
	r, c := newChain(t)
	cpu := func(q string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(q)}
	}
	r.Put(runtimes, &nodev1.RuntimeClass{
		ObjectMeta: named("vm", 0, nil), Handler: "vm", Overhead: &nodev1.Overhead{PodFixed: cpu("250m")},
		Scheduling: &nodev1.Scheduling{NodeSelector: map[string]string{"vm": "yes"}, Tolerations: []corev1.Toleration{{Key: "vm", Operator: corev1.TolerationOpExists}}},
	})
	vm, gone := "vm", "gone"
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{RuntimeClassName: &vm}}
	if err := admit(t, c, createPod(p)); err != nil || !sameResources(p.Spec.Overhead, cpu("250m")) || p.Spec.NodeSelector["vm"] != "yes" || len(p.Spec.Tolerations) != 3 {
		t.Fatal(err, p.Spec)
	}
	for want, spec := range map[string]corev1.PodSpec{
		`pod rejected: RuntimeClass "gone" not found`:                                              {RuntimeClassName: &gone},
		"pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead":               {RuntimeClassName: &vm, Overhead: cpu("1")},
		"pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead":       {Overhead: cpu("1")},
		"conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no": {RuntimeClassName: &vm, NodeSelector: map[string]string{"vm": "no"}},
	} {
		err := admit(t, c, createPod(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: spec}))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
