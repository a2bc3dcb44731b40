// Package audit writes down who asked the API for what, and what came of it: events of
// audit.k8s.io/v1, chosen by a policy file, as lines in a file and batches for a webhook.
//
// The one idea: what is kept of a request is decided once, when it arrives; a request of level
// None has no Record, and all methods of a nil Record do nothing, so that a server without
// audit pays for a nil check. An event is encoded once, by hand, for all that take it.
//
// Used by apiserver for each request; made by cluster.
package audit

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/proa-dev/proa/access"
)

// Sink takes encoded events. Write is called from many goroutines, must not keep line, and
// reports its faults itself: no request fails for the audit log.
type Sink interface {
	Write(line []byte)
	// Run does what the sink does in the background, until ctx ends and all it has is delivered.
	Run(ctx context.Context) error
}

// counted is a sink whose lost events are shown in metrics.
type counted interface {
	Name() string // as upstream names it: "log", "webhook"
	Errors() int64
}

// Config of a Log.
type Config struct {
	Policy *Policy // nil: DefaultPolicy
	Sinks  []Sink
	Log    *slog.Logger
	Now    func() time.Time // default time.Now
}

// Log is the audit log of a server; a nil one keeps nothing. Safe for concurrent use.
type Log struct {
	policy atomic.Pointer[Policy]
	sinks  []Sink
	log    *slog.Logger
	now    func() time.Time
	counts counts
}

type counts struct {
	events atomic.Int64
	levels [4]atomic.Int64 // by level
}

// New makes a log. Without sinks it is nil: there is nobody to write for.
func New(cfg Config) (*Log, error) {
	if len(cfg.Sinks) == 0 {
		return nil, nil
	}
	if cfg.Log == nil {
		return nil, errors.New("audit: Log is required")
	}
	if cfg.Policy == nil {
		cfg.Policy = DefaultPolicy()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	l := &Log{sinks: cfg.Sinks, log: cfg.Log, now: cfg.Now}
	l.policy.Store(cfg.Policy)
	return l, nil
}

// SetPolicy has requests that come from now on judged by another policy.
func (l *Log) SetPolicy(p *Policy) { l.policy.Store(p) }

// Run runs the sinks until ctx ends.
func (l *Log) Run(ctx context.Context) error {
	var group sync.WaitGroup
	errs := make([]error, len(l.sinks))
	for i, s := range l.sinks {
		group.Go(func() { errs[i] = s.Run(ctx) })
	}
	group.Wait()
	return errors.Join(errs...)
}

// Events is how many events were written, for metrics.
func (l *Log) Events() int64 { return l.counts.events.Load() }

// Levels is how many requests were kept at which level, for metrics.
func (l *Log) Levels() map[string]int64 {
	out := map[string]int64{}
	for i := range l.counts.levels {
		out[string(levels[i])] = l.counts.levels[i].Load()
	}
	return out
}

// Errors is how many events each sink has lost, for metrics.
func (l *Log) Errors() map[string]int64 {
	out := map[string]int64{}
	for _, s := range l.sinks {
		if c, ok := s.(counted); ok {
			out[c.Name()] += c.Errors()
		}
	}
	return out
}

// Request is a request as it arrives.
type Request struct {
	ID         string
	HTTP       *http.Request
	Attributes *access.Attributes // its User may be nil: nobody was identified
	Received   time.Time
	Long       bool // a watch or a tunnel: it is worth an event that it has begun
	Stranger   bool // who sends it could not be found out: one event, of its answer
}

// Begin decides what is kept of a request, and writes that it has come; nil when nothing is.
func (l *Log) Begin(q Request) *Record {
	if l == nil {
		return nil
	}
	r := l.policy.Load().find(q.Attributes)
	level := capped(r.level, q.Attributes)
	l.counts.levels[level].Add(1)
	if level == none {
		return nil
	}
	rec := &Record{log: l, rule: r, level: level, request: q}
	if !q.Stranger {
		rec.event(auditv1.StageRequestReceived)
	}
	return rec
}

// capped keeps bearer tokens out of the log, whatever the policy says: a TokenReview shows
// the token that is asked about, and the answer of a TokenRequest the one that was made.
func capped(l level, a *access.Attributes) level {
	switch {
	case a.Group == "authentication.k8s.io" && a.Plural == "tokenreviews":
		return min(l, metadata)
	case a.Plural == "serviceaccounts" && a.Subresource == "token":
		return min(l, request)
	}
	return l
}
