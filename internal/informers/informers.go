// Package informers shares one informer per kind among the components of a process, for
// the kinds that components of proa read.
//
// The one idea: the shape is client-go's (factory.Core().V1().Pods().Lister()), but a kind
// is one line in kinds.go and costs nothing more. client-go's own factory links typed
// informers of every kind and version there is, some 8 MB of a binary.
//
// Made by cluster (fed from the store, or by a client), used by controllers, scheduler,
// kubelet, proxy, dns and network.
package informers

import (
	"context"
	"reflect"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
)

// Source is where objects come from without a client: the store of the same process.
type Source interface {
	// ListerWatcher gives the objects of the example's type, nil when it has none.
	ListerWatcher(example runtime.Object) cache.ListerWatcher
	// Example is an object of a resource, nil when it has none, or no Go type for it.
	Example(resource schema.GroupVersionResource) runtime.Object
}

// Factory makes informers when they are first asked for, and starts those it has made.
type Factory struct {
	client kubernetes.Interface
	source Source // nil: the client alone

	mu      sync.Mutex
	made    map[reflect.Type]cache.SharedIndexInformer
	started map[reflect.Type]bool
	ending  bool
	running sync.WaitGroup
}

// New gives a factory whose informers read source, and client for what source does not
// have; source may be nil.
func New(client kubernetes.Interface, source Source) *Factory {
	return &Factory{
		client: client, source: source,
		made: map[reflect.Type]cache.SharedIndexInformer{}, started: map[reflect.Type]bool{},
	}
}

// StartWithContext runs the informers made so far that do not run yet, until ctx ends.
func (f *Factory) StartWithContext(ctx context.Context) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ending {
		return
	}
	for t, informer := range f.made {
		if !f.started[t] {
			f.started[t] = true
			f.running.Go(func() { informer.RunWithContext(ctx) })
		}
	}
}

// Shutdown lets no informer start any more and returns when all have ended.
func (f *Factory) Shutdown() {
	f.mu.Lock()
	f.ending = true
	f.mu.Unlock()
	f.running.Wait()
}

// ForResource is the informer of a resource: one the source has, or that was asked for
// before; nil when there is none.
func (f *Factory) ForResource(resource schema.GroupVersionResource) cache.SharedIndexInformer {
	if f.source != nil {
		if example := f.source.Example(resource); example != nil {
			return f.informer(example, nil)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for t, informer := range f.made {
		kinds, _, err := scheme.Scheme.ObjectKinds(reflect.New(t.Elem()).Interface().(runtime.Object))
		if err != nil || len(kinds) == 0 {
			continue
		}
		if plural, _ := meta.UnsafeGuessKindToResource(kinds[0]); plural == resource {
			return informer
		}
	}
	return nil
}

// informer gives the one of the example's type; remote is asked for when there is none
// yet and the source does not have it.
func (f *Factory) informer(example runtime.Object, remote func() cache.ListerWatcher) cache.SharedIndexInformer {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := reflect.TypeOf(example)
	if informer, ok := f.made[t]; ok {
		return informer
	}
	var lw cache.ListerWatcher
	if f.source != nil {
		lw = f.source.ListerWatcher(example)
	}
	if lw == nil {
		lw = remote()
	}
	f.made[t] = Unshared(lw, example)
	return f.made[t]
}

// Unshared makes an informer that no factory knows: the caller runs it.
func Unshared(lw cache.ListerWatcher, example runtime.Object) cache.SharedIndexInformer {
	return cache.NewSharedIndexInformerWithOptions(lw, example, cache.SharedIndexInformerOptions{
		Indexers: cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc},
	})
}

// Metadata makes an unshared informer of a resource's metadata, less what is large and
// says nothing about lifetime: managed fields, annotations, labels.
func Metadata(client metadata.Interface, resource schema.GroupVersionResource, indexers cache.Indexers) (cache.SharedIndexInformer, error) {
	informer := cache.NewSharedIndexInformer(listerWatcher(client, client.Resource(resource)), &metav1.PartialObjectMetadata{}, 0, indexers)
	err := informer.SetTransform(func(obj any) (any, error) {
		if m, err := meta.Accessor(obj); err == nil {
			m.SetManagedFields(nil)
			m.SetAnnotations(nil)
			m.SetLabels(nil)
		}
		return obj, nil
	})
	return informer, err
}

// client is the part of a typed client that an informer needs.
type client[List runtime.Object] interface {
	List(ctx context.Context, opts metav1.ListOptions) (List, error)
	Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
}

// listerWatcher reads through a client; from tells whether it can stream its lists.
func listerWatcher[List runtime.Object](from any, c client[List]) cache.ListerWatcher {
	return cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
			return c.List(ctx, opts)
		},
		WatchFuncWithContext: c.Watch,
	}, from)
}
