package scheduler

import (
	"container/heap"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	corehelpers "k8s.io/component-helpers/scheduling/corev1"
)

// Waiting times after a failed attempt.
const (
	firstBackoff = time.Second
	mostBackoff  = 10 * time.Second
)

// change is what happened in the cluster that may let a pod fit that did not.
type change uint8

const (
	nodeChanged change = 1 << iota // a node came, or its labels, taints or room changed
	podLeft                        // a counted pod went away
	podCame                        // a pod was bound (affinity may be satisfied now)
	namespaceChanged
	anyChange = nodeChanged | podLeft | podCame | namespaceChanged
)

// queued is a pod that waits for a node.
type queued struct {
	pod      *corev1.Pod
	since    time.Time // when it was first seen
	attempts int
	ready    time.Time // not before
	wakes    change    // which changes may help it
	index    int       // in the active heap, -1 elsewhere
}

// queue orders the pods that wait for a node: active ones by priority, then age; those
// that failed wait for a change that may help, and for their backoff to pass.
type queue struct {
	now      func() time.Time
	mu       sync.Mutex
	active   activeHeap
	all      map[types.UID]*queued
	backoff  map[types.UID]*queued
	stuck    map[types.UID]*queued
	inFlight *queued
	missed   change // what happened while a pod was being decided on
	wake     chan struct{}
}

func newQueue(now func() time.Time) *queue {
	return &queue{
		now: now, all: map[types.UID]*queued{}, backoff: map[types.UID]*queued{},
		stuck: map[types.UID]*queued{}, wake: make(chan struct{}, 1),
	}
}

// set adds a pod, or takes note of its change; a change of the pod itself may make it fit.
func (q *queue) set(pod *corev1.Pod) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.all[pod.UID]
	if e == nil {
		e = &queued{since: q.now(), index: -1}
		q.all[pod.UID] = e
		e.pod = pod
		q.activate(e)
		return
	}
	changed := e.pod.Generation != pod.Generation || !mapsEqual(e.pod.Labels, pod.Labels)
	e.pod = pod
	if _, waits := q.stuck[pod.UID]; waits && changed {
		q.release(e)
	} else if e.index >= 0 {
		heap.Fix(&q.active, e.index)
	}
}

// remove forgets a pod: it was bound, deleted, or is somebody else's.
func (q *queue) remove(uid types.UID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.all[uid]
	if e == nil {
		return
	}
	delete(q.all, uid)
	delete(q.stuck, uid)
	delete(q.backoff, uid)
	if e.index >= 0 {
		heap.Remove(&q.active, e.index)
	}
}

// happened moves the pods that a change may help.
func (q *queue) happened(c change) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.inFlight != nil {
		q.missed |= c
	}
	for _, e := range q.stuck {
		if e.wakes&c != 0 {
			q.release(e)
		}
	}
}

// release lets a waiting pod be tried again once its backoff has passed.
func (q *queue) release(e *queued) {
	delete(q.stuck, e.pod.UID)
	if q.now().Before(e.ready) {
		q.backoff[e.pod.UID] = e
		q.notify() // the loop sets its timer
		return
	}
	q.activate(e)
}

func (q *queue) activate(e *queued) {
	delete(q.backoff, e.pod.UID)
	if e.index < 0 {
		heap.Push(&q.active, e)
	}
	q.notify()
}

func (q *queue) notify() {
	select {
	case q.wake <- struct{}{}:
	default: // it is awake already
	}
}

// next gives the pod to decide on, nil when there is none; then wait says when the next
// backoff passes (0: not before something happens).
func (q *queue) next() (e *queued, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	for _, b := range q.backoff {
		if !now.Before(b.ready) {
			q.activate(b)
		} else if d := b.ready.Sub(now); wait == 0 || d < wait {
			wait = d
		}
	}
	if q.active.Len() == 0 {
		return nil, wait
	}
	e = heap.Pop(&q.active).(*queued)
	e.attempts++
	q.inFlight, q.missed = e, 0
	return e, 0
}

// done ends the attempt that next began; failed ones wait for the changes in wakes.
func (q *queue) done(e *queued, failed bool, wakes change) {
	q.mu.Lock()
	defer q.mu.Unlock()
	missed := q.missed
	if q.inFlight == e {
		q.inFlight = nil
	}
	if !failed || q.all[e.pod.UID] != e {
		return
	}
	q.park(e, wakes, missed)
}

// again puts back a pod whose binding failed.
func (q *queue) again(pod *corev1.Pod) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e := q.all[pod.UID]; e != nil && e.index < 0 && q.stuck[pod.UID] == nil && q.backoff[pod.UID] == nil {
		q.park(e, anyChange, anyChange)
	}
}

// park makes a pod wait; a change that happened meanwhile and may help counts as come.
func (q *queue) park(e *queued, wakes, missed change) {
	pause := firstBackoff << min(e.attempts-1, 10)
	e.ready = q.now().Add(min(pause, mostBackoff))
	e.wakes = wakes
	q.stuck[e.pod.UID] = e
	if wakes&missed != 0 {
		q.release(e)
	}
}

// activeHeap orders by priority, then by age.
type activeHeap []*queued

func (h activeHeap) Len() int { return len(h) }
func (h activeHeap) Less(i, j int) bool {
	a, b := corehelpers.PodPriority(h[i].pod), corehelpers.PodPriority(h[j].pod)
	return a > b || a == b && h[i].since.Before(h[j].since)
}
func (h activeHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *activeHeap) Push(x any) {
	e := x.(*queued)
	e.index = len(*h)
	*h = append(*h, e)
}
func (h *activeHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	e.index = -1
	return e
}
