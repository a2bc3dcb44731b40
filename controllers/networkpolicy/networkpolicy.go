// Package networkpolicy publishes who the peers of network policies are: for each peer that
// policies name by selectors, the addresses of the pods it means, in endpoint slices without
// a service that every node reads.
//
// The one idea: equal peers are one, whichever policies name them. A change of a pod wakes
// the peers that it came to or left, and no policy; a change of a policy wakes the peers that
// nobody named before or names any more.
//
// Used by controllers.All.
package networkpolicy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/proa-dev/proa/controllers/loop"
	"github.com/proa-dev/proa/internal/netpol"
)

// Controller is the loop; its keys are the IDs of peers.
type Controller struct {
	*loop.Loop[string]
	deps       loop.Deps
	pods       corelisters.PodLister
	namespaces corelisters.NamespaceLister
	slices     cache.SharedIndexInformer

	mu       sync.Mutex
	policies map[loop.Key][]netpol.Peer // what each names, once each
	peers    peers
	written  map[string]string // slice -> resource version of our last write
}

// byPeer is the index of slices.
const byPeer = "networkpolicy/peer"

// New registers the loop's informers.
func New(deps loop.Deps) (*Controller, error) {
	core := deps.Informers.Core().V1()
	pods, namespaces := core.Pods(), core.Namespaces()
	c := &Controller{
		deps: deps, pods: pods.Lister(), namespaces: namespaces.Lister(),
		slices:   deps.Informers.Discovery().V1().EndpointSlices().Informer(),
		policies: map[loop.Key][]netpol.Peer{}, peers: newPeers(), written: map[string]string{},
	}
	err := loop.Index(c.slices, byPeer, func(obj any) []string {
		if s, ok := obj.(*discoveryv1.EndpointSlice); ok && peerOf(s) != "" {
			return []string{peerOf(s)}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("networkpolicy: %w", err)
	}
	c.Loop = loop.New("networkpolicy", deps, c.reconcile)
	handle(c, deps.Informers.Networking().V1().NetworkPolicies().Informer(), func(_, now *networkingv1.NetworkPolicy, key loop.Key) {
		c.policyChanged(key, now)
	})
	handle(c, pods.Informer(), func(was, now *corev1.Pod, _ loop.Key) { c.podChanged(was, now) })
	handle(c, namespaces.Informer(), func(was, now *corev1.Namespace, _ loop.Key) { c.namespaceChanged(was, now) })
	handle(c, c.slices, func(was, now *discoveryv1.EndpointSlice, _ loop.Key) { c.sliceChanged(was, now) })
	return c, nil
}

// handle registers a handler that gets what an object was, nil if it is new, and is, nil if it is gone.
func handle[T any](c *Controller, informer cache.SharedIndexInformer, change func(was, now *T, key loop.Key)) {
	typed := func(was, now any) {
		either := now
		if now == nil {
			either = was
		}
		if key, ok := loop.KeyOf(either); ok {
			if t, ok := was.(cache.DeletedFinalStateUnknown); ok {
				was = t.Obj
			}
			w, _ := was.(*T)
			n, _ := now.(*T)
			change(w, n, key)
		}
	}
	c.Handle(informer, cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { typed(nil, obj) }, UpdateFunc: typed, DeleteFunc: func(obj any) { typed(obj, nil) },
	})
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.Loop.Run(ctx, 3) }

// peerOf is the peer whose addresses a slice holds; "" when it is none of ours.
func peerOf(s *discoveryv1.EndpointSlice) string {
	if s == nil || s.Namespace != netpol.SliceNamespace || s.Labels[discoveryv1.LabelManagedBy] != netpol.ManagedBy {
		return ""
	}
	return s.Labels[netpol.PeerLabel]
}

func (c *Controller) policyChanged(key loop.Key, now *networkingv1.NetworkPolicy) {
	var names []netpol.Peer
	if now != nil {
		names = once(netpol.Read(now).Peers())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range names {
		if c.peers.use(p) {
			c.Add(p.ID())
		}
	}
	for _, p := range c.policies[key] {
		if c.peers.drop(p) {
			c.Add(p.ID())
		}
	}
	if len(names) == 0 {
		delete(c.policies, key)
	} else {
		c.policies[key] = names
	}
}

func (c *Controller) podChanged(was, now *corev1.Pod) {
	if was != nil && now != nil && maps.Equal(was.Labels, now.Labels) && sameAddresses(was, now) {
		return
	}
	either := now
	if now == nil {
		either = was
	}
	if either == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.peers.all) == 0 {
		return
	}
	var where labels.Set
	if ns, err := c.namespaces.Get(either.Namespace); err == nil {
		where = ns.Labels
	}
	for p := range c.peers.near(either.Namespace) {
		if p.Namespaces != nil && !p.Namespaces.Matches(where) {
			continue
		}
		if means(p, was) || means(p, now) {
			c.Add(p.ID())
		}
	}
}

// means says whether a pod has an address that a peer in its namespace has.
func means(p *netpol.Peer, pod *corev1.Pod) bool {
	return pod != nil && reachable(pod) && p.Pods.Matches(labels.Set(pod.Labels))
}

func (c *Controller) namespaceChanged(was, now *corev1.Namespace) {
	var before, after labels.Set
	if was != nil {
		before = was.Labels
	}
	if now != nil {
		after = now.Labels
	}
	if was != nil && now != nil && maps.Equal(before, after) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := range c.peers.wide {
		if was != nil && p.Namespaces.Matches(before) || now != nil && p.Namespaces.Matches(after) {
			c.Add(p.ID())
		}
	}
}

// sliceChanged wakes the peer of a slice that somebody else wrote or removed.
func (c *Controller) sliceChanged(was, now *discoveryv1.EndpointSlice) {
	for _, s := range []*discoveryv1.EndpointSlice{was, now} {
		id := peerOf(s)
		if id == "" {
			continue
		}
		c.mu.Lock()
		ours := false
		if now != nil {
			version, wrote := c.written[now.Name]
			ours = wrote && version == now.ResourceVersion
		} else {
			delete(c.written, was.Name)
		}
		c.mu.Unlock()
		if !ours {
			c.Add(id)
		}
	}
}

func (c *Controller) reconcile(ctx context.Context, id string) error {
	c.mu.Lock()
	peer := c.peers.get(id)
	c.mu.Unlock()
	existing := loop.Indexed[*discoveryv1.EndpointSlice](c.slices, byPeer, id)
	var w writes
	if peer == nil {
		w.remove = existing
	} else {
		wanted, err := c.resolve(peer)
		if err != nil {
			return err
		}
		w = plan(peer, wanted, existing)
	}
	return c.write(ctx, w)
}

// resolve finds the addresses of a peer, each with the port that is asked for, or 0.
func (c *Controller) resolve(p *netpol.Peer) (map[netip.Addr]uint16, error) {
	namespaces := []string{p.Namespace}
	if p.Namespaces != nil {
		list, err := c.namespaces.List(p.Namespaces)
		if err != nil {
			return nil, err
		}
		namespaces = namespaces[:0]
		for _, ns := range list {
			namespaces = append(namespaces, ns.Name)
		}
	}
	out := map[netip.Addr]uint16{}
	for _, ns := range namespaces {
		pods, err := c.pods.Pods(ns).List(p.Pods)
		if err != nil {
			return nil, err
		}
		for _, pod := range pods {
			var port uint16
			if ok := reachable(pod); ok && p.Port.Name != "" {
				port, ok = p.Port.NumberIn(pod)
				if !ok {
					continue
				}
			} else if !ok {
				continue
			}
			for _, ip := range addresses(pod) {
				out[ip] = port
			}
		}
	}
	return out, nil
}

// write performs what was planned. What fails does not keep the rest from being tried.
func (c *Controller) write(ctx context.Context, w writes) error {
	client := c.deps.Client.DiscoveryV1().EndpointSlices(netpol.SliceNamespace)
	var errs []error
	wrote := func(s *discoveryv1.EndpointSlice, err error) {
		if err != nil {
			errs = append(errs, err)
			return
		}
		c.mu.Lock()
		c.written[s.Name] = s.ResourceVersion
		c.mu.Unlock()
	}
	for _, s := range w.create {
		wrote(client.Create(ctx, s, metav1.CreateOptions{}))
	}
	for _, s := range w.update {
		wrote(client.Update(ctx, s, metav1.UpdateOptions{}))
	}
	for _, s := range w.remove {
		err := client.Delete(ctx, s.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(s.UID))})
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("delete endpoint slice %s: %w", s.Name, err))
		}
	}
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}
