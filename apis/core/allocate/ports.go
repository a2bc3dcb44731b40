package allocate

import (
	"fmt"
	"sync"

	"github.com/proa-dev/proa/apis/api"
)

// Ports allocates node ports; it implements api.Ports.
type Ports struct {
	first, last int32

	cluster Cluster

	mu    sync.Mutex
	taken map[portKey]bool
	seen  int64 // as in Addresses
}

type portKey struct {
	port     int32
	protocol string
}

var _ api.Ports = (*Ports)(nil)

// NewPorts serves the ports from first to last, both included.
func NewPorts(first, last int32) (*Ports, error) {
	if first < 1 || last > 65535 || last < first {
		return nil, fmt.Errorf("node port range %d-%d: want 1 <= first <= last <= 65535", first, last)
	}
	return &Ports{first: first, last: last, taken: map[portKey]bool{}}, nil
}

// Range gives the first and last port.
func (p *Ports) Range() (first, last int32) { return p.first, p.last }

// Follow says who else hands out ports; for use before the first one is taken.
func (p *Ports) Follow(c Cluster) { p.cluster = c }

// catchUp knows what other servers gave.
func (p *Ports) catchUp() {
	if p.cluster == nil || !p.cluster.Shared() {
		return
	}
	services, now := p.cluster.Services(p.seen)
	if now == p.seen {
		return
	}
	p.seen = now
	clear(p.taken)
	for _, s := range services {
		for _, key := range portsOf(s) {
			p.taken[key] = true
		}
	}
}

// Take reserves one port for a protocol.
func (p *Ports) Take(port int32, protocol string) error {
	if port < p.first || port > p.last {
		return fmt.Errorf("provided port is not in the valid range. The range of valid ports is %d-%d", p.first, p.last)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.catchUp()
	if p.taken[portKey{port, protocol}] {
		return ErrPortTaken
	}
	p.taken[portKey{port, protocol}] = true
	return nil
}

// Next reserves any port that is free for the protocol.
func (p *Ports) Next(protocol string) (int32, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.catchUp()
	size := uint64(p.last-p.first) + 1
	low := min(max(16, size/32), 128)
	if size <= 16 {
		low = 0
	}
	offset, ok := pick(low, size, func(n uint64) bool { return !p.taken[portKey{p.first + int32(n), protocol}] })
	if !ok {
		return 0, ErrFull
	}
	port := p.first + int32(offset)
	p.taken[portKey{port, protocol}] = true
	return port, nil
}

// Free gives a port back; an unknown one is ignored.
func (p *Ports) Free(port int32, protocol string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.taken, portKey{port, protocol})
	p.seen = -1 // another server may have been first
}
