package loop

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"
)

// Index adds an index to an informer that several loops may ask for by the same name; the
// name stands for the function. For use before the informers start.
func Index(informer cache.SharedIndexInformer, name string, values func(obj any) []string) error {
	if _, there := informer.GetIndexer().GetIndexers()[name]; there {
		return nil
	}
	return informer.AddIndexers(cache.Indexers{name: func(obj any) ([]string, error) { return values(obj), nil }})
}

const podNode = "proa/spec.nodeName"

// PodsByNode makes pods findable by their node.
func PodsByNode(pods cache.SharedIndexInformer) (func(node string) []*corev1.Pod, error) {
	err := Index(pods, podNode, func(obj any) []string {
		if pod, ok := obj.(*corev1.Pod); ok && pod.Spec.NodeName != "" {
			return []string{pod.Spec.NodeName}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return func(node string) []*corev1.Pod { return Indexed[*corev1.Pod](pods, podNode, node) }, nil
}

// Indexed answers the objects that an index has under a value.
func Indexed[T any](informer cache.SharedIndexInformer, index, value string) []T {
	found, err := informer.GetIndexer().ByIndex(index, value)
	if err != nil {
		return nil // no such index: New has not added it
	}
	out := make([]T, 0, len(found))
	for _, obj := range found {
		if t, ok := obj.(T); ok {
			out = append(out, t)
		}
	}
	return out
}
