package network

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/proa-dev/proa/host"
)

// makeBridge makes the pod bridge with the gateway address.
func (a *Agent) makeBridge() error {
	if a.cfg.MTU == 0 {
		a.cfg.MTU = a.uplinkMTU()
	}
	if err := a.cfg.Recorder.Record(host.Change{Kind: host.Link, Name: a.cfg.Bridge}); err != nil {
		return fmt.Errorf("record bridge: %w", err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = a.cfg.Bridge, a.cfg.MTU, macOf(gatewayOf(a.cidr))
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make bridge %s: %w", a.cfg.Bridge, err)
	}
	link, err := netlink.LinkByName(a.cfg.Bridge)
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", a.cfg.Bridge, err)
	}
	if link.Type() != "bridge" {
		return fmt.Errorf("link %s is a %s that is not ours: choose another bridge name", a.cfg.Bridge, link.Type())
	}
	a.bridge = link
	if err := a.cleanBridge(); err != nil {
		return err
	}
	gateway := netip.PrefixFrom(gatewayOf(a.cidr), a.cidr.Bits())
	if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: ipNet(gateway)}); err != nil {
		return fmt.Errorf("give bridge its address: %w", err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set bridge up: %w", err)
	}
	if a.cfg.ServiceCIDR.IsValid() {
		route := &netlink.Route{Dst: ipNet(a.cfg.ServiceCIDR), LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK,
			Src: gateway.Addr().AsSlice(), Protocol: bridgeProtocol}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("route services: %w", err)
		}
	}
	return nil
}

// cleanBridge removes addresses of a pod range that the node had before.
func (a *Agent) cleanBridge() error {
	addrs, err := netlink.AddrList(a.bridge, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list bridge addresses: %w", err)
	}
	for i := range addrs {
		if ip, _ := netip.AddrFromSlice(addrs[i].IP.To4()); ip != gatewayOf(a.cidr) {
			if err := netlink.AddrDel(a.bridge, &addrs[i]); err != nil {
				return fmt.Errorf("remove old bridge address: %w", err)
			}
		}
	}
	if !bytes.Equal(a.bridge.Attrs().HardwareAddr, macOf(gatewayOf(a.cidr))) {
		if err := netlink.LinkSetHardwareAddr(a.bridge, macOf(gatewayOf(a.cidr))); err != nil {
			return fmt.Errorf("set bridge hardware address: %w", err)
		}
	}
	return nil
}

// uplinkMTU is the MTU of the link of the default route, less the overlay's header when
// the overlay may be used; 1450 when there is none.
func (a *Agent) uplinkMTU() int {
	const none, overlay = 1450, 50
	routes, err := netlink.RouteGet(net.IPv4(1, 1, 1, 1))
	if err != nil || len(routes) == 0 {
		return none
	}
	link, err := netlink.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return none
	}
	return link.Attrs().MTU - overlay
}

// setSysctls makes the node a router.
func (a *Agent) setSysctls() error {
	if err := a.sysctl("net/ipv4/ip_forward", "1"); err != nil {
		return fmt.Errorf("pods need forwarding: %w", err)
	}
	conf := "net/ipv4/conf/" + a.cfg.Bridge + "/"
	for key, want := range map[string]string{
		"net/ipv4/conf/all/send_redirects": "0", // a pod's way to its neighbour is through the node
		conf + "send_redirects":            "0",
		conf + "rp_filter":                 "1", // pods speak for pod addresses only
		conf + "route_localnet":            "0",
	} {
		if err := a.sysctl(key, want); err != nil {
			a.cfg.Log.Warn("kernel setting not made", "setting", key, "want", want, "error", err)
		}
	}
	return nil
}

// sysctl writes a kernel setting that differs, and records what it was.
func (a *Agent) sysctl(key, want string) error {
	path := filepath.Join("/proc/sys", key)
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read %s: %w", key, err)
	}
	was := strings.TrimSpace(string(b))
	if was == want {
		return nil
	}
	if err := a.cfg.Recorder.Record(host.Change{Kind: host.Sysctl, Name: strings.ReplaceAll(key, "/", "."), Before: was}); err != nil {
		return fmt.Errorf("record %s: %w", key, err)
	}
	if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", key, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// macOf derives a locally administered hardware address, so that nobody has to ask.
func macOf(ip netip.Addr) net.HardwareAddr {
	return append(net.HardwareAddr{0x02, 0x70}, ip.AsSlice()...)
}

// hostLink is the name of the node's end of an attachment.
func hostLink(att attachment) string {
	sum := sha256.Sum256([]byte(att.container + "/" + att.link))
	return fmt.Sprintf("pr%x", sum[:6])
}
