// Package catalog is the list of what the API serves at this moment: the kinds that are
// built in, custom resources, and the group versions that other servers answer for.
//
// The one idea: a state of the list is a value that never changes; a change makes the next
// one, shows it to the followers, and then to everybody. The server follows, discovery looks
// when it is asked: so nothing is announced that is not answered yet.
//
// Used by apiserver and its discovery and OpenAPI handlers; changed by those who serve custom
// resources and aggregated APIs.
package catalog

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/apis/api"
)

// State is what is served at one moment; immutable, as are the kinds in it.
type State struct {
	// Kinds are answered here: those built in first, then custom ones. Built-in ones that yield are
	// answered here only while no other server answers for their group version.
	Kinds []*api.Kind
	// Remote are answered by other servers. A group version is in one of both lists alone.
	Remote []Remote
	kinds  map[schema.GroupVersion]map[string]*api.Kind
	remote map[schema.GroupVersion]*Remote
}

// Remote is one group version that another server answers for.
type Remote struct {
	schema.GroupVersion
	// GroupPriority and VersionPriority order discovery: higher comes first.
	GroupPriority, VersionPriority int32
	// Handler sends a request on; the user is known and allowed. It answers 503 itself while
	// the other server is away.
	Handler http.Handler
	// Resources are what the other server says it serves; Stale that it could not be asked
	// since.
	Resources []apidiscoveryv2.APIResourceDiscovery
	Stale     bool
	// SchemaHash tells versions of its OpenAPI v3 document apart, which the Handler answers at
	// /openapi/v3/apis/<group>/<version>; empty: it has none. Describe gives its OpenAPI v2
	// document, as JSON.
	SchemaHash string
	Describe   func(context.Context) ([]byte, error)
}

type userKey struct{}

// WithUser says to a Remote's Handler who asks.
func WithUser(ctx context.Context, u *api.User) context.Context {
	return context.WithValue(ctx, userKey{}, u)
}

// UserOf is who asks; nil when nobody said.
func UserOf(ctx context.Context) *api.User {
	u, _ := ctx.Value(userKey{}).(*api.User)
	return u
}

// Kind finds what answers for a resource.
func (s *State) Kind(gv schema.GroupVersion, plural string) (*api.Kind, bool) {
	k, ok := s.kinds[gv][plural]
	return k, ok
}

// HasGroup says whether anything of a group is served, here or elsewhere.
func (s *State) HasGroup(name string) bool {
	for gv := range s.kinds {
		if gv.Group == name {
			return true
		}
	}
	for gv := range s.remote {
		if gv.Group == name {
			return true
		}
	}
	return false
}

// Delegate finds the other server that answers for a group version.
func (s *State) Delegate(gv schema.GroupVersion) (*Remote, bool) {
	r, ok := s.remote[gv]
	return r, ok
}

// Catalog is the list; safe for concurrent use.
type Catalog struct {
	current atomic.Pointer[State]

	mu        sync.Mutex
	builtin   []*api.Kind
	custom    []*api.Kind
	remote    []Remote
	followers []func(*State)
}

// New makes the list of what is built in.
func New(builtin []*api.Kind) *Catalog {
	c := &Catalog{builtin: builtin}
	c.current.Store(c.next())
	return c
}

// State is what is announced at present.
func (c *Catalog) State() *State { return c.current.Load() }

// Follow calls f with the present state and with each that comes, one after the other and
// before it is announced. f must not change the catalog.
func (c *Catalog) Follow(f func(*State)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.followers = append(c.followers, f)
	f(c.current.Load())
}

// SetCustom replaces the kinds of custom resources. Each stored one must be in the store
// already. Kinds that stay keep their pointers, or what is kept for them is made again.
func (c *Catalog) SetCustom(kinds []*api.Kind) {
	c.change(func() { c.custom = slices.Clone(kinds) })
}

// SetRemote replaces what other servers answer for.
func (c *Catalog) SetRemote(remote []Remote) {
	c.change(func() { c.remote = slices.Clone(remote) })
}

func (c *Catalog) change(edit func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	edit()
	state := c.next()
	for _, f := range c.followers {
		f(state)
	}
	c.current.Store(state)
}

func (c *Catalog) next() *State {
	taken := map[schema.GroupVersion]bool{}
	for i := range c.remote {
		taken[c.remote[i].GroupVersion] = true
	}
	yields := func(k *api.Kind) bool { return k.Computed != nil && k.Computed.Yields && taken[k.GroupVersion()] }
	s := &State{
		Kinds: slices.DeleteFunc(slices.Concat(c.builtin, c.custom), yields),
		kinds: map[schema.GroupVersion]map[string]*api.Kind{}, remote: map[schema.GroupVersion]*Remote{},
	}
	for _, k := range s.Kinds {
		gv := k.GroupVersion()
		if s.kinds[gv] == nil {
			s.kinds[gv] = map[string]*api.Kind{}
		}
		s.kinds[gv][k.Resource.Resource] = k
	}
	for _, r := range c.remote {
		if s.kinds[r.GroupVersion] == nil {
			s.Remote = append(s.Remote, r)
			s.remote[r.GroupVersion] = &r
		}
	}
	return s
}
