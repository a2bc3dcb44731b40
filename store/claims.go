package store

import (
	"fmt"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/proa-dev/proa/apis/api"
)

// Of some kinds no two objects may have the same address or port (api.Kind.Claims). A server
// that is alone hands these out from memory, and nothing here happens. Where other servers
// write too, whoever makes a new claim changes one more key in the same transaction, on
// the condition that nobody has done so since the revision up to which he knows all claims.
// There is nothing to set up, to repair or to give back: what is claimed are the objects.

// guardRoot is the folder of the keys that change with each new claim, one for each kind.
const guardRoot = "/proa/claims/"

// claimTries is how often an update may choose again what another server was first to give.
const claimTries = 8

// guard makes a write depend on that no claim was made which its writer does not know.
type guard struct {
	key  string
	seen int64
}

func (g *guard) condition() clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(g.key), "<", g.seen+1)
}

// claim gives the guard of a write, nil if it claims nothing new; ErrClaimed.
func (c *Collection) claim(path string, obj api.Object) (*guard, error) {
	if c.kind.Claims == nil || !c.s.Shared() {
		return nil, nil
	}
	wants := c.kind.Claims(obj)
	if len(wants) == 0 {
		return nil, nil
	}
	seen := c.s.revision.Load() // before the claims are looked at: they may be newer
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.owners == nil {
		c.owners = map[string]string{}
		c.version.Load().tree.ascend("", func(i *Item) bool {
			c.reclaim(nil, i)
			return true
		})
	}
	had := c.claims(c.version.Load().tree.get(path))
	anew := false
	for _, want := range wants {
		if slices.Contains(had, want) {
			continue
		}
		anew = true
		if owner, ok := c.owners[want]; ok && owner != path {
			return nil, fmt.Errorf("%w: %s by %s", ErrClaimed, want, owner)
		}
	}
	if !anew {
		return nil, nil
	}
	return &guard{key: guardRoot + c.kind.Prefix, seen: seen}, nil
}

// claims are those of an item, which may be nil.
func (c *Collection) claims(i *Item) []string {
	if i == nil {
		return nil
	}
	obj := i.Object()
	if obj == nil {
		return nil
	}
	return c.kind.Claims(obj)
}

// reclaim follows a change of an object; c.mu is held.
func (c *Collection) reclaim(old, now *Item) {
	for _, claim := range c.claims(old) {
		if c.owners[claim] == old.path {
			delete(c.owners, claim)
		}
	}
	for _, claim := range c.claims(now) {
		if _, taken := c.owners[claim]; !taken { // of two that have it from before, the first one
			c.owners[claim] = now.path
		}
	}
}
