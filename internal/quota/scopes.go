package quota

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// InScope says whether an object of a kind falls under a quota's scopes. A quota without
// any covers everything; one with scopes covers pods, or the claims of some attributes class.
func InScope(q *corev1.ResourceQuota, of schema.GroupResource, obj any) bool {
	for _, s := range scopes(q) {
		switch o := obj.(type) {
		case *corev1.Pod:
			if of != Pods || !podInScope(o, s) {
				return false
			}
		case *corev1.PersistentVolumeClaim:
			if s.ScopeName != corev1.ResourceQuotaScopeVolumeAttributesClass || !selected(s, classesOf(o)) {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// Scoped says whether a quota covers only some of a kind's objects.
func Scoped(q *corev1.ResourceQuota) bool { return len(scopes(q)) > 0 }

// scopes are both ways to write them in one.
func scopes(q *corev1.ResourceQuota) []corev1.ScopedResourceSelectorRequirement {
	var all []corev1.ScopedResourceSelectorRequirement
	for _, name := range q.Spec.Scopes {
		all = append(all, corev1.ScopedResourceSelectorRequirement{ScopeName: name, Operator: corev1.ScopeSelectorOpExists})
	}
	if q.Spec.ScopeSelector != nil {
		all = append(all, q.Spec.ScopeSelector.MatchExpressions...)
	}
	return all
}

func podInScope(pod *corev1.Pod, s corev1.ScopedResourceSelectorRequirement) bool {
	ends := pod.Spec.ActiveDeadlineSeconds != nil && *pod.Spec.ActiveDeadlineSeconds >= 0
	switch s.ScopeName {
	case corev1.ResourceQuotaScopeTerminating:
		return ends
	case corev1.ResourceQuotaScopeNotTerminating:
		return !ends
	case corev1.ResourceQuotaScopeBestEffort:
		return bestEffort(pod)
	case corev1.ResourceQuotaScopeNotBestEffort:
		return !bestEffort(pod)
	case corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		return reachesOut(pod)
	case corev1.ResourceQuotaScopePriorityClass:
		var class []string
		if pod.Spec.PriorityClassName != "" {
			class = []string{pod.Spec.PriorityClassName}
		}
		return selected(s, class)
	}
	return false
}

// selected says whether a selector takes an object that has these values.
func selected(s corev1.ScopedResourceSelectorRequirement, have []string) bool {
	any := slices.ContainsFunc(have, func(v string) bool { return slices.Contains(s.Values, v) })
	switch s.Operator {
	case corev1.ScopeSelectorOpExists:
		return len(have) > 0
	case corev1.ScopeSelectorOpDoesNotExist:
		return len(have) == 0
	case corev1.ScopeSelectorOpIn:
		return any
	case corev1.ScopeSelectorOpNotIn:
		return !any
	}
	return false
}

// classesOf are the attributes classes that a claim has, asks for, or is on its way to.
func classesOf(c *corev1.PersistentVolumeClaim) []string {
	var names []string
	add := func(name *string) {
		if name != nil && *name != "" {
			names = append(names, *name)
		}
	}
	add(c.Spec.VolumeAttributesClassName)
	add(c.Status.CurrentVolumeAttributesClassName)
	if m := c.Status.ModifyVolumeStatus; m != nil {
		add(&m.TargetVolumeAttributesClassName)
	}
	return names
}

// bestEffort pods ask for nothing and are bounded by nothing.
func bestEffort(pod *corev1.Pod) bool {
	if r := pod.Spec.Resources; r != nil && !nothing(r.Requests, r.Limits) {
		return false
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if !nothing(list[i].Resources.Requests, list[i].Resources.Limits) {
				return false
			}
		}
	}
	return true
}

func nothing(lists ...corev1.ResourceList) bool {
	for _, list := range lists {
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			if q, ok := list[name]; ok && q.Sign() > 0 {
				return false
			}
		}
	}
	return true
}

// reachesOut says whether a pod's affinity looks at pods of other namespaces.
func reachesOut(pod *corev1.Pod) bool {
	a := pod.Spec.Affinity
	if a == nil {
		return false
	}
	var terms []corev1.PodAffinityTerm
	weighted := func(list []corev1.WeightedPodAffinityTerm) {
		for i := range list {
			terms = append(terms, list[i].PodAffinityTerm)
		}
	}
	if a.PodAffinity != nil {
		terms = append(terms, a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution...)
		weighted(a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if a.PodAntiAffinity != nil {
		terms = append(terms, a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution...)
		weighted(a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	return slices.ContainsFunc(terms, func(t corev1.PodAffinityTerm) bool { return len(t.Namespaces) > 0 || t.NamespaceSelector != nil })
}
