package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/proa-dev/proa/access"
)

// Access counts who was let in.
type Access struct {
	users, attempts, authorizations *prometheus.CounterVec
	identified, authorized          *prometheus.HistogramVec
	certificates                    prometheus.Histogram

	known    map[string]prometheus.Counter
	accepted result
	refused  result
	decided  map[access.Decision]result
}

// result is a counter and the durations of what it counts.
type result struct {
	n     prometheus.Counter
	times prometheus.Observer
}

func (r *result) add(took time.Duration) {
	r.n.Inc()
	r.times.Observe(took.Seconds())
}

// knownUsers are told apart; all other names are one, or clients could make the list grow.
var knownUsers = []string{"admin", "client", "kube_proxy", "kubelet", "system:serviceaccount:kube-system:default"}

const otherUsers = "other"

func newAccess() *Access {
	times := prometheus.ExponentialBuckets(0.001, 2, 15)
	count := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	durations := func(name, help string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: times}, []string{"result"})
	}
	a := &Access{
		users:          count("authenticated_user_requests", "Counter of authenticated requests broken out by username.", "username"),
		attempts:       count("authentication_attempts", "Counter of authenticated attempts.", "result"),
		authorizations: count("authorization_attempts_total", "Counter of authorization attempts broken down by result. It can be either 'allowed', 'denied', 'no-opinion' or 'error'.", "result"),
		identified:     durations("authentication_duration_seconds", "Authentication duration in seconds broken out by result."),
		authorized:     durations("authorization_duration_seconds", "Authorization duration in seconds broken out by result."),
		certificates: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "apiserver_client_certificate_expiration_seconds",
			Help:    "Distribution of the remaining lifetime on the certificate used to authenticate a request.",
			Buckets: []float64{0, 1800, 3600, 7200, 21600, 43200, 86400, 172800, 345600, 604800, 2592000, 7776000, 15552000, 31104000},
		}),
		known: map[string]prometheus.Counter{}, decided: map[access.Decision]result{},
	}
	for _, name := range append(knownUsers, otherUsers) {
		a.known[name] = a.users.WithLabelValues(name)
	}
	of := func(n *prometheus.CounterVec, times *prometheus.HistogramVec, label string) result {
		return result{n.WithLabelValues(label), times.WithLabelValues(label)}
	}
	a.accepted, a.refused = of(a.attempts, a.identified, "success"), of(a.attempts, a.identified, "failure")
	for d, label := range map[access.Decision]string{access.Allow: "allowed", access.Deny: "denied", access.NoOpinion: "no-opinion"} {
		a.decided[d] = of(a.authorizations, a.authorized, label)
	}
	return a
}

func (a *Access) collectors() []prometheus.Collector {
	return []prometheus.Collector{a.users, a.attempts, a.authorizations, a.identified, a.authorized, a.certificates}
}

// Identified counts a request whose user is known.
func (a *Access) Identified(user string, took time.Duration) {
	a.accepted.add(took)
	n := a.known[user]
	if n == nil {
		n = a.known[otherUsers]
	}
	n.Inc()
}

// Stranger counts a request whose credentials nobody accepted.
func (a *Access) Stranger(took time.Duration) { a.refused.add(took) }

// Certificate counts the time that a client's certificate has left.
func (a *Access) Certificate(left time.Duration) { a.certificates.Observe(left.Seconds()) }

// Decided counts an authorization.
func (a *Access) Decided(d access.Decision, took time.Duration) {
	if r, ok := a.decided[d]; ok {
		r.add(took)
	}
}
