package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	nodetopology "k8s.io/component-helpers/node/topology"

	"github.com/proa-dev/proa/apis/api"
)

// Nodes tells how many nodes each zone has and how many of them are well, as the controller of
// their lifecycle does elsewhere.
func Nodes(reader api.Reader) prometheus.Collector {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("node_collector_"+name, help, []string{"zone"}, nil)
	}
	size := desc("zone_size", "Gauge measuring number of registered Nodes per zones.")
	health := desc("zone_health", "Gauge measuring percentage of healthy nodes per zone.")
	unwell := desc("unhealthy_nodes_in_zone", "Gauge measuring number of not Ready Nodes per zones.")
	return collector{[]*prometheus.Desc{size, health, unwell}, func(to chan<- prometheus.Metric) {
		all, ready := map[string]int{}, map[string]int{}
		for _, obj := range reader.List(corev1.Resource("nodes"), "") {
			n, ok := obj.(*corev1.Node)
			if !ok {
				continue
			}
			zone := nodetopology.GetZoneKey(n)
			all[zone]++
			if isReady(n) {
				ready[zone]++
			}
		}
		for zone, n := range all {
			to <- gauge(size, float64(n), zone)
			to <- gauge(health, 100*float64(ready[zone])/float64(n), zone)
			to <- gauge(unwell, float64(n-ready[zone]), zone)
		}
	}}
}

func isReady(n *corev1.Node) bool {
	for i := range n.Status.Conditions {
		if c := &n.Status.Conditions[i]; c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// EndpointSlices tells how many slices and endpoints the controller of slices keeps.
func EndpointSlices(reader api.Reader) prometheus.Collector {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("endpoint_slice_controller_"+name, help, nil, nil)
	}
	slices := desc("num_endpoint_slices", "Number of EndpointSlices")
	desired := desc("desired_endpoint_slices", "Number of EndpointSlices that would exist with perfect endpoint allocation")
	endpoints := desc("endpoints_desired", "Number of endpoints desired")
	return collector{[]*prometheus.Desc{slices, desired, endpoints}, func(to chan<- prometheus.Metric) {
		type service struct {
			namespace, name string
			family          discoveryv1.AddressType
		}
		count, of := 0, map[service]int{}
		for _, obj := range reader.List(discoveryv1.Resource("endpointslices"), "") {
			s, ok := obj.(*discoveryv1.EndpointSlice)
			if !ok || s.Labels[discoveryv1.LabelManagedBy] != "endpointslice-controller.k8s.io" {
				continue
			}
			count++
			of[service{s.Namespace, s.Labels[discoveryv1.LabelServiceName], s.AddressType}] += len(s.Endpoints)
		}
		wanted, all := 0, 0
		for _, n := range of {
			all += n
			wanted += max((n+perSlice-1)/perSlice, 1)
		}
		to <- gauge(slices, float64(count))
		to <- gauge(desired, float64(wanted))
		to <- gauge(endpoints, float64(all))
	}}
}

// perSlice is how many endpoints a slice is filled with.
const perSlice = 100
