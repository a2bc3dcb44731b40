package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Objects that end by themselves share leases: those of about a minute, up to a number
// that etcd can delete at once. An object lives at least its TTL, at most a minute more.
const (
	leaseSpan = time.Minute
	leaseKeys = 1000
)

type leases struct {
	mu  sync.Mutex
	ttl map[time.Duration]*sharedLease
}

type sharedLease struct {
	id    clientv3.LeaseID
	until time.Time // no new keys from then on
	keys  int
}

// lease gives one that lasts at least ttl from now.
func (l *leases) lease(ctx context.Context, client *link, ttl time.Duration) (clientv3.LeaseID, error) {
	l.mu.Lock() // also while etcd is asked: whoever comes meanwhile wants the same lease
	defer l.mu.Unlock()
	now := time.Now()
	span := min(leaseSpan, ttl)
	if s := l.ttl[ttl]; s != nil && s.keys < leaseKeys && now.Before(s.until) {
		s.keys++
		return s.id, nil
	}
	id, err := client.grant(ctx, int64((ttl+span+time.Second-1)/time.Second))
	if err != nil {
		return 0, fmt.Errorf("grant a lease: %w", err)
	}
	if l.ttl == nil {
		l.ttl = map[time.Duration]*sharedLease{}
	}
	l.ttl[ttl] = &sharedLease{id: id, until: now.Add(span), keys: 1}
	return id, nil
}

// lost forgets a lease that etcd does not know any more: it was revoked from outside, or
// ran out while the clock stood still.
func (l *leases) lost(ttl time.Duration, id clientv3.LeaseID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.ttl[ttl]; s != nil && s.id == id {
		delete(l.ttl, ttl)
	}
}
