package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/proa-dev/proa/apis/api"
)

// Create stores a new object; ErrExists. It takes ownership of obj, which becomes the
// cache's own, and sets nothing but TypeMeta and resourceVersion.
func (c *Collection) Create(ctx context.Context, obj api.Object) (*Item, error) {
	path, err := c.path(obj.GetNamespace(), obj.GetName())
	if err != nil {
		return nil, err
	}
	value, err := c.codec.encode(obj)
	if err != nil {
		return nil, err
	}
	item, ok, err := c.put(ctx, "create", path, 0, value, obj)
	if err == nil && !ok {
		err = ErrExists
	}
	return item, err
}

// Update replaces an object by what change makes of the current item. On a lost race
// change is called again with the newer item. When change returns nil, nil, or an object
// whose bytes are those stored, nothing is written and the current item returned.
// ErrNotFound. It takes ownership of the returned object, which must not be the current one.
func (c *Collection) Update(ctx context.Context, namespace, name string, change func(cur *Item) (api.Object, error)) (*Item, error) {
	path, err := c.path(namespace, name)
	if err != nil {
		return nil, ErrNotFound
	}
	for sure, tries := c.s.alone(), 0; ; tries++ {
		cur := c.version.Load().tree.get(path)
		item, ok, err := c.tryUpdate(ctx, path, cur, change)
		if ok && err == nil && (sure || item != cur) {
			return item, nil
		}
		again := errors.Is(err, ErrClaimed) && tries < claimTries
		if err != nil && (sure && !again || ctx.Err() != nil) {
			return nil, err
		}
		// Lost to a write that the cache has by the time that Latest is reached; or decided
		// upon a state that another server may have changed.
		if err := c.s.reach(ctx, Latest); err != nil {
			return nil, err
		}
		sure = true
	}
}

// tryUpdate is one round; ok is false when cur is not the newest.
func (c *Collection) tryUpdate(ctx context.Context, path string, cur *Item, change func(*Item) (api.Object, error)) (*Item, bool, error) {
	if cur == nil || cur.Object() == nil {
		return nil, false, ErrNotFound
	}
	obj, err := change(cur)
	if err != nil {
		return nil, false, err
	}
	if obj == nil || obj == cur.Object() {
		return cur, true, nil
	}
	value, err := c.codec.encode(obj)
	if err != nil {
		return nil, false, err
	}
	if cur.stores(value) && !c.stale.is(path, cur.Revision) {
		return cur, true, nil
	}
	return c.put(ctx, "update", path, cur.Revision, value, obj)
}

// put writes a value if the key is still at the revision (0: absent); ok is false if not.
func (c *Collection) put(ctx context.Context, action, path string, at int64, value []byte, obj api.Object) (*Item, bool, error) {
	if err := c.s.writable(len(value)); err != nil {
		return nil, false, err
	}
	key := c.folder + path
	inEtcd, err := c.sealer.Seal(key, value)
	if err != nil {
		return nil, false, err
	}
	revision, ok, err := c.commitClaims(ctx, action, path, at, inEtcd, obj)
	if err != nil || !ok {
		return nil, false, err
	}
	obj.GetObjectKind().SetGroupVersionKind(c.codec.gvk(obj))
	obj.SetResourceVersion(strconv.FormatInt(revision, 10))
	item := newItem(c, path, revision, value, obj)
	err = c.s.committed(ctx, revision, change{c: c, path: path, item: item})
	if cur := c.version.Load().tree.get(path); cur != nil && cur.Revision == revision {
		item = cur // the feed was first: one copy for all
	}
	return item, true, err
}

// commitClaims commits once nothing that the object claims is another one's; of a write that
// came too late (ok is false) the cache has the reason when it returns.
func (c *Collection) commitClaims(ctx context.Context, action, path string, at int64, value []byte, obj api.Object) (revision int64, ok bool, err error) {
	key := c.folder + path
	for {
		var by *member
		if c.kind.Claims != nil {
			by = c.s.link.etcd()
		}
		guard, err := c.claim(path, obj)
		if err != nil {
			return 0, false, err
		}
		begun := time.Now()
		answer, err := c.commit(ctx, by, key, at, value, guard)
		if errors.Is(err, errReplaced) { // by one that has to be asked for claims
			continue
		}
		c.observe(action, begun, err)
		if err != nil {
			return 0, false, c.failedWrite(action, key, err)
		}
		revision = answer.Header.Revision
		if answer.Succeeded {
			return revision, true, nil
		}
		if err := c.s.wait(ctx, revision); err != nil {
			return 0, false, err
		}
		present := int64(0)
		if cur := c.version.Load().tree.get(path); cur != nil {
			present = cur.Revision
		}
		if guard == nil || present != at {
			return 0, false, nil
		} // somebody claimed something: the claims are looked at again
	}
}

// commit is the transaction of put, under a lease if the kind's objects end.
func (c *Collection) commit(ctx context.Context, by *member, key string, at int64, value []byte, guard *guard) (*clientv3.TxnResponse, error) {
	same := clientv3.Compare(clientv3.ModRevision(key), "=", at)
	ttl := c.kind.TTL
	if guard != nil {
		return c.s.link.commit(ctx, by, []clientv3.Cmp{same, guard.condition()}, clientv3.OpPut(key, string(value)), clientv3.OpPut(guard.key, ""))
	}
	if ttl <= 0 {
		return c.s.link.commit(ctx, by, []clientv3.Cmp{same}, clientv3.OpPut(key, string(value)))
	}
	for again := false; ; again = true {
		id, err := c.s.leases.lease(ctx, &c.s.link, ttl)
		if err != nil {
			return nil, err
		}
		answer, err := c.s.link.commit(ctx, by, []clientv3.Cmp{same}, clientv3.OpPut(key, string(value), clientv3.WithLease(id)))
		if again || !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return answer, err
		}
		c.s.leases.lost(ttl, id)
	}
}

// Delete removes an object once check agrees with its current state (nil: always), and
// gives its last state, with the resourceVersion of the deletion. ErrNotFound.
func (c *Collection) Delete(ctx context.Context, namespace, name string, check func(cur *Item) error) (*Item, error) {
	path, err := c.path(namespace, name)
	if err != nil {
		return nil, ErrNotFound
	}
	for sure := c.s.alone(); ; {
		item, ok, err := c.tryDelete(ctx, path, c.version.Load().tree.get(path), check)
		if ok || err != nil && (sure || ctx.Err() != nil) {
			return item, err
		}
		if err := c.s.reach(ctx, Latest); err != nil {
			return nil, err
		}
		sure = true
	}
}

func (c *Collection) tryDelete(ctx context.Context, path string, cur *Item, check func(*Item) error) (*Item, bool, error) {
	if cur == nil {
		return nil, false, ErrNotFound
	}
	if check != nil {
		if err := check(cur); err != nil {
			return nil, false, err
		}
	}
	if err := c.s.broken(); err != nil {
		return nil, false, err
	}
	key := c.folder + path
	begun := time.Now()
	answer, err := c.s.link.commit(ctx, nil, []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", cur.Revision)}, clientv3.OpDelete(key))
	c.observe("delete", begun, err)
	if err != nil {
		return nil, false, c.failedWrite("delete", key, err)
	}
	revision := answer.Header.Revision
	if !answer.Succeeded {
		return nil, false, c.s.wait(ctx, revision)
	}
	return cur.at(revision), true, c.s.committed(ctx, revision, change{c: c, path: path})
}

func (c *Collection) observe(operation string, begun time.Time, err error) {
	if o := c.s.cfg.Observer; o != nil {
		o.Request(operation, c.kind.GroupResource(), time.Since(begun), err)
	}
}

// failedWrite prefers the reason why etcd gave up to the timeout that follows from it.
func (c *Collection) failedWrite(action, key string, err error) error {
	if broken := c.s.broken(); broken != nil {
		return fmt.Errorf("%s %s: %w", action, key, broken)
	}
	return failed(action, key, err)
}
