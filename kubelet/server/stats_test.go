package server

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

func TestRates(t *testing.T) {
	c := newCPURates()
	begin := time.Unix(1000, 0)
	if got := c.of("a", 5e9, begin); got != nil {
		t.Errorf("one sample makes a rate of %d", *got)
	}
	if got := c.of("a", 6e9, begin.Add(2*time.Second)); got == nil || *got != 5e8 {
		t.Errorf("1 s of CPU in 2 s: %v", got)
	}
	if got := c.of("a", 9e9, begin.Add(2100*time.Millisecond)); got == nil || *got != 5e8 {
		t.Errorf("too soon for another rate: %v", got)
	}
	if got := c.of("a", 1, begin.Add(9*time.Second)); got != nil {
		t.Errorf("a counter that went back makes a rate of %d", *got)
	}
}

func TestMetricsText(t *testing.T) {
	cpu, bytes, at := uint64(1500e6), uint64(3<<30), metav1.NewTime(time.UnixMilli(42))
	var out metricsText
	out.summary(&stats.Summary{Pods: []stats.PodStats{{PodRef: stats.PodReference{Name: "p", Namespace: "n"}, Containers: []stats.ContainerStats{
		{Name: "c", StartTime: at, CPU: &stats.CPUStats{Time: at, UsageCoreNanoSeconds: &cpu}, Memory: &stats.MemoryStats{Time: at, WorkingSetBytes: &bytes}}}}}})
	for _, want := range []string{
		`container_cpu_usage_seconds_total{container="c",namespace="n",pod="p"} 1.5 42` + "\n",
		`container_memory_working_set_bytes{container="c",namespace="n",pod="p"} 3.221225472e+09 42` + "\n",
		`container_start_time_seconds{container="c",namespace="n",pod="p"} 0.042` + "\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
}
