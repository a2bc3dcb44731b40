package cluster

import (
	"context"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Of the election between servers that share an etcd outside, as upstream's.
const (
	leaseTime     = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
)

// leaderLeases are held together: the first decides, the second shows the same holder to tools
// that look at it.
var leaderLeases = [...]string{"kube-controller-manager", "kube-scheduler"}

// election is an attempt to hold the lease. A lease counts for leaseTime from when its last renewal
// was seen, by our own clock. The identity is the server's name, so that one which was killed leads
// again at once.
type election struct {
	client   kubernetes.Interface
	identity string
	now      func() time.Time

	seen   coordinationv1.LeaseSpec
	seenAt time.Time
}

// elect leads while this server holds the leases; it gives them up after the components ended.
func (c *controlPlane) elect(ctx context.Context, tell func()) error {
	client, err := kubernetes.NewForConfig(c.local("system:kube-controller-manager", "system:masters"))
	if err != nil {
		return err
	}
	e := &election{client: client, identity: c.cfg.NodeConfig.Name, now: time.Now}
	c.follows.Store(true)
	tell() // another server may lead for long
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
		}
		if won, err := e.try(ctx); err != nil && ctx.Err() == nil {
			c.log.Warn("ask who leads", "err", err)
		} else if won {
			if err := c.govern(ctx, e); err != nil {
				return err
			}
		}
		again.Reset(retryPeriod)
	}
}

// govern runs the components while the lease is renewed.
func (c *controlPlane) govern(ctx context.Context, e *election) error {
	leading, lost := context.WithCancel(ctx)
	renewed := make(chan struct{})
	go func() {
		defer close(renewed)
		defer lost()
		e.renew(leading, func(err error) { c.log.Warn("renew the lease of the leader", "err", err) })
	}()
	err := c.term(ctx, func() {}, func(context.Context) { <-leading.Done() })
	lost()
	<-renewed
	c.follows.Store(true)
	if ctx.Err() != nil {
		e.giveUp(context.WithoutCancel(ctx))
	}
	return err
}

// renew returns when ctx ends, another holds the lease, or it could not be written for too long.
func (e *election) renew(ctx context.Context, failed func(error)) {
	tick := time.NewTicker(retryPeriod)
	defer tick.Stop()
	for last := e.now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		holds, err := e.try(ctx)
		switch {
		case err == nil && holds:
			last = e.now()
			continue
		case err == nil:
			return
		case ctx.Err() == nil:
			failed(err)
		}
		if e.now().Sub(last) > renewDeadline {
			return
		}
	}
}

// try takes or renews the lease, and says whether this server holds it now.
func (e *election) try(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, presenceWrite)
	defer cancel()
	return e.hold(ctx, leaderLeases[0], func(l *coordinationv1.Lease) bool {
		if l.Spec.RenewTime == nil || e.seen.RenewTime == nil || !l.Spec.RenewTime.Equal(e.seen.RenewTime) || holder(l) != holderOfSpec(e.seen) {
			e.seen, e.seenAt = *l.Spec.DeepCopy(), e.now()
		}
		life := leaseTime
		if l.Spec.LeaseDurationSeconds != nil {
			life = time.Duration(*l.Spec.LeaseDurationSeconds) * time.Second
		}
		return holder(l) == "" || holder(l) == e.identity || e.now().Sub(e.seenAt) > life
	})
}

// hold writes a lease where it may be taken, and the second one after it.
func (e *election) hold(ctx context.Context, name string, free func(*coordinationv1.Lease) bool) (bool, error) {
	leases := e.client.CoordinationV1().Leases(metav1.NamespaceSystem)
	lease, err := leases.Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		lease = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: metav1.NamespaceSystem}}
		e.sign(lease)
		_, err = leases.Create(ctx, lease, metav1.CreateOptions{})
	case err == nil && !free(lease):
		return false, nil
	case err == nil:
		lease = lease.DeepCopy()
		e.sign(lease)
		_, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
	}
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		return false, nil // another was faster
	}
	if err != nil {
		return false, fmt.Errorf("hold lease %s: %w", name, err)
	}
	if name == leaderLeases[0] {
		// It follows with the next renewal when it cannot be written now.
		_, _ = e.hold(ctx, leaderLeases[1], func(*coordinationv1.Lease) bool { return true })
	}
	return true, nil
}

// sign makes a lease this server's, renewed now.
func (e *election) sign(l *coordinationv1.Lease) {
	now, seconds := metav1.NewMicroTime(e.now()), int32(leaseTime/time.Second)
	if holder(l) != e.identity {
		transitions := int32(0)
		if l.Spec.LeaseTransitions != nil {
			transitions = *l.Spec.LeaseTransitions + 1
		}
		l.Spec.LeaseTransitions, l.Spec.AcquireTime = &transitions, &now
	}
	l.Spec.HolderIdentity, l.Spec.LeaseDurationSeconds, l.Spec.RenewTime = &e.identity, &seconds, &now
}

// giveUp lets another server lead at once.
func (e *election) giveUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, presenceLeave)
	defer cancel()
	leases := e.client.CoordinationV1().Leases(metav1.NamespaceSystem)
	for _, name := range leaderLeases {
		lease, err := leases.Get(ctx, name, metav1.GetOptions{})
		if err != nil || holder(lease) != e.identity {
			continue
		}
		lease = lease.DeepCopy()
		nobody, second := "", int32(1)
		lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds = &nobody, &second
		_, _ = leases.Update(ctx, lease, metav1.UpdateOptions{}) // else it ends by itself
	}
}

func holder(l *coordinationv1.Lease) string { return holderOfSpec(l.Spec) }

func holderOfSpec(s coordinationv1.LeaseSpec) string {
	if s.HolderIdentity == nil {
		return ""
	}
	return *s.HolderIdentity
}
