// Package recent is a bounded map that forgets what was not used of late.
//
// The one idea: two generations; when the younger is full, the older is dropped and the
// younger takes its place. So it never holds more than twice its size, and needs no clock.
//
// Used by access for verified credentials, by access/remote for answers of webhooks.
package recent

import "sync"

// Map is safe for concurrent use.
type Map[K comparable, V any] struct {
	mu         sync.RWMutex
	size       int
	young, old map[K]V
}

// New makes a map whose generations hold size entries each.
func New[K comparable, V any](size int) *Map[K, V] {
	return &Map[K, V]{size: size, young: map[K]V{}}
}

// Get finds a value; what is found is young again.
func (r *Map[K, V]) Get(key K) (V, bool) {
	r.mu.RLock()
	v, ok := r.young[key]
	if ok {
		r.mu.RUnlock()
		return v, true
	}
	v, ok = r.old[key]
	r.mu.RUnlock()
	if ok {
		r.Put(key, v)
	}
	return v, ok
}

// Put keeps a value.
func (r *Map[K, V]) Put(key K, v V) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.young) >= r.size {
		r.old, r.young = r.young, make(map[K]V, r.size/4)
	}
	r.young[key] = v
}
