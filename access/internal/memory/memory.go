// Package memory is an api.Reader over a few objects, for the tests of access and admission.
//
// The one idea: Put is all it takes to change the world; revisions follow.
package memory

import (
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/apis/api"
)

// Reader holds objects by resource, namespace and name.
type Reader struct {
	mu        sync.RWMutex
	revision  int64
	revisions map[schema.GroupResource]int64
	objects   map[schema.GroupResource]map[[2]string]api.Object
}

var _ api.Reader = (*Reader)(nil)

// New is an empty reader.
func New() *Reader {
	return &Reader{revisions: map[schema.GroupResource]int64{}, objects: map[schema.GroupResource]map[[2]string]api.Object{}}
}

// Put stores objects of a kind.
func (r *Reader) Put(kind schema.GroupResource, objects ...api.Object) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.objects[kind] == nil {
		r.objects[kind] = map[[2]string]api.Object{}
	}
	for _, o := range objects {
		r.objects[kind][[2]string{o.GetNamespace(), o.GetName()}] = o
	}
	r.revision++
	r.revisions[kind] = r.revision
}

// Remove forgets an object.
func (r *Reader) Remove(kind schema.GroupResource, namespace, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.objects[kind], [2]string{namespace, name})
	r.revision++
	r.revisions[kind] = r.revision
}

// Get implements api.Reader.
func (r *Reader) Get(kind schema.GroupResource, namespace, name string) (api.Object, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	o, ok := r.objects[kind][[2]string{namespace, name}]
	return o, ok
}

// List implements api.Reader.
func (r *Reader) List(kind schema.GroupResource, namespace string) []api.Object {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var out []api.Object
	for key, o := range r.objects[kind] {
		if namespace == "" || key[0] == namespace {
			out = append(out, o)
		}
	}
	return out
}

// Revision implements api.Reader.
func (r *Reader) Revision(kind schema.GroupResource) int64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.revisions[kind]
}
