package endpointslice

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// perSlice is how many endpoints are put into one slice.
const perSlice = 100

// managedBy is the value of the label that says whose the slices are.
const managedBy = "endpointslice-controller.k8s.io"

// Plan is what must be written for the slices of a service to be right.
type Plan struct {
	Create, Update []*discoveryv1.EndpointSlice
	Delete         []*discoveryv1.EndpointSlice
}

// desired is an endpoint that should be, and since when its pod is as it says.
type desired struct {
	endpoint discoveryv1.Endpoint
	since    time.Time
}

// group is the endpoints that share their ports, and with them their slices.
type group struct {
	ports     []discoveryv1.EndpointPort
	endpoints map[types.UID]desired
	slices    []*discoveryv1.EndpointSlice
}

// plan decides what to write so that the slices show the service's pods. Endpoints stay in
// the slice they are in; gaps are filled before slices are added; slices that became empty
// are used again for other ports before they are deleted. zone tells a node's zone.
func plan(svc *corev1.Service, pods []*corev1.Pod, existing []*discoveryv1.EndpointSlice, zone func(node string) string) Plan {
	var p Plan
	wanted := families(svc)
	for _, family := range wanted {
		var own []*discoveryv1.EndpointSlice
		for _, s := range existing {
			if s.AddressType == family {
				own = append(own, s)
			}
		}
		planFamily(&p, svc, family, pods, own, zone)
	}
	for _, s := range existing {
		if !slices.Contains(wanted, s.AddressType) {
			p.Delete = append(p.Delete, s)
		}
	}
	return p
}

func families(svc *corev1.Service) []discoveryv1.AddressType {
	var list []discoveryv1.AddressType
	for _, f := range svc.Spec.IPFamilies {
		list = append(list, discoveryv1.AddressType(f))
	}
	if len(list) > 0 {
		return list
	}
	if strings.Contains(svc.Spec.ClusterIP, ":") {
		return []discoveryv1.AddressType{discoveryv1.AddressTypeIPv6}
	}
	return []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4}
}

func planFamily(p *Plan, svc *corev1.Service, family discoveryv1.AddressType, pods []*corev1.Pod, existing []*discoveryv1.EndpointSlice, zone func(string) string) {
	groups := groupPods(svc, family, pods, zone)
	var free []*discoveryv1.EndpointSlice
	for _, s := range existing {
		if g := groups[portsKey(s.Ports)]; g != nil {
			g.slices = append(g.slices, s)
		} else {
			free = append(free, s)
		}
	}
	f := filler{plan: p, svc: svc, family: family, labels: sliceLabels(svc)}
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		free = append(free, f.fill(groups[key])...)
	}
	if len(f.fresh) == 0 && len(free) == len(existing) { // nothing would tell that there is nothing
		f.fresh = append(f.fresh, &discoveryv1.EndpointSlice{Endpoints: []discoveryv1.Endpoint{}, Ports: []discoveryv1.EndpointPort{}})
	}
	f.place(free)
}

// groupPods makes the endpoints of a family, by the ports they have.
func groupPods(svc *corev1.Service, family discoveryv1.AddressType, pods []*corev1.Pod, zone func(string) string) map[string]*group {
	groups := map[string]*group{}
	var constant *group // when no port is named, all pods have the same
	named := slices.ContainsFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool { return p.TargetPort.StrVal != "" })
	for _, pod := range pods {
		if !serves(pod) {
			continue
		}
		ips := addresses(pod, family)
		if len(ips) == 0 {
			continue
		}
		g := constant
		if g == nil {
			ports := portsOf(svc, pod)
			key := portsKey(ports)
			if g = groups[key]; g == nil {
				g = &group{ports: ports, endpoints: map[types.UID]desired{}}
				groups[key] = g
			}
			if !named {
				constant = g
			}
		}
		g.endpoints[pod.UID] = desired{endpointOf(svc, pod, ips, zone(pod.Spec.NodeName)), since(pod)}
	}
	return groups
}

// filler turns groups into slices to write.
type filler struct {
	plan   *Plan
	svc    *corev1.Service
	family discoveryv1.AddressType
	labels map[string]string
	fresh  []*discoveryv1.EndpointSlice // ports, endpoints and trigger only
}

// draft is a slice as it will be.
type draft struct {
	from      *discoveryv1.EndpointSlice
	endpoints []discoveryv1.Endpoint
	trigger   time.Time
	changed   bool
}

func (d *draft) triggered(at time.Time) {
	d.changed = true
	if !at.IsZero() && (d.trigger.IsZero() || at.Before(d.trigger)) {
		d.trigger = at
	}
}

// fill brings the slices of a group up to date and gives those that became empty.
func (f *filler) fill(g *group) (empty []*discoveryv1.EndpointSlice) {
	left := g.endpoints
	var drafts []*draft
	for _, s := range g.slices {
		drafts = append(drafts, f.keep(s, left))
	}
	rest := slices.SortedFunc(maps.Values(left), func(a, b desired) int {
		return cmp.Compare(a.endpoint.TargetRef.Name, b.endpoint.TargetRef.Name)
	})
	// Slices that change anyway first, the fullest of them first.
	slices.SortStableFunc(drafts, func(a, b *draft) int {
		if a.changed != b.changed {
			if a.changed {
				return -1
			}
			return 1
		}
		return len(b.endpoints) - len(a.endpoints)
	})
	for _, d := range drafts {
		room := max(0, perSlice-len(d.endpoints))
		if !d.changed { // taken only if that saves a new one
			over := len(rest) % perSlice
			if room < over {
				continue
			}
			room = over
		}
		rest = d.take(rest, room)
	}
	for _, d := range drafts {
		switch {
		case len(d.endpoints) == 0:
			empty = append(empty, d.from)
		case d.changed:
			f.plan.Update = append(f.plan.Update, f.dressed(d.from.DeepCopy(), g.ports, d))
		}
	}
	for len(rest) > 0 {
		d := &draft{}
		rest = d.take(rest, perSlice)
		s := &discoveryv1.EndpointSlice{Endpoints: d.endpoints, Ports: g.ports}
		setTrigger(s, d.trigger)
		f.fresh = append(f.fresh, s)
	}
	return empty
}

// take moves up to n endpoints into the slice and gives the others.
func (d *draft) take(rest []desired, n int) []desired {
	n = min(n, len(rest))
	for _, e := range rest[:n] {
		d.endpoints = append(d.endpoints, e.endpoint)
		d.triggered(e.since)
	}
	return rest[n:]
}

// keep is a slice with what of it is still wanted, as it is wanted now, taken out of left.
func (f *filler) keep(s *discoveryv1.EndpointSlice, left map[types.UID]desired) *draft {
	d := &draft{from: s, endpoints: make([]discoveryv1.Endpoint, 0, len(s.Endpoints)+1)}
	d.changed = !maps.Equal(s.Labels, f.labels) || !metav1.IsControlledBy(s, f.svc)
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		want, wanted := left[podOf(e)]
		if !wanted {
			d.changed = true
			continue
		}
		delete(left, podOf(e))
		if sameAs(e, &want.endpoint) {
			d.endpoints = append(d.endpoints, *e)
			continue
		}
		d.endpoints = append(d.endpoints, want.endpoint)
		d.triggered(want.since)
	}
	return d
}

// place puts the fresh slices into free ones, creates the others and deletes what is left.
func (f *filler) place(free []*discoveryv1.EndpointSlice) {
	for _, s := range f.fresh {
		if len(free) == 0 {
			f.dressed(s, s.Ports, &draft{endpoints: s.Endpoints, trigger: triggerOf(s)})
			s.GenerateName, s.Namespace = namePrefix(f.svc.Name), f.svc.Namespace
			f.plan.Create = append(f.plan.Create, s)
			continue
		}
		was := free[0]
		free = free[1:]
		now := f.dressed(was.DeepCopy(), s.Ports, &draft{endpoints: s.Endpoints, trigger: triggerOf(s)})
		if len(was.Endpoints) == 0 && len(now.Endpoints) == 0 && maps.Equal(was.Labels, now.Labels) && metav1.IsControlledBy(was, f.svc) {
			continue // it says already that there is nothing
		}
		f.plan.Update = append(f.plan.Update, now)
	}
	f.plan.Delete = append(f.plan.Delete, free...)
}

// dressed sets everything of a slice that this controller owns.
func (f *filler) dressed(s *discoveryv1.EndpointSlice, ports []discoveryv1.EndpointPort, d *draft) *discoveryv1.EndpointSlice {
	s.AddressType, s.Endpoints, s.Ports, s.Labels = f.family, d.endpoints, ports, f.labels
	s.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(f.svc, corev1.SchemeGroupVersion.WithKind("Service"))}
	setTrigger(s, d.trigger)
	return s
}

func setTrigger(s *discoveryv1.EndpointSlice, at time.Time) {
	if at.IsZero() {
		delete(s.Annotations, corev1.EndpointsLastChangeTriggerTime)
		return
	}
	if s.Annotations == nil {
		s.Annotations = map[string]string{}
	}
	s.Annotations[corev1.EndpointsLastChangeTriggerTime] = at.UTC().Format(time.RFC3339Nano)
}

func triggerOf(s *discoveryv1.EndpointSlice) time.Time {
	at, err := time.Parse(time.RFC3339Nano, s.Annotations[corev1.EndpointsLastChangeTriggerTime])
	if err != nil {
		return time.Time{} // none
	}
	return at
}

// sliceLabels are the service's own labels and those that say what the slice is.
func sliceLabels(svc *corev1.Service) map[string]string {
	l := make(map[string]string, len(svc.Labels)+3)
	maps.Copy(l, svc.Labels)
	delete(l, corev1.IsHeadlessService)
	if svc.Spec.ClusterIP == corev1.ClusterIPNone || svc.Spec.ClusterIP == "" {
		l[corev1.IsHeadlessService] = ""
	}
	l[discoveryv1.LabelServiceName], l[discoveryv1.LabelManagedBy] = svc.Name, managedBy
	return l
}

// namePrefix is what the names of a service's slices begin with.
func namePrefix(service string) string { return service + "-" }
