package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/proa-dev/proa/store/seal"
)

// Values of some kinds are sealed in etcd (package seal). They are opened where they are
// read from etcd and sealed where they are written to it: all else here, the items above all,
// has plain values. What is to be sealed anew is noted when it is read, and written by reseal.

// stale are the values of a kind that are to be sealed anew.
type stale struct {
	mu    sync.Mutex
	paths map[string]int64 // the revision that is stale
}

func (s *stale) note(path string, revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.paths == nil {
		s.paths = map[string]int64{}
	}
	s.paths[path] = revision
}

func (s *stale) is(path string, revision int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.paths[path]
	return ok && at == revision
}

// done forgets what was noted of a path, unless it is newer.
func (s *stale) done(path string, revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.paths[path] <= revision {
		delete(s.paths, path)
	}
}

func (s *stale) snapshot() map[string]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.paths)
}

// open gives the plain, whole value of one that etcd has.
func (c *Collection) open(path string, value []byte) (plain []byte, old bool, err error) {
	plain, old, err = c.sealer.Open(c.folder+path, value)
	if err != nil {
		return nil, false, err
	}
	return plain, old, check(plain)
}

// read is open of what is the present state: what is stale is noted.
func (c *Collection) read(path string, value []byte, revision int64) ([]byte, error) {
	plain, old, err := c.open(path, value)
	if err == nil && old && c.kind.TTL == 0 { // what ends by itself is not written anew
		c.stale.note(path, revision)
		c.s.wakeReseal()
	}
	return plain, err
}

// lost tells that a value is gone for good, as far as the store can see; any other error may
// pass, as that of a key service which does not answer.
func lost(err error) bool {
	return errors.Is(err, errTorn) || errors.Is(err, seal.ErrOpen) || errors.Is(err, seal.ErrKey)
}

// openings counts, while a kind is read from etcd, which of its sealed values open.
type openings struct {
	opened int
	first  error // why one does not
}

// add decides about one value: a returned error ends the reading. That a key is missing
// is a fault in the configuration: serving the rest would show objects as deleted, and have
// their owners make them again.
func (o *openings) add(value []byte, err error) error {
	switch {
	case err == nil && seal.With(value) != "":
		o.opened++
	case errors.Is(err, seal.ErrOpen):
		if o.first == nil {
			o.first = err
		}
	case err != nil && errors.Is(err, seal.ErrKey), err != nil && seal.With(value) != "" && !lost(err):
		return err
	}
	return nil
}

// verdict: when none opens, it is the key that is wrong and not a value that is damaged.
func (o *openings) verdict() error {
	if o.opened == 0 {
		return o.first
	}
	return nil
}

func (s *Store) wakeReseal() {
	select {
	case s.resealing <- struct{}{}:
	default:
	}
}

// Reseal has every value of the sealed kinds written anew, after a change of keys. It returns
// at once; Sealing tells how far it is.
func (s *Store) Reseal() {
	for _, c := range s.Collections() {
		if c.sealer.Plain() || c.kind.TTL > 0 {
			continue
		}
		c.version.Load().tree.ascend("", func(i *Item) bool {
			c.stale.note(i.path, i.Revision)
			return true
		})
	}
	s.wakeReseal()
}

// resealAgain is the pause after a failure.
const resealAgain = 30 * time.Second

// reseal writes what is stale anew, until ctx ends.
func (s *Store) reseal(ctx context.Context) {
	again := time.NewTimer(resealAgain)
	again.Stop()
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.done:
			return
		case <-s.resealing:
		case <-again.C:
		}
		for _, c := range s.Collections() {
			n, err := c.reseal(ctx)
			if n > 0 {
				s.log.Info("sealed what was sealed otherwise", "resource", c.group.String(), "objects", n, "with", c.sealer.Writes())
			}
			if err != nil && ctx.Err() == nil {
				s.log.Warn("seal objects anew", "resource", c.group.String(), "error", err, "again after", resealAgain)
				again.Reset(resealAgain)
			}
		}
	}
}

func (c *Collection) reseal(ctx context.Context) (n int, err error) {
	todo := c.stale.snapshot()
	for _, path := range slices.Sorted(maps.Keys(todo)) {
		cur := c.version.Load().tree.get(path)
		if cur == nil || cur.Revision > todo[path] || cur.Object() == nil {
			c.stale.done(path, todo[path])
			continue
		}
		_, ok, err := c.put(ctx, "seal", path, cur.Revision, cur.stored.append(nil), withRevision(cur.Object(), cur.Revision))
		if err != nil {
			return n, err
		}
		if ok {
			n++
		}
		c.stale.done(path, todo[path])
	}
	return n, nil
}

// Sealing is how the values of a kind are kept in etcd.
type Sealing struct {
	Resource string `json:"resource"`
	With     string `json:"with"` // what seals new values: `aesgcm key "key1"`
	Objects  int    `json:"objects"`
	Stale    int    `json:"stale"` // that are still to be sealed so
}

// Sealing tells about the kinds that have a sealer, by name.
func (s *Store) Sealing() []Sealing {
	out := []Sealing{}
	for _, c := range s.Collections() {
		if c.sealer.Plain() {
			continue
		}
		c.stale.mu.Lock()
		n := len(c.stale.paths)
		c.stale.mu.Unlock()
		out = append(out, Sealing{Resource: c.group.String(), With: c.sealer.Writes(), Objects: c.version.Load().tree.len(), Stale: n})
	}
	slices.SortFunc(out, func(a, b Sealing) int { return strings.Compare(a.Resource, b.Resource) })
	return out
}

// errMissing adds to an error of a load what helps.
func errMissing(err error) error {
	if errors.Is(err, seal.ErrKey) || errors.Is(err, seal.ErrOpen) {
		return fmt.Errorf("%w; give the keys that the data was written with (--encryption-provider-config)", err)
	}
	return err
}
