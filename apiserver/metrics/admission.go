package metrics

import (
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/proa-dev/proa/access/admission"
)

// Seconds that a step of admission takes, and one that asks a webhook.
var (
	stepBuckets = []float64{0.005, 0.025, 0.1, 0.5, 1.0, 2.5}
	hookBuckets = []float64{0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10, 25}
)

// Admission counts what admission takes. It implements admission.Observer.
type Admission struct {
	whole, plugins, hooks *prometheus.HistogramVec
	calls, failedOpen     *prometheus.CounterVec
	refusals              *prometheus.CounterVec

	mu    sync.RWMutex
	known map[step]prometheus.Observer
}

// step is what a duration is counted under; name is empty for the whole of a phase.
type step struct {
	name     string
	phase    admission.Phase
	op       admission.Operation
	rejected bool
}

func newAdmission() *Admission {
	labels := []string{"type", "operation", "rejected"}
	named := append([]string{"name"}, labels...)
	histogram := func(name, help string, buckets []float64, labels []string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "apiserver_admission_" + name, Help: help, Buckets: buckets}, labels)
	}
	count := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "apiserver_admission_webhook_" + name, Help: help}, labels)
	}
	return &Admission{
		whole:   histogram("step_admission_duration_seconds", "Admission sub-step latency histogram in seconds, broken out for each operation and API resource and step type (validate or admit).", stepBuckets, labels),
		plugins: histogram("controller_admission_duration_seconds", "Admission controller latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit).", stepBuckets, named),
		hooks:   histogram("webhook_admission_duration_seconds", "Admission webhook latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit).", hookBuckets, named),
		calls:   count("request_total", "Admission webhook request total, identified by name and broken out for each admission type (validating or admit) and operation.", append(named, "code")...),
		failedOpen: count("fail_open_count", "Admission webhook fail open count, identified by name and broken out for each admission type (validating or admit).",
			"name", "type"),
		refusals: count("rejection_count", "Admission webhook rejection count, identified by name and broken out for each admission type (validating or admit) and operation.",
			"name", "type", "operation", "error_type", "rejection_code"),
		known: map[step]prometheus.Observer{},
	}
}

func (a *Admission) collectors() []prometheus.Collector {
	return []prometheus.Collector{a.whole, a.plugins, a.hooks, a.calls, a.failedOpen, a.refusals}
}

// Phase counts all steps of a phase together.
func (a *Admission) Phase(phase admission.Phase, op admission.Operation, rejected bool, took time.Duration) {
	a.observer(step{phase: phase, op: op, rejected: rejected}).Observe(took.Seconds())
}

// Step counts one step.
func (a *Admission) Step(name string, phase admission.Phase, op admission.Operation, rejected bool, took time.Duration) {
	a.observer(step{name, phase, op, rejected}).Observe(took.Seconds())
}

func (a *Admission) observer(s step) prometheus.Observer {
	a.mu.RLock()
	o := a.known[s]
	a.mu.RUnlock()
	if o != nil {
		return o
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	labels := []string{string(s.phase), string(s.op), strconv.FormatBool(s.rejected)}
	if s.name == "" {
		o = a.whole.WithLabelValues(labels...)
	} else {
		o = a.plugins.WithLabelValues(append([]string{s.name}, labels...)...)
	}
	a.known[s] = o
	return o
}

// maxCode bounds the codes of webhooks that are told apart.
const maxCode = 600

// Webhook counts a call of a webhook.
func (a *Admission) Webhook(c admission.WebhookCall) {
	phase, op, rejected := string(c.Phase), string(c.Operation), strconv.FormatBool(c.Rejected)
	code := strconv.Itoa(min(c.Code, maxCode))
	a.hooks.WithLabelValues(c.Name, phase, op, rejected).Observe(c.Took.Seconds())
	a.calls.WithLabelValues(c.Name, phase, op, rejected, code).Inc()
	switch {
	case c.FailedOpen:
		a.failedOpen.WithLabelValues(c.Name, phase).Inc()
	case c.Failed:
		a.refusals.WithLabelValues(c.Name, phase, op, "calling_webhook_error", "0").Inc()
	case c.Rejected:
		a.refusals.WithLabelValues(c.Name, phase, op, "no_error", code).Inc()
	}
}
