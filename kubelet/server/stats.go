package server

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"github.com/proa-dev/proa/internal/nodeusage"
	"github.com/proa-dev/proa/kubelet/cri"
	"github.com/proa-dev/proa/kubelet/usage"
)

func isGone(err error) bool { return status.Code(err) == codes.NotFound }

// answerNodeUsage tells the API server what pods use; see nodeusage.
func (s *Server) answerNodeUsage(w http.ResponseWriter, r *http.Request) {
	got, err := s.samples.use(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.writeJSON(w, report(got))
}

func report(in *reading) *nodeusage.Report {
	out := &nodeusage.Report{Pods: make([]nodeusage.Pod, 0, len(in.pods))}
	out.Node, _ = use(&in.node)
	for i := range in.pods {
		p := &in.pods[i]
		one := nodeusage.Pod{Namespace: p.pod.Namespace, Name: p.pod.Name, UID: string(p.pod.UID)}
		for j := range p.containers {
			u, known := use(&p.containers[j].measured)
			if !known || u.Memory == 0 {
				one.Containers = nil // half a figure is none
				break
			}
			one.Containers = append(one.Containers, nodeusage.Container{Name: p.containers[j].name, Use: u})
		}
		if len(one.Containers) > 0 {
			out.Pods = append(out.Pods, one)
		}
	}
	return out
}

func use(x *measured) (nodeusage.Use, bool) {
	if x.nanocores == nil {
		return nodeusage.Use{}, false
	}
	return nodeusage.Use{At: x.At, Window: x.window, CPU: *x.nanocores, Memory: x.Memory.WorkingSet}, true
}

// summary answers what the node, its pods and their containers use.
func (s *Server) summary(w http.ResponseWriter, r *http.Request) {
	got, err := s.samples.use(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	brief := r.URL.Query().Get("only_cpu_and_memory") == "true"
	var layers map[string]*runtimeapi.FilesystemUsage
	if !brief {
		layers = s.layers(r.Context())
	}
	s.writeJSON(w, s.summarize(r.Context(), got, layers, brief))
}

// layers are what containers wrote, by id. Without an answer there are no such figures.
func (s *Server) layers(ctx context.Context) map[string]*runtimeapi.FilesystemUsage {
	got, err := s.cfg.Runtime.ListContainerStats(ctx, &runtimeapi.ListContainerStatsRequest{})
	if err != nil {
		s.log.Warn("ask the runtime what containers wrote", "error", err)
		return nil
	}
	out := make(map[string]*runtimeapi.FilesystemUsage, len(got.Stats))
	for _, c := range got.Stats {
		if c.GetAttributes().GetLabels()[cri.LabelContainer] != "" && c.WritableLayer != nil {
			out[c.Attributes.Id] = c.WritableLayer
		}
	}
	return out
}

func (s *Server) summarize(ctx context.Context, in *reading, layers map[string]*runtimeapi.FilesystemUsage, brief bool) *stats.Summary {
	out := &stats.Summary{Pods: make([]stats.PodStats, 0, len(in.pods))}
	n := &out.Node
	n.NodeName, n.StartTime = s.cfg.NodeName, metav1.NewTime(bootTime())
	n.CPU, n.Memory = cpuStats(&in.node), memoryStats(&in.node, 0)
	m := table(readText("/proc/meminfo"))
	free, swapFree := m["MemAvailable"], m["SwapFree"]
	n.Memory.AvailableBytes = &free
	n.Swap = swapStats(&in.node)
	n.Swap.SwapAvailableBytes = &swapFree
	if !brief {
		n.Network, n.Fs = nodeNetwork(), filesystem("/", nil, nil)
		images := s.imageFilesystem(ctx)
		n.Runtime = &stats.RuntimeStats{ImageFs: images, ContainerFs: images}
		n.SystemContainers = s.systemContainers()
	}
	for i := range in.pods {
		out.Pods = append(out.Pods, s.podStats(&in.pods[i], layers, brief))
	}
	return out
}

// systemContainers are the pods as a whole.
func (s *Server) systemContainers() []stats.ContainerStats {
	if s.cfg.CgroupRoot == "" {
		return nil
	}
	f, ok := s.usage.Brief(s.cfg.CgroupRoot)
	if !ok {
		return nil
	}
	x := &measured{Figures: f}
	return []stats.ContainerStats{{Name: stats.SystemContainerPods, CPU: cpuStats(x), Memory: memoryStats(x, 0)}}
}

func bootTime() time.Time { return time.Unix(int64(table(readText("/proc/stat"))["btime"]), 0) }

func (s *Server) podStats(p *podReading, layers map[string]*runtimeapi.FilesystemUsage, brief bool) stats.PodStats {
	out := stats.PodStats{PodRef: stats.PodReference{Name: p.pod.Name, Namespace: p.pod.Namespace, UID: string(p.pod.UID)}, Containers: []stats.ContainerStats{}}
	if p.pod.Status.StartTime != nil {
		out.StartTime = *p.pod.Status.StartTime
	}
	for i := range p.containers {
		c := &p.containers[i]
		one := stats.ContainerStats{Name: c.name, StartTime: c.begun, CPU: cpuStats(&c.measured), Swap: swapStats(&c.measured)}
		if brief {
			one.Memory = memoryStats(&c.measured, 0)
		} else {
			one.Memory = memoryStats(&c.measured, s.usage.Limits(c.group).Memory)
		}
		if layer := layers[c.id]; layer != nil {
			one.Rootfs = filesystem(layer.GetFsId().GetMountpoint(), value(layer.UsedBytes), value(layer.InodesUsed))
		}
		out.Containers = append(out.Containers, one)
	}
	out.CPU, out.Memory, out.Swap = cpuStats(&p.measured), memoryStats(&p.measured, 0), swapStats(&p.measured)
	if brief {
		return out
	}
	if f, ok := s.usage.All(p.group); ok {
		out.ProcessStats = &stats.ProcessStats{ProcessCount: &f.Threads}
	}
	out.Network, out.VolumeStats = s.podNetwork(p), s.volumeStats(p.pod)
	return out
}

// podInterfaces are those of a pod that has a network of its own.
func (s *Server) podInterfaces(p *podReading) []usage.Interface {
	if p.pod.Spec.HostNetwork {
		return nil
	}
	groups := s.usage.Children(p.group)
	for _, id := range append([]string{p.sandbox}, ids(p.containers)...) {
		child := ""
		if id != "" {
			child = groupOf(groups, id)
		}
		if child == "" {
			continue
		}
		if pid, ok := s.usage.Process(p.group + "/" + child); ok {
			if all, err := usage.Interfaces(pid); err == nil { // it may have ended meanwhile
				return all
			}
		}
	}
	return nil
}

func ids(all []containerReading) []string {
	out := make([]string, len(all))
	for i := range all {
		out[i] = all[i].id
	}
	return out
}

func (s *Server) podNetwork(p *podReading) *stats.NetworkStats {
	var out *stats.NetworkStats
	for _, l := range s.podInterfaces(p) {
		one := stats.InterfaceStats{Name: l.Name, RxBytes: &l.RxBytes, RxErrors: &l.RxErrors, TxBytes: &l.TxBytes, TxErrors: &l.TxErrors}
		if out == nil {
			out = &stats.NetworkStats{Time: metav1.Now(), InterfaceStats: one}
		}
		out.Interfaces = append(out.Interfaces, one)
	}
	return out
}

// volumeStats are those of volumes that are claimed, which have a filesystem of their own.
func (s *Server) volumeStats(pod *corev1.Pod) []stats.VolumeStats {
	var out []stats.VolumeStats
	for _, c := range s.claims(pod) {
		out = append(out, stats.VolumeStats{FsStats: *c.fs, Name: c.volume, PVCRef: &stats.PVCReference{Namespace: pod.Namespace, Name: c.claim}})
	}
	return out
}

func cpuStats(x *measured) *stats.CPUStats {
	total := uint64(x.CPU.Total)
	return &stats.CPUStats{Time: metav1.NewTime(x.At), UsageCoreNanoSeconds: &total, UsageNanoCores: x.nanocores}
}

// memoryStats: most is the limit, or 0.
func memoryStats(x *measured, most uint64) *stats.MemoryStats {
	m := x.Memory
	out := &stats.MemoryStats{Time: metav1.NewTime(x.At), UsageBytes: &m.Usage, WorkingSetBytes: &m.WorkingSet, RSSBytes: &m.RSS, PageFaults: &m.Faults, MajorPageFaults: &m.MajorFaults}
	if most > 0 {
		free := most - min(most, m.WorkingSet)
		out.AvailableBytes = &free
	}
	return out
}

func swapStats(x *measured) *stats.SwapStats {
	used := x.Memory.Swap
	return &stats.SwapStats{Time: metav1.NewTime(x.At), SwapUsageBytes: &used}
}

// writeJSON answers with an object; a client that went away is no error of ours.
func (s *Server) writeJSON(w http.ResponseWriter, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if _, err := w.Write(body); err != nil {
		s.log.Debug("answer not delivered", "error", err)
	}
}
