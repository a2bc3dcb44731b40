// Package allocate hands out what Services need one of in the whole cluster: addresses
// and node ports.
//
// The one idea: the lowest part of each range is left to those who ask for a certain value
// (KEP-3070, KEP-3668); a free choice is random in the rest, and falls back to the low part
// only when the rest is used up. State is in memory, filled from the stored services when
// the server starts, and anew whenever they changed where other servers hand out too: it
// is a good guess then, and the store refuses what another server was first to give. The
// API server's write path is the only user.
package allocate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/proa-dev/proa/apis/api"
)

// What Take and Next fail with.
var (
	ErrAddressTaken = errors.New("provided IP is already allocated")
	ErrPortTaken    = errors.New("provided port is already allocated")
	ErrFull         = errors.New("range is full")
)

// tries bounds the random picks before a range is searched in order.
const tries = 16

// Addresses allocates cluster addresses; it implements api.Addresses.
type Addresses struct {
	prefixes []netip.Prefix
	cluster  Cluster

	mu    sync.Mutex
	taken map[netip.Addr]bool
	seen  int64 // the revision of the services, if others write them too
}

// Cluster says what objects of the cluster add to the ranges that the server was started with.
type Cluster interface {
	// Shared tells whether other servers may change services.
	Shared() bool
	// Services gives all that are stored, nil if none was changed since a revision; theirs is
	// given for the next call.
	Services(since int64) ([]*corev1.Service, int64)
	// Ranges are those that services may have addresses of beside the server's own.
	Ranges() []netip.Prefix
	// Reserved addresses belong to something that is no service.
	Reserved(netip.Addr) bool
}

var _ api.Addresses = (*Addresses)(nil)

// NewAddresses serves the given ranges, the first one's family being the default.
func NewAddresses(prefixes ...netip.Prefix) (*Addresses, error) {
	if len(prefixes) == 0 || len(prefixes) > 2 {
		return nil, fmt.Errorf("service ranges: want one or two, have %d", len(prefixes))
	}
	a := &Addresses{taken: map[netip.Addr]bool{}}
	for _, p := range prefixes {
		if span(p.Masked()) < 2 {
			return nil, fmt.Errorf("service range %s: too small", p)
		}
		a.prefixes = append(a.prefixes, p.Masked())
	}
	return a, nil
}

// Follow adds what the cluster's objects say; for use before the first address is taken.
func (a *Addresses) Follow(c Cluster) { a.cluster = c }

// catchUp knows what other servers gave.
func (a *Addresses) catchUp() {
	if a.cluster == nil || !a.cluster.Shared() {
		return
	}
	services, now := a.cluster.Services(a.seen)
	if now == a.seen {
		return
	}
	a.seen = now
	clear(a.taken)
	for _, s := range services {
		for _, addr := range addressesOf(s) {
			a.taken[addr] = true
		}
	}
}

// all are the server's own ranges, then those of the cluster's objects.
func (a *Addresses) all() []netip.Prefix {
	if a.cluster == nil {
		return a.prefixes
	}
	list := slices.Clone(a.prefixes)
	for _, p := range a.cluster.Ranges() {
		if !slices.Contains(list, p) { // the server's own are objects too
			list = append(list, p)
		}
	}
	return list
}

// CIDRs gives the ranges that the server was started with.
func (a *Addresses) CIDRs() []netip.Prefix { return a.prefixes }

var errForeign = errors.New("the provided network does not match the current range")

// Take reserves one address.
func (a *Addresses) Take(addr netip.Addr) error {
	addr = addr.Unmap()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.catchUp()
	if !a.usable(addr) {
		return errForeign
	}
	if !a.free(addr) {
		return ErrAddressTaken
	}
	a.taken[addr] = true
	return nil
}

func (a *Addresses) free(addr netip.Addr) bool {
	return !a.taken[addr] && (a.cluster == nil || !a.cluster.Reserved(addr))
}

// Free gives an address back; an unknown one is ignored.
func (a *Addresses) Free(addr netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.taken, addr.Unmap())
	a.seen = -1 // another server may have been first
}

// Next reserves any free address of the family, 4 or 6.
func (a *Addresses) Next(family int) (netip.Addr, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.catchUp()
	err := fmt.Errorf("no range of IPv%d is configured", family)
	for _, p := range a.all() {
		if p.Addr().Is4() != (family == 4) {
			continue
		}
		size := span(p)
		low := min(max(16, size/16), 256)
		if size <= 16 {
			low = 0
		}
		offset, ok := pick(low, size, func(n uint64) bool { return a.free(at(p, n+1)) })
		if !ok {
			err = ErrFull
			continue
		}
		addr := at(p, offset+1)
		a.taken[addr] = true
		return addr, nil
	}
	return netip.Addr{}, err
}

// usable says that an address is in a range and neither its first nor, for IPv4, its last.
func (a *Addresses) usable(addr netip.Addr) bool {
	for _, p := range a.all() {
		if p.Contains(addr) {
			return addr != p.Addr() && (!addr.Is4() || addr != at(p, span(p)+1))
		}
	}
	return false
}

// span is how many addresses a range can hand out: the network's own is not one of them,
// nor the broadcast address of IPv4. Beyond 2^62 it is cut.
func span(p netip.Prefix) uint64 {
	bits := p.Addr().BitLen() - p.Bits()
	n := uint64(1) << min(bits, 62)
	if p.Addr().Is4() {
		if n < 2 {
			return 0
		}
		return n - 2
	}
	return n - 1
}

// at is the address n after the first of the range.
func at(p netip.Prefix, n uint64) netip.Addr {
	if p.Addr().Is4() {
		b := p.Addr().As4()
		binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(n))
		return netip.AddrFrom4(b)
	}
	b := p.Addr().As16()
	binary.BigEndian.PutUint64(b[8:], binary.BigEndian.Uint64(b[8:])+n)
	return netip.AddrFrom16(b)
}

// pick chooses a free number of [low, size) at random, else of [0, low).
func pick(low, size uint64, free func(uint64) bool) (uint64, bool) {
	for _, part := range [2][2]uint64{{low, size}, {0, low}} {
		n := part[1] - part[0]
		if part[1] <= part[0] {
			continue
		}
		for range tries {
			if v := part[0] + rand.Uint64N(n); free(v) {
				return v, true
			}
		}
		start := rand.Uint64N(n)
		for i := range n {
			if v := part[0] + (start+i)%n; free(v) {
				return v, true
			}
		}
	}
	return 0, false
}
