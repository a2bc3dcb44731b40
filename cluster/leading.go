package cluster

import (
	"context"
	"fmt"
	"sync"
)

// The scheduler and the controllers must run once in a cluster: they run where the store's own
// leader is. That costs no lease and no renewal, and the next leader is known as soon as there
// can be writes again. Where the store has no leader of its own (an etcd outside) the servers elect
// one among themselves by the leases that upstream's use (election.go).

// startLeading runs the components wherever and whenever this server leads.
func (c *controlPlane) startLeading(ctx context.Context, group *Group) error {
	known := make(chan struct{})
	tell := sync.OnceFunc(func() { close(known) })
	follow := c.followStore
	if !c.store.Elects() {
		follow = c.elect
	}
	return group.Start(ctx, Part{
		Name: "leading", Ready: known, Fatal: true,
		Run: func(ctx context.Context) error { return follow(ctx, tell) },
	})
}

// followStore leads while the store's member does. tell is called when it is known whether.
func (c *controlPlane) followStore(ctx context.Context, tell func()) error {
	for ctx.Err() == nil {
		leads, changed := c.store.Leading()
		if leads {
			if err := c.term(ctx, tell, c.storeLeads); err != nil {
				return err
			}
			continue
		}
		c.follows.Store(true)
		tell()
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
	return nil
}

// storeLeads returns when the store's member does not lead any more.
func (c *controlPlane) storeLeads(ctx context.Context) {
	for {
		leads, changed := c.store.Leading()
		if !leads {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// term runs the components until lasts returns, and returns when they have ended.
func (c *controlPlane) term(ctx context.Context, tell func(), lasts func(context.Context)) error {
	group := NewGroup(c.log)
	defer func() {
		group.Stop()
		c.running.Store(nil)
	}()
	c.follows.Store(false)
	if err := c.startComponents(ctx, group); err != nil {
		return fmt.Errorf("start the scheduler and the controllers: %w", err)
	}
	tell()
	c.log.Info("this server leads: the scheduler and the controllers run here")
	lasts(ctx)
	if ctx.Err() == nil {
		c.log.Info("another server leads: the scheduler and the controllers end here")
	}
	return nil
}
