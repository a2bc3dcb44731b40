// Package metrics counts what the API server does, under the names that Kubernetes'
// dashboards and alerts know.
//
// The one idea: a request finds its counters by one map look-up, by a key whose parts are all
// from closed sets (verbs, served resources, status codes), so that no client can make them
// grow; everything that can be counted at the time of a scrape (objects, queues) is.
//
// Used by apiserver, which counts and serves /metrics, and by cluster.
package metrics

import (
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Request is what a request is counted under.
type Request struct {
	Verb                                  string // "GET", "LIST", "WATCH", "APPLY", ...
	Group, Version, Resource, Subresource string
	Scope                                 string // "resource", "namespace", "cluster" or ""
	DryRun                                bool
}

// maxKinds bounds the kinds of requests that are told apart; custom resources come and go.
const maxKinds = 20000

// other is what all further ones are counted under.
var other = Request{Verb: "other"}

// Registry counts; safe for concurrent use.
type Registry struct {
	Admission *Admission
	Access    *Access
	Watch     *Watch

	own      *prometheus.Registry
	handler  http.Handler
	total    *prometheus.CounterVec
	duration *prometheus.HistogramVec
	sli      *prometheus.HistogramVec
	sizes    *prometheus.HistogramVec
	long     *prometheus.GaugeVec
	ended    *prometheus.CounterVec
	old      *prometheus.GaugeVec

	reading, writing atomic.Int64

	mu    sync.RWMutex
	known map[Request]*Counters
}

// Counters are those of one kind of request.
type Counters struct {
	r        *Registry
	request  Request
	duration prometheus.Observer
	sli      prometheus.Observer
	size     prometheus.Observer // nil: not of interest
	long     prometheus.Gauge
	mu       sync.RWMutex
	codes    map[int]prometheus.Counter
}

// Seconds that upstream's dashboards expect; those of the objective begin at its first limit.
var (
	buckets = []float64{
		0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60,
	}
	sliBuckets = buckets[2:]
)

var requestLabels = []string{"verb", "group", "version", "resource", "subresource", "scope", "component"}

// New makes a registry. collectors are asked at each scrape.
func New(collectors ...prometheus.Collector) *Registry {
	r := &Registry{
		own: prometheus.NewRegistry(), known: map[Request]*Counters{},
		Admission: newAdmission(), Access: newAccess(), Watch: newWatch(),
	}
	r.total = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "apiserver_request_total",
		Help: "Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.",
	}, append([]string{"code", "dry_run"}, requestLabels...))
	r.duration = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "apiserver_request_duration_seconds", Buckets: buckets,
		Help: "Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component.",
	}, append([]string{"dry_run"}, requestLabels...))
	r.sli = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "apiserver_request_sli_duration_seconds", Buckets: sliBuckets,
		Help: "Response latency distribution (not counting webhook duration and priority & fairness queue wait times) in seconds for each verb, group, version, resource, subresource, scope and component.",
	}, requestLabels)
	r.sizes = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "apiserver_response_sizes", Buckets: prometheus.ExponentialBuckets(1000, 10, 7),
		Help: "Response size distribution in bytes for each group, version, verb, resource, subresource, scope and component.",
	}, requestLabels)
	r.long = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "apiserver_longrunning_requests",
		Help: "Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component. Not all requests are tracked this way.",
	}, requestLabels)
	r.ended = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "apiserver_request_terminations_total",
		Help: "Number of requests which apiserver terminated in self-defense.",
	}, append([]string{"code"}, requestLabels...))
	r.old = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "apiserver_requested_deprecated_apis",
		Help: "Gauge of deprecated APIs that have been requested, broken out by API group, version, resource, subresource, and removed_release.",
	}, []string{"group", "version", "resource", "subresource", "removed_release"})
	inflight := func(kind string, n *atomic.Int64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "apiserver_current_inflight_requests", ConstLabels: prometheus.Labels{"request_kind": kind},
			Help: "Maximal number of currently used inflight request limit of this apiserver per request kind in last second.",
		}, func() float64 { return float64(n.Load()) })
	}
	r.own.MustRegister(r.Admission.collectors()...)
	r.own.MustRegister(r.Access.collectors()...)
	r.own.MustRegister(r.Watch.collectors()...)
	r.own.MustRegister(r.total, r.duration, r.sli, r.sizes, r.long, r.ended, r.old, inflight("readOnly", &r.reading), inflight("mutating", &r.writing))
	r.own.MustRegister(collectors...)
	// The default registry has the process's, Go's and etcd's.
	both := prometheus.Gatherers{r.own, prometheus.DefaultGatherer}
	r.handler = promhttp.HandlerFor(both, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4})
	return r
}

// Deprecated notes that a resource was asked for that goes out of use; removed is the release without it, if that is known.
func (r *Registry) Deprecated(group, version, resource, subresource, removed string) {
	r.old.WithLabelValues(group, version, resource, subresource, removed).Set(1)
}

// ServeHTTP answers a scrape.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) { r.handler.ServeHTTP(w, req) }

// Of finds the counters of a kind of request.
func (r *Registry) Of(req Request) *Counters {
	r.mu.RLock()
	c := r.known[req]
	r.mu.RUnlock()
	if c != nil {
		return c
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.known) >= maxKinds && r.known[req] == nil {
		req = other
	}
	if c = r.known[req]; c != nil {
		return c
	}
	c = &Counters{r: r, request: req, codes: map[int]prometheus.Counter{}}
	labels := c.labels()
	c.long, c.sli = r.long.With(labels), r.sli.With(labels)
	if req.Verb == "GET" || req.Verb == "LIST" {
		c.size = r.sizes.With(labels)
	}
	labels["dry_run"] = c.dryRun()
	c.duration = r.duration.With(labels)
	r.known[req] = c
	return c
}

func (c *Counters) labels() prometheus.Labels {
	q := c.request
	return prometheus.Labels{
		"verb": q.Verb, "group": q.Group, "version": q.Version, "resource": q.Resource, "subresource": q.Subresource,
		"scope": q.Scope, "component": "apiserver",
	}
}

func (c *Counters) dryRun() string {
	if c.request.DryRun {
		return "All"
	}
	return ""
}

// Done counts a request that has ended with a status code and an answer of so many bytes;
// elsewhere is the part of the time that others took: a queue, webhooks.
func (c *Counters) Done(code int, took, elsewhere time.Duration, bytes int64) {
	c.count(code).Inc()
	c.duration.Observe(took.Seconds())
	c.sli.Observe((took - elsewhere).Seconds())
	if c.size != nil {
		c.size.Observe(float64(bytes))
	}
}

// Begin and End are around a request that lasts as long as its client likes.
func (c *Counters) Begin() { c.long.Inc() }

// End counts it, without a duration.
func (c *Counters) End(code int) {
	c.long.Dec()
	c.count(code).Inc()
}

// Terminated counts a request that was refused or given up for the server's own sake.
func (c *Counters) Terminated(code int) {
	labels := c.labels()
	labels["code"] = strconv.Itoa(code)
	c.r.ended.With(labels).Inc()
}

func (c *Counters) count(code int) prometheus.Counter {
	c.mu.RLock()
	n := c.codes[code]
	c.mu.RUnlock()
	if n != nil {
		return n
	}
	if code < 100 || code > 599 {
		code = 0 // a backend's own idea of a code
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	labels := c.labels()
	labels["code"], labels["dry_run"] = strconv.Itoa(code), c.dryRun()
	n = c.r.total.With(labels)
	c.codes[code] = n
	return n
}

// Reading and Writing count the requests in progress: with 1 as they begin, with -1 at the end.
func (r *Registry) Reading(n int64) { r.reading.Add(n) }

// Writing is Reading for requests that change something.
func (r *Registry) Writing(n int64) { r.writing.Add(n) }
