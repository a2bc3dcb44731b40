package proxy

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// staleFlows matches UDP flows whose endpoint is gone, and those that began before their
// frontend had one: UDP has no end of its own, so a busy client would keep a dead flow
// for ever. TCP flows are left to their ends.
type staleFlows struct {
	gone  map[frontend][]endpoint
	fresh map[frontend]bool // had no endpoint until now
}

// MatchConntrackFlow is the filter that netlink asks for each flow.
func (s *staleFlows) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != uint8(udp) {
		return false
	}
	to := toAddr(flow.Forward.DstIP)
	for _, f := range []frontend{{to, udp, flow.Forward.DstPort}, {netip.Addr{}, udp, flow.Forward.DstPort}} {
		if s.fresh[f] && toAddr(flow.Reverse.SrcIP) == to {
			return true
		}
		for _, e := range s.gone[f] {
			if e.addr == toAddr(flow.Reverse.SrcIP) && e.port == flow.Reverse.SrcPort {
				return true
			}
		}
	}
	return false
}

func toAddr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// dropFlows ends the flows that match.
func dropFlows(s *staleFlows) error {
	_, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, netlink.InetFamily(unix.AF_INET), s)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("drop stale UDP flows: %w", err)
	}
	return nil
}

// udpOnly finds the stale flows of a change; nil when no UDP frontend changed.
func udpOnly(c *change) *staleFlows {
	s := newStale()
	for f, list := range c.gone {
		if f.proto == udp {
			s.gone[f] = list
		}
	}
	for e := range c.add {
		if e.frontend.proto == udp && (e.table == services || e.table == nodePorts) && c.before[e] == nil {
			s.fresh[e.frontend] = true
		}
	}
	if len(s.gone)+len(s.fresh) == 0 {
		return nil
	}
	return s
}

// flows collects what is stale until somebody has time to drop it.
type flows struct {
	wake chan struct{} // of size 1

	mu      sync.Mutex
	pending *staleFlows
}

func newFlows() *flows {
	return &flows{wake: make(chan struct{}, 1), pending: newStale()}
}

func newStale() *staleFlows {
	return &staleFlows{gone: map[frontend][]endpoint{}, fresh: map[frontend]bool{}}
}

func (f *flows) add(s *staleFlows) {
	f.mu.Lock()
	for front, list := range s.gone {
		f.pending.gone[front] = append(f.pending.gone[front], list...)
	}
	maps.Copy(f.pending.fresh, s.fresh)
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *flows) take() *staleFlows {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.pending
	f.pending = newStale()
	return s
}
