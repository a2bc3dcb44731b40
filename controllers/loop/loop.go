// Package loop is the one mechanism that all controllers share: a queue of keys, workers
// that reconcile them, events of informers turned into keys.
//
// The one idea: a controller is a function from a key to an error; everything around it
// (order, retries with backoff, a panic that must not end the others, waiting for caches)
// is here once.
//
// Used by the packages of controllers/.
package loop

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"

	"github.com/proa-dev/proa/internal/informers"
)

// Deps is what controllers are made of.
type Deps struct {
	Client    kubernetes.Interface
	Metadata  metadata.Interface
	Discovery discovery.DiscoveryInterface
	Informers *informers.Factory
	Recorder  func(component string) record.EventRecorder
	Log       *slog.Logger
	Clock     clock.WithTicker
	Queues    *Queues // counts what goes through queues; nil: nobody does
	// Figures is what a loop's own counters are registered with; nil: nobody looks at them.
	Figures prometheus.Registerer

	RootCA          []byte       // PEM, published to each namespace
	PodRange        netip.Prefix // of the cluster's pods
	NodeMask        int          // size of a node's part, in bits
	NodeGracePeriod time.Duration
	ServiceLB       bool // services of type LoadBalancer get addresses of nodes
	Signer          Signer
}

// Signer signs certificate requests; pki implements it.
type Signer interface {
	// Sign answers the chain (PEM) for a request (DER), valid for at most life.
	Sign(request []byte, usages []string, life time.Duration) ([]byte, error)
}

// Key names an object.
type Key struct{ Namespace, Name string }

func (k Key) String() string {
	if k.Namespace == "" {
		return k.Name
	}
	return k.Namespace + "/" + k.Name
}

// KeyOf is the key of an object or of the tombstone of one; false for anything else.
func KeyOf(obj any) (Key, bool) {
	if tombstone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = tombstone.Obj
	}
	m, ok := obj.(interface {
		GetNamespace() string
		GetName() string
	})
	if !ok {
		return Key{}, false
	}
	return Key{m.GetNamespace(), m.GetName()}, true
}

// Self is the key of an object alone, for Watch.
func Self(obj any) []Key {
	if k, ok := KeyOf(obj); ok {
		return []Key{k}
	}
	return nil
}

// Waits between attempts on a key that fails.
const (
	firstRetry = 5 * time.Millisecond
	mostRetry  = 2 * time.Minute
)

// Loop reconciles keys of type K.
type Loop[K comparable] struct {
	name      string
	log       *slog.Logger
	reconcile func(context.Context, K) error
	queue     workqueue.TypedRateLimitingInterface[K]
	counters  *counters
	synced    []cache.InformerSynced
	problems  []error
}

// New makes a loop; nothing runs yet.
func New[K comparable](name string, deps Deps, reconcile func(context.Context, K) error) *Loop[K] {
	if deps.Clock == nil {
		deps.Clock = clock.RealClock{}
	}
	counters := deps.Queues.add(name)
	plain := workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[K]{Clock: deps.Clock, Queue: &fifo[K]{counters: counters, clock: deps.Clock}})
	delayed := workqueue.NewTypedDelayingQueueWithConfig(workqueue.TypedDelayingQueueConfig[K]{Clock: deps.Clock, Queue: plain})
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[K](firstRetry, mostRetry)
	return &Loop[K]{
		name: name, log: deps.Log.With("controller", name), reconcile: reconcile, counters: counters,
		queue: workqueue.NewTypedRateLimitingQueueWithConfig(limiter, workqueue.TypedRateLimitingQueueConfig[K]{DelayingQueue: delayed}),
	}
}

// Watch turns the events of an informer into keys; keys is asked for the object before
// and after each change.
func (l *Loop[K]) Watch(informer cache.SharedIndexInformer, keys func(obj any) []K) {
	add := func(obj any) {
		if tombstone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = tombstone.Obj
		}
		for _, k := range keys(obj) {
			l.queue.Add(k)
		}
	}
	l.handle(informer, cache.ResourceEventHandlerFuncs{
		AddFunc: add, UpdateFunc: func(old, obj any) { add(old); add(obj) }, DeleteFunc: add,
	})
}

// Handle registers a handler of its own kind.
func (l *Loop[K]) Handle(informer cache.SharedIndexInformer, h cache.ResourceEventHandler) {
	l.handle(informer, h)
}

func (l *Loop[K]) handle(informer cache.SharedIndexInformer, h cache.ResourceEventHandler) {
	registration, err := informer.AddEventHandler(h)
	if err != nil {
		l.problems = append(l.problems, err)
		return
	}
	l.synced = append(l.synced, registration.HasSynced)
}

// Needs makes Run wait for an informer that is only read.
func (l *Loop[K]) Needs(informers ...cache.SharedIndexInformer) {
	for _, i := range informers {
		l.synced = append(l.synced, i.HasSynced)
	}
}

// Add asks for a key to be reconciled.
func (l *Loop[K]) Add(k K) { l.queue.Add(k) }

// AddAfter asks for it after a while.
func (l *Loop[K]) AddAfter(k K, d time.Duration) { l.queue.AddAfter(k, d) }

// Run reconciles with as many workers at once until ctx ends; a key is never with two.
func (l *Loop[K]) Run(ctx context.Context, workers int) error {
	defer l.queue.ShutDown()
	if err := errors.Join(l.problems...); err != nil {
		return fmt.Errorf("%s: %w", l.name, err)
	}
	if !cache.WaitForCacheSync(ctx.Done(), l.synced...) {
		return ctx.Err()
	}
	var group sync.WaitGroup
	for worker := range workers {
		group.Go(func() {
			for l.one(ctx, worker) {
			}
		})
	}
	<-ctx.Done()
	l.queue.ShutDown()
	group.Wait()
	return nil
}

func (l *Loop[K]) one(ctx context.Context, worker int) bool {
	k, shutdown := l.queue.Get()
	if shutdown {
		return false
	}
	defer l.queue.Done(k)
	defer l.counters.working(worker)()
	err := l.guarded(ctx, k)
	if err == nil {
		l.queue.Forget(k)
		return true
	}
	if ctx.Err() != nil {
		return true
	}
	// A conflict only says that the cache lags behind; the next look will be newer.
	if apierrors.IsConflict(err) {
		l.log.Debug("try again", "key", k, "err", err)
	} else {
		l.log.Warn("try again", "key", k, "tries", l.queue.NumRequeues(k)+1, "err", err)
	}
	l.counters.retried()
	l.queue.AddRateLimited(k)
	return true
}

// guarded keeps a panic over one key from ending the others; the key waits its longest.
func (l *Loop[K]) guarded(ctx context.Context, k K) (err error) {
	defer func() {
		if v := recover(); v != nil {
			l.log.Error("panic", "key", k, "panic", v, "stack", string(debug.Stack()))
			l.queue.AddAfter(k, mostRetry)
		}
	}()
	return l.reconcile(ctx, k)
}

// Gone passes over the error of an object that is not there (any more).
func Gone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// NumRequeues counts the failures of a key since it last went well.
func (l *Loop[K]) NumRequeues(k K) int { return l.queue.NumRequeues(k) }
