package scheduler

import "sync"

// waiting are those that want to know when anything about volumes changes.
type waiting struct {
	mu  sync.Mutex
	all map[chan struct{}]bool
}

func (w *waiting) add(c chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all == nil {
		w.all = map[chan struct{}]bool{}
	}
	w.all[c] = true
}

func (w *waiting) remove(c chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.all, c)
}

// tell wakes all; who is awake already looks again.
func (w *waiting) tell() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.all {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}
