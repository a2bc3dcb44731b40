// Package proxy makes Services reachable: it turns services and their endpoint slices
// into one desired ruleset (pure), and a change of it into one kernel transaction.
//
// The one idea: the rules are constant, and all that services are is elements of hash
// maps: frontend -> chain by number of endpoints, (frontend, slot) -> endpoint. So a
// packet costs two look-ups however many services there are, and an endpoint that
// changes costs one or two elements.
//
// Called by cluster on each node, in the node's network namespace.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/proa-dev/proa/host"
	"github.com/proa-dev/proa/internal/informers"
)

// Config is what a proxy needs.
type Config struct {
	NodeName  string
	Informers *informers.Factory
	Table     string       // name of the nftables table (family ip) that the proxy owns
	PodCIDR   netip.Prefix // all pods of the cluster: clients outside it are masqueraded; zero: none is
	// LocalAddresses are cluster addresses served by the node itself (the cluster DNS):
	// left alone.
	LocalAddresses []netip.Addr
	HealthPort     int // where load balancers outside ask for /healthz; 0: nowhere
	Recorder       host.Recorder
	Log            *slog.Logger
}

// Proxy is the service proxy of one node.
type Proxy struct {
	cfg      Config
	kernel   *kernel
	rules    *rules
	picks    map[pick]struct{} // ever used
	sticky   bool              // a pick with affinity was ever used
	synced   []cache.InformerSynced
	flows    *flows
	health   *health
	nodes    corelisters.NodeLister
	ready    chan struct{}
	wake     chan struct{} // of size 1: something is dirty
	counters *counters

	mu       sync.Mutex
	triggers []time.Time // of what is dirty; no more than maxTriggers
	services map[owner]*corev1.Service
	slices   map[owner]map[string]*discoveryv1.EndpointSlice
	dirty    map[owner]struct{}
}

// Backoff after a refused transaction.
const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = 10 * time.Second
)

// New registers the informers; it changes nothing on the host.
func New(cfg Config) (*Proxy, error) {
	if cfg.Informers == nil || cfg.Table == "" || cfg.NodeName == "" {
		return nil, errors.New("proxy: Informers, Table and NodeName are required")
	}
	if cfg.Recorder == nil {
		cfg.Recorder = host.Discard
	}
	p := &Proxy{cfg: cfg, kernel: newKernel(cfg.Table, cfg.PodCIDR), rules: newRules(), picks: map[pick]struct{}{},
		flows: newFlows(), ready: make(chan struct{}), wake: make(chan struct{}, 1), counters: newCounters(),
		services: map[owner]*corev1.Service{}, slices: map[owner]map[string]*discoveryv1.EndpointSlice{}, dirty: map[owner]struct{}{}}
	p.health, p.nodes = newHealth(cfg.Log, p.ready), cfg.Informers.Core().V1().Nodes().Lister()
	if err := p.listen(cfg.Informers.Core().V1().Services().Informer(), p.onService); err != nil {
		return nil, fmt.Errorf("watch services: %w", err)
	}
	if err := p.listen(cfg.Informers.Discovery().V1().EndpointSlices().Informer(), p.onSlice); err != nil {
		return nil, fmt.Errorf("watch endpoint slices: %w", err)
	}
	return p, nil
}

func (p *Proxy) listen(informer cache.SharedIndexInformer, handle func(obj any, gone bool)) error {
	reg, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { handle(o, false) },
		UpdateFunc: func(_, o any) { handle(o, false) },
		DeleteFunc: func(o any) {
			if t, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = t.Obj
			}
			handle(o, true)
		},
	})
	if err == nil {
		p.synced = append(p.synced, reg.HasSynced)
	}
	return err
}

func (p *Proxy) onService(obj any, gone bool) {
	svc, ok := obj.(*corev1.Service)
	if !ok {
		return
	}
	o := owner{svc.Namespace, svc.Name}
	p.counters.serviceChanged()
	p.mu.Lock()
	defer p.mu.Unlock()
	if gone {
		delete(p.services, o)
	} else {
		p.services[o] = svc
	}
	p.markLocked(o)
}

func (p *Proxy) onSlice(obj any, gone bool) {
	slice, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok {
		return
	}
	o := owner{slice.Namespace, slice.Labels[discoveryv1.LabelServiceName]}
	if o.name == "" {
		return // of no service: the peers of network policies are such
	}
	p.counters.sliceChanged()
	p.mu.Lock()
	defer p.mu.Unlock()
	if at, ok := triggerOf(slice); ok && !gone && !p.isStarting() && len(p.triggers) < maxTriggers {
		p.triggers = append(p.triggers, at)
	}
	if gone {
		delete(p.slices[o], slice.Name)
		if len(p.slices[o]) == 0 {
			delete(p.slices, o)
		}
	} else {
		if p.slices[o] == nil {
			p.slices[o] = map[string]*discoveryv1.EndpointSlice{}
		}
		p.slices[o][slice.Name] = slice
	}
	if p.services[o] != nil {
		p.markLocked(o)
	}
}

func (p *Proxy) markLocked(o owner) {
	p.dirty[o] = struct{}{}
	p.counters.lastQueued.SetToCurrentTime()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Ready is closed when the kernel has every service that existed at the start.
func (p *Proxy) Ready() <-chan struct{} { return p.ready }

// Run replaces what an earlier process left in the kernel in one transaction, then keeps
// it in step until ctx ends. The rules stay in the kernel when it returns: services go on
// working while the process is replaced.
func (p *Proxy) Run(ctx context.Context) error {
	if !cache.WaitForCacheSync(ctx.Done(), p.synced...) {
		return nil
	}
	if err := p.cfg.Recorder.Record(host.Change{Kind: host.Table, Name: "ip " + p.cfg.Table}); err != nil {
		return fmt.Errorf("record table: %w", err)
	}
	var beside sync.WaitGroup
	defer beside.Wait()
	beside.Go(func() { p.dropStale(ctx) })
	beside.Go(func() {
		if err := p.health.run(ctx, p.cfg.HealthPort, p.eligible); err != nil {
			p.cfg.Log.Error("load balancers take this node for ill", "error", err)
		}
	})
	whole, retry := true, firstRetry
	for {
		err := p.sync(whole)
		var again <-chan time.Time
		if err != nil {
			p.cfg.Log.Error("service rules not written; the whole table is written again", "error", err, "after", retry)
			again = time.After(retry)
			whole, retry = true, min(2*retry, lastRetry)
		} else {
			if p.isStarting() {
				close(p.ready)
			}
			whole, retry = false, firstRetry
		}
		wake := p.wake
		if again != nil {
			wake = nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		case <-again:
		}
	}
}

// eligible tells whether load balancers should send this node anything.
func (p *Proxy) eligible() bool {
	n, err := p.nodes.Get(p.cfg.NodeName)
	if err != nil {
		return apierrors.IsNotFound(err) // not known yet
	}
	return n.DeletionTimestamp == nil && !slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == leaving })
}

// leaving is the taint of nodes that the autoscaler of a cloud is about to remove.
const leaving = "ToBeDeletedByClusterAutoscaler"

func (p *Proxy) isStarting() bool {
	select {
	case <-p.ready:
		return false
	default:
		return true
	}
}

// Remove deletes the table.
func (p *Proxy) Remove() error { return p.kernel.remove() }

// maxTriggers bounds the times that are kept for a transaction.
const maxTriggers = 1000

// sync takes what is dirty now, in one transaction; what comes meanwhile is the next one.
func (p *Proxy) sync(whole bool) error {
	began := time.Now()
	todo, triggers := p.takeDirty()
	changed, err := p.write(whole, todo)
	if changed || err != nil {
		p.counters.synced(began, whole, triggers, err)
	}
	return err
}

// write says whether there was anything to be written.
func (p *Proxy) write(whole bool, todo []owner) (changed bool, err error) {
	c := newChange()
	for len(todo) > 0 {
		o := todo[len(todo)-1]
		todo = append(todo[:len(todo)-1], p.compute(o, c)...)
	}
	p.rules.settle(c)
	for k := range c.picks {
		p.picks[k] = struct{}{}
		p.sticky = p.sticky || k.sticky > 0
	}
	if whole {
		return true, p.kernel.replace(p.rules.whole(p.picks))
	}
	if c.empty() {
		return false, nil
	}
	began := time.Now()
	if err := p.kernel.apply(c); err != nil {
		return true, err
	}
	p.cfg.Log.Debug("service rules changed", "removed", len(c.remove), "added", len(c.add), "took", time.Since(began))
	p.forgetFlows(c)
	return true, nil
}

func (p *Proxy) takeDirty() ([]owner, []time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]owner, 0, len(p.dirty))
	for o := range p.dirty {
		out = append(out, o)
	}
	clear(p.dirty)
	triggers := p.triggers
	p.triggers = nil
	p.counters.taken()
	return out, triggers
}

// compute brings the rules of one service up to date.
func (p *Proxy) compute(o owner, c *change) []owner {
	p.mu.Lock()
	svc := p.services[o]
	all := make([]*discoveryv1.EndpointSlice, 0, len(p.slices[o]))
	for _, s := range p.slices[o] {
		all = append(all, s)
	}
	p.mu.Unlock()
	here := 0
	if healthPort(svc) > 0 { // few services have one
		here = readyHere(all, p.cfg.NodeName)
	}
	p.health.set(o, svc, here)
	local := func(a netip.Addr) bool { return slices.Contains(p.cfg.LocalAddresses, a) }
	routes := slices.DeleteFunc(routesOf(svc, all, p.cfg.NodeName), func(r route) bool { return local(r.frontend.addr) })
	var sets []entry
	if svc != nil && !skipped(svc) {
		for _, a := range slices.DeleteFunc(clusterAddrs(svc), local) {
			sets = append(sets, entry{table: clusterAddr, frontend: frontend{addr: a}})
		}
		sets = append(sets, fencesOf(svc)...)
	}
	return p.rules.set(o, routes, sets, c)
}

// forgetFlows ends UDP flows and affinities to endpoints that went; what fails here costs
// a client its time-out, not correctness of the rules.
func (p *Proxy) forgetFlows(c *change) {
	if s := udpOnly(c); s != nil {
		p.flows.add(s)
	}
	if len(c.gone) > 0 && p.sticky {
		if err := p.kernel.forgetMemory(c); err != nil {
			p.cfg.Log.Warn("clients may be sent to endpoints that are gone", "error", err)
		}
	}
}

// dropStale ends flows beside the transactions: reading the connection table takes
// milliseconds, however few connections there are.
func (p *Proxy) dropStale(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.flows.wake:
		}
		if err := dropFlows(p.flows.take()); err != nil {
			p.cfg.Log.Warn("UDP flows to endpoints that are gone remain", "error", err)
		}
	}
}
