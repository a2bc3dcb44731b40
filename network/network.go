// Package network gives pods their addresses and links and connects the nodes' pods: it
// is the node agent behind the CNI plugin.
//
// The one idea: everything is routed. A pod has a /32 address and sends everything to the
// node's bridge, whose ports are isolated from each other; so every packet passes the
// node's own rules (services, policies), no pod can speak for another on the link, and
// no bridge netfilter is needed. Nodes reach each other's pods by plain routes where they
// share a link, through VXLAN where they do not.
//
// Called by cluster on each node, in the node's network namespace.
package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/proa-dev/proa/host"
	"github.com/proa-dev/proa/internal/informers"
	"github.com/proa-dev/proa/network/policy"
)

// Config is what an agent needs.
type Config struct {
	Cluster     string // names the CNI network
	NodeName    string
	Informers   *informers.Factory
	Bridge      string       // name of the pod bridge, at most 13 bytes; the overlay is Bridge + "-x"
	Table       string       // name of the nftables table (family ip) that the agent owns
	Socket      string       // of the CNI plugin
	CNIConfDir  string       // gets 10-proa-<cluster>.conflist
	CNIBinDir   string       // gets proa-cni
	CNIBinary   string       // the built cmd/proa-cni to install; empty: it is there already
	Root        string       // folder for addresses in use
	ClusterCIDR netip.Prefix // all pods
	ServiceCIDR netip.Prefix // routed to the bridge, so that the node reaches services without a default route; may be zero
	MTU         int          // of pod links; 0: that of the link to the node's address
	VXLANID     int          // default 7076
	VXLANPort   int          // default 8472
	Guard       Guard        // nil: pods are attached without waiting for policies
	Recorder    host.Recorder
	Log         *slog.Logger
}

// Guard is told of pods' addresses; *policy.Enforcer is one.
type Guard interface {
	// Adopt tells, once, which pods have addresses from before.
	Adopt(pods map[netip.Addr]policy.Pod)
	// Protect returns when what policies say of a pod holds for its address, whose link is not up yet.
	Protect(ctx context.Context, pod policy.Pod, addr netip.Addr) error
	// Release forgets an address that has no link any more; a call of Protect for it has ended.
	Release(addr netip.Addr)
}

var _ Guard = (*policy.Enforcer)(nil)

// Agent is the network agent of one node.
type Agent struct {
	cfg    Config
	synced cache.InformerSynced
	nodes  cache.Indexer
	wake   chan struct{} // of size 1: a node changed
	ready  chan struct{}

	cidr      netip.Prefix // the node's pods
	bridge    netlink.Link
	addresses *addresses
	rules     *rules
	attaching [64]sync.Mutex // by hash of the container ID
}

const (
	defaultVXLANID   = 7076
	defaultVXLANPort = 8472
	maxBridgeName    = 13
)

// New registers the informer; it changes nothing on the host.
func New(cfg Config) (*Agent, error) {
	switch {
	case cfg.Informers == nil || cfg.NodeName == "" || cfg.Socket == "" || cfg.Root == "" || cfg.Table == "":
		return nil, errors.New("network: Informers, NodeName, Table, Socket and Root are required")
	case cfg.Bridge == "" || len(cfg.Bridge) > maxBridgeName:
		return nil, fmt.Errorf("network: bridge name %q: must have 1 to %d bytes", cfg.Bridge, maxBridgeName)
	case !cfg.ClusterCIDR.IsValid() || !cfg.ClusterCIDR.Addr().Is4():
		return nil, fmt.Errorf("network: cluster range %q: must be an IPv4 range", cfg.ClusterCIDR)
	}
	if cfg.Recorder == nil {
		cfg.Recorder = host.Discard
	}
	if cfg.VXLANID == 0 {
		cfg.VXLANID = defaultVXLANID
	}
	if cfg.VXLANPort == 0 {
		cfg.VXLANPort = defaultVXLANPort
	}
	a := &Agent{cfg: cfg, wake: make(chan struct{}, 1), ready: make(chan struct{})}
	informer := cfg.Informers.Core().V1().Nodes().Informer()
	reg, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { a.poke() },
		UpdateFunc: a.onUpdate,
		DeleteFunc: func(any) { a.poke() },
	})
	if err != nil {
		return nil, fmt.Errorf("watch nodes: %w", err)
	}
	a.synced, a.nodes = reg.HasSynced, informer.GetIndexer()
	return a, nil
}

// onUpdate leaves heartbeats out.
func (a *Agent) onUpdate(was, is any) {
	old, ok1 := was.(*corev1.Node)
	now, ok2 := is.(*corev1.Node)
	if ok1 && ok2 && old.Spec.PodCIDR == now.Spec.PodCIDR && internalIP(old) == internalIP(now) {
		return
	}
	a.poke()
}

func (a *Agent) poke() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// Ready is closed when pods can be attached.
func (a *Agent) Ready() <-chan struct{} { return a.ready }

// Run waits for the node's pod range, sets the node up and serves the plugin until ctx
// ends. Links, routes and rules stay: pods keep their network while the agent is away.
func (a *Agent) Run(ctx context.Context) error {
	if !cache.WaitForCacheSync(ctx.Done(), a.synced) {
		return nil
	}
	for !a.findRange() {
		select {
		case <-ctx.Done():
			return nil
		case <-a.wake:
		}
	}
	if err := a.setUp(); err != nil {
		return err
	}
	a.syncRoutes()
	server, err := a.listen()
	if err != nil {
		return err
	}
	var serving sync.WaitGroup
	serving.Go(func() { a.serve(ctx, server) })
	defer serving.Wait()
	if err := a.install(); err != nil {
		return errors.Join(err, server.Close())
	}
	close(a.ready)
	for {
		select {
		case <-ctx.Done():
			return server.Close()
		case <-a.wake:
			a.syncRoutes()
		}
	}
}

// findRange takes the pod range from the node object.
func (a *Agent) findRange() bool {
	obj, ok, err := a.nodes.GetByKey(a.cfg.NodeName)
	if err != nil || !ok {
		return false
	}
	node, ok := obj.(*corev1.Node)
	if !ok {
		return false
	}
	cidr, err := netip.ParsePrefix(node.Spec.PodCIDR)
	if err != nil || !cidr.Addr().Is4() {
		return false
	}
	a.cidr = cidr.Masked()
	return true
}

// setUp makes everything pods need, or finds it made.
func (a *Agent) setUp() error {
	var err error
	if a.addresses, err = openAddresses(filepath.Join(a.cfg.Root, "addresses"), a.cidr); err != nil {
		return err
	}
	if a.cfg.Guard != nil {
		a.cfg.Guard.Adopt(a.addresses.protected())
	}
	if err := a.makeBridge(); err != nil {
		return err
	}
	if err := a.setSysctls(); err != nil {
		return err
	}
	if err := a.cfg.Recorder.Record(host.Change{Kind: host.Table, Name: "ip " + a.cfg.Table}); err != nil {
		return fmt.Errorf("record table: %w", err)
	}
	a.rules = newRules(a.cfg.Table)
	return a.rules.replace(a.cfg.Bridge, a.cidr, a.cfg.ClusterCIDR, a.addresses.mappings())
}

func internalIP(n *corev1.Node) string {
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			if ip, err := netip.ParseAddr(a.Address); err == nil && ip.Is4() {
				return a.Address
			}
		}
	}
	return ""
}
