package store

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// pastBytes bounds what is read of etcd's past.
const pastBytes = 64 << 20

// past is what etcd still has of the revisions before the kinds were loaded, so that
// clients resume their watches over a restart. It is read when the first of them asks
// (a start costs nothing), for all kinds at once, and forgotten with the first compaction.
//
// Every revision of etcd changes a key: a watch of all keys has reached a revision when
// it has seen an event of it or of a later one.
type past struct {
	turn   chan struct{} // has a token while somebody uses what follows
	gone   bool
	floor  int64 // the events after it, up to to, are here
	to     int64
	events map[string][]*mvccpb.KeyValue // by etcd folder; CreateRevision 0: a deletion
	order  []string                      // folders in the order of the events
	bytes  int
}

// enter waits for the turn; what it returns ends it.
func (p *past) enter(ctx context.Context) (leave func(), err error) {
	select {
	case p.turn <- struct{}{}:
		return func() { <-p.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// forget frees what no watch will resume from any more.
func (p *past) forget(ctx context.Context) {
	leave, err := p.enter(ctx)
	if err != nil {
		return
	}
	defer leave()
	p.gone, p.events, p.order = true, nil, nil
}

// recall puts etcd's past in front of the kind's history. It is done once per load, by
// the first who needs it.
func (c *Collection) recall(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	p := &c.s.past
	leave, err := p.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	to, wanted := c.forgotten()
	if !wanted || p.gone {
		return nil
	}
	if err := c.s.readPast(ctx, to); err != nil {
		return err
	}
	events, floor, err := c.relive(ctx, p.events[c.folder], to)
	if err != nil {
		return err
	}
	c.rejoin(events, max(floor, p.floor), to)
	return nil
}

// rejoin puts the past up to a load in front of the history, unless that has lost its own
// beginning meanwhile: there would be a gap.
func (c *Collection) rejoin(events []*event, floor, to int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.loaded != to || c.history.floor != to {
		return
	}
	c.history.prepend(events, floor)
	c.recalled = to
}

// forgotten tells up to which revision the past of the kind has not been recalled.
func (c *Collection) forgotten() (int64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.loaded, c.recalled != c.loaded && c.history.floor == c.loaded
}

// readPast reads on from what was read up to a revision.
func (s *Store) readPast(ctx context.Context, to int64) error {
	p := &s.past
	if p.events == nil {
		p.events = map[string][]*mvccpb.KeyValue{}
		p.floor = max(1, to-int64(s.cfg.Events))
		p.to = p.floor
	}
	for p.to < to {
		compacted, err := s.readEvents(ctx, to)
		if err != nil {
			return err
		}
		if compacted > p.to {
			p.floor, p.to = compacted, compacted
			p.events, p.order, p.bytes = map[string][]*mvccpb.KeyValue{}, nil, 0
		}
	}
	return nil
}

// readEvents adds the events up to a revision, or says that they are compacted.
func (s *Store) readEvents(ctx context.Context, to int64) (compacted int64, err error) {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx)) // which makes it a stream of its own
	defer cancel()
	client, _ := s.link.now()
	for answer := range client.Watch(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithRev(s.past.to+1)) {
		if answer.CompactRevision > 0 {
			return answer.CompactRevision, nil
		}
		if err := answer.Err(); err != nil {
			return 0, failed("read the past of", root, err)
		}
		for _, e := range answer.Events {
			if e.Kv.ModRevision > to {
				s.past.to = to
				return 0, nil
			}
			s.rememberEvent(e)
		}
		if s.past.to >= to {
			return 0, nil
		}
	}
	if now, _ := s.link.now(); now != client {
		return 0, nil // the new one is asked for the rest
	}
	return 0, errors.Join(ErrClosed, ctx.Err())
}

func (s *Store) rememberEvent(e *clientv3.Event) {
	p := &s.past
	p.to = e.Kv.ModRevision
	c, _ := s.find(string(e.Kv.Key))
	if c == nil {
		return
	}
	if e.Type != clientv3.EventTypePut {
		e.Kv.CreateRevision = 0
	}
	p.events[c.folder] = append(p.events[c.folder], (*mvccpb.KeyValue)(e.Kv))
	p.order = append(p.order, c.folder)
	for p.bytes += len(e.Kv.Value); p.bytes > pastBytes; {
		folder := p.order[0]
		oldest := p.events[folder][0]
		p.order, p.events[folder] = p.order[1:], p.events[folder][1:]
		p.bytes -= len(oldest.Value)
		p.floor = oldest.ModRevision
	}
}

// relive makes events of what etcd keeps, as they were when they happened. The floor is
// above zero when what was before some of them is compacted.
func (c *Collection) relive(ctx context.Context, kvs []*mvccpb.KeyValue, to int64) (events []*event, floor int64, err error) {
	now := c.version.Load().tree
	last := map[string]*Item{} // nil: gone
	for _, kv := range kvs {
		if kv.ModRevision > to {
			break
		}
		path := string(kv.Key[len(c.folder):])
		old, known := last[path]
		if !known && kv.CreateRevision != kv.ModRevision {
			if old, err = c.before(ctx, path, kv.ModRevision); errors.Is(err, ErrCompacted) {
				events, floor = nil, kv.ModRevision
			} else if err != nil {
				return nil, 0, err
			}
		}
		item := c.relived(kv, path, now)
		last[path] = item
		if e := happened(kv.ModRevision, item, old); e != nil && kv.ModRevision > floor {
			events = append(events, e)
		}
	}
	return events, floor, nil
}

// relived is the item of a past write: the cache's own if it is still that.
func (c *Collection) relived(kv *mvccpb.KeyValue, path string, now *node) *Item {
	if kv.CreateRevision == 0 {
		return nil
	}
	if cur := now.get(path); cur != nil && cur.Revision == kv.ModRevision {
		return cur
	}
	plain, _, err := c.open(path, kv.Value)
	if err != nil {
		c.reportTorn(path, kv.ModRevision, err)
		return nil
	}
	return loadedItem(c, path, kv.ModRevision, plain)
}

// before is the state of a key just before a revision, nil if there was none.
func (c *Collection) before(ctx context.Context, path string, revision int64) (*Item, error) {
	answer, err := c.s.link.get(ctx, c.folder+path, clientv3.WithRev(revision-1), clientv3.WithSerializable())
	if err != nil {
		return nil, failed("read the past of", c.folder+path, err)
	}
	if len(answer.Kvs) == 0 {
		return nil, nil
	}
	plain, _, err := c.open(path, answer.Kvs[0].Value)
	if err != nil {
		return nil, nil // what cannot be read was not seen either
	}
	return loadedItem(c, path, answer.Kvs[0].ModRevision, plain), nil
}

// happened is the event that leads from old to item, nil when nothing is seen of it.
func happened(revision int64, item, old *Item) *event {
	switch {
	case item == nil && old == nil:
		return nil
	case item == nil:
		return &event{kind: Deleted, revision: revision, item: old.at(revision), old: old}
	case old == nil:
		return &event{kind: Added, revision: revision, item: item}
	}
	return &event{kind: Modified, revision: revision, item: item, old: old}
}
