package kubelet

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	config "k8s.io/kubelet/config/v1beta1"

	"github.com/proa-dev/proa/kubelet/plan"
	"github.com/proa-dev/proa/kubelet/podspec"
)

// Metrics are the agent's own, counted when they are asked for.
// More are those of what it works with.
func (k *Kubelet) Metrics(more ...prometheus.Collector) prometheus.Gatherer {
	r := prometheus.NewRegistry()
	r.MustRegister(figures{k}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	r.MustRegister(k.counters.all...)
	r.MustRegister(more...)
	return r
}

// Probes are the results of probes.
func (k *Kubelet) Probes() prometheus.Gatherer {
	r := prometheus.NewRegistry()
	r.MustRegister(k.prober)
	return r
}

// Cgroup is the control group of a pod; "" when the runtime chose it.
func (k *Kubelet) Cgroup(pod *corev1.Pod) string {
	if k.groups == nil {
		return ""
	}
	return k.groups.Path(pod.UID, podspec.Class(pod))
}

// VolumePlaces are where a pod's volumes are, by name. It is never changed.
func (k *Kubelet) VolumePlaces(uid types.UID) map[string]string {
	w := k.worker(uid)
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.volumes // replaced as a whole when it changes
}

var (
	nodeName    = prometheus.NewDesc("kubelet_node_name", "The node's name. The count is always 1.", []string{"node"}, nil)
	desiredPods = prometheus.NewDesc("kubelet_desired_pods", "The number of pods the kubelet is being instructed to run. static is true if the pod is not from the apiserver.", []string{"static"}, nil)
	activePods  = prometheus.NewDesc("kubelet_active_pods", "The number of pods the kubelet considers active and which are being considered when admitting new pods. static is true if the pod is not from the apiserver.", []string{"static"}, nil)
	volumeCount = prometheus.NewDesc("volume_manager_total_volumes", "Number of volumes in Volume Manager", []string{"plugin_name", "state"}, nil)
	groupFormat = prometheus.NewDesc("kubelet_cgroup_version", "cgroup version on the hosts.", nil, nil)
	ephemeral   = prometheus.NewDesc("kubelet_managed_ephemeral_containers", "Current number of ephemeral containers in pods managed by this kubelet.", nil, nil)
	runningPods = prometheus.NewDesc("kubelet_running_pods", "Number of pods that have a running pod sandbox", nil, nil)
	containers  = prometheus.NewDesc("kubelet_running_containers", "Number of containers", []string{"container_state"}, nil)
)

// figures counts what the workers know; it asks nobody.
type figures struct{ k *Kubelet }

// Describe names the figures.
func (figures) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{nodeName, desiredPods, activePods, runningPods, containers, volumeCount, groupFormat, ephemeral} {
		out <- d
	}
}

// Collect counts them.
func (f figures) Collect(out chan<- prometheus.Metric) {
	desired, active, running, extra := 0, 0, 0, 0
	type volumes struct{ plugin, state string }
	counted := map[volumes]int{}
	states := map[plan.State]int{}
	for _, w := range f.k.all() {
		w.mu.Lock()
		if !w.orphan && !terminal(w.pod) {
			desired++
			extra += len(w.pod.Spec.EphemeralContainers)
			if w.admitted {
				active++
			}
			for i := range w.pod.Spec.Volumes {
				v := &w.pod.Spec.Volumes[i]
				counted[volumes{pluginOf(v), "desired_state_of_world"}]++
				if w.volumes[v.Name] != "" {
					counted[volumes{pluginOf(v), "actual_state_of_world"}]++
				}
			}
		}
		if w.observed != nil {
			if anyReady(w.observed) {
				running++
			}
			for i := range w.observed.Containers {
				states[w.observed.Containers[i].State]++
			}
		}
		w.mu.Unlock()
	}
	gauge := func(d *prometheus.Desc, n int, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	gauge(nodeName, 1, f.k.cfg.NodeName)
	gauge(desiredPods, desired, "")
	gauge(activePods, active, "")
	gauge(ephemeral, extra)
	for v, n := range counted {
		gauge(volumeCount, n, v.plugin, v.state)
	}
	if f.k.groups != nil {
		gauge(groupFormat, f.k.groups.Version())
	}
	gauge(runningPods, running)
	for state, name := range map[plan.State]string{plan.Created: "created", plan.Running: "running", plan.Exited: "exited", plan.Unknown: "unknown"} {
		gauge(containers, states[state], name)
	}
}

// Settings are the agent's, as /configz shows them; there are no secrets among them.
func (k *Kubelet) Settings() any {
	n := k.node
	out := &config.KubeletConfiguration{TypeMeta: metav1.TypeMeta{APIVersion: config.SchemeGroupVersion.String(), Kind: "KubeletConfiguration"},
		MaxPods: int32(k.cfg.MaxPods), Port: k.cfg.Port, ClusterDNS: k.cfg.ClusterDNS, ClusterDomain: k.cfg.ClusterDomain, CgroupRoot: k.cfg.CgroupRoot,
		CgroupDriver: "cgroupfs", CPUManagerPolicy: "none", MemoryManagerPolicy: "None", TopologyManagerPolicy: "none", PodLogsDir: k.cfg.LogRoot,
		SystemReserved: map[string]string{}, EvictionHard: n.Hard()}
	for name, q := range n.Reserved {
		out.SystemReserved[string(name)] = q.String()
	}
	no := false
	out.FailSwapOn, out.CPUCFSQuota = &no, new(bool)
	*out.CPUCFSQuota = true
	return out
}

// pluginOf is the name by which Kubernetes calls what makes a volume.
func pluginOf(v *corev1.Volume) string {
	s := &v.VolumeSource
	for name, is := range map[string]bool{
		"configmap": s.ConfigMap != nil, "secret": s.Secret != nil, "projected": s.Projected != nil, "empty-dir": s.EmptyDir != nil, "host-path": s.HostPath != nil,
		"downward-api": s.DownwardAPI != nil, "csi": s.CSI != nil, "nfs": s.NFS != nil, "image": s.Image != nil,
	} {
		if is {
			return "kubernetes.io/" + name
		}
	}
	return "kubernetes.io/claim" // which may be anything
}
