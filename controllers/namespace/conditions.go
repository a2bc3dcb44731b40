package namespace

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

// findings is what emptying a namespace came upon.
type findings struct {
	undiscovered []error
	failed       []error
	count        map[string]int // objects left, by resource.group
	finalizers   map[string]int // objects left, by finalizer
}

func (f *findings) remains() bool { return len(f.count) > 0 }

// conditions are the namespace's with what was found. One of the same status keeps its time.
func conditions(have []corev1.NamespaceCondition, f *findings, now time.Time) []corev1.NamespaceCondition {
	have = slices.Clone(have)
	set := func(kind corev1.NamespaceConditionType, yes bool, reason, message, noReason, noMessage string) {
		c := corev1.NamespaceCondition{Type: kind, Status: corev1.ConditionTrue, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(now)}
		if !yes {
			c.Status, c.Reason, c.Message = corev1.ConditionFalse, noReason, noMessage
		}
		i := slices.IndexFunc(have, func(h corev1.NamespaceCondition) bool { return h.Type == kind })
		if i < 0 {
			have = append(have, c)
			return
		}
		if have[i].Status == c.Status {
			c.LastTransitionTime = have[i].LastTransitionTime
		}
		have[i] = c
	}
	undiscovered, failed := errors.Join(f.undiscovered...), errors.Join(f.failed...)
	set(corev1.NamespaceDeletionDiscoveryFailure, undiscovered != nil, "DiscoveryFailed",
		fmt.Sprintf("Discovery failed for some groups, %d failing: %v", len(f.undiscovered), undiscovered),
		"ResourcesDiscovered", "All resources successfully discovered")
	set(corev1.NamespaceDeletionGVParsingFailure, false, "", "", "ParsedGroupVersions", "All legacy kube types successfully parsed")
	set(corev1.NamespaceDeletionContentFailure, failed != nil, "ContentDeletionFailed",
		fmt.Sprintf("Failed to delete all resource types, %d remaining: %v", len(f.failed), failed),
		"ContentDeleted", "All content successfully deleted, may be waiting on finalization")
	set(corev1.NamespaceContentRemaining, f.remains(), "SomeResourcesRemain",
		"Some resources are remaining: "+listed(f.count, "%s has %d resource instances"),
		"ContentRemoved", "All content successfully removed")
	set(corev1.NamespaceFinalizersRemaining, len(f.finalizers) > 0, "SomeFinalizersRemain",
		"Some content in the namespace has finalizers remaining: "+listed(f.finalizers, "%s in %d resource instances"),
		"ContentHasNoFinalizers", "All content-preserving finalizers finished")
	return have
}

// listed writes counts in the order of their names.
func listed(counts map[string]int, format string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf(format, name, counts[name]))
	}
	return strings.Join(parts, ", ")
}

// ended calls wake with the namespace of each pod that is gone.
func ended(wake func(namespace string)) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{DeleteFunc: func(obj any) {
		if tombstone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = tombstone.Obj
		}
		if pod, ok := obj.(*corev1.Pod); ok {
			wake(pod.Namespace)
		}
	}}
}
