package objects

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

type resource string

const (
	configMap resource = "configmaps"
	secret    resource = "secrets"
)

type key struct {
	resource        resource
	namespace, name string
}

// entry is one watched object; it is the store that its reflector writes to.
type entry struct {
	cache *Cache
	key   key
	stop  context.CancelFunc
	pods  map[types.UID]struct{} // under Cache.mu

	once   sync.Once
	synced chan struct{} // closed at the first answer

	mu      sync.Mutex
	object  metav1.Object // nil: does not exist
	refused error         // the first request's refusal (forbidden), until an answer comes
}

var _ cache.ReflectorStore = (*entry)(nil)

// open must be called with c.mu held.
func (c *Cache) open(k key) *entry {
	ctx, stop := context.WithCancel(c.ctx)
	e := &entry{cache: c, key: k, stop: stop, pods: map[types.UID]struct{}{}, synced: make(chan struct{})}
	c.entries[k] = e
	r := cache.NewReflectorWithOptions(e.listWatch(), e.example(), e, cache.ReflectorOptions{Name: string(k.resource) + " " + k.namespace + "/" + k.name})
	c.all.Go(func() { r.RunWithContext(ctx) })
	return e
}

func (e *entry) example() runtime.Object {
	if e.key.resource == secret {
		return &corev1.Secret{}
	}
	return &corev1.ConfigMap{}
}

func (e *entry) listWatch() cache.ListerWatcher {
	core := e.cache.cfg.Client.CoreV1()
	one := fields.OneTermEqualSelector("metadata.name", e.key.name).String()
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = one
			var list runtime.Object
			var err error
			if e.key.resource == secret {
				list, err = core.Secrets(e.key.namespace).List(ctx, o)
			} else {
				list, err = core.ConfigMaps(e.key.namespace).List(ctx, o)
			}
			e.refuse(err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (w watch.Interface, err error) {
			o.FieldSelector = one
			if e.key.resource == secret {
				w, err = core.Secrets(e.key.namespace).Watch(ctx, o)
			} else {
				w, err = core.ConfigMaps(e.key.namespace).Watch(ctx, o)
			}
			e.refuse(err)
			return w, err
		},
	}
	return cache.ToListWatcherWithWatchListSemantics(lw, e.cache.cfg.Client)
}

// refuse lets those who wait have a refusal at once; what may pass (no connection, a
// compacted revision) they wait out.
func (e *entry) refuse(err error) {
	if !apierrors.IsForbidden(err) && !apierrors.IsUnauthorized(err) {
		return
	}
	e.mu.Lock()
	if e.object == nil {
		e.refused = err
	}
	e.mu.Unlock()
	e.once.Do(func() { close(e.synced) })
}

func (e *entry) set(obj metav1.Object) {
	e.mu.Lock()
	same := obj != nil && e.object != nil && e.refused == nil && obj.GetResourceVersion() == e.object.GetResourceVersion() &&
		obj.GetUID() == e.object.GetUID() && obj.GetResourceVersion() != ""
	e.object, e.refused = obj, nil
	e.mu.Unlock()
	e.once.Do(func() { close(e.synced) })
	if obj != nil && immutable(obj) {
		e.stop() // nothing more can come, but a deletion, which takes nothing from those who have it
	}
	if !same {
		e.cache.changed(e)
	}
}

// Add, Update, Delete and Replace are the reflector's.
func (e *entry) Add(o any) error {
	if obj, ok := o.(metav1.Object); ok && obj.GetName() == e.key.name {
		e.set(obj)
	}
	return nil
}

func (e *entry) Update(o any) error { return e.Add(o) }

func (e *entry) Delete(o any) error {
	if obj, ok := o.(metav1.Object); ok && obj.GetName() == e.key.name {
		e.set(nil)
	}
	return nil
}

func (e *entry) Replace(list []any, _ string) error {
	for _, o := range list {
		if obj, ok := o.(metav1.Object); ok && obj.GetName() == e.key.name {
			e.set(obj)
			return nil
		}
	}
	e.set(nil)
	return nil
}

func (e *entry) Resync() error { return nil }

func immutable(o metav1.Object) bool {
	switch o := o.(type) {
	case *corev1.Secret:
		return o.Immutable != nil && *o.Immutable
	case *corev1.ConfigMap:
		return o.Immutable != nil && *o.Immutable
	}
	return false
}
