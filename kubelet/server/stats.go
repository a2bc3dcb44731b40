package server

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sort"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"github.com/proa-dev/proa/kubelet/cri"
)

func isGone(err error) bool { return status.Code(err) == codes.NotFound }

// summary answers what the node, its pods and their containers use.
func (s *Server) summary(w http.ResponseWriter, r *http.Request) {
	brief := r.URL.Query().Get("only_cpu_and_memory") == "true"
	out, err := s.measure(r.Context(), brief)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.writeJSON(w, out)
}

// measure asks everything once; brief: CPU and memory alone.
func (s *Server) measure(ctx context.Context, brief bool) (*stats.Summary, error) {
	got, err := s.cfg.Runtime.ListPodSandboxStats(ctx, &runtimeapi.ListPodSandboxStatsRequest{})
	if err != nil {
		return nil, fmt.Errorf("ask the runtime for figures: %w", err)
	}
	s.cpu.sweep()
	out := &stats.Summary{Pods: []stats.PodStats{}}
	out.Node.NodeName, out.Node.StartTime = s.cfg.NodeName, metav1.NewTime(bootTime())
	if out.Node.CPU, err = s.cpu.nodeCPU(); err != nil {
		return nil, err
	}
	out.Node.Memory, out.Node.Swap = nodeMemory()
	if !brief {
		out.Node.Network, out.Node.Fs = nodeNetwork(), filesystem("/", nil, nil)
		images := s.imageFilesystem(ctx)
		out.Node.Runtime = &stats.RuntimeStats{ImageFs: images, ContainerFs: images}
	}
	known := map[types.UID]*corev1.Pod{}
	for _, p := range s.cfg.Pods.Pods() {
		known[p.UID] = p
	}
	for _, one := range got.Stats {
		pod := known[types.UID(one.GetAttributes().GetMetadata().GetUid())]
		if pod != nil && one.Linux != nil {
			out.Pods = append(out.Pods, s.podStats(pod, one, brief))
		}
	}
	sort.Slice(out.Pods, func(i, j int) bool {
		a, b := out.Pods[i].PodRef, out.Pods[j].PodRef
		return a.Namespace < b.Namespace || a.Namespace == b.Namespace && a.Name < b.Name
	})
	return out, nil
}

func bootTime() time.Time { return time.Unix(int64(table(readText("/proc/stat"))["btime"]), 0) }

func (s *Server) podStats(pod *corev1.Pod, one *runtimeapi.PodSandboxStats, brief bool) stats.PodStats {
	out := stats.PodStats{PodRef: stats.PodReference{Name: pod.Name, Namespace: pod.Namespace, UID: string(pod.UID)}, Containers: []stats.ContainerStats{}}
	if pod.Status.StartTime != nil {
		out.StartTime = *pod.Status.StartTime
	}
	begun := started(pod)
	for _, c := range one.Linux.Containers {
		name := c.GetAttributes().GetLabels()[cri.LabelContainer]
		if begin, runs := begun[name]; runs {
			out.Containers = append(out.Containers, s.containerStats(name, begin, c, brief))
		}
	}
	sort.Slice(out.Containers, func(i, j int) bool { return out.Containers[i].Name < out.Containers[j].Name })
	out.CPU, out.Memory = s.cpu.cpu(one.GetAttributes().GetId(), one.Linux.Cpu), memory(one.Linux.Memory)
	if brief {
		return out
	}
	if p := one.Linux.Process; p != nil {
		out.ProcessStats = &stats.ProcessStats{ProcessCount: value(p.ProcessCount)}
	}
	if n := one.Linux.Network; n != nil {
		out.Network = &stats.NetworkStats{Time: metav1.NewTime(time.Unix(0, n.Timestamp)), InterfaceStats: link(n.DefaultInterface)}
		for _, l := range n.Interfaces {
			out.Network.Interfaces = append(out.Network.Interfaces, link(l))
		}
	}
	return out
}

func link(l *runtimeapi.NetworkInterfaceUsage) stats.InterfaceStats {
	return stats.InterfaceStats{Name: l.GetName(), RxBytes: value(l.GetRxBytes()), RxErrors: value(l.GetRxErrors()), TxBytes: value(l.GetTxBytes()), TxErrors: value(l.GetTxErrors())}
}

// started are the containers of a pod that run, with when they began.
func started(pod *corev1.Pod) map[string]metav1.Time {
	out := map[string]metav1.Time{}
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses, pod.Status.EphemeralContainerStatuses} {
		for i := range list {
			if run := list[i].State.Running; run != nil {
				out[list[i].Name] = run.StartedAt
			}
		}
	}
	return out
}

func (s *Server) containerStats(name string, begin metav1.Time, c *runtimeapi.ContainerStats, brief bool) stats.ContainerStats {
	out := stats.ContainerStats{Name: name, StartTime: begin, CPU: s.cpu.cpu(c.GetAttributes().GetId(), c.Cpu), Memory: memory(c.Memory)}
	if u := c.Swap; u != nil {
		out.Swap = &stats.SwapStats{Time: metav1.NewTime(time.Unix(0, u.Timestamp)), SwapAvailableBytes: value(u.SwapAvailableBytes), SwapUsageBytes: value(u.SwapUsageBytes)}
	}
	if layer := c.WritableLayer; layer != nil && !brief {
		out.Rootfs = filesystem(layer.GetFsId().GetMountpoint(), value(layer.UsedBytes), value(layer.InodesUsed))
	}
	return out
}

// resourceMetrics answers the same figures in the form that metrics are scraped in.
func (s *Server) resourceMetrics(w http.ResponseWriter, r *http.Request) {
	var out metricsText
	got, err := s.measure(r.Context(), true)
	failed := 0.0
	if err != nil {
		s.log.Warn("measure for /metrics/resource", "error", err)
		failed, got = 1, &stats.Summary{}
	}
	out.summary(got)
	out.family("resource_scrape_error", "gauge", "1 if there was an error while getting container metrics, 0 otherwise")
	fmt.Fprintf(&out.Buffer, "resource_scrape_error %g\n", failed)
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	if _, err := w.Write(out.Bytes()); err != nil {
		s.log.Debug("answer not delivered", "error", err)
	}
}

// metricsText is written one family of metrics after the other.
type metricsText struct{ bytes.Buffer }

func (t *metricsText) family(name, kind, help string) {
	fmt.Fprintf(t, "# HELP %s [STABLE] %s\n# TYPE %s %s\n", name, help, name, kind)
}

func (t *metricsText) sample(name, labels string, v float64, at metav1.Time) {
	fmt.Fprintf(t, "%s%s %g %d\n", name, labels, v, at.UnixMilli())
}

// subject is what a metric tells of.
type subject struct {
	labels string
	cpu    *stats.CPUStats
	memory *stats.MemoryStats
	swap   *stats.SwapStats
	start  metav1.Time
}

func (t *metricsText) summary(in *stats.Summary) {
	var pods, containers []subject
	for i := range in.Pods {
		p := &in.Pods[i]
		of := fmt.Sprintf("namespace=%q,pod=%q}", p.PodRef.Namespace, p.PodRef.Name)
		pods = append(pods, subject{"{" + of, p.CPU, p.Memory, p.Swap, p.StartTime})
		for j := range p.Containers {
			c := &p.Containers[j]
			containers = append(containers, subject{fmt.Sprintf("{container=%q,%s", c.Name, of), c.CPU, c.Memory, c.Swap, c.StartTime})
		}
	}
	t.usage("container", "container", containers)
	t.family("container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds")
	for _, c := range containers {
		fmt.Fprintf(t, "container_start_time_seconds%s %.3f\n", c.labels, float64(c.start.UnixMilli())/1e3)
	}
	t.usage("node", "node", []subject{{"", in.Node.CPU, in.Node.Memory, in.Node.Swap, in.Node.StartTime}})
	t.usage("pod", "pod", pods)
}

func (t *metricsText) usage(prefix, what string, all []subject) {
	name := prefix + "_cpu_usage_seconds_total"
	t.family(name, "counter", "Cumulative cpu time consumed by the "+what+" in core-seconds")
	for _, s := range all {
		if s.cpu != nil && s.cpu.UsageCoreNanoSeconds != nil {
			t.sample(name, s.labels, float64(*s.cpu.UsageCoreNanoSeconds)/1e9, s.cpu.Time)
		}
	}
	name = prefix + "_memory_working_set_bytes"
	t.family(name, "gauge", "Current working set of the "+what+" in bytes")
	for _, s := range all {
		if s.memory != nil && s.memory.WorkingSetBytes != nil {
			t.sample(name, s.labels, float64(*s.memory.WorkingSetBytes), s.memory.Time)
		}
	}
	name = prefix + "_swap_usage_bytes"
	t.family(name, "gauge", "Current amount of the "+what+" swap usage in bytes")
	for _, s := range all {
		if s.swap != nil && s.swap.SwapUsageBytes != nil {
			t.sample(name, s.labels, float64(*s.swap.SwapUsageBytes), s.swap.Time)
		}
	}
}
