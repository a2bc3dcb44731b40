// Package scheduler gives each pod a node.
//
// The one idea: the cluster is kept as columns of integers that change with each event
// (state.go), and pods that are alike are looked at together (class.go), so that a decision
// costs what changed since the last one. What evicting others could do is tried on the same
// columns (preempt.go). Around it, thin: a queue of pods that wait, each for the changes
// that may help it (queue.go, hints.go), and writers that carry out a decision while the
// next is taken, the pod already counted on its node (bind.go, evict.go).
//
// Used by cluster; meets the rest through the API alone.
package scheduler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	policylisters "k8s.io/client-go/listers/policy/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/proa-dev/proa/internal/informers"
)

// Name is the scheduler that pods name in spec.schedulerName by default.
const Name = corev1.DefaultSchedulerName

// maxWrites bounds the decisions that are being written.
const maxWrites = 64

// Config of a Scheduler.
type Config struct {
	Client    kubernetes.Interface
	Informers *informers.Factory
	Recorder  record.EventRecorder
	Log       *slog.Logger
	Now       func() time.Time // default time.Now
	Seed      uint64           // of the choice among equal nodes; 0: by chance
	Metrics   *Metrics         // nil: its own, which nobody sees
}

// Scheduler is the scheduling loop.
type Scheduler struct {
	client     kubernetes.Interface
	recorder   record.EventRecorder
	log        *slog.Logger
	now        func() time.Time
	synced     []cache.InformerSynced // needed for any decision
	storage    []cache.InformerSynced // needed for pods with claims
	namespaces corelisters.NamespaceLister
	pods       corelisters.PodLister
	budgets    policylisters.PodDisruptionBudgetLister
	owners     owners

	metrics *Metrics
	queue   *queue
	rnd     *rand.Rand
	mu      sync.Mutex // guards state and spreads
	state   *state
	spreads map[spreadKey][]constraint
	writes  chan struct{} // one token for each decision being written
	writers sync.WaitGroup
	waiting waiting // for volumes
}

// New registers the scheduler's informers.
func New(cfg Config) (*Scheduler, error) {
	if cfg.Client == nil || cfg.Informers == nil || cfg.Recorder == nil || cfg.Log == nil {
		return nil, errors.New("scheduler: Client, Informers, Recorder and Log are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Seed == 0 {
		cfg.Seed = rand.Uint64()
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics()
	}
	core := cfg.Informers.Core().V1()
	s := &Scheduler{
		client: cfg.Client, recorder: cfg.Recorder, log: cfg.Log, now: cfg.Now,
		namespaces: core.Namespaces().Lister(), pods: core.Pods().Lister(),
		budgets: cfg.Informers.Policy().V1().PodDisruptionBudgets().Lister(), owners: newOwners(cfg.Informers),
		queue: newQueue(cfg.Now), rnd: rand.New(rand.NewPCG(cfg.Seed, 0)), //nolint:gosec // a choice among equals
		spreads: map[spreadKey][]constraint{}, writes: make(chan struct{}, maxWrites),
	}
	s.metrics = cfg.Metrics
	s.metrics.queue.Store(s.queue)
	s.state = newState(s.namespaceLabels)
	if err := s.watch(cfg.Informers); err != nil {
		return nil, err
	}
	return s, nil
}

// watch registers what the scheduler follows. Pods that use no claims do not wait for the
// kinds of storage.
func (s *Scheduler) watch(f *informers.Factory) error {
	core, apps, storage := f.Core().V1(), f.Apps().V1(), f.Storage().V1()
	forget := func(any) { s.selectorChanged() }
	owner := cache.ResourceEventHandlerFuncs{AddFunc: forget, DeleteFunc: forget}
	vol := s.volumeHandler()
	for _, h := range []struct {
		into     *[]cache.InformerSynced
		informer cache.SharedIndexInformer
		handler  cache.ResourceEventHandler
	}{
		{&s.synced, core.Nodes().Informer(), handler(s.nodeChanged, s.nodeDeleted)},
		{&s.synced, core.Pods().Informer(), handler(s.podChanged, s.podGone)},
		{&s.synced, core.Namespaces().Informer(), handler(s.namespaceChanged, func(*corev1.Namespace) {})},
		{&s.synced, core.Services().Informer(), handler(s.serviceChanged, func(*corev1.Service) { s.selectorChanged() })},
		{&s.synced, core.ReplicationControllers().Informer(), owner},
		{&s.synced, apps.ReplicaSets().Informer(), owner},
		{&s.synced, apps.StatefulSets().Informer(), owner},
		{&s.synced, f.Policy().V1().PodDisruptionBudgets().Informer(), cache.ResourceEventHandlerFuncs{}},
		{&s.storage, core.PersistentVolumeClaims().Informer(), vol},
		{&s.storage, core.PersistentVolumes().Informer(), vol},
		{&s.storage, storage.StorageClasses().Informer(), vol},
		{&s.storage, storage.CSINodes().Informer(), vol},
		{&s.storage, storage.CSIDrivers().Informer(), vol},
		{&s.storage, storage.CSIStorageCapacities().Informer(), vol},
		{&s.storage, storage.VolumeAttachments().Informer(), vol},
	} {
		registration, err := h.informer.AddEventHandler(h.handler)
		if err != nil {
			return fmt.Errorf("watch for scheduling: %w", err)
		}
		*h.into = append(*h.into, registration.HasSynced)
	}
	s.state.volumes.follow(f)
	return nil
}

// Run decides on pods until ctx ends.
func (s *Scheduler) Run(ctx context.Context) error {
	if !cache.WaitForCacheSync(ctx.Done(), s.synced...) {
		return ctx.Err()
	}
	defer s.writers.Wait()
	s.writers.Go(func() { s.awaitStorage(ctx) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		e, wait := s.queue.next()
		if e != nil {
			s.attempt(ctx, e)
			continue
		}
		var expires <-chan time.Time
		if wait > 0 {
			timer.Reset(wait)
			expires = timer.C
		}
		select {
		case <-ctx.Done():
		case <-s.queue.wake:
		case <-expires:
		}
	}
	return nil
}

func (s *Scheduler) awaitStorage(ctx context.Context) {
	if !cache.WaitForCacheSync(ctx.Done(), s.storage...) {
		return
	}
	s.mu.Lock()
	s.state.volumes.synced = true
	s.mu.Unlock()
	s.happened(volumeChanged, always)
}

// attempt decides on one pod and begins to write the decision.
func (s *Scheduler) attempt(ctx context.Context, e *queued) {
	pod := s.queue.latest(e)
	e.began = time.Now()
	s.mu.Lock()
	p := s.state.place(pod, s.spreadDefaults(pod))
	d := s.state.decide(p, s.rnd)
	s.metrics.algorithm.Observe(time.Since(e.began).Seconds())
	if d.node != "" {
		s.state.assume(p, d.node) // the next decision counts it
		s.mu.Unlock()
		s.write(ctx, func() { s.bind(ctx, e, p, d.node) })
		return
	}
	o := s.refusal(p, d)
	s.mu.Unlock()
	s.write(ctx, func() { s.refuse(ctx, e, o) })
}

// write does its work beside the loop, with so many others at most.
func (s *Scheduler) write(ctx context.Context, work func()) {
	select {
	case s.writes <- struct{}{}:
		s.writers.Go(func() {
			defer func() { <-s.writes }()
			work()
		})
	case <-ctx.Done():
	}
}

func (s *Scheduler) namespaceLabels(name string) map[string]string {
	ns, err := s.namespaces.Get(name)
	if err != nil {
		return nil // gone; its pods match no namespace selector
	}
	return ns.Labels
}

// spreadKey is a group of pods and the owner they have.
type spreadKey struct {
	group *group
	owner string
}

// maxSpreads bounds what is remembered of which pods belong together.
const maxSpreads = 10_000

// spreadDefaults are the built-in constraints for a pod without its own.
func (s *Scheduler) spreadDefaults(pod *corev1.Pod) []constraint {
	if len(pod.Spec.TopologySpreadConstraints) > 0 {
		return nil
	}
	key := spreadKey{group: s.state.groupOf(pod), owner: ownerKey(pod)}
	known, ok := s.spreads[key]
	if ok {
		return known
	}
	if selector := s.owners.selector(pod); !selector.Empty() {
		known = defaultConstraints(pod.Namespace, selector)
	}
	if len(s.spreads) >= maxSpreads {
		clear(s.spreads)
	}
	s.spreads[key] = known
	return known
}
