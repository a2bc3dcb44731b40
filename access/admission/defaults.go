package admission

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
)

const tolerationSeconds = int64(300)

// defaultTolerations lets pods stay five minutes on a node that went away.
type defaultTolerations struct{}

func (defaultTolerations) Mutate(_ context.Context, a *Attributes) error {
	pod := podOf(a, Create, Update)
	if pod == nil {
		return nil
	}
	for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		if tolerates(pod, key) {
			continue
		}
		seconds := tolerationSeconds
		pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{
			Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds,
		})
	}
	return nil
}

func tolerates(pod *corev1.Pod, key string) bool {
	for _, t := range pod.Spec.Tolerations {
		if (t.Key == key || t.Key == "") && (t.Effect == corev1.TaintEffectNoExecute || t.Effect == "") {
			return true
		}
	}
	return false
}

// taintNodes makes new nodes not ready until they were seen to be.
type taintNodes struct{}

func (taintNodes) Mutate(_ context.Context, a *Attributes) error {
	node, ok := a.Object.(*corev1.Node)
	if !ok || a.Kind.GroupResource() != nodes || a.Subresource != "" || a.Operation != Create {
		return nil
	}
	for _, t := range node.Spec.Taints {
		if t.Key == corev1.TaintNodeNotReady && t.Effect == corev1.TaintEffectNoSchedule {
			return nil
		}
	}
	node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule})
	return nil
}

// runtimeClasses gives a pod the overhead and the place that its runtime needs.
type runtimeClasses struct{ env Env }

func (r *runtimeClasses) Mutate(_ context.Context, a *Attributes) error {
	pod := podOf(a, Create)
	if pod == nil || pod.Spec.RuntimeClassName == nil || *pod.Spec.RuntimeClassName == "" {
		return nil
	}
	obj, ok := r.env.Reader.Get(runtimes, "", *pod.Spec.RuntimeClassName)
	class, typed := obj.(*nodev1.RuntimeClass)
	if !ok || !typed {
		return forbidden(a, fmt.Errorf("pod rejected: RuntimeClass %q not found", *pod.Spec.RuntimeClassName))
	}
	if class.Overhead != nil && len(class.Overhead.PodFixed) > 0 {
		if len(pod.Spec.Overhead) > 0 && !sameResources(pod.Spec.Overhead, class.Overhead.PodFixed) {
			return forbidden(a, fmt.Errorf("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"))
		}
		pod.Spec.Overhead = class.Overhead.PodFixed.DeepCopy()
	}
	return place(a, pod, class.Scheduling)
}

func place(a *Attributes, pod *corev1.Pod, s *nodev1.Scheduling) error {
	if s == nil {
		return nil
	}
	for key, value := range s.NodeSelector {
		if have, ok := pod.Spec.NodeSelector[key]; ok && have != value {
			return forbidden(a, fmt.Errorf("conflict: runtimeClass.scheduling.nodeSelector[%s] = %s; pod.spec.nodeSelector[%s] = %s", key, value, key, have))
		}
		if pod.Spec.NodeSelector == nil {
			pod.Spec.NodeSelector = map[string]string{}
		}
		pod.Spec.NodeSelector[key] = value
	}
next:
	for _, t := range s.Tolerations {
		for _, have := range pod.Spec.Tolerations {
			if have.MatchToleration(&t) {
				continue next
			}
		}
		pod.Spec.Tolerations = append(pod.Spec.Tolerations, *t.DeepCopy())
	}
	return nil
}

func sameResources(x, y corev1.ResourceList) bool {
	if len(x) != len(y) {
		return false
	}
	for name, q := range x {
		if other, ok := y[name]; !ok || q.Cmp(other) != 0 {
			return false
		}
	}
	return true
}
