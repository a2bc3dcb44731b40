package scheduler

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// result of an attempt.
type result int

const (
	scheduled result = iota
	unschedulable
	failed
	results
)

var resultNames = [results]string{"scheduled", "unschedulable", "error"}

// cause is why a pod enters a part of the queue.
type cause int

const (
	podAdd cause = iota
	podUpdate
	attemptFailed
	backoffOver
	nodeEvent
	podEvent
	otherEvent
	causes
)

var causeNames = [causes]string{"PodAdd", "UnscheduledPodUpdate", "ScheduleAttemptFailure", "BackoffComplete", "NodeUpdate", "AssignedPodUpdate", "ClusterEvent"}

// causeOf sorts a change in the cluster.
func causeOf(c change) cause {
	switch {
	case c&(nodeChanged|nodeGone) != 0:
		return nodeEvent
	case c&(podLeft|podCame) != 0:
		return podEvent
	}
	return otherEvent
}

// queueNames are what dashboards call the parts of the queue; those without one are not told of.
var queueNames = [stuck + 1]string{active: "active", backing: "backoff", erred: "backoff", stuck: "unschedulable"}

// Metrics count decisions under the names that dashboards know. It is a prometheus.Collector;
// what waits is counted when it is asked. One is made before its scheduler is.
type Metrics struct {
	attempts  [results]prometheus.Counter
	durations [results]prometheus.Observer
	algorithm prometheus.Histogram
	tries     prometheus.Histogram
	victims   prometheus.Histogram
	evictions prometheus.Counter
	sli       *prometheus.HistogramVec
	first     prometheus.Observer // of sli: of pods that needed one attempt
	all       []prometheus.Collector
	queue     atomic.Pointer[queue]
}

const mostTries = 15 // that sli tells apart

var (
	pendingPods  = prometheus.NewDesc("scheduler_pending_pods", "Number of pending pods, by the queue type. 'active' means number of pods in activeQ; 'backoff' means number of pods in backoffQ; 'unschedulable' means number of pods in unschedulableEntities that the scheduler attempted to schedule and failed; 'gated' is the number of unschedulable pods that the scheduler never attempted to schedule because they are gated.", []string{"queue"}, nil)
	incomingPods = prometheus.NewDesc("scheduler_queue_incoming_pods_total", "Number of pods added to scheduling queues by event and queue type.", []string{"queue", "event"}, nil)
)

// NewMetrics makes one that has counted nothing.
func NewMetrics() *Metrics {
	m := &Metrics{}
	seconds := prometheus.ExponentialBuckets(0.001, 2, 15)
	keep := func(c prometheus.Collector) { m.all = append(m.all, c) }
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "scheduler_" + name, Help: help, Buckets: buckets})
		keep(h)
		return h
	}
	labels := []string{"result", "profile"}
	attempts := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "scheduler_schedule_attempts_total", Help: "Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could not be scheduled, while 'error' means an internal scheduler problem."}, labels)
	durations := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "scheduler_scheduling_attempt_duration_seconds", Help: "Scheduling attempt latency in seconds (scheduling algorithm + binding)", Buckets: seconds}, labels)
	keep(attempts)
	keep(durations)
	for r := range results {
		m.attempts[r], m.durations[r] = attempts.WithLabelValues(resultNames[r], Name), durations.WithLabelValues(resultNames[r], Name)
	}
	m.algorithm = histogram("scheduling_algorithm_duration_seconds", "Scheduling algorithm latency in seconds", seconds)
	m.tries = histogram("pod_scheduling_attempts", "Number of attempts to successfully schedule a pod.", prometheus.ExponentialBuckets(1, 2, 5))
	m.victims = histogram("preemption_victims", "Number of selected preemption victims for preemption initiated by a single pod", prometheus.ExponentialBuckets(1, 2, 7))
	m.evictions = prometheus.NewCounter(prometheus.CounterOpts{Name: "scheduler_preemption_attempts_total", Help: "Total preemption attempts in the cluster till now"})
	keep(m.evictions)
	m.sli = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "scheduler_pod_scheduling_sli_duration_seconds", Help: "E2e latency for a pod being scheduled, from the time the pod enters the scheduling queue and might involve multiple scheduling attempts.", Buckets: prometheus.ExponentialBuckets(0.01, 2, 20)}, []string{"attempts"})
	keep(m.sli)
	m.first = m.sli.WithLabelValues("1")
	return m
}

// ended counts an attempt that began at a time.
func (m *Metrics) ended(r result, began time.Time) {
	m.attempts[r].Inc()
	m.durations[r].Observe(time.Since(began).Seconds())
}

// placed counts a pod that was given a node, after so long in the queue.
func (m *Metrics) placed(attempts int, waited time.Duration) {
	m.tries.Observe(float64(attempts))
	switch {
	case attempts <= 1:
		m.first.Observe(waited.Seconds())
	case attempts >= mostTries:
		m.sli.WithLabelValues(strconv.Itoa(mostTries) + "+").Observe(waited.Seconds())
	default:
		m.sli.WithLabelValues(strconv.Itoa(attempts)).Observe(waited.Seconds())
	}
}

// preempted counts pods that make room for another.
func (m *Metrics) preempted(victims int) {
	m.evictions.Inc()
	m.victims.Observe(float64(victims))
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(to chan<- *prometheus.Desc) {
	for _, c := range m.all {
		c.Describe(to)
	}
	to <- pendingPods
	to <- incomingPods
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(to chan<- prometheus.Metric) {
	for _, c := range m.all {
		c.Collect(to)
	}
	q := m.queue.Load()
	if q == nil {
		return // not made yet
	}
	waiting, came := q.count()
	for name, n := range waiting {
		to <- prometheus.MustNewConstMetric(pendingPods, prometheus.GaugeValue, float64(n), name)
	}
	for e, n := range came {
		to <- prometheus.MustNewConstMetric(incomingPods, prometheus.CounterValue, float64(n), e.queue, e.event)
	}
}

// entry is how a pod came into a part of the queue.
type entry struct{ queue, event string }

// count tells how many pods wait in each part of the queue, and how many came there.
func (q *queue) count() (waiting map[string]int, came map[entry]uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	waiting = map[string]int{"active": q.active.Len() + len(q.inAir), "backoff": q.backing.Len() + q.erred.Len(), "unschedulable": len(q.stuck)}
	came = map[entry]uint64{}
	for to := range q.came {
		for why, n := range q.came[to] {
			if n > 0 && queueNames[to] != "" {
				came[entry{queueNames[to], causeNames[why]}] += n
			}
		}
	}
	return waiting, came
}
