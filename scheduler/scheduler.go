// Package scheduler gives each pod a node.
//
// The one idea: the cluster is kept as columns of integers that change with each event
// (state.go); a decision is a pure walk over them (decide.go: filters refuse nodes,
// scorers rank the rest). Around it, thin: a queue of pods that wait, and a binder that
// writes the decision while the next is taken, the pod already counted on its node.
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
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	appslisters "k8s.io/client-go/listers/apps/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
)

// Name is the scheduler that pods name in spec.schedulerName by default.
const Name = corev1.DefaultSchedulerName

// maxBinds bounds the bindings that are being written.
const maxBinds = 64

// Config of a Scheduler.
type Config struct {
	Client    kubernetes.Interface
	Informers informers.SharedInformerFactory
	Recorder  record.EventRecorder
	Log       *slog.Logger
	Now       func() time.Time // default time.Now
	Seed      uint64           // of the choice among equal nodes; 0: by chance
}

// Scheduler is the scheduling loop.
type Scheduler struct {
	client     kubernetes.Interface
	recorder   record.EventRecorder
	log        *slog.Logger
	synced     []cache.InformerSynced
	namespaces corelisters.NamespaceLister
	services   corelisters.ServiceLister
	replicas   appslisters.ReplicaSetLister
	pods       corelisters.PodLister

	queue *queue
	rnd   *rand.Rand
	mu    sync.Mutex // guards state
	state *state
	binds chan struct{} // one token for each binding being written
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
	core := cfg.Informers.Core().V1()
	s := &Scheduler{
		client: cfg.Client, recorder: cfg.Recorder, log: cfg.Log,
		namespaces: core.Namespaces().Lister(), services: core.Services().Lister(), pods: core.Pods().Lister(),
		replicas: cfg.Informers.Apps().V1().ReplicaSets().Lister(),
		queue:    newQueue(cfg.Now), rnd: rand.New(rand.NewPCG(cfg.Seed, 0)), //nolint:gosec // a choice among equals
		binds: make(chan struct{}, maxBinds),
	}
	s.state = newState(s.namespaceLabels)
	for _, h := range []struct {
		informer cache.SharedIndexInformer
		handler  cache.ResourceEventHandler
	}{
		{core.Pods().Informer(), s.podHandler()},
		{core.Nodes().Informer(), s.nodeHandler()},
		{core.Namespaces().Informer(), s.namespaceHandler()},
		{core.Services().Informer(), nil},
		{cfg.Informers.Apps().V1().ReplicaSets().Informer(), nil},
	} {
		if h.handler == nil {
			s.synced = append(s.synced, h.informer.HasSynced)
			continue
		}
		registration, err := h.informer.AddEventHandler(h.handler)
		if err != nil {
			return nil, fmt.Errorf("watch for scheduling: %w", err)
		}
		s.synced = append(s.synced, registration.HasSynced)
	}
	return s, nil
}

// Run decides on pods until ctx ends.
func (s *Scheduler) Run(ctx context.Context) error {
	if !cache.WaitForCacheSync(ctx.Done(), s.synced...) {
		return ctx.Err()
	}
	var binding sync.WaitGroup
	defer binding.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		e, wait := s.queue.next()
		if e != nil {
			s.attempt(ctx, e, &binding)
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

// attempt decides on one pod and begins to write the decision.
func (s *Scheduler) attempt(ctx context.Context, e *queued, binding *sync.WaitGroup) {
	pod := e.pod
	defaults := s.spreadSelector(pod)
	s.mu.Lock()
	d := s.state.decide(s.state.place(pod, defaults), s.rnd)
	if d.node != "" {
		s.state.addPod(pod, d.node) // assumed: the next decision counts it
	}
	s.mu.Unlock()
	s.queue.done(e, d.node == "", d.wakes())
	if d.node == "" {
		s.refused(ctx, pod, d)
		return
	}
	select {
	case s.binds <- struct{}{}:
	case <-ctx.Done():
		return
	}
	binding.Go(func() {
		defer func() { <-s.binds }()
		s.bind(ctx, pod, d.node)
	})
}

func (s *Scheduler) namespaceLabels(name string) map[string]string {
	ns, err := s.namespaces.Get(name)
	if err != nil {
		return nil // gone; its pods match no namespace selector
	}
	return ns.Labels
}
