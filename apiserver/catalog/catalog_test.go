package catalog_test

import (
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/apis/coordination"
	"github.com/proa-dev/proa/apiserver/catalog"
)

// A follower is ready for a state before anybody else sees it.
func TestFollowersComeFirst(t *testing.T) {
	c := catalog.New(nil)
	var seen []*catalog.State
	c.Follow(func(s *catalog.State) {
		if len(seen) > 0 && c.State() == s {
			t.Error("the state was announced before its follower was ready")
		}
		seen = append(seen, s)
	})
	c.SetCustom(coordination.Kinds)
	if len(seen) != 2 || c.State() != seen[1] {
		t.Errorf("seen %d states, the last of them is announced: %v", len(seen), c.State() == seen[len(seen)-1])
	}
}

// What is served here is never handed to another server that says it serves it too.
func TestOwnKindsWin(t *testing.T) {
	c := catalog.New(coordination.Kinds)
	lease := schema.GroupVersion{Group: "coordination.k8s.io", Version: "v1"}
	other := schema.GroupVersion{Group: "metrics.k8s.io", Version: "v1beta1"}
	before := c.State()
	c.SetRemote([]catalog.Remote{{GroupVersion: lease}, {GroupVersion: other}})
	if _, ok := c.State().Delegate(lease); ok {
		t.Error("leases are delegated")
	}
	if _, ok := c.State().Delegate(other); !ok {
		t.Error("metrics are not delegated")
	}
	if _, ok := c.State().Kind(lease, "leases"); !ok {
		t.Error("leases are gone")
	}
	if len(before.Remote) != 0 {
		t.Error("an earlier state changed")
	}
}
