package loop

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"
)

// Queues counts what goes through the queues of loops, under the names that dashboards know.
// It is a prometheus.Collector; nil counts nothing.
type Queues struct {
	adds, retries  *prometheus.CounterVec
	waited, worked *prometheus.HistogramVec
	depth, longest *prometheus.Desc

	mu  sync.Mutex
	all []*counters
}

// counters are those of one queue.
type counters struct {
	name           string
	adds, retries  prometheus.Counter
	waited, worked prometheus.Observer

	mu    sync.Mutex
	depth int
	since map[int]time.Time // of the workers that are at work
}

// NewQueues makes a collector without queues.
func NewQueues() *Queues {
	label, buckets := []string{"name"}, prometheus.ExponentialBuckets(10e-9, 10, 10)
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "workqueue_" + name, Help: help}, label)
	}
	histogram := func(name, help string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "workqueue_" + name, Help: help, Buckets: buckets}, label)
	}
	return &Queues{
		adds:    counter("adds_total", "Total number of adds handled by workqueue"),
		retries: counter("retries_total", "Total number of retries handled by workqueue"),
		waited:  histogram("queue_duration_seconds", "How long in seconds an item stays in workqueue before being requested."),
		worked:  histogram("work_duration_seconds", "How long in seconds processing an item from workqueue takes."),
		depth:   prometheus.NewDesc("workqueue_depth", "Current depth of workqueue", label, nil),
		longest: prometheus.NewDesc("workqueue_longest_running_processor_seconds", "How many seconds has the longest running processor for workqueue been running.", label, nil),
	}
}

func (q *Queues) add(name string) *counters {
	if q == nil {
		return nil
	}
	c := &counters{
		name: name, adds: q.adds.WithLabelValues(name), retries: q.retries.WithLabelValues(name),
		waited: q.waited.WithLabelValues(name), worked: q.worked.WithLabelValues(name), since: map[int]time.Time{},
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, former := range q.all {
		if former.name == name { // it has ended: the loop is made anew
			q.all[i] = c
			return c
		}
	}
	q.all = append(q.all, c)
	return c
}

// Describe implements prometheus.Collector.
func (q *Queues) Describe(to chan<- *prometheus.Desc) {
	for _, c := range []prometheus.Collector{q.adds, q.retries, q.waited, q.worked} {
		c.Describe(to)
	}
	to <- q.depth
	to <- q.longest
}

// Collect implements prometheus.Collector.
func (q *Queues) Collect(to chan<- prometheus.Metric) {
	for _, c := range []prometheus.Collector{q.adds, q.retries, q.waited, q.worked} {
		c.Collect(to)
	}
	q.mu.Lock()
	all := q.all[:len(q.all):len(q.all)]
	q.mu.Unlock()
	for _, c := range all {
		c.mu.Lock()
		depth, longest := c.depth, time.Duration(0)
		for _, since := range c.since {
			longest = max(longest, time.Since(since))
		}
		c.mu.Unlock()
		to <- prometheus.MustNewConstMetric(q.depth, prometheus.GaugeValue, float64(depth), c.name)
		to <- prometheus.MustNewConstMetric(q.longest, prometheus.GaugeValue, longest.Seconds(), c.name)
	}
}

// working notes that a worker has begun with a key; the result notes that it is done.
func (c *counters) working(worker int) func() {
	if c == nil {
		return func() {}
	}
	begun := time.Now()
	c.mu.Lock()
	c.since[worker] = begun
	c.mu.Unlock()
	return func() {
		c.worked.Observe(time.Since(begun).Seconds())
		c.mu.Lock()
		delete(c.since, worker)
		c.mu.Unlock()
	}
}

func (c *counters) retried() {
	if c != nil {
		c.retries.Inc()
	}
}

// fifo is the order of a queue: first in, first out. Its caller holds the queue's lock.
type fifo[K comparable] struct {
	counters *counters
	clock    clock.PassiveClock
	items    []waiting[K]
}

type waiting[K comparable] struct {
	key   K
	since time.Time
}

func (f *fifo[K]) Touch(K) {}

func (f *fifo[K]) Push(k K) {
	f.items = append(f.items, waiting[K]{k, f.clock.Now()})
	if f.counters != nil {
		f.counters.adds.Inc()
		f.measure()
	}
}

func (f *fifo[K]) Len() int { return len(f.items) }

func (f *fifo[K]) Pop() K {
	first := f.items[0]
	f.items[0] = waiting[K]{} // what it points to is not ours any more
	f.items = f.items[1:]
	if f.counters != nil {
		f.counters.waited.Observe(f.clock.Since(first.since).Seconds())
		f.measure()
	}
	return first.key
}

func (f *fifo[K]) measure() {
	f.counters.mu.Lock()
	f.counters.depth = len(f.items)
	f.counters.mu.Unlock()
}
