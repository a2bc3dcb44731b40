package store

import (
	"context"
	"errors"
	"sync"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
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
	return l.getLocked(ctx, key, opts...)
}

// tries is how often a read is tried while the members elect others.
const tries = 10

func (l *link) getLocked(ctx context.Context, key string, opts ...clientv3.OpOption) (answer *clientv3.GetResponse, err error) {
	if err := l.usable(); err != nil {
		return nil, err
	}
	for range tries {
		if answer, err = l.client.Get(ctx, key, opts...); !errors.Is(err, rpctypes.ErrLeaderChanged) {
			break
		}
	}
	return answer, err
}

// errReplaced says that the etcd which a decision relied on was replaced.
var errReplaced = errors.New("etcd was replaced")

// commit does all of what if the condition holds. by is the etcd for which the condition was
// made, nil if it does not matter; errReplaced.
func (l *link) commit(ctx context.Context, by *member, condition []clientv3.Cmp, what ...clientv3.Op) (*clientv3.TxnResponse, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if err := l.usable(); err != nil {
		return nil, err
	}
	if by != nil && by != l.member {
		return nil, errReplaced
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
	answer, err := l.getLocked(ctx, root, clientv3.WithCountOnly())
	if err != nil {
		return 0, err
	}
	return answer.Header.Revision, nil
}
