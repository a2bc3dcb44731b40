package node

import (
	"context"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// leaseState is the lease as last written.
type leaseState struct{ last *coordinationv1.Lease }

// renew renews the node's lease, making it when it is not there.
func (n *Node) renew(ctx context.Context) error {
	leases := n.Client.CoordinationV1().Leases(leaseSpace)
	now := metav1.NewMicroTime(time.Now())
	if n.lease.last != nil {
		next := n.lease.last.DeepCopy()
		next.Spec.RenewTime = &now
		made, err := leases.Update(ctx, next, metav1.UpdateOptions{})
		if err == nil {
			n.lease.last = made
			return nil
		}
		n.lease.last = nil
		if !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			return err
		}
	}
	have, err := leases.Get(ctx, n.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		seconds := int32(leaseSeconds)
		fresh := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: n.Name, Namespace: leaseSpace, OwnerReferences: n.owner()},
			Spec: coordinationv1.LeaseSpec{HolderIdentity: &n.Name, LeaseDurationSeconds: &seconds, RenewTime: &now}}
		n.lease.last, err = leases.Create(ctx, fresh, metav1.CreateOptions{})
		return err
	}
	if err != nil {
		return err
	}
	seconds := int32(leaseSeconds)
	next := have.DeepCopy()
	next.Spec.HolderIdentity, next.Spec.LeaseDurationSeconds, next.Spec.RenewTime = &n.Name, &seconds, &now
	n.lease.last, err = leases.Update(ctx, next, metav1.UpdateOptions{})
	return err
}

func (n *Node) owner() []metav1.OwnerReference {
	node := n.Node()
	if node == nil || node.UID == "" {
		return nil
	}
	return []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}}
}
