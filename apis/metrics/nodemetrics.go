package metrics

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/proa-dev/proa/apis/api"
)

var nodes = api.DefineComputed(api.Computed[*metricsv1beta1.NodeMetrics]{
	Group: group, Version: version, Kind: "NodeMetrics", Plural: "nodes", Yields: true,
	Columns: columns(
		func(m *metricsv1beta1.NodeMetrics) corev1.ResourceList { return m.Usage },
		func(m *metricsv1beta1.NodeMetrics) metav1.Duration { return m.Window }),
	Make: nodesUse,
	List: func(all []*metricsv1beta1.NodeMetrics) runtime.Object {
		list := &metricsv1beta1.NodeMetricsList{Items: make([]metricsv1beta1.NodeMetrics, 0, len(all))}
		for _, one := range all {
			item := *one
			item.TypeMeta = metav1.TypeMeta{}
			list.Items = append(list.Items, item)
		}
		return list
	},
})

func nodesUse(ctx context.Context, env *api.Env, ask api.Ask) ([]*metricsv1beta1.NodeMetrics, error) {
	wanted, err := nodesAsked(env, ask)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, n := range wanted {
		if alive(n) {
			names = append(names, n.Name)
		}
	}
	var out []*metricsv1beta1.NodeMetrics
	if env.Usage != nil {
		said := env.Usage.Of(ctx, names)
		for _, n := range wanted {
			r := said[n.Name]
			if r == nil || !r.Node.Sane() {
				continue
			}
			out = append(out, &metricsv1beta1.NodeMetrics{ObjectMeta: meta(n), Timestamp: metav1.NewTime(r.Node.At).Rfc3339Copy(), Window: window(r.Node.Window), Usage: used(&r.Node)})
		}
	}
	if ask.Name != "" && len(out) == 0 {
		return nil, apierrors.NewNotFound(nodeMetrics, ask.Name)
	}
	return out, nil
}

func nodesAsked(env *api.Env, ask api.Ask) ([]*corev1.Node, error) {
	if ask.Name != "" {
		obj, _ := env.Reader.Get(corev1.Resource("nodes"), "", ask.Name)
		if n, ok := obj.(*corev1.Node); ok {
			return []*corev1.Node{n}, nil
		}
		return nil, apierrors.NewNotFound(corev1.Resource("nodes"), ask.Name)
	}
	var out []*corev1.Node
	for _, obj := range env.Reader.List(corev1.Resource("nodes"), "") {
		if n, ok := obj.(*corev1.Node); ok && ask.Matches(n) {
			out = append(out, n)
		}
	}
	return out, nil
}

// alive: a node that has not been heard of for long does not answer either.
func alive(n *corev1.Node) bool {
	for i := range n.Status.Conditions {
		if c := &n.Status.Conditions[i]; c.Type == corev1.NodeReady {
			return c.Status != corev1.ConditionUnknown
		}
	}
	return true
}
