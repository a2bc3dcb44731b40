package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/proa-dev/proa/network/policy"
)

// attach connects a network namespace: idempotent, and undone by detach however far it
// came. The node's end goes away with the namespace, so it is not recorded.
// The link of a pod that policies may select is not up before they hold.
func (a *Agent) attach(ctx context.Context, att attachment, pod policy.Pod, nsPath string, ports []hostPort) (netip.Addr, error) {
	ns, err := netns.GetFromPath(nsPath)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("open network namespace %s: %w", nsPath, err)
	}
	defer ns.Close()
	ip, err := a.addresses.take(att, pod, ports)
	if err != nil {
		return netip.Addr{}, err
	}
	protected := a.protect(ctx, pod, ip)
	err = a.connect(att, ns, ip, protected)
	if err != nil {
		_ = protected() // whoever undoes comes after who does; a failure of it is err already, or goes with it
	}
	if err == nil && len(ports) > 0 {
		err = a.rules.openPorts(ip, ports)
	}
	if err != nil {
		return netip.Addr{}, errors.Join(err, a.detach(att))
	}
	return ip, nil
}

// protect begins to put a pod's policies in force, beside the making of links; what it gives
// waits for the end of that.
func (a *Agent) protect(ctx context.Context, pod policy.Pod, ip netip.Addr) func() error {
	if a.cfg.Guard == nil || pod.UID == "" {
		return func() error { return nil }
	}
	done := make(chan error, 1)
	go func() { done <- a.cfg.Guard.Protect(ctx, pod, ip) }()
	return sync.OnceValue(func() error { return <-done })
}

// connect makes the pair of links and sets both ends up, the node's when the pod is protected.
func (a *Agent) connect(att attachment, ns netns.NsHandle, ip netip.Addr, protected func() error) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.MasterIndex = hostLink(att), a.cfg.MTU, a.bridge.Attrs().Index
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerMTU, veth.PeerNamespace, veth.PeerHardwareAddr = att.link, uint32(a.cfg.MTU), netlink.NsFd(ns), macOf(ip)
	err := netlink.LinkAdd(veth)
	if errors.Is(err, unix.EEXIST) { // of an attempt that did not end
		if err = removeLink(attrs.Name); err == nil {
			err = netlink.LinkAdd(veth)
		}
	}
	if err != nil {
		return fmt.Errorf("make link %s: %w", attrs.Name, err)
	}
	if err := a.setPort(veth, ip); err != nil {
		return err
	}
	if err := a.setInside(ns, att.link, ip); err != nil {
		return err
	}
	if err := protected(); err != nil {
		return fmt.Errorf("put network policies in force: %w", err)
	}
	// Last, with the pod's end up: so the port has its carrier when it is enabled and
	// forwards at once, instead of when the kernel comes round to look at link states.
	if err := netlink.LinkSetUp(veth); err != nil {
		return fmt.Errorf("set link up: %w", err)
	}
	return nil
}

// setPort makes the bridge port one that can speak to the bridge alone, as ip alone.
func (a *Agent) setPort(port netlink.Link, ip netip.Addr) error {
	if err := netlink.LinkSetIsolated(port, true); err != nil {
		return fmt.Errorf("isolate port: %w", err)
	}
	if err := netlink.LinkSetLearning(port, false); err != nil {
		return fmt.Errorf("set port learning: %w", err)
	}
	known := []*netlink.Neigh{
		{Family: unix.AF_BRIDGE, LinkIndex: port.Attrs().Index, Flags: netlink.NTF_MASTER, State: netlink.NUD_NOARP | netlink.NUD_PERMANENT, HardwareAddr: macOf(ip)},
		{Family: unix.AF_INET, LinkIndex: a.bridge.Attrs().Index, State: netlink.NUD_PERMANENT, IP: ip.AsSlice(), HardwareAddr: macOf(ip)},
	}
	for _, n := range known {
		if err := netlink.NeighSet(n); err != nil {
			return fmt.Errorf("make pod known to the bridge: %w", err)
		}
	}
	return nil
}

// setInside gives the pod its address and its way out.
func (a *Agent) setInside(ns netns.NsHandle, name string, ip netip.Addr) error {
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("enter network namespace: %w", err)
	}
	defer h.Close()
	lo, err := h.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback: %w", err)
	}
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s in the pod: %w", name, err)
	}
	gateway := gatewayOf(a.cidr)
	index := link.Attrs().Index
	steps := []struct {
		what string
		do   func() error
	}{
		{"set loopback up", func() error { return h.LinkSetUp(lo) }},
		{"give address", func() error {
			return h.AddrReplace(link, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(ip, 32))})
		}},
		{"set link up", func() error { return h.LinkSetUp(link) }},
		{"make gateway known", func() error {
			return h.NeighSet(&netlink.Neigh{Family: nl.FAMILY_V4, LinkIndex: index, State: netlink.NUD_PERMANENT, IP: gateway.AsSlice(), HardwareAddr: macOf(gateway)})
		}},
		{"route gateway", func() error {
			return h.RouteReplace(&netlink.Route{LinkIndex: index, Dst: ipNet(netip.PrefixFrom(gateway, 32)), Scope: netlink.SCOPE_LINK})
		}},
		{"set default route", func() error {
			return h.RouteReplace(&netlink.Route{LinkIndex: index, Dst: ipNet(netip.MustParsePrefix("0.0.0.0/0")), Gw: gateway.AsSlice()})
		}},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			return fmt.Errorf("%s in the pod: %w", s.what, err)
		}
	}
	return nil
}

// detach undoes attach; what is not there is fine.
func (a *Agent) detach(att attachment) error {
	ip, has := a.addresses.find(att)
	if has {
		if err := a.rules.closePorts(ip); err != nil {
			return err
		}
	}
	if err := removeLink(hostLink(att)); err != nil {
		return err
	}
	if !has {
		return nil
	}
	gone := &netlink.Neigh{Family: unix.AF_INET, LinkIndex: a.bridge.Attrs().Index, IP: ip.AsSlice()}
	if err := netlink.NeighDel(gone); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("forget pod address: %w", err)
	}
	if a.cfg.Guard != nil {
		a.cfg.Guard.Release(ip)
	}
	return a.addresses.release(att)
}

// check tells whether an attachment is still whole.
func (a *Agent) check(att attachment) error {
	if _, has := a.addresses.find(att); !has {
		return fmt.Errorf("container %s has no address here", att.container)
	}
	if _, err := netlink.LinkByName(hostLink(att)); err != nil {
		return fmt.Errorf("link %s: %w", hostLink(att), err)
	}
	return nil
}

func removeLink(name string) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove link %s: %w", name, err)
	}
	return nil
}
