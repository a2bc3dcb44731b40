package server

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	corev1 "k8s.io/api/core/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// claimed is a volume of a pod that is a claim's.
type claimed struct {
	volume, claim string
	fs            *stats.FsStats
}

// claims measures the volumes of a pod that were claimed.
func (s *Server) claims(pod *corev1.Pod) []claimed {
	if s.cfg.Volumes == nil {
		return nil
	}
	var out []claimed
	var places map[string]string
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		name := ""
		switch {
		case v.PersistentVolumeClaim != nil:
			name = v.PersistentVolumeClaim.ClaimName
		case v.Ephemeral != nil:
			name = pod.Name + "-" + v.Name
		default:
			continue
		}
		if places == nil {
			places = s.cfg.Volumes(pod.UID)
		}
		if places[v.Name] == "" {
			continue
		}
		if fs := filesystem(places[v.Name], nil, nil); fs != nil {
			out = append(out, claimed{v.Name, name, fs})
		}
	}
	return out
}

// volumeFigures tells how full claimed volumes are, when it is asked.
type volumeFigures struct{ s *Server }

// figure is one of a volume's.
type figure struct {
	desc *prometheus.Desc
	of   func(*stats.FsStats) *uint64
}

func volumeFigure(name, help string, of func(*stats.FsStats) *uint64) figure {
	return figure{prometheus.NewDesc("kubelet_volume_stats_"+name, help, []string{"namespace", "persistentvolumeclaim"}, nil), of}
}

var volumeDescs = []figure{
	volumeFigure("capacity_bytes", "Capacity in bytes of the volume", func(f *stats.FsStats) *uint64 { return f.CapacityBytes }),
	volumeFigure("available_bytes", "Number of available bytes in the volume", func(f *stats.FsStats) *uint64 { return f.AvailableBytes }),
	volumeFigure("used_bytes", "Number of used bytes in the volume", func(f *stats.FsStats) *uint64 { return f.UsedBytes }),
	volumeFigure("inodes", "Maximum number of inodes in the volume", func(f *stats.FsStats) *uint64 { return f.Inodes }),
	volumeFigure("inodes_free", "Number of free inodes in the volume", func(f *stats.FsStats) *uint64 { return f.InodesFree }),
	volumeFigure("inodes_used", "Number of used inodes in the volume", func(f *stats.FsStats) *uint64 { return f.InodesUsed }),
}

// Describe names them.
func (volumeFigures) Describe(to chan<- *prometheus.Desc) {
	for _, d := range volumeDescs {
		to <- d.desc
	}
}

// Collect measures each claim once, however many pods use it.
func (v volumeFigures) Collect(to chan<- prometheus.Metric) {
	type name struct{ namespace, claim string }
	seen := map[name]bool{}
	for _, pod := range v.s.cfg.Pods.Pods() {
		for _, c := range v.s.claims(pod) {
			if n := (name{pod.Namespace, c.claim}); seen[n] {
				continue
			} else {
				seen[n] = true
			}
			for _, d := range volumeDescs {
				if n := d.of(c.fs); n != nil {
					to <- prometheus.MustNewConstMetric(d.desc, prometheus.GaugeValue, float64(*n), pod.Namespace, c.claim)
				}
			}
		}
	}
}

// scrapes is how many scrapes are answered at the same time.
const scrapes = 4

// gathered answers what is asked for by Prometheus; without anything to tell it is not there.
func gathered(all ...prometheus.Gatherer) http.Handler {
	var some prometheus.Gatherers
	for _, g := range all {
		if g != nil {
			some = append(some, g)
		}
	}
	if some == nil {
		return http.NotFoundHandler()
	}
	return promhttp.HandlerFor(some, promhttp.HandlerOpts{MaxRequestsInFlight: scrapes, ErrorHandling: promhttp.ContinueOnError})
}

// metricsHandler answers the agent's own figures, and how full claimed volumes are.
func (s *Server) metricsHandler() http.Handler {
	if s.cfg.Metrics == nil {
		return gathered()
	}
	own := prometheus.NewRegistry()
	own.MustRegister(volumeFigures{s})
	return gathered(s.cfg.Metrics, own)
}
