package store

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/apis/api"
)

var _ api.Reader = (*reader)(nil)

// Reader gives the store as kinds and access read it.
func (s *Store) Reader() api.Reader { return reader{s} }

type reader struct{ s *Store }

// Get finds an object; it is shared and read-only.
func (r reader) Get(resource schema.GroupResource, namespace, name string) (api.Object, bool) {
	c, ok := r.s.Collection(resource)
	if !ok {
		return nil, false
	}
	path, err := c.path(namespace, name)
	if err != nil {
		return nil, false
	}
	item := c.version.Load().tree.get(path)
	if item == nil {
		return nil, false
	}
	obj := item.Object()
	return obj, obj != nil
}

// List gives the objects of a namespace, or of all (""), in the order of their keys.
func (r reader) List(resource schema.GroupResource, namespace string) []api.Object {
	c, ok := r.s.Collection(resource)
	if !ok {
		return nil
	}
	snap := c.now()
	out := make([]api.Object, 0, snap.Len(namespace))
	snap.Ascend(namespace, "", func(i *Item) bool {
		if obj := i.Object(); obj != nil {
			out = append(out, obj)
		}
		return true
	})
	return out
}

// Refresh waits until what other servers acknowledged is in the cache (api.Sure).
func (r reader) Refresh() bool {
	if !r.s.Shared() {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return r.s.reach(ctx, Latest) == nil
}

// Revision is that of the kind's last change.
func (r reader) Revision(resource schema.GroupResource) int64 {
	c, ok := r.s.Collection(resource)
	if !ok {
		return 0
	}
	return c.version.Load().revision
}
