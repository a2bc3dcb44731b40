package admission

import (
	"maps"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestPodIsToldItsZone(t *testing.T) {
	r, c := newChain(t)
	r.Put(nodes,
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "near", Labels: map[string]string{corev1.LabelTopologyZone: "z", corev1.LabelTopologyRegion: "r", corev1.LabelHostname: "h"}}},
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "plain"}})
	zone := map[string]string{corev1.LabelTopologyZone: "z", corev1.LabelTopologyRegion: "r"}
	for node, want := range map[string]map[string]string{"near": zone, "plain": nil, "unknown": nil, "": nil} {
		b := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns"}, Target: corev1.ObjectReference{Kind: "Node", Name: node}}
		if err := admit(t, c, &Attributes{Kind: podKind, Subresource: "binding", Namespace: "ns", Name: "p", Operation: Create, Object: b}); err != nil {
			t.Fatal(err)
		}
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{NodeName: node}}
		if err := admit(t, c, createPod(p)); err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(b.Labels, want) || !maps.Equal(p.Labels, want) {
			t.Errorf("%q: binding %v, pod %v, want %v", node, b.Labels, p.Labels, want)
		}
	}
	b := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{corev1.LabelTopologyZone: "mine", "k": "v"}}, Target: corev1.ObjectReference{Name: "near"}}
	if err := admit(t, c, &Attributes{Kind: podKind, Subresource: "binding", Namespace: "ns", Name: "p", Operation: Create, Object: b}); err != nil {
		t.Fatal(err)
	}
	if b.Labels[corev1.LabelTopologyZone] != "z" || b.Labels["k"] != "v" {
		t.Errorf("%v", b.Labels)
	}
}
