// Package podcidr gives each node its part of the pods' address range.
//
// The one idea: the parts in use are those that nodes carry in their spec; a free one is
// chosen and written, and a part is held from the moment it is chosen.
//
// Used by controllers.All.
package podcidr

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/proa-dev/proa/controllers/loop"
)

// Controller is the loop.
type Controller struct {
	*loop.Loop[string]
	deps     loop.Deps
	nodes    corelisters.NodeLister
	recorder record.EventRecorder
	mu       sync.Mutex
	held     map[netip.Prefix]string // part to node, those chosen and perhaps not seen in the cache yet
}

// New registers the loop's informers.
func New(deps loop.Deps) (*Controller, error) {
	if !deps.PodRange.Addr().Is4() || deps.NodeMask <= deps.PodRange.Bits() || deps.NodeMask > 30 {
		return nil, fmt.Errorf("podcidr: range %s cannot be cut into /%d", deps.PodRange, deps.NodeMask)
	}
	nodes := deps.Informers.Core().V1().Nodes()
	c := &Controller{deps: deps, nodes: nodes.Lister(), recorder: deps.Recorder("cidrAllocator"), held: map[netip.Prefix]string{}}
	c.Loop = loop.New("podcidr", deps, c.reconcile)
	c.Watch(nodes.Informer(), func(obj any) []string {
		node, ok := obj.(*corev1.Node)
		if !ok {
			return nil
		}
		return []string{node.Name}
	})
	return c, nil
}

// Run reconciles until ctx ends. One worker: choosing is quick and has one order.
func (c *Controller) Run(ctx context.Context) error { return c.Loop.Run(ctx, 1) }

func (c *Controller) reconcile(ctx context.Context, name string) error {
	node, err := c.nodes.Get(name)
	if err != nil {
		c.release(name)
		return loop.Gone(err)
	}
	if node.Spec.PodCIDR != "" {
		if p, err := netip.ParsePrefix(node.Spec.PodCIDR); err == nil {
			c.hold(p.Masked(), name)
		}
		return nil
	}
	part, err := c.choose(name)
	if err != nil {
		c.recorder.Event(node, corev1.EventTypeNormal, "CIDRNotAvailable", "Node "+name+" status is now: CIDRNotAvailable")
		return err
	}
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"podCIDR": part.String(), "podCIDRs": []string{part.String()}}})
	if err != nil {
		return err
	}
	_, err = c.deps.Client.CoreV1().Nodes().Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	return loop.Gone(err)
}

// choose holds the first part that no node has.
func (c *Controller) choose(name string) (netip.Prefix, error) {
	nodes, err := c.nodes.List(labels.Everything())
	if err != nil {
		return netip.Prefix{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := map[netip.Prefix]bool{}
	for _, n := range nodes {
		if p, err := netip.ParsePrefix(n.Spec.PodCIDR); err == nil {
			taken[p.Masked()] = true
		}
	}
	for p, holder := range c.held {
		if holder == name && !taken[p] {
			return p, nil // chosen before; writing it failed
		}
		taken[p] = true
	}
	base := c.deps.PodRange.Masked().Addr().As4()
	start := uint32(base[0])<<24 | uint32(base[1])<<16 | uint32(base[2])<<8 | uint32(base[3])
	for i := range uint32(1) << (c.deps.NodeMask - c.deps.PodRange.Bits()) {
		v := start + i<<(32-c.deps.NodeMask)
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}), c.deps.NodeMask)
		if !taken[p] {
			c.held[p] = name
			return p, nil
		}
	}
	return netip.Prefix{}, errors.New("no part of the pods' address range is left")
}

func (c *Controller) hold(p netip.Prefix, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held[p] = name
}

func (c *Controller) release(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for p, holder := range c.held {
		if holder == name {
			delete(c.held, p)
		}
	}
}
