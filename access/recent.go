package access

import "sync"

// cacheSize bounds each generation of a cache of verified credentials.
const cacheSize = 4096

// recent is a map that forgets what was not used of late: two generations, the older is
// dropped when the younger is full. So it never holds more than twice its size.
type recent[K comparable, V any] struct {
	mu         sync.RWMutex
	size       int
	young, old map[K]V
}

func newRecent[K comparable, V any](size int) *recent[K, V] {
	return &recent[K, V]{size: size, young: map[K]V{}}
}

func (r *recent[K, V]) get(key K) (V, bool) {
	r.mu.RLock()
	v, ok := r.young[key]
	if ok {
		r.mu.RUnlock()
		return v, true
	}
	v, ok = r.old[key]
	r.mu.RUnlock()
	if ok {
		r.put(key, v)
	}
	return v, ok
}

func (r *recent[K, V]) put(key K, v V) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.young) >= r.size {
		r.old, r.young = r.young, make(map[K]V, r.size/4)
	}
	r.young[key] = v
}
