package node

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Resources that others add to a node stay, and can be had; what the kubelet knows it says itself.
func TestExtendedResources(t *testing.T) {
	n := &Node{Config: Config{Name: "n", Root: t.TempDir(), MaxPods: 7}, shortAt: map[corev1.NodeConditionType]time.Time{}}
	was := corev1.NodeStatus{
		Capacity:    corev1.ResourceList{"example.com/foo": resource.MustParse("5"), corev1.ResourcePods: resource.MustParse("99"), "kubernetes.io/x": resource.MustParse("1")},
		Allocatable: corev1.ResourceList{"example.com/gone": resource.MustParse("1")},
	}
	n.learn(&corev1.Node{Status: was})
	now, _ := n.status(context.Background(), &was)
	for name, want := range map[corev1.ResourceName]int64{"example.com/foo": 5, corev1.ResourcePods: 7} {
		capacity, allocatable := now.Capacity[name], now.Allocatable[name]
		if capacity.Value() != want || allocatable.Value() != want {
			t.Errorf("%s: %s of %s, want %d", name, allocatable.String(), capacity.String(), want)
		}
	}
	for _, name := range []corev1.ResourceName{"example.com/gone", "kubernetes.io/x"} {
		if _, ok := now.Allocatable[name]; ok {
			t.Errorf("%s can be had though nobody has it", name)
		}
	}
}
