package admission

import (
	"context"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// tolerateExtended lets pods onto the nodes that are kept, by a taint with the name of an
// extended resource (a device's), for those that ask for it.
type tolerateExtended struct{}

func (tolerateExtended) Mutate(_ context.Context, a *Attributes) error {
	pod := podOf(a, Create, Update)
	if pod == nil {
		return nil
	}
	asked := map[string]bool{}
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		for name := range c.Resources.Requests {
			if strings.Contains(string(name), "/") && !strings.Contains(string(name), "kubernetes.io/") {
				asked[string(name)] = true
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(asked)) {
		t := corev1.Toleration{Key: name, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}
		if !slices.ContainsFunc(pod.Spec.Tolerations, func(had corev1.Toleration) bool { return had.MatchToleration(&t) }) {
			pod.Spec.Tolerations = append(pod.Spec.Tolerations, t)
		}
	}
	return nil
}
