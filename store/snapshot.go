package store

import (
	"context"
	"slices"
)

// Snapshot is the state of a kind at one revision. It costs nothing to take or keep.
type Snapshot struct {
	tree     *node
	revision int64
}

// Snapshot gives the present state, at least as new as minimum.
func (c *Collection) Snapshot(ctx context.Context, minimum int64) (*Snapshot, error) {
	if err := c.s.reach(ctx, minimum); err != nil {
		return nil, err
	}
	return c.now(), nil
}

// now reads the store's revision first: the tree read after it lacks nothing up to it,
// and is newer only if it says so.
func (c *Collection) now() *Snapshot {
	revision := c.s.revision.Load()
	v := c.version.Load()
	return &Snapshot{tree: v.tree, revision: max(revision, v.revision)}
}

// SnapshotAt gives the state at exactly a revision: from the present one by undoing the
// events since, or from etcd where these are gone. ErrCompacted when it is not kept any
// more, ErrFuture.
func (c *Collection) SnapshotAt(ctx context.Context, revision int64) (*Snapshot, error) {
	if err := c.s.reach(ctx, revision); err != nil {
		return nil, err
	}
	if revision < c.s.compacted.Load() {
		return nil, ErrCompacted
	}
	c.mu.Lock()
	v := c.version.Load()
	if v.revision <= revision {
		c.mu.Unlock()
		return &Snapshot{tree: v.tree, revision: revision}, nil
	}
	events, ok := c.history.since(revision)
	c.mu.Unlock()
	if ok {
		return &Snapshot{tree: undo(v.tree, events), revision: revision}, nil
	}
	items, _, err := c.list(ctx, revision)
	if err != nil {
		return nil, err
	}
	return &Snapshot{tree: grow(items), revision: revision}, nil
}

// undo takes back events, the newest first.
func undo(tree *node, events []*event) *node {
	for _, e := range slices.Backward(events) {
		if e.old == nil {
			tree, _ = tree.without(e.item.path)
		} else {
			tree, _ = tree.with(e.old)
		}
	}
	return tree
}

// Revision is what the snapshot shows, exactly.
func (s *Snapshot) Revision() int64 { return s.revision }

// Len counts the objects of a namespace, or all ("").
func (s *Snapshot) Len(namespace string) int {
	if namespace == "" {
		return s.tree.len()
	}
	return s.tree.rank(namespace+"0") - s.tree.rank(namespace+"/")
}

// Remaining counts the objects of a namespace, or all (""), after a path.
func (s *Snapshot) Remaining(namespace, after string) int {
	end := s.tree.len()
	if namespace != "" {
		end = s.tree.rank(namespace + "0")
	}
	return max(0, end-s.tree.rank(after+"\x00"))
}

// Get finds one object.
func (s *Snapshot) Get(namespace, name string) (*Item, bool) {
	path := name
	if namespace != "" {
		path = namespace + "/" + name
	}
	item := s.tree.get(path)
	return item, item != nil && !item.torn()
}

// Ascend visits the objects of a namespace, or all (""), that come after the path of an
// item ("": from the start) in the order of etcd's keys, until yield says no.
func (s *Snapshot) Ascend(namespace, after string, yield func(*Item) bool) {
	from, prefix := after, ""
	if after != "" {
		from = after + "\x00"
	}
	if namespace != "" {
		prefix = namespace + "/"
		from = max(from, prefix)
	}
	s.tree.ascend(from, func(i *Item) bool {
		if prefix != "" && (len(i.path) < len(prefix) || i.path[:len(prefix)] != prefix) {
			return false
		}
		return i.torn() || yield(i)
	})
}
