package cluster

import (
	"strings"
	"testing"
)

func TestGates(t *testing.T) {
	for _, c := range []struct{ text, want, fault string }{
		{"", "", ""},
		{"CBORServingAndStorage=true", "CBORServingAndStorage=true", ""},
		{" CBORServingAndStorage = TRUE , ", "CBORServingAndStorage=true", ""},
		{"CBORServingAndStorage=true,CBORServingAndStorage=false", "", ""},
		{"CBORServingAndStorage", "", "feature gate CBORServingAndStorage must be CBORServingAndStorage=true or CBORServingAndStorage=false"},
		{"CBORServingAndStorage=yes", "", "must be"},
		{"CBORServingAndStorage=true,Sidecars=true", "", "unknown feature gate Sidecars; there are: CBORServingAndStorage"},
	} {
		var g Gates
		err := g.Set(c.text)
		if c.fault == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%q: %v, want %q", c.text, err, c.fault)
		}
		if g.String() != c.want {
			t.Errorf("%q: is %q, want %q", c.text, g.String(), c.want)
		}
		var again Gates
		if err := again.Set(g.String()); err != nil || again != g {
			t.Errorf("%q: does not come back: %v", c.text, err)
		}
	}
}
