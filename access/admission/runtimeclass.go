package admission

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
)

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

// Validate refuses an overhead that no class stands for.
func (r *runtimeClasses) Validate(_ context.Context, a *Attributes) error {
	pod := podOf(a, Create)
	if pod == nil {
		return nil
	}
	var need corev1.ResourceList
	if pod.Spec.RuntimeClassName != nil && *pod.Spec.RuntimeClassName != "" {
		obj, _ := r.env.Reader.Get(runtimes, "", *pod.Spec.RuntimeClassName)
		if class, ok := obj.(*nodev1.RuntimeClass); ok && class.Overhead != nil {
			need = class.Overhead.PodFixed
		}
	}
	switch {
	case len(need) == 0 && len(pod.Spec.Overhead) > 0:
		return forbidden(a, errors.New("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"))
	case len(need) > 0 && !sameResources(pod.Spec.Overhead, need):
		return forbidden(a, errors.New("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"))
	}
	return nil
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
