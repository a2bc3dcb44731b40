package garbagecollector

import (
	"fmt"
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// kind is a kind of object that can be collected.
type kind struct {
	schema.GroupVersionKind
	resource   schema.GroupVersionResource
	namespaced bool
}

// item is an object as last observed; never changed, only replaced.
type item struct {
	kind            kind
	namespace, name string
	uid             types.UID
	version         string // resourceVersion
	owners          []metav1.OwnerReference
	finalizers      []string
	deleting        bool
}

func (i *item) String() string {
	return fmt.Sprintf("%s %s/%s (%s)", i.kind.resource.Resource, i.namespace, i.name, i.uid)
}

// foreground: the object waits until its dependents are gone.
func (i *item) foreground() bool {
	return i.deleting && slices.Contains(i.finalizers, metav1.FinalizerDeleteDependents)
}

// orphaning: the object waits until its dependents are free of it.
func (i *item) orphaning() bool {
	return i.deleting && slices.Contains(i.finalizers, metav1.FinalizerOrphanDependents)
}

func (i *item) owner(uid types.UID) *metav1.OwnerReference {
	for n := range i.owners {
		if i.owners[n].UID == uid {
			return &i.owners[n]
		}
	}
	return nil
}

// mostAbsent bounds the memory of owners that are known to be gone.
const mostAbsent = 10000

// graph is who owns whom. It decides which objects are worth a look; it acts on nothing.
type graph struct {
	mu         sync.Mutex
	items      map[types.UID]*item
	dependents map[types.UID]map[types.UID]bool // also of owners never seen
	absent     map[types.UID]bool               // seen to go; uids do not return
}

func newGraph() *graph {
	return &graph{items: map[types.UID]*item{}, dependents: map[types.UID]map[types.UID]bool{}, absent: map[types.UID]bool{}}
}

// observe takes in an object, and answers those to look at.
func (g *graph) observe(now *item) []types.UID {
	g.mu.Lock()
	defer g.mu.Unlock()
	was := g.items[now.uid]
	g.items[now.uid] = now
	var look []types.UID
	self := false
	for _, ref := range now.owners {
		if was == nil || was.owner(ref.UID) == nil {
			if g.dependents[ref.UID] == nil {
				g.dependents[ref.UID] = map[types.UID]bool{}
			}
			g.dependents[ref.UID][now.uid] = true
		}
		// The usual case asks for nothing: an owner that is there and stays.
		if owner := g.items[ref.UID]; owner == nil || owner.foreground() || !now.matches(ref, owner) {
			self = true
		}
	}
	if was != nil {
		look = append(look, g.ownersLeft(was, now)...)
	}
	if now.foreground() && (was == nil || !was.foreground()) {
		self = true
		look = append(look, g.dependentsOf(now.uid)...)
	}
	if now.orphaning() && (was == nil || !was.orphaning()) {
		self = true
	}
	if self {
		look = append(look, now.uid)
	}
	return look
}

// ownersLeft unlinks owners that an object does not name any more, and answers those that
// wait for it less than before.
func (g *graph) ownersLeft(was, now *item) []types.UID {
	var look []types.UID
	for _, ref := range was.owners {
		still := now.owner(ref.UID)
		if still == nil {
			g.unlink(ref.UID, was.uid)
		}
		if owner := g.items[ref.UID]; owner != nil && owner.foreground() && (still == nil || blocks(&ref) && !blocks(still)) {
			look = append(look, ref.UID)
		}
	}
	return look
}

// gone removes an object, and answers those to look at.
func (g *graph) gone(uid types.UID) []types.UID {
	g.mu.Lock()
	defer g.mu.Unlock()
	was := g.items[uid]
	if was == nil {
		return nil
	}
	delete(g.items, uid)
	look := g.dependentsOf(uid)
	if len(look) > 0 {
		for old := range g.absent { // any will do: a forgotten one is asked for again
			if len(g.absent) < mostAbsent {
				break
			}
			delete(g.absent, old)
		}
		g.absent[uid] = true
	}
	for _, ref := range was.owners {
		g.unlink(ref.UID, uid)
		if owner := g.items[ref.UID]; owner != nil && owner.foreground() {
			look = append(look, ref.UID)
		}
	}
	return look
}

func (g *graph) unlink(owner, dependent types.UID) {
	delete(g.dependents[owner], dependent)
	if len(g.dependents[owner]) == 0 {
		delete(g.dependents, owner)
	}
}

func (g *graph) dependentsOf(uid types.UID) []types.UID {
	var out []types.UID
	for d := range g.dependents[uid] {
		out = append(out, d)
	}
	return out
}

// find answers an object and its dependents.
func (g *graph) find(uid types.UID) (*item, []*item) {
	g.mu.Lock()
	defer g.mu.Unlock()
	found := g.items[uid]
	if found == nil {
		return nil, nil
	}
	var dependents []*item
	for d := range g.dependents[uid] {
		if i := g.items[d]; i != nil {
			dependents = append(dependents, i)
		}
	}
	return found, dependents
}

// presence is what is known of an owner.
type presence int

const (
	solid   presence = iota // there, and stays
	waiting                 // there, but only until its dependents are gone
	absent
	unseen // to be asked for: never observed, or not where the reference says
)

// presence of the owner that a reference of an item names.
func (g *graph) presence(of *item, ref metav1.OwnerReference) presence {
	g.mu.Lock()
	defer g.mu.Unlock()
	owner := g.items[ref.UID]
	switch {
	case owner == nil && g.absent[ref.UID]:
		return absent
	case owner == nil || !of.matches(ref, owner):
		return unseen
	case owner.foreground():
		return waiting
	}
	return solid
}

// matches says whether an owner is the object that a reference names: a namespaced owner
// is only ever one in the item's own namespace.
func (i *item) matches(ref metav1.OwnerReference, owner *item) bool {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	return err == nil && gv.Group == owner.kind.Group && ref.Kind == owner.kind.Kind && ref.Name == owner.name &&
		(owner.namespace == "" || owner.namespace == i.namespace)
}

func blocks(ref *metav1.OwnerReference) bool {
	return ref.BlockOwnerDeletion != nil && *ref.BlockOwnerDeletion
}

// action is what to do with an item none of whose properties ask for patience.
type action struct {
	keep    []metav1.OwnerReference // with drop: the references that stay
	drop    bool                    // write keep
	unblock bool                    // owners must not wait for the item (a circle of waiting)
	delete  metav1.DeletionPropagation
}

// decide is the rule of collection, by the presence of each owner in order.
func decide(i *item, owners []presence, dependents []*item) action {
	var keep []metav1.OwnerReference
	waits := false
	for n, p := range owners {
		if p == solid {
			keep = append(keep, i.owners[n])
		}
		waits = waits || p == waiting
	}
	switch {
	case len(keep) == len(i.owners):
		return action{}
	case len(keep) > 0:
		return action{keep: keep, drop: true}
	case waits && len(dependents) > 0:
		circle := slices.ContainsFunc(dependents, (*item).foreground)
		return action{unblock: circle && slices.ContainsFunc(i.owners, func(r metav1.OwnerReference) bool { return blocks(&r) }),
			delete: metav1.DeletePropagationForeground}
	case slices.Contains(i.finalizers, metav1.FinalizerOrphanDependents):
		return action{delete: metav1.DeletePropagationOrphan}
	case slices.Contains(i.finalizers, metav1.FinalizerDeleteDependents):
		return action{delete: metav1.DeletePropagationForeground}
	}
	return action{delete: metav1.DeletePropagationBackground}
}
