// Package fairness decides which requests run at once: API priority and fairness.
//
// The one idea: a request belongs to the first flow schema that matches it, and takes seats of
// that schema's priority level; when there are none it waits in one of its flow's queues, for
// a bounded time. Seats are shared out by a pure core (core.go) behind one short lock; the
// configuration is compiled once per change (plan.go).
//
// Used by apiserver, for every request that ends by itself; cluster runs Follow.
package fairness

import (
	"context"
	"hash/maphash"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/apis/flowcontrol"
)

// Defaults of Config.
const (
	DefaultSeats = 600
	DefaultWait  = 15 * time.Second
)

// Headers by which a client learns how its request was classified.
const (
	SchemaHeader = "X-Kubernetes-Pf-Flowschema-Uid"
	LevelHeader  = "X-Kubernetes-Pf-Prioritylevel-Uid"
)

// Config of a Fairness.
type Config struct {
	Seats int           // requests that run at once, in all; default DefaultSeats
	Wait  time.Duration // the longest that a request waits; default DefaultWait
}

// Fairness admits requests; safe for concurrent use. It begins with what every cluster has.
type Fairness struct {
	wait time.Duration
	seed maphash.Seed
	plan atomic.Pointer[plan]

	mu   sync.Mutex
	core *core
}

// New makes one.
func New(cfg Config) *Fairness {
	if cfg.Seats <= 0 {
		cfg.Seats = DefaultSeats
	}
	if cfg.Wait <= 0 {
		cfg.Wait = DefaultWait
	}
	f := &Fairness{wait: cfg.Wait, seed: maphash.MakeSeed(), core: newCore(cfg.Seats)}
	p, _ := compile(append(flowcontrol.MandatorySchemas(), flowcontrol.SuggestedSchemas()...),
		append(flowcontrol.MandatoryLevels(), flowcontrol.SuggestedLevels()...), cfg.Seats)
	f.use(p)
	return f
}

// use makes a plan the one in force.
func (f *Fairness) use(p *plan) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.core.configure(p)
	f.plan.Store(p)
	f.core.dispatch(time.Now())
}

// Place is where an admitted request runs.
type Place struct {
	f *Fairness
	t *ticket
}

// Leave gives the place back; a second call does nothing.
func (p *Place) Leave() {
	if p.t == nil {
		return
	}
	f, t := p.f, p.t
	p.t = nil
	f.mu.Lock()
	defer f.mu.Unlock()
	f.core.finish(t, time.Now())
}

// Admit finds a place for a request that needs so many seats, waiting if it must. It sets
// the headers that say how it was classified. An error is a Status (429), or that of ctx.
func (f *Fairness) Admit(ctx context.Context, a *access.Attributes, seats int, h http.Header) (Place, error) {
	s := f.plan.Load().find(a)
	if s == nil { // cannot be: catch-all takes everything
		return Place{}, tooMany()
	}
	var hash uint64
	if flow := s.flow(a); flow != "" {
		hash = maphash.String(f.seed, flow)
	}
	hash ^= maphash.String(f.seed, s.name)
	now := time.Now()
	f.mu.Lock()
	l := f.core.byName[s.level]
	if l == nil { // the plan changed in between
		f.mu.Unlock()
		return Place{}, tooMany()
	}
	h[SchemaHeader], h[LevelHeader] = []string{s.uid}, []string{l.plan.uid}
	t, _ := f.core.arrive(l, hash, max(seats, 1), now)
	waits := t != nil && !t.running
	f.mu.Unlock()
	switch {
	case t == nil:
		return Place{}, tooMany()
	case waits:
		if err := f.await(ctx, t); err != nil {
			return Place{}, err
		}
	}
	return Place{f, t}, nil
}

// await waits for a place.
func (f *Fairness) await(ctx context.Context, t *ticket) error {
	limit := time.NewTimer(f.wait)
	defer limit.Stop()
	var err error
	select {
	case <-t.ready:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-limit.C:
		err = tooMany()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if t.running { // it came at the same moment
		return nil
	}
	t.level.counters.RejectedTime++
	f.core.leave(t, time.Now())
	return err
}

func tooMany() error {
	return apierrors.NewTooManyRequests("Too many requests, please try again later.", 1)
}

// Counters are what happened at a level since the start.
type Counters struct{ Dispatched, RejectedLimit, RejectedFull, RejectedTime int64 }

// Level is the state of a priority level, for metrics.
type Level struct {
	Name                   string
	Exempt                 bool
	Nominal, Reserved      int // seats
	Used, Running, Waiting int // seats; requests
	Counters               Counters
}

// Levels gives the state of all levels.
func (f *Fairness) Levels() []Level {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]Level, 0, len(f.core.levels))
	for _, l := range f.core.levels {
		out = append(out, Level{l.plan.name, l.plan.exempt, l.plan.nominal, l.plan.reserved, l.used, l.running, l.waiting, l.counters})
	}
	return out
}
