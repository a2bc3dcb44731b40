package admission

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// hostAntiAffinity lets pods keep others off their node, not off a whole zone.
type hostAntiAffinity struct{}

func (hostAntiAffinity) Validate(_ context.Context, a *Attributes) error {
	pod := podOf(a, Create, Update)
	if pod == nil || pod.Spec.Affinity == nil || pod.Spec.Affinity.PodAntiAffinity == nil {
		return nil
	}
	for _, term := range pod.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
		if term.TopologyKey != corev1.LabelHostname {
			return forbidden(a, fmt.Errorf("affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey %v but only key %v is allowed", term.TopologyKey, corev1.LabelHostname))
		}
	}
	return nil
}
