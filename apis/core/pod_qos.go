package core

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

var qosResources = []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory}

// QOSClass is the quality of service of a pod: Guaranteed when cpu and memory are limited
// to what is requested, BestEffort when neither is mentioned, else Burstable. It is a
// fact of the spec; a class in the status is not looked at.
func QOSClass(p *corev1.Pod) corev1.PodQOSClass {
	if r := p.Spec.Resources; r != nil && len(r.Requests)+len(r.Limits) > 0 {
		return qosOf([]corev1.ResourceRequirements{*r})
	}
	var all []corev1.ResourceRequirements
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			all = append(all, list[i].Resources)
		}
	}
	return qosOf(all)
}

func qosOf(all []corev1.ResourceRequirements) corev1.PodQOSClass {
	requests, limits := map[corev1.ResourceName]resource.Quantity{}, map[corev1.ResourceName]resource.Quantity{}
	limited := true
	for i := range all {
		addPositive(requests, all[i].Requests)
		if addPositive(limits, all[i].Limits) < len(qosResources) {
			limited = false
		}
	}
	if len(requests) == 0 && len(limits) == 0 {
		return corev1.PodQOSBestEffort
	}
	if !limited || len(requests) != len(limits) {
		return corev1.PodQOSBurstable
	}
	for name, r := range requests {
		if l, ok := limits[name]; !ok || l.Cmp(r) != 0 {
			return corev1.PodQOSBurstable
		}
	}
	return corev1.PodQOSGuaranteed
}

// addPositive adds cpu and memory to a sum and says how many of the two were there.
func addPositive(sum map[corev1.ResourceName]resource.Quantity, list corev1.ResourceList) int {
	n := 0
	for name, q := range list {
		if !slices.Contains(qosResources, name) || q.Sign() <= 0 {
			continue
		}
		n++
		total := sum[name]
		total.Add(q)
		sum[name] = total
	}
	return n
}
