package checker

import (
	"context"
	"fmt"
	"sort"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// truth is etcd's log of the objects.
type truth struct {
	cfg *Config

	mu    sync.Mutex
	to    int64             // complete up to
	log   []change          // the older ones are trimmed
	base  map[string]Object // the state before log
	floor int64             // of base
	now   map[string]Object // the state after log
	err   error
}

// change is one revision of one object.
type change struct {
	revision int64
	object   Object // of a deletion the state before, at this revision
	gone     bool
	old      *Object // nil: there was none
}

func newTruth(cfg *Config, start int64) *truth {
	return &truth{cfg: cfg, to: start, floor: start, base: map[string]Object{}, now: map[string]Object{}}
}

// follow reads on until ctx ends; what it gives is closed then.
func (t *truth) follow(ctx context.Context) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil && t.failed() == nil { // again when etcd was restarted
			events := t.cfg.etcd().Watch(clientv3.WithRequireLeader(ctx), t.cfg.Prefix, clientv3.WithPrefix(), clientv3.WithRev(t.seen()+1))
			for answer := range events {
				t.take(ctx, answer)
			}
			time.Sleep(time.Millisecond)
		}
	}()
	return done
}

func (t *truth) failed() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

func (t *truth) take(ctx context.Context, answer clientv3.WatchResponse) {
	t.mu.Lock()
	defer t.mu.Unlock()
	err := answer.Err()
	if t.cfg.Restart != nil && answer.CompactRevision == 0 {
		err = nil
	}
	for _, e := range answer.Events {
		if err == nil {
			err = t.add(e)
		}
	}
	if answer.IsProgressNotify() {
		t.to = max(t.to, answer.Header.Revision)
	}
	if err != nil && ctx.Err() == nil {
		t.err = err
	}
}

func (t *truth) add(e *clientv3.Event) error {
	key := string(e.Kv.Key[len(t.cfg.Prefix):])
	c := change{revision: e.Kv.ModRevision, gone: e.Type == clientv3.EventTypeDelete}
	if old, ok := t.now[key]; ok {
		c.old = &old
	}
	switch {
	case !c.gone:
		var err error
		if c.object, err = t.cfg.Decode(e.Kv.Value); err != nil {
			return fmt.Errorf("decode %s: %w", key, err)
		}
		if c.object.key() != key {
			return fmt.Errorf("%s holds %s", key, c.object.key())
		}
		c.object.Revision = c.revision
		t.now[key] = c.object
	case c.old == nil:
		return fmt.Errorf("%s was deleted twice", key)
	default:
		c.object = *c.old
		c.object.Revision = c.revision
		delete(t.now, key)
	}
	t.log, t.to = append(t.log, c), c.revision
	return nil
}

func (t *truth) seen() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.to
}

// reach waits until the log is complete up to a revision.
func (t *truth) reach(ctx context.Context, revision int64, within time.Duration) error {
	for end := time.Now().Add(within); ; time.Sleep(time.Millisecond) {
		t.mu.Lock()
		to, err := t.to, t.err
		t.mu.Unlock()
		switch {
		case err != nil:
			return fmt.Errorf("follow etcd: %w", err)
		case to >= revision:
			return nil
		case time.Now().After(end):
			return fmt.Errorf("etcd's log ends at %d, before %d", to, revision)
		}
		_ = t.cfg.etcd().RequestProgress(clientv3.WithRequireLeader(ctx)) // asked again above
	}
}

// after gives the changes of (from, to].
func (t *truth) after(from, to int64) []change {
	t.mu.Lock()
	defer t.mu.Unlock()
	first := sort.Search(len(t.log), func(i int) bool { return t.log[i].revision > from })
	last := sort.Search(len(t.log), func(i int) bool { return t.log[i].revision > to })
	return t.log[first:max(first, last)]
}

// trim keeps what watches and lists of the next round may begin with.
func (t *truth) trim(head int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.to = max(t.to, head)
	keep := head - 4*t.cfg.Kept
	for len(t.log) > 0 && t.log[0].revision <= keep {
		c := &t.log[0]
		if c.gone {
			delete(t.base, c.object.key())
		} else {
			t.base[c.object.key()] = c.object
		}
		t.floor, t.log = c.revision, t.log[1:]
	}
}
