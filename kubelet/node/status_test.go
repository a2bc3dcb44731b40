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

// The controller manager of a cloud knows better where a node is reached.
func TestAddressesOfACloud(t *testing.T) {
	n := &Node{Config: Config{Name: "n", IPs: []string{"192.0.2.1"}, Root: t.TempDir(), Cloud: true}, shortAt: map[corev1.NodeConditionType]time.Time{}}
	first, _ := n.status(context.Background(), &corev1.NodeStatus{})
	if len(first.Addresses) != 2 || first.Addresses[0].Address != "192.0.2.1" {
		t.Errorf("%v", first.Addresses)
	}
	given := []corev1.NodeAddress{{Type: corev1.NodeExternalIP, Address: "198.51.100.1"}}
	if now, _ := n.status(context.Background(), &corev1.NodeStatus{Addresses: given}); len(now.Addresses) != 1 || now.Addresses[0] != given[0] {
		t.Errorf("%v", now.Addresses)
	}
}
