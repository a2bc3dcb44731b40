package allocate

import (
	"errors"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// What another server gave is taken here, and what it took back is free.
func TestShared(t *testing.T) {
	s := &corev1.Service{Spec: corev1.ServiceSpec{
		ClusterIPs: []string{"10.0.0.1"}, Ports: []corev1.ServicePort{{NodePort: 30000, Protocol: "TCP"}}, HealthCheckNodePort: 30001,
	}}
	prefix := netip.MustParsePrefix("10.0.0.0/30")
	c := &more{services: []*corev1.Service{s}, revision: 7, ranges: []netip.Prefix{prefix}}
	a, err := NewAddresses(prefix)
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewPorts(30000, 30001)
	if err != nil {
		t.Fatal(err)
	}
	a.Follow(c)
	p.Follow(c)
	if err := a.Take(netip.MustParseAddr("10.0.0.1")); !errors.Is(err, ErrAddressTaken) {
		t.Error(err)
	}
	if err := p.Take(30001, "TCP"); !errors.Is(err, ErrPortTaken) {
		t.Error(err)
	}
	if _, err := p.Next("TCP"); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
	c.services, c.revision = nil, 8
	if err := a.Take(netip.MustParseAddr("10.0.0.1")); err != nil {
		t.Error(err)
	}
	if err := p.Take(30001, "TCP"); err != nil {
		t.Error(err)
	}
	// Given back here, and taken by another server meanwhile.
	p.Free(30000, "TCP")
	c.services = []*corev1.Service{s}
	if err := p.Take(30000, "TCP"); !errors.Is(err, ErrPortTaken) {
		t.Error(err)
	}
}

func TestAddressesUseTheWholeRangeOnce(t *testing.T) {
	a, err := NewAddresses(netip.MustParsePrefix("10.0.0.0/26"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[netip.Addr]bool{}
	for i := range 62 {
		addr, err := a.Next(4)
		if err != nil || seen[addr] {
			t.Fatalf("%d: %v %v", i, addr, err)
		}
		if i == 0 && addr.As4()[3] <= 16 {
			t.Fatalf("first choice %s is in the part kept for static addresses", addr)
		}
		seen[addr] = true
	}
	if _, err := a.Next(4); !errors.Is(err, ErrFull) {
		t.Fatalf("full range: %v", err)
	}
	if a.Take(netip.MustParseAddr("10.0.0.63")) == nil || a.Take(netip.MustParseAddr("10.0.0.0")) == nil {
		t.Fatal("network or broadcast address was given out")
	}
}

// more is a cluster with ranges and reserved addresses of its own.
type more struct {
	ranges   []netip.Prefix
	reserved map[netip.Addr]bool
	services []*corev1.Service
	revision int64 // of services that others write too; 0: nobody else does
}

func (m *more) Ranges() []netip.Prefix { return m.ranges }
func (m *more) Shared() bool           { return m.revision > 0 }
func (m *more) Services(int64) ([]*corev1.Service, int64) {
	return m.services, m.revision
}
func (m *more) Reserved(addr netip.Addr) bool { return m.reserved[addr] }

func TestAddressesFollowTheCluster(t *testing.T) {
	own, other := netip.MustParsePrefix("10.0.0.0/30"), netip.MustParsePrefix("10.1.0.0/30")
	a, err := NewAddresses(own)
	if err != nil {
		t.Fatal(err)
	}
	far := netip.MustParseAddr("10.1.0.1")
	c := &more{ranges: []netip.Prefix{own}, reserved: map[netip.Addr]bool{netip.MustParseAddr("10.0.0.1"): true}}
	a.Follow(c)
	if err := a.Take(far); err == nil || err.Error() != "the provided network does not match the current range" {
		t.Fatal(err)
	}
	if err := a.Take(netip.MustParseAddr("10.0.0.1")); !errors.Is(err, ErrAddressTaken) {
		t.Fatalf("a reserved address: %v", err)
	}
	if got, err := a.Next(4); err != nil || got.String() != "10.0.0.2" {
		t.Fatal(got, err)
	}
	if _, err := a.Next(4); !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	c.ranges = append(c.ranges, other)
	if err := a.Take(far); err != nil {
		t.Fatal(err)
	}
	if got, err := a.Next(4); err != nil || got.String() != "10.1.0.2" {
		t.Fatalf("the first range is full: %v %v", got, err)
	}
}

func TestPorts(t *testing.T) {
	p, err := NewPorts(30000, 30001)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Take(30000, "TCP"); err != nil {
		t.Fatal(err)
	}
	if err := p.Take(30000, "TCP"); !errors.Is(err, ErrPortTaken) {
		t.Fatal(err)
	}
	if err := p.Take(30000, "UDP"); err != nil {
		t.Fatal(err)
	}
	if n, err := p.Next("TCP"); err != nil || n != 30001 {
		t.Fatal(n, err)
	}
}
