package cluster

import (
	"context"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// Of the election between servers that share an etcd outside, as upstream's.
const (
	leaseTime     = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
)

// The scheduler and the controllers must run once in a cluster: they run where the store's own
// leader is. That costs no lease and no renewal, and the next leader is known as soon as there
// can be writes again. Where the store has no leader of its own (an etcd outside) the servers elect
// one among themselves by the leases that upstream's use.

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

// elect leads while this server holds the leases; it gives them up after the components ended.
func (c *controlPlane) elect(ctx context.Context, tell func()) error {
	client, err := kubernetes.NewForConfig(c.local("system:kube-controller-manager", "system:masters"))
	if err != nil {
		return err
	}
	c.follows.Store(true)
	tell() // another server may lead for long
	for ctx.Err() == nil {
		if err := c.candidate(ctx, client); err != nil {
			return err
		}
	}
	return nil
}

// candidate stands for election once.
func (c *controlPlane) candidate(ctx context.Context, client kubernetes.Interface) error {
	electing, resign := context.WithCancel(context.WithoutCancel(ctx))
	defer resign()
	won := make(chan context.Context, 1)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: newLocks(client, c.cfg.NodeConfig.Name), LeaseDuration: leaseTime, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod,
		ReleaseOnCancel: true, Name: "proa",
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) { won <- ctx },
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		elector.Run(electing)
	}()
	defer func() {
		resign()
		<-ended
		c.follows.Store(true)
	}()
	select {
	case <-ctx.Done():
		return nil
	case <-ended:
		return nil
	case leads := <-won:
		return c.term(ctx, func() {}, func(ctx context.Context) {
			select {
			case <-ctx.Done():
			case <-leads.Done():
			}
		})
	}
}

// locks is the lease that decides, with a second one that shows the same holder: tools look at
// both. The identity is the server's name, so that one which was killed leads again at once.
type locks struct {
	*resourcelock.LeaseLock
	shown *resourcelock.LeaseLock
}

func newLocks(client kubernetes.Interface, identity string) *locks {
	lease := func(name string) *resourcelock.LeaseLock {
		return &resourcelock.LeaseLock{
			LeaseMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: name},
			Client:    client.CoordinationV1(), LockConfig: resourcelock.ResourceLockConfig{Identity: identity},
		}
	}
	return &locks{lease("kube-controller-manager"), lease("kube-scheduler")}
}

// Create implements resourcelock.Interface.
func (l *locks) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	err := l.LeaseLock.Create(ctx, r)
	if err == nil {
		l.show(ctx, r)
	}
	return err
}

// Update implements resourcelock.Interface.
func (l *locks) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	err := l.LeaseLock.Update(ctx, r)
	if err == nil {
		l.show(ctx, r)
	}
	return err
}

// show writes the second lease; what fails is shown with the next renewal.
func (l *locks) show(ctx context.Context, r resourcelock.LeaderElectionRecord) {
	if l.shown.Update(ctx, r) == nil {
		return
	}
	if _, _, err := l.shown.Get(ctx); err == nil {
		_ = l.shown.Update(ctx, r)
		return
	}
	_ = l.shown.Create(ctx, r)
}
