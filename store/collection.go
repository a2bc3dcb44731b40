package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/store/seal"
)

// Collection holds the objects of one kind. Safe for concurrent use.
type Collection struct {
	s      *Store
	kind   *api.Kind
	group  schema.GroupResource
	folder string // "/registry/pods/"
	codec  codec
	sealer *seal.Sealer // nil: values are plain in etcd
	stale  stale
	bases  bases       // of the items' texts
	live   atomic.Bool // loaded

	version atomic.Pointer[version] // the present

	mu       sync.Mutex // of what follows; taken after Store.mu
	loaded   int64      // the revision of the load: what is not newer is in it
	early    []early    // what came during the load
	recalled int64      // the load whose past is in the history
	history  history
	topics   topics
	owners   map[string]string // paths by claim; nil until needed, see claims.go

	tornMu sync.Mutex
	torn   map[string]int64 // reported paths and their revisions
}

// version is a state of the collection.
type version struct {
	tree     *node
	revision int64 // of the last change of this kind (or of the load)
}

type early struct {
	revision int64
	changes  []change
}

// Kind is what the collection holds.
func (c *Collection) Kind() *api.Kind { return c.kind }

// Serve adds a stored kind: loads it, and keeps it live from then on. Kinds load in
// parallel when served from several goroutines.
func (s *Store) Serve(ctx context.Context, kind *api.Kind) (*Collection, error) {
	if kind.Virtual != nil || kind.Stored != nil {
		return nil, fmt.Errorf("serve %s: not the stored version of a kind", kind.GroupVersionKind)
	}
	c := &Collection{
		s: s, kind: kind, group: kind.GroupResource(), folder: root + kind.Prefix + "/",
		codec: newCodec(kind), sealer: s.sealer(kind), torn: map[string]int64{},
		history: history{limit: s.cfg.Events},
	}
	for _, index := range kind.Indexes {
		if kind.Fields[index] == nil {
			return nil, fmt.Errorf("serve %s: index %q is not one of its fields", kind.Kind, index)
		}
	}
	if err := s.add(c); err != nil {
		return nil, err
	}
	if err := c.load(ctx); err != nil {
		s.remove(c)
		return nil, fmt.Errorf("load %s: %w", kind.Resource.Resource, errMissing(err))
	}
	return c, nil
}

// Drop ends serving a kind (its definition was deleted): watchers are closed, the
// objects stay in etcd.
func (s *Store) Drop(gr schema.GroupResource) {
	if c, ok := s.Collection(gr); ok {
		s.remove(c)
		c.endWatchers(ErrClosed)
	}
}

func (s *Store) sealer(kind *api.Kind) *seal.Sealer {
	if s.cfg.Seal == nil {
		return nil
	}
	return s.cfg.Seal.For(kind.GroupResource())
}

func (s *Store) add(c *Collection) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := *s.collections.Load()
	if old[c.folder] != nil {
		return fmt.Errorf("serve %s: %s is served already", c.kind.Kind, c.folder)
	}
	next := make(map[string]*Collection, len(old)+1)
	for k, v := range old {
		next[k] = v
	}
	next[c.folder] = c
	s.collections.Store(&next)
	return nil
}

func (s *Store) remove(c *Collection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := map[string]*Collection{}
	for k, v := range *s.collections.Load() {
		if v != c {
			next[k] = v
		}
	}
	s.collections.Store(&next)
}

// load reads the kind from etcd. What is committed meanwhile is kept aside (apply) and
// replayed over it.
func (c *Collection) load(ctx context.Context) error {
	items, revision, err := c.list(ctx, 0)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.loaded = revision
	c.history.floor = revision
	c.version.Store(&version{tree: grow(items), revision: revision})
	held := c.early
	c.early = nil
	for _, e := range held {
		c.applyLocked(e.revision, e.changes)
	}
	c.live.Store(true)
	c.mu.Unlock()
	return c.s.wait(ctx, revision)
}

// reset replaces everything by a new load, and ends the watchers.
func (c *Collection) reset(items []*Item, revision int64) {
	c.mu.Lock()
	c.loaded = revision
	c.history = history{limit: c.s.cfg.Events, floor: revision}
	c.owners = nil
	c.version.Store(&version{tree: grow(items), revision: revision})
	c.mu.Unlock()
	c.endWatchers(ErrCompacted)
}

func (c *Collection) loadedAt() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.loaded
}

// page is how many keys are read from etcd at a time.
const page = 5000

// list reads the kind from etcd, at a revision or (0) at the present one.
func (c *Collection) list(ctx context.Context, revision int64) ([]*Item, int64, error) {
	var items []*Item
	var open openings
	present := revision == 0
	from, end := c.folder, clientv3.GetPrefixRangeEnd(c.folder)
	for {
		opts := []clientv3.OpOption{clientv3.WithRange(end), clientv3.WithLimit(page)}
		if revision > 0 {
			opts = append(opts, clientv3.WithRev(revision))
		}
		answer, err := c.s.link.get(ctx, from, opts...)
		if err != nil {
			return nil, 0, failed("list", c.folder, err)
		}
		if revision == 0 {
			revision = answer.Header.Revision
		}
		for _, kv := range answer.Kvs {
			path := string(kv.Key[len(c.folder):])
			plain, err := c.listed(path, kv, present)
			if err := open.add(kv.Value, err); err != nil {
				return nil, 0, err
			}
			if err != nil {
				c.reportTorn(path, kv.ModRevision, err)
				continue
			}
			items = append(items, loadedItem(c, path, kv.ModRevision, plain))
		}
		if !answer.More || len(answer.Kvs) == 0 {
			return items, revision, open.verdict()
		}
		from = string(answer.Kvs[len(answer.Kvs)-1].Key) + "\x00"
	}
}

// listed is the plain value of what list found.
func (c *Collection) listed(path string, kv *mvccpb.KeyValue, present bool) ([]byte, error) {
	if present {
		return c.read(path, kv.Value, kv.ModRevision)
	}
	plain, _, err := c.open(path, kv.Value)
	return plain, err
}

// apply makes the changes of one revision visible at once.
func (c *Collection) apply(revision int64, changes []change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.version.Load() == nil {
		c.early = append(c.early, early{revision, changes})
		return
	}
	c.applyLocked(revision, changes)
}

func (c *Collection) applyLocked(revision int64, changes []change) {
	if revision <= c.loaded {
		return
	}
	tree := c.version.Load().tree
	events := make([]*event, 0, len(changes))
	for _, ch := range changes {
		var old *Item
		if ch.item == nil {
			tree, old = tree.without(ch.path)
		} else {
			tree, old = tree.with(ch.item)
		}
		if c.owners != nil {
			c.reclaim(old, ch.item)
		}
		if e := happened(revision, ch.item, old); e != nil {
			events = append(events, e)
		}
	}
	// Who is told of a change must find it, whatever he reads.
	c.version.Store(&version{tree: tree, revision: revision})
	for _, e := range events {
		c.publish(e)
	}
}

// publish hands an event to history and to those who watch for it.
func (c *Collection) publish(e *event) {
	c.history.add(e)
	c.topics.publish(c.kind, e)
}

// adopt gives an item that the feed brought first the object that its writer has.
func (c *Collection) adopt(own *Item) {
	if own == nil {
		return
	}
	v := c.version.Load()
	if v == nil {
		return
	}
	if cur := v.tree.get(own.path); cur != nil && cur != own && cur.Revision == own.Revision {
		cur.object.CompareAndSwap(nil, own.object.Load())
	}
}

// reportTorn logs a value that is not an object, once.
func (c *Collection) reportTorn(path string, revision int64, err error) {
	c.tornMu.Lock()
	known := c.torn[path] == revision
	if len(c.torn) < 10_000 {
		c.torn[path] = revision
	}
	c.tornMu.Unlock()
	if !known {
		c.s.log.Error("a stored object cannot be read, it is left out", "key", c.folder+path, "revision", revision, "error", err)
	}
}

// path joins a key, and refuses what would be another one.
func (c *Collection) path(namespace, name string) (string, error) {
	if name == "" || strings.ContainsAny(name, "/\x00") || strings.ContainsAny(namespace, "/\x00") || c.kind.Namespaced == (namespace == "") {
		return "", fmt.Errorf("%w: %s %q/%q", ErrName, c.kind.Kind, namespace, name)
	}
	if namespace == "" {
		return name, nil
	}
	return namespace + "/" + name, nil
}

// Minimum revisions of reads.
const (
	Any    int64 = 0  // what the cache has
	Latest int64 = -1 // nothing that was acknowledged before the call is missing
)

// patience is how long a read waits for a revision that is not there yet.
const patience = 3 * time.Second

// reach returns when the cache is at least as new as minimum.
func (s *Store) reach(ctx context.Context, minimum int64) error {
	switch {
	case minimum == Any || minimum > 0 && minimum <= s.revision.Load():
		return nil
	case minimum < 0:
		newest, err := s.newest(ctx)
		if err != nil {
			return err
		}
		return s.wait(ctx, newest)
	}
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := s.wait(limited, minimum)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return ErrFuture
	}
	return err
}

// newest is a revision that everything acknowledged before the call is part of.
func (s *Store) newest(ctx context.Context) (int64, error) {
	revision, err := s.link.newest(ctx)
	return revision, failed("read the revision of", root, err)
}

// Get gives an object that is at least as new as minimum.
func (c *Collection) Get(ctx context.Context, namespace, name string, minimum int64) (*Item, error) {
	path, err := c.path(namespace, name)
	if err != nil {
		return nil, ErrNotFound
	}
	if err := c.s.reach(ctx, minimum); err != nil {
		return nil, err
	}
	if item := c.version.Load().tree.get(path); item != nil && !item.torn() {
		return item, nil
	}
	return nil, ErrNotFound
}
