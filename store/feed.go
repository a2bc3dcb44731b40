package store

import (
	"context"
	"errors"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// retryFeed is the pause before a lost watch is opened again.
const retryFeed = 200 * time.Millisecond

// feed watches etcd and brings its events until ctx ends. A lost watch goes on after
// the last revision; one that etcd cannot continue makes everything load again.
func (s *Store) feed(ctx context.Context) {
	defer close(s.done)
	for ctx.Err() == nil {
		client, _ := s.link.now()
		err := s.follow(ctx, client)
		if ctx.Err() != nil {
			return
		}
		if now, m := s.link.now(); now != client {
			continue // a new etcd has the data
		} else if m != nil && m.gone() != nil {
			s.log.Error("etcd has ended", "error", m.gone())
			<-ctx.Done()
			return
		}
		s.log.Warn("etcd's watch ended, it is opened again", "error", err, "revision", s.revision.Load())
		if errors.Is(err, rpctypes.ErrCompacted) {
			if err := s.reload(ctx); err != nil && ctx.Err() == nil {
				s.log.Error("load everything again", "error", err)
			}
		}
		pause := time.NewTimer(retryFeed)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
	}
}

// follow watches from the last revision on, until the watch is lost.
func (s *Store) follow(ctx context.Context, client *clientv3.Client) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := client.Watch(ctx, root, clientv3.WithPrefix(), clientv3.WithRev(s.revision.Load()+1), clientv3.WithProgressNotify())
	for answer := range events {
		if err := answer.Err(); err != nil {
			return err
		}
		complete := int64(0)
		if answer.IsProgressNotify() {
			complete = answer.Header.Revision
		}
		revisions, changes, err := s.changes(answer.Events)
		if err != nil {
			return err
		}
		s.received(revisions, changes, complete)
	}
	return ErrClosed
}

// changes sorts events by revision; those of kinds that are not served count for their
// revision alone.
func (s *Store) changes(events []*clientv3.Event) (revisions []int64, changes [][]change, err error) {
	for _, e := range events {
		r := e.Kv.ModRevision
		if r <= s.revision.Load() {
			continue
		}
		if n := len(revisions); n == 0 || revisions[n-1] != r {
			revisions, changes = append(revisions, r), append(changes, nil)
		}
		c, path := s.find(string(e.Kv.Key))
		if c == nil {
			continue
		}
		ch := change{c: c, path: path}
		if e.Type == clientv3.EventTypePut {
			plain, err := c.read(path, e.Kv.Value, r)
			switch {
			case err == nil:
				ch.item = newItem(c, path, r, plain, nil)
			case lost(err):
				c.reportTorn(path, r, err) // as good as gone
			default:
				return nil, nil, err
			}
		}
		last := len(changes) - 1
		changes[last] = append(changes[last], ch)
	}
	return revisions, changes, nil
}

// find gives the kind of a key and the rest of it. A folder has one part, or two or
// three (services/specs, example.com/widgets): the longest that is served counts.
func (s *Store) find(key string) (*Collection, string) {
	served := *s.collections.Load()
	best, at := (*Collection)(nil), 0
	for i, parts := len(root), 0; parts < 3; parts++ {
		n := strings.IndexByte(key[min(i, len(key)):], '/')
		if n < 0 {
			break
		}
		i += n + 1
		if c := served[key[:i]]; c != nil {
			best, at = c, i
		}
	}
	return best, key[at:]
}

// reload takes the present state where the changes that led to it cannot be had. Live
// watchers are ended: what they missed is not known.
func (s *Store) reload(ctx context.Context) error {
	for _, c := range *s.collections.Load() {
		items, revision, err := c.list(ctx, 0)
		if err != nil {
			return err
		}
		c.reset(items, revision)
	}
	answer, err := s.link.get(ctx, root, clientv3.WithCountOnly())
	if err != nil {
		return failed("read", root, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// The collections were loaded one by one, each at its own revision: the watch goes on
	// after the oldest, and each skips what it has.
	oldest := answer.Header.Revision
	for _, c := range *s.collections.Load() {
		oldest = min(oldest, c.loadedAt())
	}
	if oldest > s.revision.Load() {
		s.advanceLocked(oldest)
	}
	clear(s.pending)
	return nil
}
