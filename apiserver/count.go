package apiserver

import (
	"bufio"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/proa-dev/proa/access/admission"
	"github.com/proa-dev/proa/access/webhook"
	"github.com/proa-dev/proa/apiserver/metrics"
)

// sent is the way of an answer to the client; it remembers the status code.
type sent struct {
	http.ResponseWriter
	code  int // 0: none yet
	bytes int64
	// begun is told the code when the answer begins; nil: nobody is.
	begun func(code int)
}

func (s *sent) begin(code int) {
	if s.code != 0 {
		return
	}
	s.code = code
	if s.begun != nil {
		s.begun(code)
	}
}

func (s *sent) WriteHeader(code int) {
	if code >= http.StatusOK {
		s.begin(code)
	}
	s.ResponseWriter.WriteHeader(code)
}

func (s *sent) Write(b []byte) (int, error) {
	s.begin(http.StatusOK)
	n, err := s.ResponseWriter.Write(b)
	s.bytes += int64(n)
	return n, err
}

// Flush passes on what was written.
func (s *sent) Flush() {
	if f, ok := s.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

// Hijack takes over the connection, for tunnels; HTTP/2 has none to give.
func (s *sent) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	h, ok := s.ResponseWriter.(http.Hijacker)
	if !ok {
		return nil, nil, http.ErrNotSupported
	}
	s.begin(http.StatusSwitchingProtocols)
	return h.Hijack()
}

// Unwrap lets http.ResponseController find what else the writer can do.
func (s *sent) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// begin counts a request that was admitted as one in progress; the result ends that.
func (r *request) begin() func() {
	m := r.s.metrics
	switch {
	case r.long():
		c := m.Of(r.counted())
		c.Begin()
		r.began = true
		return func() { c.End(r.sent.status()) }
	case r.writes():
		m.Writing(1)
		return func() { m.Writing(-1) }
	}
	m.Reading(1)
	return func() { m.Reading(-1) }
}

// count counts a request that is over.
func (r *request) count(since time.Time) {
	if !r.began {
		r.s.metrics.Of(r.counted()).Done(r.sent.status(), time.Since(since), r.elsewhere, r.sent.bytes)
	}
}

// observed is a request that is told what its admission takes.
type observed request

// Phase implements admission.Observer, as Step and Webhook do.
func (o *observed) Phase(phase admission.Phase, op admission.Operation, rejected bool, took time.Duration) {
	o.s.metrics.Admission.Phase(phase, op, rejected, took)
}

func (o *observed) Step(name string, phase admission.Phase, op admission.Operation, rejected bool, took time.Duration) {
	if name == webhook.MutatingName || name == webhook.ValidatingName {
		o.elsewhere += took
	}
	o.s.metrics.Admission.Step(name, phase, op, rejected, took)
}

func (o *observed) Webhook(c admission.WebhookCall) { o.s.metrics.Admission.Webhook(c) }

func (s *sent) status() int {
	if s.code == 0 {
		return http.StatusOK
	}
	return s.code
}

func (r *request) writes() bool {
	return r.r.Method != http.MethodGet && r.r.Method != http.MethodHead
}

// countedVerbs are those of metrics, by those of requests.
var countedVerbs = map[string]string{
	"get": "GET", "list": "LIST", "watch": "WATCH", "create": "POST", "update": "PUT", "patch": "PATCH",
	"delete": "DELETE", "deletecollection": "DELETECOLLECTION",
}

// countedPaths are the paths beside resources that are told apart.
var countedPaths = []string{"/api", "/apis", "/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version"}

// counted is what a request is counted under: nothing in it is of the client's making, or
// clients could make the list of counters grow.
func (r *request) counted() metrics.Request {
	c := metrics.Request{Verb: countedVerbs[r.verb]}
	if r.resource == "" {
		if c.Verb = r.r.Method; !slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}, c.Verb) {
			c.Verb = "OTHER"
		}
		if slices.Contains(countedPaths, r.r.URL.Path) {
			c.Subresource = r.r.URL.Path
		}
		return c
	}
	if c.Verb == "" {
		c.Verb = "OTHER"
	}
	switch {
	case r.kind != nil:
		c.Resource = r.resource
		if r.hasSub() {
			c.Subresource = r.sub
		}
	case r.remote != nil: // which resources there are is for the other server to say
	default:
		return c
	}
	c.Group, c.Version = r.gv.Group, r.gv.Version
	switch {
	case r.connect != nil:
		c.Verb = "CONNECT"
	case c.Verb == "PATCH" && strings.HasPrefix(mediaType(r.r), "application/apply-patch"):
		c.Verb = "APPLY"
	case c.Verb == "WATCH" && r.on("sendInitialEvents"):
		c.Verb = "WATCHLIST"
	}
	switch {
	case r.name != "", r.verb == "create":
		c.Scope = "resource"
	case r.namespace != "":
		c.Scope = "namespace"
	default:
		c.Scope = "cluster"
	}
	c.DryRun = r.writes() && r.query.Has("dryRun")
	return c
}

// hasSub says whether the kind has the subresource that was asked for.
func (r *request) hasSub() bool {
	if r.sub == "status" && r.kind.HasStatus || r.sub == "scale" && r.kind.Scale != nil || r.connect != nil {
		return true
	}
	for i := range r.kind.Updates {
		if r.kind.Updates[i].Name == r.sub {
			return true
		}
	}
	for i := range r.kind.Actions {
		if r.kind.Actions[i].Name == r.sub {
			return true
		}
	}
	return false
}
