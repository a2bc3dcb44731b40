package store

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// compact drops, every interval, what was old an interval ago. Of several servers each
// forgets it, and the leader drops it from etcd; one that shares an etcd outside with others
// may find that another was first.
func (s *Store) compact(ctx context.Context) error {
	tick := time.NewTicker(s.cfg.Compact)
	defer tick.Stop()
	for seen := s.Revision(); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-s.done:
			return nil
		case <-s.removed:
			return s.broken()
		case <-tick.C:
		}
		s.past.forget(ctx)
		now := s.Revision()
		if now == seen {
			continue
		}
		s.forgetBefore(seen)
		if leads, _ := s.Leading(); leads || !s.Elects() {
			if err := s.CompactTo(ctx, seen); err != nil && ctx.Err() == nil {
				s.log.Warn("compact etcd", "revision", seen, "error", err)
			}
		}
		seen = now
	}
}

// CompactTo drops from etcd what was replaced or deleted before a revision. No snapshot of
// a revision before it is given any more, though a kind that did not change could give one:
// clients rely on that pages of a list end some time.
func (s *Store) CompactTo(ctx context.Context, revision int64) error {
	s.forgetBefore(revision)
	err := s.link.compact(ctx, revision)
	if errors.Is(err, rpctypes.ErrCompacted) {
		return nil
	}
	return failed("compact", root, err)
}

// forgetBefore refuses snapshots before a revision from now on.
func (s *Store) forgetBefore(revision int64) {
	for old := s.compacted.Load(); old < revision && !s.compacted.CompareAndSwap(old, revision); {
		old = s.compacted.Load()
	}
}
