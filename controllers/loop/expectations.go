package loop

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// settleLimit is how long an owner waits for a write of its own to show in the cache.
const settleLimit = time.Minute

// Pending remembers what a controller has created and deleted on behalf of an owner until
// its cache shows it, so that it does not do the same twice from an old view. Safe for
// concurrent use.
type Pending struct {
	now func() time.Time
	mu  sync.Mutex
	of  map[types.UID]*pending
}

type pending struct {
	creates int
	deletes map[types.UID]bool
	since   time.Time
}

// NewPending makes an empty memory.
func NewPending(now func() time.Time) *Pending {
	return &Pending{now: now, of: map[types.UID]*pending{}}
}

func (p *Pending) get(owner types.UID) *pending {
	e := p.of[owner]
	if e == nil {
		e = &pending{deletes: map[types.UID]bool{}}
		p.of[owner] = e
	}
	e.since = p.now()
	return e
}

// Creating notes that n objects are about to be created.
func (p *Pending) Creating(owner types.UID, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.get(owner).creates += n
}

// Created notes that the cache shows a new object, or that creating one failed.
func (p *Pending) Created(owner types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.of[owner]; e != nil && e.creates > 0 {
		e.creates--
	}
}

// Deleting notes that an object is about to be deleted.
func (p *Pending) Deleting(owner, object types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.get(owner).deletes[object] = true
}

// Deleted notes that the cache shows an object going or gone, or that deleting it failed.
func (p *Pending) Deleted(owner, object types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.of[owner]; e != nil {
		delete(e.deletes, object)
	}
}

// Settled says whether the cache shows all that was done for the owner.
func (p *Pending) Settled(owner types.UID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.of[owner]
	if e == nil {
		return true
	}
	if e.creates == 0 && len(e.deletes) == 0 || p.now().Sub(e.since) > settleLimit {
		delete(p.of, owner)
		return true
	}
	return false
}

// Forget drops the memory of an owner that is gone.
func (p *Pending) Forget(owner types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.of, owner)
}
