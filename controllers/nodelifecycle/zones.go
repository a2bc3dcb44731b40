package nodelifecycle

import "time"

// How fast nodes of a zone are given up, in nodes per second, and when a zone as a whole
// is in trouble.
const (
	normalRate    = 0.1
	partialRate   = 0.01
	largeZone     = 50 // nodes; a smaller zone in partial disruption gives up none
	partialShare  = 0.55
	partialAtMost = 2 // so many silent nodes are never a disruption of the zone
)

type zoneState int

const (
	zoneNormal zoneState = iota
	zonePartial
	zoneFull
)

type count struct{ ready, silent int }

// census is the count of the nodes of each zone.
type census map[string]count

func (n count) state() zoneState {
	switch {
	case n.ready == 0 && n.silent > 0:
		return zoneFull
	case n.silent > partialAtMost && float64(n.silent) >= partialShare*float64(n.ready+n.silent):
		return zonePartial
	}
	return zoneNormal
}

// allFull says that no node anywhere is ready: then it is more likely that this process,
// or the network around it, is what failed.
func (c census) allFull() bool {
	for _, n := range c {
		if n.state() != zoneFull {
			return false
		}
	}
	return len(c) > 0
}

func (c census) equal(d census) bool {
	if len(c) != len(d) {
		return false
	}
	for zone, n := range c {
		if m, ok := d[zone]; !ok || m.state() != n.state() {
			return false
		}
	}
	return true
}

// rate is how many nodes of a zone may be given up in a second.
func (c census) rate(zone string) float64 {
	n := c[zone]
	switch {
	case c.allFull():
		return 0
	case n.state() != zonePartial:
		return normalRate
	case n.ready+n.silent > largeZone:
		return partialRate
	}
	return 0
}

// pace spreads what is done to the nodes of each zone over time.
type pace map[string]time.Time // zone to the last time

// take asks to do one more at the given rate; wait is how long until it may be asked again.
func (p pace) take(zone string, rate float64, now time.Time) (ok bool, wait time.Duration) {
	last, before := p[zone]
	next := last.Add(time.Duration(float64(time.Second) / rate))
	if before && now.Before(next) {
		return false, next.Sub(now)
	}
	p[zone] = now
	return true, 0
}
