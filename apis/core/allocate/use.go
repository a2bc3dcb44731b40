package allocate

import (
	"maps"
	"net/netip"
	"slices"
)

// Use is how many of a range are taken and how many are free.
type Use struct{ Taken, Free float64 }

// Use of each range, the server's own and those of the cluster's objects.
func (a *Addresses) Use() map[netip.Prefix]Use {
	a.mu.Lock()
	a.catchUp()
	taken := slices.Collect(maps.Keys(a.taken))
	a.mu.Unlock()
	out := map[netip.Prefix]Use{}
	for _, p := range a.all() {
		used := 0.0
		for _, addr := range taken {
			if p.Contains(addr) {
				used++
			}
		}
		out[p] = Use{used, float64(span(p)) - used}
	}
	return out
}

// Use of the ports; one that several protocols have counts once.
func (p *Ports) Use() Use {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.catchUp()
	ports := map[int32]bool{}
	for key := range p.taken {
		ports[key.port] = true
	}
	return Use{float64(len(ports)), float64(p.last-p.first) + 1 - float64(len(ports))}
}
