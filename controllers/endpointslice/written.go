package endpointslice

import (
	"sync"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/proa-dev/proa/controllers/loop"
)

// written remembers the controller's own writes until the cache shows them: deciding on an
// older view would create slices twice. Safe for concurrent use.
type written struct {
	now func() time.Time
	mu  sync.Mutex
	of  map[loop.Key]*writes
}

type writes struct {
	slices  map[types.UID]string // resourceVersion written; gone for a deletion
	waiting bool                 // a look was put off until they show
	since   time.Time            // of the last write
}

// gone stands in place of a version for a deletion.
const gone = "gone"

// settleLimit is how long a write is waited for; one that another's write hid from the
// cache would be waited for without end.
const settleLimit = 10 * time.Second

func newWritten(now func() time.Time) *written {
	return &written{now: now, of: map[loop.Key]*writes{}}
}

// wrote notes a write whose answer was s.
func (w *written) wrote(service loop.Key, s *discoveryv1.EndpointSlice, version string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.of[service]
	if e == nil {
		e = &writes{slices: map[types.UID]string{}}
		w.of[service] = e
	}
	e.slices[s.UID], e.since = version, w.now()
}

// shows notes what the cache has. wake says whether the service wants a look because of it.
func (w *written) shows(service loop.Key, s *discoveryv1.EndpointSlice, deleted bool) (wake bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.of[service]
	if e == nil {
		return true
	}
	version, ours := e.slices[s.UID]
	if !ours {
		return true
	}
	if !deleted && (version == gone || older(s.ResourceVersion, version)) {
		return false // what we wrote is still to come
	}
	delete(e.slices, s.UID)
	wake = e.waiting || deleted != (version == gone) || !deleted && s.ResourceVersion != version
	if len(e.slices) == 0 {
		delete(w.of, service)
	}
	return wake
}

func older(a, b string) bool {
	order, err := resourceversion.CompareResourceVersion(a, b)
	return err == nil && order < 0
}

// settled says whether the cache shows all writes for a service. If not, the one that shows
// last will wake it. have is what the cache has.
func (w *written) settled(service loop.Key, have []*discoveryv1.EndpointSlice) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.of[service]
	if e == nil {
		return true
	}
	// A write whose event came before its answer is not waited for.
	missing := len(e.slices)
	for _, s := range have {
		if version, ours := e.slices[s.UID]; ours && version != gone && !older(s.ResourceVersion, version) {
			delete(e.slices, s.UID)
			missing--
		}
	}
	for uid, version := range e.slices {
		if version == gone && !has(have, uid) {
			delete(e.slices, uid)
			missing--
		}
	}
	if missing == 0 || w.now().Sub(e.since) >= settleLimit {
		delete(w.of, service)
		return true
	}
	e.waiting = true
	return false
}

func has(have []*discoveryv1.EndpointSlice, uid types.UID) bool {
	for _, s := range have {
		if s.UID == uid {
			return true
		}
	}
	return false
}

// forget drops what is known of a service that is gone.
func (w *written) forget(service loop.Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.of, service)
}
