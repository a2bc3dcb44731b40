package metrics

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/internal/nodeusage"
)

var pods = api.DefineComputed(api.Computed[*metricsv1beta1.PodMetrics]{
	Group: group, Version: version, Kind: "PodMetrics", Plural: "pods", Namespaced: true, Yields: true,
	Columns: columns(total, func(m *metricsv1beta1.PodMetrics) metav1.Duration { return m.Window }),
	Make:    podsUse,
	List: func(all []*metricsv1beta1.PodMetrics) runtime.Object {
		list := &metricsv1beta1.PodMetricsList{Items: make([]metricsv1beta1.PodMetrics, 0, len(all))}
		for _, one := range all {
			item := *one
			item.TypeMeta = metav1.TypeMeta{}
			list.Items = append(list.Items, item)
		}
		return list
	},
})

// total is what a pod's containers use together.
func total(m *metricsv1beta1.PodMetrics) corev1.ResourceList {
	sum := corev1.ResourceList{}
	for _, c := range m.Containers {
		for name, q := range c.Usage {
			have := sum[name]
			have.Add(q)
			sum[name] = have
		}
	}
	return sum
}

func podsUse(ctx context.Context, env *api.Env, ask api.Ask) ([]*metricsv1beta1.PodMetrics, error) {
	wanted, err := podsAsked(env, ask)
	if err != nil {
		return nil, err
	}
	var out []*metricsv1beta1.PodMetrics
	if env.Usage != nil {
		said := map[string]map[types.UID]*nodeusage.Pod{}
		for name, r := range env.Usage.Of(ctx, nodesOf(env, wanted)) {
			said[name] = byUID(r)
		}
		for _, p := range wanted { // a node tells of its own pods alone
			if u := said[p.Spec.NodeName][p.UID]; u != nil && believed(p, u) {
				out = append(out, podUse(p, u))
			}
		}
	}
	if ask.Name != "" && len(out) == 0 {
		return nil, apierrors.NewNotFound(podMetrics, ask.Namespace+"/"+ask.Name)
	}
	return out, nil
}

func podsAsked(env *api.Env, ask api.Ask) ([]*corev1.Pod, error) {
	if ask.Name != "" {
		obj, _ := env.Reader.Get(corev1.Resource("pods"), ask.Namespace, ask.Name)
		if p, ok := obj.(*corev1.Pod); ok {
			return []*corev1.Pod{p}, nil
		}
		return nil, apierrors.NewNotFound(corev1.Resource("pods"), ask.Name)
	}
	var out []*corev1.Pod
	for _, obj := range env.Reader.List(corev1.Resource("pods"), ask.Namespace) {
		if p, ok := obj.(*corev1.Pod); ok && ask.Matches(p) {
			out = append(out, p)
		}
	}
	return out, nil
}

// nodesOf are the nodes that pods run on, each once.
func nodesOf(env *api.Env, pods []*corev1.Pod) []string {
	var names []string
	for _, p := range pods {
		if p.Spec.NodeName != "" && p.Status.Phase == corev1.PodRunning {
			names = append(names, p.Spec.NodeName)
		}
	}
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(name string) bool {
		obj, _ := env.Reader.Get(corev1.Resource("nodes"), "", name)
		n, ok := obj.(*corev1.Node)
		return !ok || !alive(n)
	})
}

// byUID are the pods that a node tells of.
func byUID(r *nodeusage.Report) map[types.UID]*nodeusage.Pod {
	out := make(map[types.UID]*nodeusage.Pod, len(r.Pods))
	for i := range r.Pods {
		out[types.UID(r.Pods[i].UID)] = &r.Pods[i]
	}
	return out
}

// believed says whether what a node tells of a pod may be passed on.
func believed(p *corev1.Pod, u *nodeusage.Pod) bool {
	known := map[string]bool{}
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			known[list[i].Name] = true
		}
	}
	for i := range p.Spec.EphemeralContainers {
		known[p.Spec.EphemeralContainers[i].Name] = true
	}
	for i := range u.Containers {
		if c := &u.Containers[i]; !known[c.Name] || !c.Sane() {
			return false
		}
		known[u.Containers[i].Name] = false // once
	}
	return len(u.Containers) > 0
}

// podUse tells of one pod; its time is that of the container that was read first.
func podUse(p *corev1.Pod, u *nodeusage.Pod) *metricsv1beta1.PodMetrics {
	m := &metricsv1beta1.PodMetrics{ObjectMeta: meta(p), Containers: make([]metricsv1beta1.ContainerMetrics, 0, len(u.Containers))}
	for i := range u.Containers {
		c := &u.Containers[i]
		if at := metav1.NewTime(c.At).Rfc3339Copy(); i == 0 || at.Before(&m.Timestamp) {
			m.Timestamp = at
		}
		if i == 0 || c.Window < m.Window.Duration {
			m.Window = window(c.Window)
		}
		m.Containers = append(m.Containers, metricsv1beta1.ContainerMetrics{Name: c.Name, Usage: used(&c.Use)})
	}
	return m
}
