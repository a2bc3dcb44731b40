package network

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/proa-dev/proa/network/policy"
)

func TestAddresses(t *testing.T) {
	dir, cidr := t.TempDir(), netip.MustParsePrefix("10.1.0.0/29") // .2 to .6
	a, err := openAddresses(dir, cidr)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[netip.Addr]bool{}
	for _, c := range []string{"a", "b", "c", "d", "e"} {
		ip, err := a.take(attachment{c, "eth0"}, policy.Pod{}, []hostPort{{"", "tcp", 8080, 80}})
		if err != nil || seen[ip] {
			t.Fatalf("%s: %v, %v", c, ip, err)
		}
		seen[ip] = true
	}
	if _, err := a.take(attachment{"f", "eth0"}, policy.Pod{}, nil); !errors.Is(err, ErrNoAddress) {
		t.Fatalf("full range gives %v", err)
	}
	if a, err = openAddresses(dir, cidr); err != nil { // a restart
		t.Fatal(err)
	}
	if len(a.mappings()) != 5 {
		t.Errorf("host ports after a restart: %v", a.mappings())
	}
	was, _ := a.find(attachment{"c", "eth0"})
	if ip, err := a.take(attachment{"c", "eth0"}, policy.Pod{}, nil); err != nil || ip != was {
		t.Errorf("again %v, %v; had %v", ip, err, was)
	}
	for range 2 {
		if err := a.release(attachment{"c", "eth0"}); err != nil {
			t.Fatal(err)
		}
	}
	if ip, err := a.take(attachment{"f", "eth0"}, policy.Pod{}, nil); err != nil || ip != was {
		t.Errorf("the only free one is %v; got %v, %v", was, ip, err)
	}
}
