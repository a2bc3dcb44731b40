package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/core/allocate"
	"github.com/proa-dev/proa/store"
)

// Storage counts the writes of a store; it implements store.Observer.
type Storage struct {
	times         *prometheus.HistogramVec
	total, failed *prometheus.CounterVec
}

var _ store.Observer = (*Storage)(nil)

// NewStorage makes the counters; they are a collector to be registered.
func NewStorage() *Storage {
	labels := []string{"operation", "group", "resource"}
	return &Storage{
		times:  prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "etcd_request_duration_seconds", Help: "Etcd request latency in seconds for each operation and object type.", Buckets: buckets}, labels),
		total:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "etcd_requests_total", Help: "Etcd request counts for each operation and object type."}, labels),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "etcd_request_errors_total", Help: "Etcd failed request counts for each operation and object type."}, labels),
	}
}

// Request counts one.
func (s *Storage) Request(operation string, of schema.GroupResource, took time.Duration, err error) {
	s.times.WithLabelValues(operation, of.Group, of.Resource).Observe(took.Seconds())
	s.total.WithLabelValues(operation, of.Group, of.Resource).Inc()
	if err != nil {
		s.failed.WithLabelValues(operation, of.Group, of.Resource).Inc()
	}
}

// Describe implements prometheus.Collector.
func (s *Storage) Describe(to chan<- *prometheus.Desc) {
	for _, c := range []prometheus.Collector{s.times, s.total, s.failed} {
		c.Describe(to)
	}
}

// Collect implements prometheus.Collector.
func (s *Storage) Collect(to chan<- prometheus.Metric) {
	for _, c := range []prometheus.Collector{s.times, s.total, s.failed} {
		c.Collect(to)
	}
}

// sizeTimeout bounds how long a scrape waits for an etcd outside.
const sizeTimeout = 2 * time.Second

// Size shows how large the store's database is.
func Size(s *store.Store) prometheus.Collector {
	d := prometheus.NewDesc("apiserver_storage_size_bytes", "Size of the storage database file physically allocated in bytes.", []string{"storage_cluster_id"}, nil)
	return collector{[]*prometheus.Desc{d}, func(to chan<- prometheus.Metric) {
		ctx, cancel := context.WithTimeout(context.Background(), sizeTimeout)
		defer cancel()
		if bytes, err := s.Size(ctx); err == nil {
			to <- gauge(d, float64(bytes), "etcd-0")
		}
	}}
}

var apiServices = schema.GroupResource{Group: apiregistrationv1.GroupName, Resource: "apiservices"}

// APIServices shows which API services cannot be reached.
func APIServices(reader api.Reader) prometheus.Collector {
	d := prometheus.NewDesc("aggregator_unavailable_apiservice", "Gauge of APIServices which are marked as unavailable broken down by APIService name.", []string{"name"}, nil)
	return collector{[]*prometheus.Desc{d}, func(to chan<- prometheus.Metric) {
		for _, o := range reader.List(apiServices, "") {
			s, ok := o.(*apiregistrationv1.APIService)
			if !ok {
				continue
			}
			unavailable := 1.0
			for _, c := range s.Status.Conditions {
				if c.Type == apiregistrationv1.Available && c.Status == apiregistrationv1.ConditionTrue {
					unavailable = 0
				}
			}
			to <- gauge(d, unavailable, s.Name)
		}
	}}
}

// Services shows what is taken and left of the addresses and node ports of services.
func Services(addresses *allocate.Addresses, ports *allocate.Ports) prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("kube_apiserver_"+name, help, labels, nil)
	}
	ips := desc("clusterip_allocator_allocated_ips", "Gauge measuring the number of allocated IPs for Services", "cidr")
	freeIPs := desc("clusterip_allocator_available_ips", "Gauge measuring the number of available IPs for Services", "cidr")
	nodePorts := desc("nodeport_allocator_allocated_ports", "Gauge measuring the number of allocated NodePorts for Services")
	freePorts := desc("nodeport_allocator_available_ports", "Gauge measuring the number of available NodePorts for Services")
	return collector{[]*prometheus.Desc{ips, freeIPs, nodePorts, freePorts}, func(to chan<- prometheus.Metric) {
		for prefix, use := range addresses.Use() {
			to <- gauge(ips, use.Taken, prefix.String())
			to <- gauge(freeIPs, use.Free, prefix.String())
		}
		use := ports.Use()
		to <- gauge(nodePorts, use.Taken)
		to <- gauge(freePorts, use.Free)
	}}
}
