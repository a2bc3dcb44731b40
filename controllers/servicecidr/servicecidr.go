// Package servicecidr says of each range of service addresses that it can be used, and
// keeps it while addresses of it are in use that no other range has.
//
// Used by controllers.All.
package servicecidr

import (
	"context"
	"net/netip"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	networkinglisters "k8s.io/client-go/listers/networking/v1"

	"github.com/proa-dev/proa/controllers/loop"
)

const finalizer = "networking.k8s.io/service-cidr-finalizer"

// Controller is the loop over ranges.
type Controller struct {
	*loop.Loop[string]
	deps      loop.Deps
	ranges    networkinglisters.ServiceCIDRLister
	addresses networkinglisters.IPAddressLister
}

// New registers the loop's informers.
func New(deps loop.Deps) (*Controller, error) {
	net := deps.Informers.Networking().V1()
	c := &Controller{deps: deps, ranges: net.ServiceCIDRs().Lister(), addresses: net.IPAddresses().Lister()}
	c.Loop = loop.New("servicecidr", deps, c.reconcile)
	c.Watch(net.ServiceCIDRs().Informer(), func(obj any) []string {
		k, _ := loop.KeyOf(obj)
		return append(c.going(), k.Name) // another one may hold what kept it
	})
	c.Watch(net.IPAddresses().Informer(), func(any) []string { return c.going() })
	return c, nil
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.Loop.Run(ctx, 1) }

func (c *Controller) all() []*networkingv1.ServiceCIDR {
	all, err := c.ranges.List(labels.Everything())
	if err != nil {
		return nil // the cache never fails
	}
	return all
}

// going are the ranges that are being deleted.
func (c *Controller) going() []string {
	var names []string
	for _, r := range c.all() {
		if r.DeletionTimestamp != nil {
			names = append(names, r.Name)
		}
	}
	return names
}

func (c *Controller) reconcile(ctx context.Context, name string) error {
	r, err := c.ranges.Get(name)
	if err != nil {
		return loop.Gone(err)
	}
	held := slices.Contains(r.Finalizers, finalizer)
	if r.DeletionTimestamp != nil {
		switch {
		case !held:
			return nil
		case c.used(r):
			return c.ready(ctx, r, metav1.ConditionFalse, networkingv1.ServiceCIDRReasonTerminating,
				"There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR")
		}
		changed := r.DeepCopy()
		changed.Finalizers = slices.DeleteFunc(changed.Finalizers, func(f string) bool { return f == finalizer })
		_, err := c.deps.Client.NetworkingV1().ServiceCIDRs().Update(ctx, changed, metav1.UpdateOptions{})
		return loop.Gone(err)
	}
	if !held {
		changed := r.DeepCopy()
		changed.Finalizers = append(changed.Finalizers, finalizer)
		if r, err = c.deps.Client.NetworkingV1().ServiceCIDRs().Update(ctx, changed, metav1.UpdateOptions{}); err != nil {
			return loop.Gone(err)
		}
	}
	if meta.FindStatusCondition(r.Status.Conditions, networkingv1.ServiceCIDRConditionReady) != nil {
		return nil // said once; whoever said otherwise since knows why
	}
	return c.ready(ctx, r, metav1.ConditionTrue, "", "Kubernetes Service CIDR is ready")
}

func (c *Controller) ready(ctx context.Context, r *networkingv1.ServiceCIDR, status metav1.ConditionStatus, reason, message string) error {
	changed := r.DeepCopy()
	if !meta.SetStatusCondition(&changed.Status.Conditions, metav1.Condition{
		Type: networkingv1.ServiceCIDRConditionReady, Status: status, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(c.deps.Clock.Now()),
	}) {
		return nil
	}
	_, err := c.deps.Client.NetworkingV1().ServiceCIDRs().UpdateStatus(ctx, changed, metav1.UpdateOptions{})
	return loop.Gone(err)
}

// used says whether a range has an address in use that is in no other range which stays.
func (c *Controller) used(r *networkingv1.ServiceCIDR) bool {
	var others []netip.Prefix
	for _, o := range c.all() {
		if o.Name != r.Name && o.DeletionTimestamp == nil {
			others = append(others, prefixes(o)...)
		}
	}
	own := prefixes(r)
	all, err := c.addresses.List(labels.Everything())
	if err != nil {
		return true
	}
	return slices.ContainsFunc(all, func(a *networkingv1.IPAddress) bool {
		ip, err := netip.ParseAddr(a.Name)
		in := func(p netip.Prefix) bool { return p.Contains(ip) }
		return err == nil && slices.ContainsFunc(own, in) && !slices.ContainsFunc(others, in)
	})
}

func prefixes(r *networkingv1.ServiceCIDR) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range r.Spec.CIDRs {
		if p, err := netip.ParsePrefix(text); err == nil {
			out = append(out, p)
		}
	}
	return out
}
