// Package ipaddress keeps one IPAddress object for each cluster address that a service
// has, so that people and other programs see which are in use and by whom.
//
// The one idea: the services are the truth, the objects a view of them. An object that
// somebody else made reserves its address instead: the API server gives it to no service.
//
// Used by controllers.All.
package ipaddress

import (
	"context"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/proa-dev/proa/controllers/loop"
)

const (
	byAddress = "clusterAddress" // index of services
	workers   = 2

	// managedByServices is the label's value on objects that stand for the address of a service.
	managedByServices = "ipallocator.k8s.io"
)

// Controller is the loop over addresses.
type Controller struct {
	*loop.Loop[string]
	deps      loop.Deps
	services  cache.SharedIndexInformer
	addresses networkinglisters.IPAddressLister
}

// New registers the loop's informers.
func New(deps loop.Deps) (*Controller, error) {
	objects := deps.Informers.Networking().V1().IPAddresses()
	c := &Controller{deps: deps, services: deps.Informers.Core().V1().Services().Informer(), addresses: objects.Lister()}
	if err := loop.Index(c.services, byAddress, addressesOf); err != nil {
		return nil, err
	}
	c.Loop = loop.New("ipaddress", deps, c.reconcile)
	c.Watch(c.services, addressesOf)
	c.Watch(objects.Informer(), func(obj any) []string {
		if k, ok := loop.KeyOf(obj); ok {
			return []string{k.Name}
		}
		return nil
	})
	return c, nil
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.Loop.Run(ctx, workers) }

// addressesOf are the cluster addresses of a service, as objects are named after them.
func addressesOf(obj any) []string {
	s, ok := obj.(*corev1.Service)
	if !ok || s.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	var list []string
	for _, text := range s.Spec.ClusterIPs {
		if a, err := netip.ParseAddr(text); err == nil {
			list = append(list, a.String())
		}
	}
	return list
}

// ours says that an object was made here, or by a Kubernetes that stored it before.
func ours(a *networkingv1.IPAddress) bool {
	return a.Labels[networkingv1.LabelManagedBy] == managedByServices
}

func (c *Controller) reconcile(ctx context.Context, address string) error {
	want := wanted(address, loop.Indexed[*corev1.Service](c.services, byAddress, address))
	client := c.deps.Client.NetworkingV1().IPAddresses()
	have, err := c.addresses.Get(address)
	switch {
	case apierrors.IsNotFound(err) && want == nil:
		return nil
	case apierrors.IsNotFound(err):
		if _, err := client.Create(ctx, want, metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
			return err
		}
		return nil
	case err != nil || !ours(have) || want != nil && same(have, want):
		return err
	}
	// Whose it is cannot be changed: the event of this deletion brings the new object.
	return loop.Gone(client.Delete(ctx, address, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(have.UID))}))
}

func same(a, b *networkingv1.IPAddress) bool {
	return a.Spec.ParentRef != nil && *a.Spec.ParentRef == *b.Spec.ParentRef
}

// wanted is the object for the oldest of the services that have the address: one, unless
// two were stored before the server looked.
func wanted(address string, services []*corev1.Service) *networkingv1.IPAddress {
	var owner *corev1.Service
	for _, s := range services {
		if owner == nil || s.CreationTimestamp.Before(&owner.CreationTimestamp) {
			owner = s
		}
	}
	a, err := netip.ParseAddr(address)
	if owner == nil || err != nil {
		return nil
	}
	family := string(corev1.IPv6Protocol)
	if a.Is4() {
		family = string(corev1.IPv4Protocol)
	}
	return &networkingv1.IPAddress{
		ObjectMeta: metav1.ObjectMeta{Name: address, Labels: map[string]string{
			networkingv1.LabelIPAddressFamily: family, networkingv1.LabelManagedBy: managedByServices,
		}},
		Spec: networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{Resource: "services", Namespace: owner.Namespace, Name: owner.Name}},
	}
}
