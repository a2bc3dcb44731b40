package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/proa-dev/proa/host"
)

// Routing protocol numbers tell our routes from others', so that stale ones can be found.
const (
	nodeProtocol   netlink.RouteProtocol = 112
	bridgeProtocol netlink.RouteProtocol = 113
)

// peer is another node.
type peer struct {
	pods netip.Prefix
	node netip.Addr
}

// peers lists the other nodes that have a range and an address.
func (a *Agent) peers() []peer {
	var out []peer
	for _, obj := range a.nodes.List() {
		n, ok := obj.(*corev1.Node)
		if !ok || n.Name == a.cfg.NodeName {
			continue
		}
		pods, err1 := netip.ParsePrefix(n.Spec.PodCIDR)
		ip, err2 := netip.ParseAddr(internalIP(n))
		if err1 == nil && err2 == nil && pods.Addr().Is4() {
			out = append(out, peer{pods.Masked(), ip})
		}
	}
	return out
}

// syncRoutes makes the routes to other nodes' pods what the node objects say. One that
// fails does not keep the others from being made; it is logged and tried with the next change.
func (a *Agent) syncRoutes() {
	want := map[netip.Prefix]bool{}
	for _, p := range a.peers() {
		want[p.pods] = true
		if err := a.routeTo(p); err != nil {
			a.cfg.Log.Error("pods of a node are not reachable", "pods", p.pods, "node", p.node, "error", err)
		}
	}
	if err := dropRoutes(a.cfg.ClusterCIDR, want); err != nil {
		a.cfg.Log.Error("routes of nodes that are gone remain", "error", err)
	}
}

func (a *Agent) routeTo(p peer) error {
	ways, err := netlink.RouteGet(p.node.AsSlice())
	if err != nil {
		return fmt.Errorf("find the way to the node: %w", err)
	}
	if len(ways) == 0 || ways[0].Type == unix.RTN_LOCAL {
		return fmt.Errorf("node address %s is this machine's own", p.node)
	}
	if ways[0].Gw != nil {
		return a.tunnelTo(p, ways[0].Src)
	}
	link, err := netlink.LinkByIndex(ways[0].LinkIndex)
	if err != nil {
		return fmt.Errorf("find the link to the node: %w", err)
	}
	return a.replaceRoute(&netlink.Route{Dst: ipNet(p.pods), Gw: p.node.AsSlice(), LinkIndex: ways[0].LinkIndex, Protocol: nodeProtocol}, link.Attrs().Name)
}

func (a *Agent) replaceRoute(r *netlink.Route, dev string) error {
	name := fmt.Sprintf("%s via %s dev %s", r.Dst, r.Gw, dev)
	if err := a.cfg.Recorder.Record(host.Change{Kind: host.Route, Name: name}); err != nil {
		return fmt.Errorf("record route: %w", err)
	}
	if err := netlink.RouteReplace(r); err != nil {
		return fmt.Errorf("route %s: %w", name, err)
	}
	return nil
}

// tunnelTo routes through the overlay. Every address in it follows from the node's pod
// range, so nodes need not tell each other anything.
func (a *Agent) tunnelTo(p peer, src net.IP) error {
	link, err := a.overlay(src)
	if err != nil {
		return err
	}
	far := p.pods.Addr()
	index := link.Attrs().Index
	for _, n := range []*netlink.Neigh{
		{Family: unix.AF_BRIDGE, LinkIndex: index, Flags: netlink.NTF_SELF, State: netlink.NUD_PERMANENT, IP: p.node.AsSlice(), HardwareAddr: macOf(far)},
		{Family: unix.AF_INET, LinkIndex: index, State: netlink.NUD_PERMANENT, IP: far.AsSlice(), HardwareAddr: macOf(far)},
	} {
		if err := netlink.NeighSet(n); err != nil {
			return fmt.Errorf("make node known to the overlay: %w", err)
		}
	}
	return a.replaceRoute(&netlink.Route{Dst: ipNet(p.pods), Gw: far.AsSlice(), LinkIndex: index, Protocol: nodeProtocol,
		Flags: int(netlink.FLAG_ONLINK)}, link.Attrs().Name)
}

// overlay makes the VXLAN link, or finds it made.
func (a *Agent) overlay(src net.IP) (netlink.Link, error) {
	name := a.cfg.Bridge + "-x"
	link, err := netlink.LinkByName(name)
	if err == nil {
		return link, nil
	}
	if !errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, fmt.Errorf("find overlay: %w", err)
	}
	if err := a.cfg.Recorder.Record(host.Change{Kind: host.Link, Name: name}); err != nil {
		return nil, fmt.Errorf("record overlay: %w", err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = name, a.cfg.MTU, macOf(a.cidr.Addr())
	vxlan := &netlink.Vxlan{LinkAttrs: attrs, VxlanId: a.cfg.VXLANID, Port: a.cfg.VXLANPort, SrcAddr: src}
	if err := netlink.LinkAdd(vxlan); err != nil {
		return nil, fmt.Errorf("make overlay: %w", err)
	}
	if err := netlink.AddrReplace(vxlan, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a.cidr.Addr(), 32))}); err != nil {
		return nil, fmt.Errorf("give overlay its address: %w", err)
	}
	if err := netlink.LinkSetUp(vxlan); err != nil {
		return nil, fmt.Errorf("set overlay up: %w", err)
	}
	return vxlan, nil
}

// dropRoutes removes our routes to parts of the cluster's range that no node has; routes to
// other ranges are those of another cluster on this machine.
func dropRoutes(cluster netip.Prefix, want map[netip.Prefix]bool) error {
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: nodeProtocol}, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	var errs error
	for i := range routes {
		if routes[i].Dst == nil {
			continue
		}
		dst, err := netip.ParsePrefix(routes[i].Dst.String())
		if err != nil || want[dst] || !cluster.Overlaps(dst) {
			continue
		}
		if err := netlink.RouteDel(&routes[i]); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = errors.Join(errs, fmt.Errorf("remove route %s: %w", dst, err))
		}
	}
	return errs
}
