package cluster

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"

	"golang.org/x/sync/errgroup"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/pki"
	"github.com/proa-dev/proa/store"
)

// maxNodeRecords bounds the records of deleted nodes: an object holds about twice as many.
const maxNodeRecords = 4000

// anotherServer is how far apart several servers may notice that a node was deleted.
const anotherServer = 5 * time.Second

// followRevoked ends connections when a certificate is revoked, and revokes those of nodes
// that are deleted, until ctx ends.
func (c *controlPlane) followRevoked(ctx context.Context) error {
	client, err := kubernetes.NewForConfig(c.local("system:apiserver", "system:masters"))
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		records := func(o api.Object) bool { return o.GetName() == access.UserRecords || o.GetName() == access.NodeRecords }
		return c.watch(ctx, corev1.Resource("configmaps"), store.WatchOptions{Namespace: metav1.NamespaceSystem, Filter: records}, func(store.Event) error {
			if n := c.sessions.End(c.identity.Revoked); n > 0 {
				c.log.Info("ended connections of revoked certificates", "connections", n)
			}
			return nil
		})
	})
	group.Go(func() error {
		return c.watch(ctx, corev1.Resource("nodes"), store.WatchOptions{}, func(e store.Event) error {
			if e.Type != store.Deleted {
				return nil
			}
			c.revokeNode(ctx, client, e.Item.Object().GetName())
			return nil
		})
	})
	return group.Wait()
}

// watch calls do for each event of a kind until ctx ends. What ended early is begun anew by
// the group.
func (c *controlPlane) watch(ctx context.Context, resource schema.GroupResource, opts store.WatchOptions, do func(store.Event) error) error {
	kind, ok := c.store.Collection(resource)
	if !ok {
		return fmt.Errorf("%s are not stored", resource)
	}
	w, err := kind.Watch(ctx, opts)
	if err != nil {
		return fmt.Errorf("watch %s: %w", resource, err)
	}
	defer w.Stop()
	for {
		events, err := w.Next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("watch %s: %w", resource, err)
		}
		for _, e := range events {
			if err := do(e); err != nil {
				return err
			}
		}
	}
}

// revokeNode refuses the certificates that a node has: it is not of the cluster any more. It
// tries until that is written.
func (c *controlPlane) revokeNode(ctx context.Context, client kubernetes.Interface, node string) {
	at, pause := metav1.Now(), time.NewTicker(time.Second)
	defer pause.Stop()
	for {
		err := changeRecord(ctx, client, "system:node:"+node, func(r *access.UserRecord) {
			if at.Sub(r.Revoked.Time) > anotherServer { // else another server wrote it, and it may be back already
				r.Revoked, r.Except = at, nil
			}
		})
		if err == nil || ctx.Err() != nil {
			return
		}
		c.log.Error("revoke the certificates of a deleted node, trying again", "node", node, "err", err)
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
	}
}

// forget drops the records of nodes whose certificates have expired by now, and the oldest of
// too many.
func forget(records map[string]string, now time.Time) {
	type entry struct {
		key string
		at  time.Time
	}
	var all []entry
	for key, value := range records {
		r, err := access.DecodeUserRecord(value)
		switch {
		case err != nil:
		case now.Sub(r.Revoked.Time) > pki.LeafLife:
			delete(records, key)
		default:
			all = append(all, entry{key, r.Revoked.Time})
		}
	}
	if len(all) <= maxNodeRecords {
		return
	}
	slices.SortFunc(all, func(a, b entry) int { return a.at.Compare(b.at) })
	for _, e := range all[:len(all)-maxNodeRecords] {
		delete(records, e.key)
	}
}
