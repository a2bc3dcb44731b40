package discovery

import (
	"strings"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/randfill"
)

func FuzzKinds(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})
	f.Fuzz(func(_ *testing.T, data []byte) {
		fill := randfill.NewFromGoFuzz(data).NilChance(0.3).NumElements(0, 3).MaxDepth(12)
		k := EndpointSlices
		o, old := k.New(), k.New()
		fill.Fill(o)
		fill.Fill(old)
		k.Default(o)
		k.Validate(o)
		k.ValidateUpdate(o, old)
		for _, c := range k.Columns {
			c.Value(o)
		}
	})
}

func TestAddresses(t *testing.T) {
	for _, c := range []struct {
		kind          discoveryv1.AddressType
		address, want string
	}{
		{"IPv4", "10.0.0.1", ""}, {"IPv4", "fd00::1", "must be an IPv4 address"}, {"IPv4", "127.0.0.1", "loopback"},
		{"IPv6", "fd00::1", ""}, {"IPv6", "10.0.0.1", "must be an IPv6 address"}, {"FQDN", "a.example.org", ""}, {"IPv4", "x", "must be a valid IP address"},
		{"X", "x", "supported values"},
	} {
		s := &discoveryv1.EndpointSlice{AddressType: c.kind, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{c.address}}}}
		err := validateSlice(s).ToAggregate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s %s: got %v, want %q", c.kind, c.address, err, c.want)
		}
	}
}
