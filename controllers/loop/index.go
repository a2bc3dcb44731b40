package loop

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// byController is the index of objects by the UID of the owner that controls them.
const byController = "controllerUID"

// IndexByController adds the index of objects by their controlling owner to an informer,
// once, whoever asks first. Objects that nobody controls are under the empty UID with
// their namespace.
func IndexByController(informer cache.SharedIndexInformer) error {
	if _, there := informer.GetIndexer().GetIndexers()[byController]; there {
		return nil
	}
	return informer.AddIndexers(cache.Indexers{byController: func(obj any) ([]string, error) {
		m, ok := obj.(metav1.Object)
		if !ok {
			return nil, fmt.Errorf("index by controller: %T has no metadata", obj)
		}
		if owner := metav1.GetControllerOfNoCopy(m); owner != nil {
			return []string{string(owner.UID)}, nil
		}
		return []string{orphans(m.GetNamespace())}, nil
	}})
}

func orphans(namespace string) string { return "/" + namespace }

// ControlledBy gives the objects that an owner controls.
func ControlledBy[T any](informer cache.SharedIndexInformer, owner types.UID) []T {
	return byIndex[T](informer, string(owner))
}

// Orphans gives the objects of a namespace that nobody controls.
func Orphans[T any](informer cache.SharedIndexInformer, namespace string) []T {
	return byIndex[T](informer, orphans(namespace))
}

func byIndex[T any](informer cache.SharedIndexInformer, value string) []T {
	found, err := informer.GetIndexer().ByIndex(byController, value)
	if err != nil {
		return nil // no such index: IndexByController was not called
	}
	all := make([]T, 0, len(found))
	for _, obj := range found {
		if t, ok := obj.(T); ok {
			all = append(all, t)
		}
	}
	return all
}
