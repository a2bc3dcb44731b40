package store

import (
	"context"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// link is how the store reaches etcd. The embedded one may be replaced while it is used
// (becomeSeveral): that waits for the requests which are under way, and new ones wait for
// it. A watch is no request: it ends, and who reads it begins another.
type link struct {
	mu     sync.RWMutex
	client *clientv3.Client
	member *member // nil with an etcd outside
}

// now gives what is used at present.
func (l *link) now() (*clientv3.Client, *member) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.client, l.member
}

// etcd is the embedded one, nil with an etcd outside.
func (l *link) etcd() *member {
	_, m := l.now()
	return m
}

// usable tells why there is no use in asking; the lock is held.
func (l *link) usable() error {
	if l.member == nil {
		return nil
	}
	return l.member.gone()
}

func (l *link) get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if err := l.usable(); err != nil {
		return nil, err
	}
	return l.client.Get(ctx, key, opts...)
}

// commit does all of what if the condition holds.
func (l *link) commit(ctx context.Context, condition []clientv3.Cmp, what ...clientv3.Op) (*clientv3.TxnResponse, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if err := l.usable(); err != nil {
		return nil, err
	}
	return l.client.Txn(ctx).If(condition...).Then(what...).Commit()
}

func (l *link) compact(ctx context.Context, revision int64) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if err := l.usable(); err != nil {
		return err
	}
	_, err := l.client.Compact(ctx, revision)
	return err
}

func (l *link) grant(ctx context.Context, seconds int64) (clientv3.LeaseID, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if err := l.usable(); err != nil {
		return 0, err
	}
	answer, err := l.client.Grant(ctx, seconds)
	if err != nil {
		return 0, err
	}
	return answer.ID, nil
}

func (l *link) status(ctx context.Context, endpoint string) (*clientv3.StatusResponse, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.client.Status(ctx, endpoint)
}

// newest is a revision that everything acknowledged before the call is part of. Of a member
// that is alone it is what it has applied: nobody else can have acknowledged anything, as
// nobody can join it before it is replaced (see Store.newest). Otherwise a quorum confirms
// it; those who ask at the same time share one confirmation.
func (l *link) newest(ctx context.Context) (int64, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.member != nil && l.member.alone {
		return l.member.applied(), nil
	}
	if err := l.usable(); err != nil {
		return 0, err
	}
	answer, err := l.client.Get(ctx, root, clientv3.WithCountOnly())
	if err != nil {
		return 0, err
	}
	return answer.Header.Revision, nil
}
