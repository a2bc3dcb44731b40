package probe

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	labels  = []string{"probe_type", "container", "pod", "namespace"}
	results = prometheus.NewDesc("prober_probe_total", "Cumulative number of a liveness, readiness or startup probe for a container by result.", append([]string{"result", "pod_uid"}, labels...), nil)
	times   = prometheus.NewDesc("prober_probe_duration_seconds", "Duration in seconds for a probe response.", labels, nil)
)

// durations are a histogram of tries.
type durations struct {
	buckets [11]uint64 // as prometheus.DefBuckets, each by itself
	count   uint64
	sum     float64
}

func (d *durations) add(took time.Duration) {
	s := took.Seconds()
	d.count++
	d.sum += s
	for i, limit := range prometheus.DefBuckets {
		if s <= limit {
			d.buckets[i]++
			return
		}
	}
}

func (d *durations) merge(o *durations) {
	d.count += o.count
	d.sum += o.sum
	for i := range d.buckets {
		d.buckets[i] += o.buckets[i]
	}
}

func (d *durations) cumulative() map[float64]uint64 {
	out, n := make(map[float64]uint64, len(d.buckets)), uint64(0)
	for i, limit := range prometheus.DefBuckets {
		n += d.buckets[i]
		out[limit] = n
	}
	return out
}

// Describe implements prometheus.Collector.
func (p *Prober) Describe(to chan<- *prometheus.Desc) {
	to <- results
	to <- times
}

// subject is what is told apart in metrics: a container by its name, through restarts.
type subject struct {
	kind                           Kind
	container, pod, namespace, uid string
}

// Collect implements prometheus.Collector. A container that began again counts from zero.
func (p *Prober) Collect(to chan<- prometheus.Metric) {
	type tally struct {
		results [Errored + 1]uint64
		took    durations
	}
	all := map[subject]*tally{}
	p.mu.Lock()
	for k, n := range p.probes {
		t := &n.target
		s := subject{k.kind, t.Container.Name, t.Pod.Name, t.Pod.Namespace, string(t.Pod.UID)}
		if all[s] == nil {
			all[s] = &tally{}
		}
		for i, c := range n.results {
			all[s].results[i] += c
		}
		all[s].took.merge(&n.took)
	}
	p.mu.Unlock()
	seen := map[subject]bool{}
	for s, t := range all {
		own := []string{string(s.kind), s.container, s.pod, s.namespace}
		for name, n := range map[string]uint64{"successful": t.results[Success] + t.results[Warning], "failed": t.results[Failure], "unknown": t.results[Errored]} {
			if n > 0 {
				to <- prometheus.MustNewConstMetric(results, prometheus.CounterValue, float64(n), append([]string{name, s.uid}, own...)...)
			}
		}
		s.uid = "" // a pod of the same name may be on its way out
		if t.took.count > 0 && !seen[s] {
			seen[s] = true
			to <- prometheus.MustNewConstHistogram(times, t.took.count, t.took.sum, t.took.cumulative(), own...)
		}
	}
}
