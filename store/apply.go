package store

import (
	"context"
	"slices"
	"strings"
	"time"
)

// change is what one revision did to one key.
type change struct {
	c    *Collection
	path string
	item *Item // nil: deleted
}

// waiter waits for a revision to be in the cache.
type waiter struct {
	revision int64
	done     chan struct{}
}

// Revisions enter the cache here, in order, from two sides: the writer brings its own
// commit with the object in hand as soon as etcd has acknowledged it, and the feed
// brings every event of etcd's watch. etcd numbers revisions without gaps, so a
// writer's commit is applied when it is the very next one; otherwise it waits for its
// predecessors: from another writer, or from the feed (another server's commit, a lease
// that ran out). Whoever comes second finds its revision applied already.

// committed brings a writer's own commit; it returns when the cache shows it.
func (s *Store) committed(ctx context.Context, revision int64, ch change) error {
	s.mu.Lock()
	if revision <= s.revision.Load() {
		s.mu.Unlock()
		ch.c.adopt(ch.item)
		return nil
	}
	s.pending[revision] = append(s.pending[revision], ch)
	s.drainLocked()
	s.mu.Unlock()
	return s.wait(ctx, revision)
}

// drainLocked applies the commits that are next in line.
func (s *Store) drainLocked() {
	for len(s.pending) > 0 {
		next := s.revision.Load() + 1
		changes, ok := s.pending[next]
		if !ok {
			return
		}
		delete(s.pending, next)
		s.applyLocked(next, changes)
	}
}

// applyLocked makes one revision visible.
func (s *Store) applyLocked(revision int64, changes []change) {
	for len(changes) > 0 {
		c := changes[0].c
		same := 1
		for same < len(changes) && changes[same].c == c {
			same++
		}
		if same < len(changes) && slices.ContainsFunc(changes[same:], func(ch change) bool { return ch.c == c }) {
			slices.SortStableFunc(changes, func(a, b change) int { return strings.Compare(a.c.folder, b.c.folder) })
			continue
		}
		c.apply(revision, changes[:same])
		changes = changes[same:]
	}
	s.advanceLocked(revision)
}

func (s *Store) advanceLocked(revision int64) {
	s.revision.Store(revision)
	s.waiters = slices.DeleteFunc(s.waiters, func(w waiter) bool {
		if w.revision > revision {
			return false
		}
		close(w.done)
		return true
	})
}

// received brings a batch of the feed: changes by revision, ascending, and the revision
// up to which etcd's watch is complete.
func (s *Store) received(revisions []int64, changes [][]change, complete int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, r := range revisions {
		if r <= s.revision.Load() {
			continue
		}
		if own, ok := s.pending[r]; ok {
			changes[i] = own
			delete(s.pending, r)
		}
		s.applyLocked(r, changes[i])
		s.drainLocked()
	}
	if complete > s.revision.Load() {
		s.advanceLocked(complete)
		s.drainLocked()
	}
}

// Waiting for a revision: how long before etcd is asked how far its watch is (it does
// not say so by itself when the revision changed nothing of ours).
const askAfter = 20 * time.Millisecond

// wait returns when the cache has the revision.
func (s *Store) wait(ctx context.Context, revision int64) error {
	if s.revision.Load() >= revision {
		return nil
	}
	s.mu.Lock()
	if s.revision.Load() >= revision {
		s.mu.Unlock()
		return nil
	}
	w := waiter{revision: revision, done: make(chan struct{})}
	s.waiters = append(s.waiters, w)
	s.mu.Unlock()
	ask := time.NewTimer(askAfter)
	defer ask.Stop()
	for {
		select {
		case <-w.done:
			return nil
		case <-ask.C:
			client, _ := s.link.now()
			if err := client.RequestProgress(ctx); err != nil {
				s.log.Debug("ask for the progress of etcd's watch", "error", err)
			}
			ask.Reset(10 * askAfter)
		case <-s.done:
			s.forget(w)
			return ErrClosed
		case <-ctx.Done():
			s.forget(w)
			return ctx.Err()
		}
	}
}

func (s *Store) forget(gone waiter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiters = slices.DeleteFunc(s.waiters, func(w waiter) bool { return w.done == gone.done })
}
