package metrics

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Watch counts the events that watches send.
type Watch struct {
	total *prometheus.CounterVec
	sizes *prometheus.HistogramVec

	mu    sync.RWMutex
	known map[schema.GroupVersionResource]*Events
}

// Events are those of one resource.
type Events struct {
	total prometheus.Counter
	sizes prometheus.Observer
}

func newWatch() *Watch {
	labels := []string{"group", "version", "resource"}
	return &Watch{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "apiserver_watch_events_total", Help: "Number of events sent in watch clients"}, labels),
		sizes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "apiserver_watch_events_sizes", Help: "Watch event size distribution in bytes", Buckets: prometheus.ExponentialBuckets(1024, 2, 8),
		}, labels),
		known: map[schema.GroupVersionResource]*Events{},
	}
}

func (w *Watch) collectors() []prometheus.Collector { return []prometheus.Collector{w.total, w.sizes} }

// Of finds the events of a resource that is served.
func (w *Watch) Of(of schema.GroupVersionResource) *Events {
	w.mu.RLock()
	e := w.known[of]
	w.mu.RUnlock()
	if e != nil {
		return e
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.known) >= maxKinds { // custom resources come and go
		of = schema.GroupVersionResource{}
	}
	if e = w.known[of]; e == nil {
		e = &Events{w.total.WithLabelValues(of.Group, of.Version, of.Resource), w.sizes.WithLabelValues(of.Group, of.Version, of.Resource)}
		w.known[of] = e
	}
	return e
}

// Sent counts an event of so many bytes.
func (e *Events) Sent(bytes int) {
	e.total.Inc()
	e.sizes.Observe(float64(bytes))
}
