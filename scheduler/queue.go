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

// place in the queue of a pod that waits.
type standing uint8

const (
	flying  standing = iota // being decided on, or the outcome is being written
	active                  // to be decided on
	backing                 // may be decided on when there is nothing better to do, or when its time has come
	erred                   // likewise, but not before its time: writing failed
	stuck                   // waits for a change that may help
)

// queued is a pod that waits for a node.
type queued struct {
	pod      *corev1.Pod
	since    time.Time // when it was first seen
	began    time.Time // when the last attempt did
	attempts int
	ready    time.Time // not before
	standing standing
	index    int // in the heap of its standing
	missed   change
	failure  failure // why it is stuck
}

// queue orders the pods that wait for a node: active ones by priority, then age; those
// that failed wait for a change that may help, and for their backoff to pass. A pod whose
// backoff has not passed is tried all the same when no other waits to be.
type queue struct {
	now     func() time.Time
	mu      sync.Mutex
	active  queueHeap
	backing queueHeap
	erred   queueHeap
	all     map[types.UID]*queued
	stuck   map[types.UID]*queued
	inAir   map[types.UID]*queued
	came    [stuck + 1][causes]uint64 // pods that came to a standing, by why
	wake    chan struct{}
}

func newQueue(now func() time.Time) *queue {
	q := &queue{
		now: now, all: map[types.UID]*queued{}, stuck: map[types.UID]*queued{},
		inAir: map[types.UID]*queued{}, wake: make(chan struct{}, 1),
	}
	q.active.before = moreUrgent
	q.backing.before = readyFirst
	q.erred.before = readyFirst
	return q
}

func moreUrgent(a, b *queued) bool {
	x, y := corehelpers.PodPriority(a.pod), corehelpers.PodPriority(b.pod)
	return x > y || x == y && a.since.Before(b.since)
}

func readyFirst(a, b *queued) bool {
	return a.ready.Before(b.ready) || a.ready.Equal(b.ready) && moreUrgent(a, b)
}

// set adds a pod, or takes note of its change; a change of the pod itself may make it fit.
func (q *queue) set(pod *corev1.Pod) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.all[pod.UID]
	if e == nil {
		e = &queued{pod: pod, since: q.now()}
		q.all[pod.UID] = e
		q.stand(e, active, podAdd)
		return
	}
	changed := e.pod.Generation != pod.Generation || !mapsEqual(e.pod.Labels, pod.Labels)
	e.pod = pod
	switch {
	case e.standing == active:
		heap.Fix(&q.active, e.index)
	case changed && e.standing == stuck:
		q.release(e, podUpdate)
	case changed && e.standing == flying:
		e.missed = anyChange
	}
}

// remove forgets a pod: it was bound, deleted, or is somebody else's.
func (q *queue) remove(uid types.UID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e := q.all[uid]; e != nil {
		q.leave(e)
		delete(q.inAir, uid)
		delete(q.all, uid)
	}
}

// happened lets the pods be tried again that a change may help; helps is asked about those
// that wait for a change of this sort.
func (q *queue) happened(c change, helps func(failure) bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range q.inAir {
		e.missed |= c
	}
	for _, e := range q.stuck {
		if e.failure.wakes&c != 0 && helps(e.failure) {
			q.release(e, causeOf(c))
		}
	}
}

// try lets one pod be tried again.
func (q *queue) try(uid types.UID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e := q.all[uid]; e != nil && e.standing == stuck {
		q.release(e, otherEvent)
	}
}

// release lets a waiting pod be tried again once its backoff has passed.
func (q *queue) release(e *queued, why cause) {
	if q.now().Before(e.ready) {
		q.stand(e, backing, why)
	} else {
		q.stand(e, active, why)
	}
}

// stand moves a pod within the queue.
func (q *queue) stand(e *queued, to standing, why cause) {
	q.leave(e)
	e.standing = to
	q.came[to][why]++
	switch to {
	case active:
		heap.Push(&q.active, e)
	case backing:
		heap.Push(&q.backing, e)
	case erred:
		heap.Push(&q.erred, e)
	case stuck:
		q.stuck[e.pod.UID] = e
		return
	case flying:
		e.missed = 0
		q.inAir[e.pod.UID] = e
		return
	}
	select {
	case q.wake <- struct{}{}:
	default: // it is awake already
	}
}

func (q *queue) leave(e *queued) {
	switch e.standing {
	case active:
		q.active.remove(e)
	case backing:
		q.backing.remove(e)
	case erred:
		q.erred.remove(e)
	case stuck:
		delete(q.stuck, e.pod.UID)
	case flying:
		delete(q.inAir, e.pod.UID)
	}
}

// next gives the pod to decide on, nil when there is none; then wait says when the next
// backoff passes (0: not before something happens).
func (q *queue) next() (e *queued, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	for _, h := range []*queueHeap{&q.backing, &q.erred} {
		for h.Len() > 0 && !now.Before(h.all[0].ready) {
			q.stand(h.all[0], active, backoffOver)
		}
	}
	switch {
	case q.active.Len() > 0:
		e = q.active.all[0]
	case q.backing.Len() > 0:
		e = q.backing.all[0]
	case q.erred.Len() > 0:
		return nil, q.erred.all[0].ready.Sub(now)
	default:
		return nil, 0
	}
	e.attempts++
	q.stand(e, flying, otherEvent)
	return e, 0
}

// failed ends the attempt that next began: the pod waits for a change that may help. One
// that came meanwhile counts.
func (q *queue) failed(e *queued, f failure) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.all[e.pod.UID] != e || e.standing != flying {
		return
	}
	e.failure = f
	missed := e.missed
	q.pause(e)
	q.stand(e, stuck, attemptFailed)
	if f.wakes&missed != 0 {
		q.release(e, causeOf(f.wakes&missed))
	}
}

// again puts back a pod whose decision could not be written.
func (q *queue) again(e *queued) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.all[e.pod.UID] == e && e.standing == flying {
		q.pause(e)
		q.stand(e, erred, attemptFailed)
	}
}

func (q *queue) pause(e *queued) {
	e.ready = q.now().Add(min(firstBackoff<<min(e.attempts-1, 10), mostBackoff))
}

// latest is the pod as it is now.
func (q *queue) latest(e *queued) *corev1.Pod {
	q.mu.Lock()
	defer q.mu.Unlock()
	return e.pod
}

// queueHeap keeps the pod that comes first at the front.
type queueHeap struct {
	all    []*queued
	before func(a, b *queued) bool
}

func (h *queueHeap) Len() int           { return len(h.all) }
func (h *queueHeap) Less(i, j int) bool { return h.before(h.all[i], h.all[j]) }
func (h *queueHeap) Swap(i, j int) {
	h.all[i], h.all[j] = h.all[j], h.all[i]
	h.all[i].index, h.all[j].index = i, j
}

func (h *queueHeap) Push(x any) {
	e := x.(*queued)
	e.index = len(h.all)
	h.all = append(h.all, e)
}

func (h *queueHeap) Pop() any {
	last := len(h.all) - 1
	e := h.all[last]
	h.all[last] = nil
	h.all = h.all[:last]
	return e
}

func (h *queueHeap) remove(e *queued) {
	if e.index < len(h.all) && h.all[e.index] == e {
		heap.Remove(h, e.index)
	}
}
