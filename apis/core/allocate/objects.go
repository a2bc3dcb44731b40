package allocate

import (
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/apis/api"
)

var (
	serviceResource = corev1.Resource("services")
	rangeResource   = schema.GroupResource{Group: networkingv1.GroupName, Resource: "servicecidrs"}
	addressResource = schema.GroupResource{Group: networkingv1.GroupName, Resource: "ipaddresses"}
)

// managedByServices is the label's value on objects that stand for the address of a service.
const managedByServices = "ipallocator.k8s.io"

// Objects is the Cluster of ServiceCIDRs, IPAddresses and Services.
type Objects struct {
	reader api.Reader
	shared func() bool

	mu       sync.Mutex
	revision int64
	ranges   []netip.Prefix
}

var _ Cluster = (*Objects)(nil)

// FromObjects reads what is stored; shared tells whether other servers may change services.
func FromObjects(reader api.Reader, shared func() bool) *Objects {
	return &Objects{reader: reader, shared: shared, revision: -1}
}

// Shared tells whether other servers may change services.
func (o *Objects) Shared() bool { return o.shared() }

// Services gives all, unless none was changed since a revision.
func (o *Objects) Services(since int64) ([]*corev1.Service, int64) {
	now := o.reader.Revision(serviceResource) // first: what is listed may be newer
	if now == since {
		return nil, now
	}
	var list []*corev1.Service
	for _, obj := range o.reader.List(serviceResource, "") {
		if s, ok := obj.(*corev1.Service); ok {
			list = append(list, s)
		}
	}
	return list, now
}

// Ranges are those of ServiceCIDRs that are ready, and not about to go.
func (o *Objects) Ranges() []netip.Prefix {
	revision := o.reader.Revision(rangeResource)
	o.mu.Lock()
	defer o.mu.Unlock()
	if revision == o.revision {
		return o.ranges
	}
	o.revision, o.ranges = revision, nil
	for _, obj := range o.reader.List(rangeResource, "") {
		c, ok := obj.(*networkingv1.ServiceCIDR)
		if !ok || c.DeletionTimestamp != nil || !meta.IsStatusConditionTrue(c.Status.Conditions, networkingv1.ServiceCIDRConditionReady) {
			continue
		}
		for _, text := range c.Spec.CIDRs {
			if p, err := netip.ParsePrefix(text); err == nil && span(p.Masked()) > 0 {
				o.ranges = append(o.ranges, p.Masked())
			}
		}
	}
	return o.ranges
}

// Reserved says that an IPAddress which was not made for a service has the address.
func (o *Objects) Reserved(addr netip.Addr) bool {
	obj, ok := o.reader.Get(addressResource, "", addr.String())
	return ok && obj.GetLabels()[networkingv1.LabelManagedBy] != managedByServices
}
