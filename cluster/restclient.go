package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/tools/metrics"
)

// restClients counts the requests of this process' own clients, under the names that dashboards
// know. client-go has one place for that in a process.
type restClients struct {
	times *prometheus.HistogramVec
	total *prometheus.CounterVec
}

// countRestClients begins to count, the first time that it is called.
func countRestClients() error {
	_, err := restClientCounts()
	return err
}

// collectors are the counters, for further registries.
func (c restClients) collectors() []prometheus.Collector {
	return []prometheus.Collector{c.times, c.total}
}

var restClientCounts = sync.OnceValues(func() (restClients, error) {
	c := restClients{
		times: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "rest_client_request_duration_seconds", Help: "Request latency in seconds. Broken down by verb, and host.",
			Buckets: []float64{0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0},
		}, []string{"verb", "host"}),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rest_client_requests_total", Help: "Number of HTTP requests, partitioned by status code, method, and host.",
		}, []string{"code", "method", "host"}),
	}
	if err := errors.Join(prometheus.Register(c.times), prometheus.Register(c.total)); err != nil {
		return c, fmt.Errorf("count the requests of clients: %w", err)
	}
	metrics.Register(metrics.RegisterOpts{RequestLatency: c, RequestResult: c})
	return c, nil
})

// Observe implements metrics.LatencyMetric.
func (c restClients) Observe(_ context.Context, verb string, u url.URL, took time.Duration) {
	c.times.WithLabelValues(verb, u.Host).Observe(took.Seconds())
}

// Increment implements metrics.ResultMetric.
func (c restClients) Increment(_ context.Context, code, method, host string) {
	c.total.WithLabelValues(code, method, host).Inc()
}
