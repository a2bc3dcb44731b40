package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/proa-dev/proa/internal/presence"
)

// Of a server's lease: how long one attempt to write it may take, the wait before the next one,
// and how long the end of a server may wait for its lease to be gone.
const (
	presenceWrite = 5 * time.Second
	presenceRetry = time.Second
	presenceLeave = 2 * time.Second
)

// present keeps this server's lease, by which the others know that it lives. A single server
// keeps none.
type present struct {
	client kubernetes.Interface
	name   string // of the server
	at     netip.AddrPort
	mu     sync.Mutex    // one renewal at a time
	begin  func()        // from now on there are several servers
	begun  chan struct{} // closed by begin
}

func newPresent(client kubernetes.Interface, cfg *ServerConfig) *present {
	p := &present{
		client: client, name: cfg.NodeConfig.Name, begun: make(chan struct{}),
		at: netip.AddrPortFrom(cfg.AdvertiseAddress, uint16(cfg.HTTPSPort)),
	}
	p.begin = sync.OnceFunc(func() { close(p.begun) })
	return p
}

// keepPresent renews the lease from the moment on that there are several servers. When leaving ends, which
// is before ctx does, the lease is deleted, so that nobody is led to a server that is about to go.
func (c *controlPlane) keepPresent(ctx, leaving context.Context) error {
	p := c.present
	select {
	case <-p.begun:
	case <-leaving.Done():
		return untilEnd(ctx)
	case <-ctx.Done():
		return nil
	}
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-leaving.Done():
		case <-ctx.Done():
		case <-again.C:
			wait := presence.Renew
			if err := p.renew(leaving); err != nil && leaving.Err() == nil {
				c.log.Warn("tell the other servers that this one lives, trying again", "err", err)
				wait = presenceRetry
			}
			again.Reset(wait)
			continue
		}
		if err := p.leave(ctx, p.name); err != nil {
			c.log.Warn("the other servers will notice by themselves that this one has gone", "err", err)
		}
		return untilEnd(ctx)
	}
}

// untilEnd waits until ctx ends: a part that returns earlier is started again.
func untilEnd(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// renew writes the lease with the present time, and makes it if need be.
func (p *present) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, presenceWrite)
	defer cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	leases, name := p.client.CoordinationV1().Leases(presence.Namespace), presence.LeaseName(p.name)
	lease, err := leases.Get(ctx, name, metav1.GetOptions{})
	missing := apierrors.IsNotFound(err)
	if missing {
		lease, err = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: presence.Namespace}}, nil
	}
	if err != nil {
		return fmt.Errorf("read the lease of server %s: %w", p.name, err)
	}
	lease = lease.DeepCopy()
	now, seconds := metav1.NowMicro(), int32(presence.Life/time.Second)
	lease.Labels = map[string]string{presence.Label: presence.Value, "kubernetes.io/hostname": p.name}
	lease.Annotations = map[string]string{presence.Address: p.at.String()}
	lease.Spec = coordinationv1.LeaseSpec{HolderIdentity: &p.name, LeaseDurationSeconds: &seconds, RenewTime: &now}
	if missing {
		_, err = leases.Create(ctx, lease, metav1.CreateOptions{})
	} else {
		_, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("write the lease of server %s: %w", p.name, err)
	}
	return nil
}

// leave deletes a server's lease.
func (p *present) leave(ctx context.Context, server string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), presenceLeave)
	defer cancel()
	err := p.client.CoordinationV1().Leases(presence.Namespace).Delete(ctx, presence.LeaseName(server), metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete the lease of server %s: %w", server, err)
	}
	return nil
}

// announce says where this server is: in the endpoints of the API when it is alone, by a lease when
// there are several. It answers by now.
func (c *controlPlane) announce(ctx context.Context, client kubernetes.Interface) error {
	several := len(c.cfg.EtcdServers) > 0
	if !several {
		members, err := c.store.Members(ctx)
		if err != nil {
			return fmt.Errorf("list the servers: %w", err)
		}
		several = len(members) > 1
	}
	if !several {
		if err := c.present.alone(ctx); err != nil {
			return err
		}
		return publishAPI(ctx, client, c.cfg)
	}
	c.present.begin()
	return nil
}

// alone deletes the leases that are left of a time with other servers, this one's own among them.
func (p *present) alone(ctx context.Context) error {
	leases := p.client.CoordinationV1().Leases(presence.Namespace)
	all, err := leases.List(ctx, metav1.ListOptions{LabelSelector: presence.Label + "=" + presence.Value})
	if err != nil {
		return fmt.Errorf("list the leases of servers: %w", err)
	}
	for i := range all.Items {
		if _, ours := presence.AddressOf(&all.Items[i]); !ours {
			continue
		}
		if err := leases.Delete(ctx, all.Items[i].Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete the lease of a server that is gone: %w", err)
		}
	}
	return nil
}
