package kubelet

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"github.com/proa-dev/proa/kubelet/plan"
)

// counters count the agent's work under the names that dashboards know. All are found when the
// agent is made, so that counting is an addition.
type counters struct {
	podSeen, podTotal, podSLI  prometheus.Histogram
	create, again, kill        prometheus.Observer // of workers
	mounted, unmounted         attempts
	groupMade, groupRemoved    prometheus.Observer
	pods, podErrors            prometheus.Counter
	containers, containerFails map[bool]prometheus.Counter // by whether it is an init container
	evicted                    *prometheus.CounterVec
	all                        []prometheus.Collector
}

// attempts are durations of what succeeded and of what did not.
type attempts struct{ ok, failed prometheus.Observer }

func (a attempts) since(began time.Time, err error) {
	if err != nil {
		a.failed.Observe(time.Since(began).Seconds())
		return
	}
	a.ok.Observe(time.Since(began).Seconds())
}

// Seconds in which pods start, and operations on storage end, as upstream counts them.
var (
	startBuckets = []float64{0.5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 30, 45, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600}
	mountBuckets = []float64{.1, .25, .5, 1, 2.5, 5, 10, 15, 25, 50, 120, 300, 600}
)

func newCounters() *counters {
	c := &counters{containers: map[bool]prometheus.Counter{}, containerFails: map[bool]prometheus.Counter{}}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "kubelet_" + name, Help: help, Buckets: buckets})
		c.all = append(c.all, h)
		return h
	}
	vec := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
		c.all = append(c.all, h)
		return h
	}
	count := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kubelet_" + name, Help: help}, labels)
		c.all = append(c.all, v)
		return v
	}
	c.podSeen = histogram("pod_start_duration_seconds", "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run", startBuckets)
	c.podTotal = histogram("pod_start_total_duration_seconds", "Duration in seconds to start a pod since creation, including time to pull images and run init containers, measured from pod creation timestamp to when all its containers are reported as started and observed via watch", startBuckets)
	c.podSLI = histogram("pod_start_sli_duration_seconds", "Duration in seconds to start a pod, excluding time to pull images and run init containers, measured from pod creation timestamp to when all its containers are reported as started and observed via watch", startBuckets)
	workers := vec("kubelet_pod_worker_duration_seconds", "Duration in seconds to sync a single pod. Broken down by operation type: create, update, or sync", prometheus.DefBuckets, "operation_type")
	c.create, c.again, c.kill = workers.WithLabelValues("create"), workers.WithLabelValues("sync"), workers.WithLabelValues("kill")
	storage := vec("storage_operation_duration_seconds", "Storage operation duration", mountBuckets, "volume_plugin", "operation_name", "status", "migrated")
	operation := func(name string) attempts {
		// The volumes of a pod are made and removed together.
		return attempts{storage.WithLabelValues("pod", name, "success", "false"), storage.WithLabelValues("pod", name, "fail-unknown", "false")}
	}
	c.mounted, c.unmounted = operation("volume_mount"), operation("volume_unmount")
	groups := vec("kubelet_cgroup_manager_duration_seconds", "Duration in seconds for cgroup manager operations. Broken down by method.", prometheus.DefBuckets, "operation_type")
	c.groupMade, c.groupRemoved = groups.WithLabelValues("create"), groups.WithLabelValues("destroy")
	c.pods = count("started_pods_total", "Cumulative number of pods started").WithLabelValues()
	c.podErrors = count("started_pods_errors_total", "Cumulative number of errors when starting pods").WithLabelValues()
	made := count("started_containers_total", "Cumulative number of containers started", "container_type")
	fails := count("started_containers_errors_total", "Cumulative number of errors when starting containers", "container_type", "code")
	for init, kind := range map[bool]string{true: "init_container", false: "container"} {
		c.containers[init], c.containerFails[init] = made.WithLabelValues(kind), fails.WithLabelValues(kind, "RunContainerError")
	}
	c.evicted = count("evictions", "Cumulative number of pod evictions by eviction signal", "eviction_signal")
	return c
}

// birth is what a worker remembers until its pod has begun to run.
type birth struct {
	seen    time.Time
	images  time.Duration // that was spent on waiting for images
	counted bool
}

// begun counts a pod that runs for the first time; with mu held.
func (w *worker) begun(pod *corev1.Pod, status *corev1.PodStatus) {
	if w.birth.counted || status.Phase == corev1.PodPending {
		return
	}
	w.birth.counted = true
	if status.Phase != corev1.PodRunning || pod.Status.Phase != corev1.PodPending && pod.Status.Phase != "" {
		return // it ended at once, or ran before this agent did
	}
	c := w.k.counters
	c.podSeen.Observe(time.Since(w.birth.seen).Seconds())
	total := time.Since(pod.CreationTimestamp.Time)
	c.podTotal.Observe(total.Seconds())
	c.podSLI.Observe(max(total-w.birth.images, 0).Seconds())
}

// waited notes that the pod's start waited for an image.
func (w *worker) waited(since time.Time) {
	w.mu.Lock()
	w.birth.images += time.Since(since)
	w.mu.Unlock()
}

// started counts a container, or the failure to start it.
func (c *counters) started(s *plan.Start, err error) {
	if err != nil {
		c.containerFails[s.Init].Inc()
		return
	}
	c.containers[s.Init].Inc()
}
