// Package apiservers has default/kubernetes lead to the servers that live.
//
// The one idea: a server lives while its lease is renewed, by the clock of who looks, so clocks
// need not agree. A lease that is not renewed is deleted, and the endpoints are those of the leases
// that are there. Where there is no lease (a single server keeps none) nothing is changed, and the
// last server is never taken out.
//
// Used by controllers.All.
package apiservers

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	coordinationlisters "k8s.io/client-go/listers/coordination/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"

	"github.com/proa-dev/proa/controllers/loop"
	"github.com/proa-dev/proa/internal/presence"
)

// name is that of the service, its endpoints and their slice, in the default namespace.
const name = "kubernetes"

// Controller is the loop. It has one key: the service.
type Controller struct {
	*loop.Loop[string]
	deps      loop.Deps
	leases    coordinationlisters.LeaseLister
	slices    discoverylisters.EndpointSliceLister
	endpoints corelisters.EndpointsLister
	seen      map[string]sight // by lease; of the only worker
}

// sight is when a renewal was first seen.
type sight struct {
	renewed time.Time // as the server wrote it
	at      time.Time // by our clock
}

// New registers the loop's informers.
func New(deps loop.Deps) (*Controller, error) {
	leases, eps := deps.Informers.Coordination().V1().Leases(), deps.Informers.Core().V1().Endpoints()
	parts := deps.Informers.Discovery().V1().EndpointSlices()
	c := &Controller{deps: deps, leases: leases.Lister(), slices: parts.Lister(), endpoints: eps.Lister(), seen: map[string]sight{}}
	c.Loop = loop.New("apiservers", deps, c.reconcile)
	c.Watch(leases.Informer(), func(obj any) []string {
		if l, ok := obj.(*coordinationv1.Lease); ok && l.Namespace == presence.Namespace {
			if _, ok := presence.AddressOf(l); ok {
				return []string{name}
			}
		}
		return nil
	})
	ours := func(obj any) []string {
		if k, ok := loop.KeyOf(obj); ok && k == (loop.Key{Namespace: metav1.NamespaceDefault, Name: name}) {
			return []string{name}
		}
		return nil
	}
	c.Watch(parts.Informer(), ours)
	c.Watch(eps.Informer(), ours)
	return c, nil
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.Loop.Run(ctx, 1) }

func (c *Controller) reconcile(ctx context.Context, key string) error {
	servers, next, err := c.living(ctx)
	if err != nil || len(servers) == 0 {
		return err
	}
	c.AddAfter(key, next)
	port := servers[0].Port()
	var addresses []string
	for _, s := range servers {
		if s.Port() != port {
			c.deps.Log.Warn("a server answers at another port than the others: default/kubernetes cannot lead there", "server", s, "others", port)
			continue
		}
		addresses = append(addresses, s.Addr().String())
	}
	if err := c.writeSlice(ctx, addresses, int32(port)); err != nil {
		return err
	}
	return c.writeEndpoints(ctx, addresses, int32(port))
}

// living gives the servers whose leases count, the longest there first, and when the next lease
// ends. The others' leases are deleted, but for the last.
func (c *Controller) living(ctx context.Context) ([]netip.AddrPort, time.Duration, error) {
	all, err := c.leases.Leases(presence.Namespace).List(labels.SelectorFromSet(labels.Set{presence.Label: presence.Value}))
	if err != nil {
		return nil, 0, err
	}
	slices.SortFunc(all, func(a, b *coordinationv1.Lease) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	now, next := c.deps.Clock.Now(), presence.Life
	known := map[string]sight{}
	var alive []netip.AddrPort
	var dead []*coordinationv1.Lease
	for _, l := range all {
		at, ok := presence.AddressOf(l)
		if !ok {
			continue
		}
		s := sight{at: now}
		if l.Spec.RenewTime != nil {
			s.renewed = l.Spec.RenewTime.Time
		}
		if before, ok := c.seen[l.Name]; ok && before.renewed.Equal(s.renewed) {
			s = before
		}
		known[l.Name] = s
		if left := s.at.Add(presence.Life).Sub(now); left > 0 {
			alive, next = append(alive, at), min(next, left)
		} else {
			dead = append(dead, l)
		}
	}
	c.seen = known
	if len(alive) == 0 {
		return nil, 0, nil
	}
	for _, l := range dead {
		c.deps.Log.Warn("a server is silent: default/kubernetes does not lead there any more", "address", l.Annotations[presence.Address], "lease", l.Name)
		err := c.deps.Client.CoordinationV1().Leases(l.Namespace).Delete(ctx, l.Name, metav1.DeleteOptions{
			Preconditions: &metav1.Preconditions{UID: &l.UID, ResourceVersion: &l.ResourceVersion},
		})
		if loop.Gone(err) != nil {
			return nil, 0, err
		}
	}
	return alive, next, nil
}

func (c *Controller) writeSlice(ctx context.Context, addresses []string, port int32) error {
	now, err := c.slices.EndpointSlices(metav1.NamespaceDefault).Get(name)
	if err != nil {
		return loop.Gone(err) // each server makes it again
	}
	want := now.DeepCopy()
	want.Endpoints = nil
	for _, a := range addresses {
		ready := true
		want.Endpoints = append(want.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}})
	}
	https, tcp := "https", corev1.ProtocolTCP
	want.Ports = []discoveryv1.EndpointPort{{Name: &https, Protocol: &tcp, Port: &port}}
	if equality.Semantic.DeepEqual(now, want) {
		return nil
	}
	_, err = c.deps.Client.DiscoveryV1().EndpointSlices(want.Namespace).Update(ctx, want, metav1.UpdateOptions{})
	return err
}

func (c *Controller) writeEndpoints(ctx context.Context, addresses []string, port int32) error {
	now, err := c.endpoints.Endpoints(metav1.NamespaceDefault).Get(name)
	if err != nil {
		return loop.Gone(err)
	}
	want := now.DeepCopy()
	set := corev1.EndpointSubset{Ports: []corev1.EndpointPort{{Name: "https", Port: port, Protocol: corev1.ProtocolTCP}}} //nolint:staticcheck // older clients read it
	for _, a := range slices.Sorted(slices.Values(addresses)) {
		set.Addresses = append(set.Addresses, corev1.EndpointAddress{IP: a}) //nolint:staticcheck // older clients read it
	}
	want.Subsets = []corev1.EndpointSubset{set} //nolint:staticcheck // older clients read it
	if equality.Semantic.DeepEqual(now, want) {
		return nil
	}
	_, err = c.deps.Client.CoreV1().Endpoints(want.Namespace).Update(ctx, want, metav1.UpdateOptions{})
	return err
}
