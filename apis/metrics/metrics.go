// Package metrics defines the kinds of metrics.k8s.io: what nodes and pods use at present.
//
// The one idea: nothing is collected; whoever asks has the nodes asked, and those that do not
// answer in time are left out. Another server that an APIService names answers instead.
package metrics

import (
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/internal/nodeusage"
)

// Kinds of the group.
var Kinds = []*api.Kind{nodes, pods}

const group, version = "metrics.k8s.io", "v1beta1"

// What clients are told that something is not found as.
var (
	nodeMetrics = schema.GroupResource{Group: group, Resource: "nodemetrics"}
	podMetrics  = schema.GroupResource{Group: group, Resource: "podmetrics"}
)

// used is a list of resources in the units in which this API tells of them.
func used(u *nodeusage.Use) corev1.ResourceList {
	cpu := resource.NewScaledQuantity(int64(u.CPU), resource.Nano)
	memory := resource.NewQuantity(int64(u.Memory), resource.BinarySI)
	return corev1.ResourceList{corev1.ResourceCPU: *cpu, corev1.ResourceMemory: *memory}
}

// meta is that of the object that is told of, as far as clients select by it.
func meta(of metav1.Object) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: of.GetName(), Namespace: of.GetNamespace(), Labels: maps.Clone(of.GetLabels()), CreationTimestamp: metav1.Now().Rfc3339Copy(),
	}
}

// window is a time without a fraction that nobody wants to read.
func window(d time.Duration) metav1.Duration {
	return metav1.Duration{Duration: d.Round(time.Millisecond)}
}

// columns show use as quantities.
func columns[T api.Object](used func(T) corev1.ResourceList, over func(T) metav1.Duration) []api.Column[T] {
	quantity := func(name corev1.ResourceName) api.Column[T] {
		return api.Column[T]{Name: string(name), Format: "quantity", Value: func(o T) any {
			q := used(o)[name]
			return q.String()
		}}
	}
	return []api.Column[T]{
		quantity(corev1.ResourceCPU), quantity(corev1.ResourceMemory),
		{Name: "Window", Format: "duration", Value: func(o T) any { return over(o).Duration.String() }},
	}
}
