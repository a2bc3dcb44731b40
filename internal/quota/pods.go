package quota

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
)

// compute are the names of what pods use of a machine, but for huge pages and extended resources.
var compute = map[corev1.ResourceName]bool{
	corev1.ResourceCPU: true, corev1.ResourceMemory: true, corev1.ResourceEphemeralStorage: true,
	corev1.ResourceRequestsCPU: true, corev1.ResourceRequestsMemory: true, corev1.ResourceRequestsEphemeralStorage: true,
	corev1.ResourceLimitsCPU: true, corev1.ResourceLimitsMemory: true, corev1.ResourceLimitsEphemeralStorage: true,
}

// alive pods use what they ask for: those that have not ended, and whose time to end, if
// they are being deleted, has not run out.
func alive(pod *corev1.Pod, now time.Time) bool {
	if pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded {
		return false
	}
	return pod.DeletionTimestamp == nil || pod.DeletionGracePeriodSeconds == nil || !now.After(pod.DeletionTimestamp.Time)
}

func podUsage(pod *corev1.Pod) corev1.ResourceList {
	opts := resourcehelper.PodResourcesOptions{UseStatusResources: true, InPlacePodLevelResourcesVerticalScalingEnabled: true}
	use := corev1.ResourceList{corev1.ResourcePods: *resource.NewQuantity(1, resource.DecimalSI)}
	for name, q := range resourcehelper.PodRequests(pod, opts) {
		prefixed := corev1.ResourceName(corev1.DefaultResourceRequestsPrefix + string(name))
		switch {
		case compute[name] || strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix):
			use[name], use[prefixed] = q, q
		case extended(string(prefixed)):
			use[prefixed] = q
		}
	}
	for name, q := range resourcehelper.PodLimits(pod, opts) {
		if prefixed := corev1.ResourceName("limits." + string(name)); compute[prefixed] {
			use[prefixed] = q
		}
	}
	return use
}

// mustSpecify are the names that each container has to set when a quota limits them.
var mustSpecify = []corev1.ResourceName{
	corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory,
	corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory,
}

// Unspecified says which containers of a pod do not set what the list limits; nil: none.
func Unspecified(pod *corev1.Pod, hard corev1.ResourceList) error {
	missing := map[string]map[string]bool{}
	for _, name := range mustSpecify {
		if _, limited := hard[name]; !limited || pod.Spec.Resources != nil && sets(pod.Spec.Resources.Requests, pod.Spec.Resources.Limits, name) {
			continue
		}
		for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
			for i := range list {
				if sets(list[i].Resources.Requests, list[i].Resources.Limits, name) {
					continue
				}
				if missing[string(name)] == nil {
					missing[string(name)] = map[string]bool{}
				}
				missing[string(name)][list[i].Name] = true
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		parts = append(parts, name+" for: "+strings.Join(slices.Sorted(maps.Keys(missing[name])), ","))
	}
	return fmt.Errorf("must specify %s", strings.Join(parts, "; "))
}

// sets says whether requests and limits have what a quota's name stands for.
func sets(requests, limits corev1.ResourceList, name corev1.ResourceName) bool {
	from, of := requests, strings.TrimPrefix(string(name), corev1.DefaultResourceRequestsPrefix)
	if limit, ok := strings.CutPrefix(of, "limits."); ok {
		from, of = limits, limit
	}
	_, ok := from[corev1.ResourceName(of)]
	return ok
}
