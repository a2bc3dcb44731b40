package cluster

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"k8s.io/apimachinery/pkg/util/validation"
)

// RangeInUse says whether a link or route of this machine overlaps a range.
func RangeInUse(p netip.Prefix) bool {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return false
	}
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		ip, ok := netip.AddrFromSlice(r.Dst.IP.To4())
		ones, _ := r.Dst.Mask.Size()
		if ok && ones > 0 && netip.PrefixFrom(ip, ones).Overlaps(p) {
			return true
		}
	}
	return false
}

// defaultRouteAddress is the address that this machine uses towards the outside.
func defaultRouteAddress() (netip.Addr, error) {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst != nil && !r.Dst.IP.IsUnspecified() {
			continue
		}
		link, err := net.InterfaceByIndex(r.LinkIndex)
		if err != nil {
			continue
		}
		addrs, err := link.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
				return p.Addr(), nil
			}
		}
	}
	return netip.Addr{}, errors.New("this machine has no default route to take an address from")
}

// complete fills in what was left out of a node's configuration.
func (c *NodeConfig) complete(p *Place) error {
	if c.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("find the host's name: %w; give --node-name", err)
		}
		c.Name = strings.ToLower(host)
	}
	if errs := validation.IsDNS1123Subdomain(c.Name); len(errs) > 0 {
		return fmt.Errorf("--node-name %q: %s", c.Name, strings.Join(errs, "; "))
	}
	if !c.IP.IsValid() {
		ip, err := defaultRouteAddress()
		if err != nil {
			return fmt.Errorf("%w; give --node-ip", err)
		}
		c.IP = ip
	}
	if c.KubeletPort == 0 {
		c.KubeletPort = p.KubeletPort()
	}
	if c.MaxPods == 0 {
		c.MaxPods = 110
	}
	return nil
}
