package loop

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/cache"
)

// InEachNamespace makes a loop that keeps one object, of a name that is the same
// everywhere, in each namespace that is not going. ensure makes it, or mends it.
func InEachNamespace(name string, deps Deps, object string, objects cache.SharedIndexInformer, ensure func(ctx context.Context, namespace string) error) *Loop[string] {
	namespaces := deps.Informers.Core().V1().Namespaces()
	l := New(name, deps, func(ctx context.Context, namespace string) error {
		ns, err := namespaces.Lister().Get(namespace)
		if err != nil || ns.DeletionTimestamp != nil {
			return Gone(err)
		}
		err = ensure(ctx, namespace)
		if apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return nil
		}
		return Gone(err)
	})
	l.Watch(namespaces.Informer(), func(obj any) []string {
		k, _ := KeyOf(obj)
		return []string{k.Name}
	})
	l.Watch(objects, func(obj any) []string {
		if k, ok := KeyOf(obj); ok && k.Name == object {
			return []string{k.Namespace}
		}
		return nil
	})
	return l
}
