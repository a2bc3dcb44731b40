package allocate

import (
	"errors"
	"net/netip"
	"testing"
)

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
