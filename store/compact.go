package store

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// compact drops, every interval, what was old an interval ago. A server that shares
// etcd with others may find that another was first.
func (s *Store) compact(ctx context.Context) error {
	tick := time.NewTicker(s.cfg.Compact)
	defer tick.Stop()
	for seen := s.Revision(); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-s.done:
			return nil
		case <-tick.C:
		}
		s.past.forget(ctx)
		now := s.Revision()
		if now == seen {
			continue
		}
		if err := s.CompactTo(ctx, seen); err != nil && ctx.Err() == nil {
			s.log.Warn("compact etcd", "revision", seen, "error", err)
		}
		seen = now
	}
}

// CompactTo drops from etcd what was replaced or deleted before a revision. No snapshot of
// a revision before it is given any more, though a kind that did not change could give one:
// clients rely on that pages of a list end some time.
func (s *Store) CompactTo(ctx context.Context, revision int64) error {
	for old := s.compacted.Load(); old < revision && !s.compacted.CompareAndSwap(old, revision); {
		old = s.compacted.Load()
	}
	_, err := s.client.Compact(ctx, revision)
	if errors.Is(err, rpctypes.ErrCompacted) {
		return nil
	}
	return failed("compact", root, err)
}
