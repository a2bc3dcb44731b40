package metrics

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/version"

	"github.com/proa-dev/proa/access/audit"
	"github.com/proa-dev/proa/apiserver/fairness"
	"github.com/proa-dev/proa/store"
)

// collector is asked at each scrape.
type collector struct {
	describe []*prometheus.Desc
	collect  func(chan<- prometheus.Metric)
}

func (c collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range c.describe {
		to <- d
	}
}

func (c collector) Collect(to chan<- prometheus.Metric) { c.collect(to) }

func gauge(d *prometheus.Desc, v float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func counter(d *prometheus.Desc, v int64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

// Objects counts what the store holds, by resource.
func Objects(s *store.Store) prometheus.Collector {
	old := prometheus.NewDesc("apiserver_storage_objects", "Number of stored objects at the time of last check split by kind.", []string{"resource"}, nil)
	now := prometheus.NewDesc("apiserver_resource_objects", "Number of stored objects at the time of last check split by kind.", []string{"group", "resource"}, nil)
	return collector{[]*prometheus.Desc{old, now}, func(to chan<- prometheus.Metric) {
		for _, c := range s.Collections() {
			snap, err := c.Snapshot(context.Background(), store.Any)
			if err != nil {
				continue
			}
			gr, n := c.Kind().GroupResource(), float64(snap.Len(""))
			to <- gauge(old, n, gr.String())
			to <- gauge(now, n, gr.Group, gr.Resource)
		}
	}}
}

// Fairness shows the state of priority and fairness.
func Fairness(f *fairness.Fairness) prometheus.Collector {
	level := []string{"priority_level"}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("apiserver_flowcontrol_"+name, help, append(labels, level...), nil)
	}
	nominal := desc("nominal_limit_seats", "Nominal number of execution seats configured for each priority level")
	reserved := desc("lower_limit_seats", "Configured lower bound on number of execution seats available to each priority level")
	upper := desc("upper_limit_seats", "Configured upper bound on number of execution seats available to each priority level")
	limit := desc("current_limit_seats", "current derived number of execution seats available to each priority level")
	seats := desc("current_executing_seats", "Concurrency (number of seats) occupied by the currently executing requests in the API Priority and Fairness subsystem")
	running := desc("current_executing_requests", "Number of requests in initial (for a WATCH) or any (for a non-WATCH) execution stage in the API Priority and Fairness subsystem")
	waiting := desc("current_inqueue_requests", "Number of requests currently pending in queues of the API Priority and Fairness subsystem")
	dispatched := desc("dispatched_requests_total", "Number of requests executed by API Priority and Fairness subsystem", "flow_schema")
	rejected := desc("rejected_requests_total", "Number of requests rejected by API Priority and Fairness subsystem", "flow_schema", "reason")
	waited := desc("request_wait_duration_seconds", "Length of time a request spent waiting in its queue", "flow_schema")
	all := []*prometheus.Desc{nominal, reserved, upper, limit, seats, running, waiting, dispatched, rejected, waited}
	return collector{all, func(to chan<- prometheus.Metric) {
		for _, l := range f.Levels() {
			to <- gauge(nominal, float64(l.Nominal), l.Name)
			to <- gauge(reserved, float64(l.Reserved), l.Name)
			to <- gauge(upper, float64(l.Most), l.Name)
			to <- gauge(limit, float64(max(l.Nominal, l.Used)), l.Name)
			to <- gauge(seats, float64(l.Used), l.Name)
			to <- gauge(running, float64(l.Running), l.Name)
			to <- gauge(waiting, float64(l.Waiting), l.Name)
		}
		for _, s := range f.Schemas() {
			to <- counter(dispatched, s.Dispatched, s.Name, s.Level)
			to <- waits(waited, &s)
			for reason, n := range map[string]int64{"concurrency-limit": s.RejectedLimit, "queue-full": s.RejectedFull, "time-out": s.RejectedTime, "cancelled": s.Cancelled} {
				if n > 0 {
					to <- counter(rejected, n, s.Name, reason, s.Level)
				}
			}
		}
	}}
}

// Audit shows what the audit log keeps and loses; nothing without one.
func Audit(l *audit.Log) prometheus.Collector {
	if l == nil {
		return collector{collect: func(chan<- prometheus.Metric) {}}
	}
	events := prometheus.NewDesc("apiserver_audit_event_total", "Counter of audit events generated and sent to the audit backend.", nil, nil)
	levels := prometheus.NewDesc("apiserver_audit_level_total", "Counter of policy levels for audit events (1 per request).", []string{"level"}, nil)
	lost := prometheus.NewDesc("apiserver_audit_error_total", "Counter of audit events that failed to be audited properly. Plugin identifies the plugin affected by the error.", []string{"plugin"}, nil)
	return collector{[]*prometheus.Desc{events, levels, lost}, func(to chan<- prometheus.Metric) {
		to <- counter(events, l.Events())
		for level, n := range l.Levels() {
			to <- counter(levels, n, level)
		}
		for plugin, n := range l.Errors() {
			to <- counter(lost, n, plugin)
		}
	}}
}

func waits(d *prometheus.Desc, s *fairness.Schema) prometheus.Metric {
	total, buckets := uint64(0), map[float64]uint64{}
	for i, n := range s.Waits {
		total += uint64(n)
		if i < len(fairness.Waits) {
			buckets[fairness.Waits[i]] = total
		}
	}
	return prometheus.MustNewConstHistogram(d, total, s.Waiting.Seconds(), buckets, s.Name, s.Level)
}

// Build shows the version.
func Build(v version.Info) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "kubernetes_build_info",
		Help: "A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.",
		ConstLabels: prometheus.Labels{
			"major": v.Major, "minor": v.Minor, "git_version": v.GitVersion, "git_commit": v.GitCommit,
			"git_tree_state": v.GitTreeState, "build_date": v.BuildDate, "go_version": v.GoVersion, "compiler": v.Compiler, "platform": v.Platform,
		},
	}, func() float64 { return 1 })
}
