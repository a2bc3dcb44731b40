package loop

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
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

const podClaims = "proa/spec.volumes.claim"

// PodsByClaim makes pods findable by the claims that their volumes stand on.
func PodsByClaim(pods cache.SharedIndexInformer) (func(claim Key) []*corev1.Pod, error) {
	err := Index(pods, podClaims, func(obj any) []string {
		var names []string
		for _, k := range ClaimsOf(obj) {
			names = append(names, k.String())
		}
		return names
	})
	if err != nil {
		return nil, err
	}
	return func(claim Key) []*corev1.Pod { return Indexed[*corev1.Pod](pods, podClaims, claim.String()) }, nil
}

// ClaimsOf are the claims that a pod's volumes stand on.
func ClaimsOf(obj any) []Key {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return nil
	}
	var keys []Key
	for i := range pod.Spec.Volumes {
		if name := ClaimName(pod, &pod.Spec.Volumes[i]); name != "" {
			keys = append(keys, Key{pod.Namespace, name})
		}
	}
	return keys
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

// byController is the index of objects by the UID of the owner that controls them; those
// that nobody controls are under their namespace.
const byController = "proa/controllerUID"

func orphans(namespace string) string { return "/" + namespace }

// IndexByController makes objects findable by their controlling owner.
func IndexByController(informer cache.SharedIndexInformer) error {
	return Index(informer, byController, func(obj any) []string {
		m, ok := obj.(metav1.Object)
		if !ok {
			return nil
		}
		if owner := metav1.GetControllerOfNoCopy(m); owner != nil {
			return []string{string(owner.UID)}
		}
		return []string{orphans(m.GetNamespace())}
	})
}

// ControlledBy gives the objects that an owner controls.
func ControlledBy[T any](informer cache.SharedIndexInformer, owner types.UID) []T {
	return Indexed[T](informer, byController, string(owner))
}

// Orphans gives the objects of a namespace that nobody controls.
func Orphans[T any](informer cache.SharedIndexInformer, namespace string) []T {
	return Indexed[T](informer, byController, orphans(namespace))
}
