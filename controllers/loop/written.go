package loop

import (
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
)

// Written remembers the version of each object that a loop wrote last, so that it does
// not decide on a view from before its own write. Safe for concurrent use; the zero value
// is ready.
type Written struct {
	mu sync.Mutex
	of map[types.UID]string
}

// Note remembers an object as the server answered it.
func (w *Written) Note(obj metav1.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.of == nil {
		w.of = map[types.UID]string{}
	}
	w.of[obj.GetUID()] = obj.GetResourceVersion()
}

// Shown says whether a cached object is as new as what was written.
func (w *Written) Shown(obj metav1.Object) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	version, ours := w.of[obj.GetUID()]
	if !ours {
		return true
	}
	if order, err := resourceversion.CompareResourceVersion(obj.GetResourceVersion(), version); err == nil && order < 0 {
		return false
	}
	delete(w.of, obj.GetUID())
	return true
}

// Forget drops the memory of an object that is gone.
func (w *Written) Forget(uid types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.of, uid)
}
