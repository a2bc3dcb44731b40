package proxy

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// ipFamily is that of the proxy's rules.
const ipFamily = "IPv4"

// counters count the proxy's work under the names that dashboards know.
type counters struct {
	syncs, whole, part    prometheus.Observer
	programming           prometheus.Observer
	failures              prometheus.Counter
	endpoints, services   prometheus.Counter
	lastSync, lastQueued  prometheus.Gauge
	endpointsNow, nowSvcs atomic.Int64 // changes that wait
	all                   []prometheus.Collector
}

func newCounters() *counters {
	c := &counters{}
	histogram := func(name, help string, buckets []float64) prometheus.Observer {
		v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "kubeproxy_" + name, Help: help, Buckets: buckets}, []string{"ip_family"})
		c.all = append(c.all, v)
		return v.WithLabelValues(ipFamily)
	}
	gauge := func(name, help string) prometheus.Gauge {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kubeproxy_" + name, Help: help}, []string{"ip_family"})
		c.all = append(c.all, v)
		return v.WithLabelValues(ipFamily)
	}
	count := func(name, help string) prometheus.Counter {
		n := prometheus.NewCounter(prometheus.CounterOpts{Name: "kubeproxy_" + name, Help: help})
		c.all = append(c.all, n)
		return n
	}
	waiting := func(name, help string, n *atomic.Int64) {
		c.all = append(c.all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "kubeproxy_" + name, Help: help}, func() float64 { return float64(n.Load()) }))
	}
	seconds := prometheus.ExponentialBuckets(0.001, 2, 15)
	c.syncs = histogram("sync_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds", seconds)
	c.whole = histogram("sync_full_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds for full resyncs", seconds)
	c.part = histogram("sync_partial_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds for partial resyncs", seconds)
	c.programming = histogram("network_programming_duration_seconds", "In Cluster Network Programming Latency in seconds",
		[]float64{0.25, 0.50, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 120, 180, 240, 300})
	failures := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kubeproxy_sync_proxy_rules_nftables_sync_failures_total", Help: "Cumulative proxy nftables sync failures"}, []string{"ip_family"})
	c.all = append(c.all, failures)
	c.failures = failures.WithLabelValues(ipFamily)
	c.endpoints = count("sync_proxy_rules_endpoint_changes_total", "Cumulative proxy rules Endpoint changes")
	c.services = count("sync_proxy_rules_service_changes_total", "Cumulative proxy rules Service changes")
	waiting("sync_proxy_rules_endpoint_changes_pending", "Pending proxy rules Endpoint changes", &c.endpointsNow)
	waiting("sync_proxy_rules_service_changes_pending", "Pending proxy rules Service changes", &c.nowSvcs)
	c.lastSync = gauge("sync_proxy_rules_last_timestamp_seconds", "The last time proxy rules were successfully synced")
	c.lastQueued = gauge("sync_proxy_rules_last_queued_timestamp_seconds", "The last time a sync of proxy rules was queued")
	return c
}

// Describe implements prometheus.Collector.
func (p *Proxy) Describe(to chan<- *prometheus.Desc) {
	for _, c := range p.counters.all {
		c.Describe(to)
	}
}

// Collect implements prometheus.Collector.
func (p *Proxy) Collect(to chan<- prometheus.Metric) {
	for _, c := range p.counters.all {
		c.Collect(to)
	}
}

func (c *counters) serviceChanged() {
	c.services.Inc()
	c.nowSvcs.Add(1)
}

func (c *counters) sliceChanged() {
	c.endpoints.Inc()
	c.endpointsNow.Add(1)
}

// taken: what waited is being written.
func (c *counters) taken() {
	c.nowSvcs.Store(0)
	c.endpointsNow.Store(0)
}

// synced counts one transaction; triggers are when pods or services changed that it is about.
func (c *counters) synced(began time.Time, whole bool, triggers []time.Time, err error) {
	if err != nil {
		c.failures.Inc()
		return
	}
	took := time.Since(began).Seconds()
	c.syncs.Observe(took)
	if whole {
		c.whole.Observe(took)
	} else {
		c.part.Observe(took)
	}
	c.lastSync.SetToCurrentTime()
	for _, t := range triggers {
		c.programming.Observe(time.Since(t).Seconds())
	}
}

// triggerOf is when what a slice tells of changed, as the slice's writer noted.
func triggerOf(s *discoveryv1.EndpointSlice) (time.Time, bool) {
	at, err := time.Parse(time.RFC3339Nano, s.Annotations[corev1.EndpointsLastChangeTriggerTime])
	return at, err == nil
}
