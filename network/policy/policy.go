// Package policy enforces network policies on the pods of a node: it turns policies, the
// node's pods and the published addresses of peers into chains and sets (pure), and a change
// of them into one kernel transaction.
//
// The one idea: everything hangs on the node's pods. A pod that policies select is an element
// of a map, address to chain, for each direction; who may send or receive is elements of sets
// that many policies share. What no pod of the node needs is not in the kernel, and without
// any selected pod there is no table. A pod is attached only when its rules are in force.
//
// Made by cluster on each node, beside network, which is told of it as its Guard.
package policy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/proa-dev/proa/host"
	"github.com/proa-dev/proa/internal/informers"
)

// Config is what enforcement needs.
type Config struct {
	Informers *informers.Factory
	Pods      informers.Pods // of this node only; run by the caller
	Table     string         // name of the nftables table (family ip) that is owned
	Recorder  host.Recorder
	Log       *slog.Logger
}

// Enforcer enforces the policies on one node.
type Enforcer struct {
	cfg    Config
	kernel *kernel
	waits  []wait
	wake   chan struct{} // of size 1: something changed
	began  chan struct{} // closed when all is known that was there before
	ready  chan struct{}

	adopted             chan struct{}
	adopt, start, first sync.Once // a Run that failed is followed by another

	mu       sync.Mutex
	rules    *rules
	seen     map[types.UID]chan struct{} // closed when the pod's labels are known
	released map[netip.Addr]*pod         // whose rules are still there

	committing sync.Mutex
	present    bool // the table is in the kernel, with what rules believe
	left       bool // there may be another table: of an earlier process, or of an attempt that failed
}

// wait is something that enforcement begins after.
type wait struct {
	what   string
	synced cache.InformerSynced
}

// Backoff after a refused transaction.
const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = 10 * time.Second
)

// linger is how long the rules of a released address stay. Nobody has the address, and a
// transaction that removes something takes the kernel some ten milliseconds, against half a
// millisecond for one that adds: pods that start must not stand in line behind pods that end.
const linger = 500 * time.Millisecond

// New registers the informers; it changes nothing on the host.
func New(cfg Config) (*Enforcer, error) {
	if cfg.Informers == nil || cfg.Table == "" {
		return nil, errors.New("policy: Informers and Table are required")
	}
	if cfg.Recorder == nil {
		cfg.Recorder = host.Discard
	}
	e := &Enforcer{cfg: cfg, kernel: newKernel(ipv4, cfg.Table), rules: newRules(), left: true, seen: map[types.UID]chan struct{}{}, released: map[netip.Addr]*pod{},
		wake: make(chan struct{}, 1), began: make(chan struct{}), ready: make(chan struct{}), adopted: make(chan struct{})}
	err := errors.Join(
		listen(e, "network policies", cfg.Informers.Networking().V1().NetworkPolicies().Informer(), e.policyChanged),
		listen(e, "pods of this node", cfg.Pods.Informer(), e.podChanged),
		listen(e, "endpoint slices", cfg.Informers.Discovery().V1().EndpointSlices().Informer(), e.sliceChanged))
	if err != nil {
		return nil, err
	}
	return e, nil
}

// listen registers a handler that gets what an object was, nil if it is new, and is, nil if it
// is gone, with the lock held; it tells whether that can change rules.
func listen[T any](e *Enforcer, what string, informer cache.SharedIndexInformer, change func(was, now *T) bool) error {
	typed := func(was, now any) {
		if t, ok := was.(cache.DeletedFinalStateUnknown); ok {
			was = t.Obj
		}
		w, _ := was.(*T)
		n, _ := now.(*T)
		if w == nil && n == nil {
			return
		}
		e.mu.Lock()
		matters := change(w, n)
		e.mu.Unlock()
		if matters {
			e.poke()
		}
	}
	reg, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) { typed(nil, o) }, UpdateFunc: typed, DeleteFunc: func(o any) { typed(o, nil) },
	})
	if err != nil {
		return fmt.Errorf("watch %s: %w", what, err)
	}
	e.waits = append(e.waits, wait{what, reg.HasSynced})
	return nil
}

func (e *Enforcer) poke() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

func (e *Enforcer) policyChanged(was, now *networkingv1.NetworkPolicy) bool {
	if was != nil && now != nil && was.UID == now.UID && was.Generation == now.Generation && was.Generation != 0 {
		return false
	}
	either := now
	if now == nil {
		either = was
	}
	e.rules.setPolicy(either.Namespace, either.Name, now)
	return true
}

func (e *Enforcer) podChanged(was, now *corev1.Pod) bool {
	if was != nil && (now == nil || now.UID != was.UID) {
		e.rules.removePod(was.UID)
	}
	if now == nil || now.Spec.HostNetwork {
		return e.rules.dirty()
	}
	e.rules.setPod(now)
	if c := e.seen[now.UID]; c != nil {
		close(c)
		delete(e.seen, now.UID)
	}
	return e.rules.dirty()
}

func (e *Enforcer) sliceChanged(was, now *discoveryv1.EndpointSlice) bool {
	e.rules.setSlice(was, now)
	return e.rules.dirty()
}

// Ready is closed when the kernel has what held at the start.
func (e *Enforcer) Ready() <-chan struct{} { return e.ready }

// Run replaces what an earlier process left in the kernel in one transaction, then keeps it in
// step until ctx ends. The rules stay in the kernel when it returns.
func (e *Enforcer) Run(ctx context.Context) error {
	for _, w := range e.waits {
		if !cache.WaitForCacheSync(ctx.Done(), w.synced) {
			return nil
		}
	}
	select {
	case <-e.adopted:
	case <-ctx.Done():
		return nil
	}
	e.start.Do(func() { close(e.began) })
	retry := firstRetry
	var lingered <-chan time.Time
	for {
		err := e.commit()
		var again <-chan time.Time
		wake := e.wake
		switch {
		case err != nil:
			e.cfg.Log.Error("network policies not written; the whole table is written again", "error", err, "after", retry)
			again, wake = time.After(retry), nil
			retry = min(2*retry, lastRetry)
		default:
			e.first.Do(func() { close(e.ready) })
			retry = firstRetry
		}
		if lingered == nil && e.lingers() {
			lingered = time.After(linger)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		case <-again:
		case <-lingered:
			lingered = nil
			e.forget()
		}
	}
}

func (e *Enforcer) lingers() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.released) > 0
}

// forget takes released addresses away from their pods, those that nobody got since.
func (e *Enforcer) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for addr, p := range e.released {
		if e.rules.attached[addr] == p {
			e.rules.detach(addr)
		}
	}
	clear(e.released)
}

// commit brings the kernel in step, in one transaction or none. After it, what was known when
// it was called is in force.
func (e *Enforcer) commit() error {
	e.committing.Lock()
	defer e.committing.Unlock()
	e.mu.Lock()
	c := e.rules.settle()
	none := e.rules.none()
	if !e.present && !none {
		c = e.rules.whole()
	}
	e.mu.Unlock()
	began := time.Now()
	switch {
	case none && !e.present && !e.left || e.present && !none && c.empty():
		return nil
	case none:
		e.present, e.left = false, true
		if err := e.kernel.remove(); err != nil {
			return err
		}
		e.left = false
		return nil
	case e.present:
		e.present, e.left = false, true
		err := e.kernel.apply(c)
		if err == nil {
			break
		}
		e.cfg.Log.Warn("the kernel refused a change of network policies; the whole table is written again", "error", err)
		e.mu.Lock()
		c = e.rules.whole()
		e.mu.Unlock()
		if err := e.replace(c); err != nil {
			return err
		}
	default:
		if err := e.replace(c); err != nil {
			return err
		}
	}
	e.present = true
	e.cfg.Log.Debug("network policies changed", "added", len(c.add), "removed", len(c.remove), "sets", len(c.elements), "took", time.Since(began))
	return nil
}

func (e *Enforcer) replace(c *change) error {
	if err := e.cfg.Recorder.Record(host.Change{Kind: host.Table, Name: e.kernel.name + " " + e.cfg.Table}); err != nil {
		return fmt.Errorf("record table: %w", err)
	}
	return e.kernel.replace(c)
}

// Remove deletes the table.
func (e *Enforcer) Remove() error { return e.kernel.remove() }

// Adopt tells which pods have addresses from before, once; enforcement begins with them.
func (e *Enforcer) Adopt(pods map[netip.Addr]Pod) {
	e.adopt.Do(func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		for addr, p := range pods {
			e.rules.attach(p, addr)
		}
		close(e.adopted)
	})
}

// Protect returns when what the policies say of a pod is in force for its address. The error
// names what it waited for in vain, or why the kernel refused.
func (e *Enforcer) Protect(ctx context.Context, who Pod, addr netip.Addr) error {
	select {
	case <-e.began:
	case <-ctx.Done():
		return fmt.Errorf("wait for %s: %w", e.missing(), ctx.Err())
	}
	e.mu.Lock()
	delete(e.released, addr)
	e.rules.attach(who, addr)
	known := e.seen[who.UID]
	if !e.rules.knows(who.UID) && known == nil {
		known = make(chan struct{})
		e.seen[who.UID] = known
	}
	e.mu.Unlock()
	if known != nil {
		select {
		case <-known:
		case <-ctx.Done():
			e.Release(addr)
			return fmt.Errorf("wait for pod %s/%s to be seen: %w", who.Namespace, who.Name, ctx.Err())
		}
	}
	return e.commit()
}

// Release forgets an address that nobody has any more, a little later.
func (e *Enforcer) Release(addr netip.Addr) {
	e.mu.Lock()
	if p := e.rules.attached[addr]; p != nil {
		if p.object == nil {
			delete(e.seen, p.UID)
		}
		e.released[addr] = p
	}
	e.mu.Unlock()
	e.poke()
}

// missing names what enforcement has not begun for.
func (e *Enforcer) missing() string {
	for _, w := range e.waits {
		if !w.synced() {
			return w.what
		}
	}
	return "the pods of before"
}
