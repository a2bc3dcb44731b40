package cri

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
)

// Counted counts the calls over a connection to a runtime under the names that dashboards
// know. It is a prometheus.Collector.
type Counted struct {
	grpc.ClientConnInterface
	total, failed *prometheus.CounterVec
	took          *prometheus.HistogramVec
	known         sync.Map // method -> *operation; the methods of the interface alone
}

var _ grpc.ClientConnInterface = (*Counted)(nil)

// operation is one method.
type operation struct {
	total, failed prometheus.Counter
	took          prometheus.Observer
}

// Count counts what goes over conn.
func Count(conn grpc.ClientConnInterface) *Counted {
	label := []string{"operation_type"}
	return &Counted{
		ClientConnInterface: conn,
		total:               prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kubelet_runtime_operations_total", Help: "Cumulative number of runtime operations by operation type."}, label),
		failed:              prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kubelet_runtime_operations_errors_total", Help: "Cumulative number of runtime operation errors by operation type."}, label),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "kubelet_runtime_operations_duration_seconds", Help: "Duration in seconds of runtime operations. Broken down by operation type.",
			Buckets: prometheus.ExponentialBuckets(.005, 2.5, 14),
		}, label),
	}
}

// Invoke counts a call and makes it.
func (c *Counted) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	o := c.of(method)
	began := time.Now()
	err := c.ClientConnInterface.Invoke(ctx, method, args, reply, opts...)
	o.total.Inc()
	o.took.Observe(time.Since(began).Seconds())
	if err != nil {
		o.failed.Inc()
	}
	return err
}

func (c *Counted) of(method string) *operation {
	if o, ok := c.known.Load(method); ok {
		return o.(*operation)
	}
	name := operationName(method)
	o, _ := c.known.LoadOrStore(method, &operation{c.total.WithLabelValues(name), c.failed.WithLabelValues(name), c.took.WithLabelValues(name)})
	return o.(*operation)
}

// operationName makes run_podsandbox of /runtime.v1.RuntimeService/RunPodSandbox.
func operationName(method string) string {
	name := method[strings.LastIndexByte(method, '/')+1:]
	name = strings.ReplaceAll(name, "PodSandbox", "Podsandbox")
	var b strings.Builder
	for i := range len(name) {
		if ch := name[i]; ch >= 'A' && ch <= 'Z' {
			if i > 0 {
				b.WriteByte('_')
			}
			b.WriteByte(ch + 'a' - 'A')
		} else {
			b.WriteByte(ch)
		}
	}
	return b.String()
}

// Describe implements prometheus.Collector.
func (c *Counted) Describe(to chan<- *prometheus.Desc) {
	for _, v := range []prometheus.Collector{c.total, c.failed, c.took} {
		v.Describe(to)
	}
}

// Collect implements prometheus.Collector.
func (c *Counted) Collect(to chan<- prometheus.Metric) {
	for _, v := range []prometheus.Collector{c.total, c.failed, c.took} {
		v.Collect(to)
	}
}
