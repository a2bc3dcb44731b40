package server

import (
	"net/http"
	"time"

	"github.com/proa-dev/proa/kubelet/usage"
)

// resourceMetrics answers how much CPU time and memory has been used.
func (s *Server) resourceMetrics(w http.ResponseWriter, _ *http.Request) {
	var out metricsText
	failed := 0.0
	got, err := s.read(s.usage.Brief)
	if err != nil {
		s.log.Warn("measure for /metrics/resource", "error", err)
		failed, got = 1, nil
	}
	if got != nil {
		out.resources(got)
	}
	const help = "1 if there was an error while getting container metrics, 0 otherwise"
	out.family("resource_scrape_error", "gauge", "[STABLE] "+help)
	out.sample("resource_scrape_error", "", failed, time.Time{})
	out.family("scrape_error", "gauge", "[ALPHA] (Deprecated since 1.29.0) "+help)
	out.sample("scrape_error", "", failed, time.Time{})
	s.writeText(w, &out)
}

// subject is what these metrics tell of.
type subject struct {
	labels string
	usage.Figures
}

func (t *metricsText) resources(in *reading) {
	var pods, containers []subject
	const start = "container_start_time_seconds"
	t.family(start, "gauge", "[STABLE] Start time of the container since unix epoch in seconds")
	for i := range in.pods {
		p := &in.pods[i]
		pods = append(pods, subject{labels("namespace", p.pod.Namespace, "pod", p.pod.Name), p.Figures})
		for j := range p.containers {
			c := &p.containers[j]
			l := labels("container", c.name, "namespace", p.pod.Namespace, "pod", p.pod.Name)
			t.sample(start, l, float64(c.begun.UnixMilli())/1e3, time.Time{})
			containers = append(containers, subject{l, c.Figures})
		}
	}
	t.used("container", containers)
	t.used("node", []subject{{"", in.node.Figures}})
	t.used("pod", pods)
}

// used writes three families about all subjects of a sort.
func (t *metricsText) used(sort string, all []subject) {
	for _, f := range []struct {
		name, kind, help string
		value            func(*usage.Figures) float64
	}{
		{"_cpu_usage_seconds_total", "counter", "[STABLE] Cumulative cpu time consumed by the " + sort + " in core-seconds",
			func(f *usage.Figures) float64 { return f.CPU.Total.Seconds() }},
		{"_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the " + sort + " in bytes",
			func(f *usage.Figures) float64 { return float64(f.Memory.WorkingSet) }},
		{"_swap_usage_bytes", "gauge", "[ALPHA] Current amount of the " + sort + " swap usage in bytes. Reported only on non-windows systems",
			func(f *usage.Figures) float64 { return float64(f.Memory.Swap) }},
	} {
		t.family(sort+f.name, f.kind, f.help)
		for i := range all {
			t.sample(sort+f.name, all[i].labels, f.value(&all[i].Figures), all[i].At)
		}
	}
}
