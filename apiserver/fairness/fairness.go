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
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/apis/flowcontrol"
)

// Defaults of Config. More requests at once than keep the processors and the disk busy only
// delay each other, and those of nodes; how many there are in all is bounded as upstream.
const (
	SeatsPerProcessor = 32
	leastSeats        = 64
	mostRequests      = 600
	DefaultWait       = 15 * time.Second
)

// lasting is after what time a request counts as one that waits for somebody else, a slow
// client or a webhook, and gives its seats to another, as long as there are not too many such.
const lasting = 500 * time.Millisecond

// Headers by which a client learns how its request was classified.
const (
	SchemaHeader = "X-Kubernetes-Pf-Flowschema-Uid"
	LevelHeader  = "X-Kubernetes-Pf-Prioritylevel-Uid"
)

// Config of a Fairness.
type Config struct {
	Seats int // what runs at once, in all; default by processors
	// Lasting is how many requests may run beside those in the seats because they take long;
	// default, if Seats is not given either, the rest of what upstream lets run.
	Lasting int
	Wait    time.Duration // the longest that a request waits; default DefaultWait
}

// Fairness admits requests; safe for concurrent use. It begins with what every cluster has.
type Fairness struct {
	wait   time.Duration
	seed   maphash.Seed
	asides bool // requests that last are set aside
	plan   atomic.Pointer[plan]

	mu      sync.Mutex
	lasting int // how many more requests may be set aside
	core    *core
	counted map[string]*counters // by schema
}

// counters are of a schema; they outlive the plan.
type counters struct {
	level                                    string
	dispatched, limit, full, late, cancelled atomic.Int64
	waits                                    [len(Waits) + 1]atomic.Int64 // requests by how long they waited
	waiting                                  atomic.Int64                 // ns, in all
}

// Waits are the upper bounds, in seconds, by which waiting times are told apart.
var Waits = [...]float64{0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30}

func (c *counters) waited(d time.Duration) {
	i := 0
	for i < len(Waits) && d.Seconds() > Waits[i] {
		i++
	}
	c.waits[i].Add(1)
	c.waiting.Add(int64(d))
}

// New makes one.
func New(cfg Config) *Fairness {
	if cfg.Seats <= 0 {
		cfg.Seats = min(max(SeatsPerProcessor*runtime.GOMAXPROCS(0), leastSeats), mostRequests)
		cfg.Lasting = max(cfg.Lasting, mostRequests-cfg.Seats)
	}
	if cfg.Wait <= 0 {
		cfg.Wait = DefaultWait
	}
	f := &Fairness{wait: cfg.Wait, lasting: cfg.Lasting, asides: cfg.Lasting > 0, seed: maphash.MakeSeed(), core: newCore(cfg.Seats), counted: map[string]*counters{}}
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
	for name := range f.counted {
		if !slices.ContainsFunc(p.schemas, func(s *flowSchema) bool { return s.name == name }) {
			delete(f.counted, name)
		}
	}
	for _, s := range p.schemas {
		if f.counted[s.name] == nil {
			f.counted[s.name] = &counters{}
		}
		f.counted[s.name].level = s.level
		s.counters = f.counted[s.name]
	}
	f.plan.Store(p)
	f.core.dispatch(time.Now())
}

// Place is where an admitted request runs.
type Place struct {
	f     *Fairness
	t     *ticket
	timer *time.Timer // sets it aside; nil: it takes no seat that others may have
}

// Leave gives the place back; a second call does nothing.
func (p *Place) Leave() {
	if p.t == nil {
		return
	}
	f, t := p.f, p.t
	p.t = nil
	if p.timer != nil {
		p.timer.Stop()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if t.aside {
		f.lasting++
		return
	}
	f.core.finish(t, time.Now())
}

// place is that of a request which runs now.
func (f *Fairness) place(t *ticket, exempt bool) Place {
	p := Place{f: f, t: t}
	if !exempt && f.asides {
		p.timer = time.AfterFunc(lasting, func() { f.setAside(t) })
	}
	return p
}

// setAside gives a request's seats to others although it still runs.
func (f *Fairness) setAside(t *ticket) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t.running && f.lasting > 0 {
		f.lasting--
		t.aside = true
		f.core.finish(t, time.Now())
	}
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
	h[SchemaHeader], h[LevelHeader] = s.uid, l.plan.uid
	t, why := f.core.arrive(l, hash, max(seats, 1), now)
	waits, exempt := t != nil && !t.running, l.plan.exempt
	f.mu.Unlock()
	switch {
	case t == nil && why == queueFull:
		s.counters.full.Add(1)
		return Place{}, tooMany()
	case t == nil:
		s.counters.limit.Add(1)
		return Place{}, tooMany()
	case waits:
		err := f.await(ctx, t, s.counters)
		s.counters.waited(time.Since(now))
		if err != nil {
			return Place{}, err
		}
	default:
		s.counters.waits[0].Add(1)
	}
	s.counters.dispatched.Add(1)
	return f.place(t, exempt), nil
}

// await waits for a place.
func (f *Fairness) await(ctx context.Context, t *ticket, n *counters) error {
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
	if ctx.Err() != nil {
		n.cancelled.Add(1)
	} else {
		n.late.Add(1)
	}
	f.core.leave(t, time.Now())
	return err
}

func tooMany() error {
	return apierrors.NewTooManyRequests("Too many requests, please try again later.", 1)
}

// Level is the state of a priority level, for metrics.
type Level struct {
	Name                    string
	Nominal, Reserved, Most int // seats
	Used, Running, Waiting  int // seats; requests
	Queues                  int // that hold or run any
	Retired                 bool
}

// Levels gives the state of all levels.
func (f *Fairness) Levels() []Level {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]Level, 0, len(f.core.levels))
	for _, l := range f.core.levels {
		most := min(l.plan.most, f.core.seats)
		active := 0
		for i := range l.queues {
			if q := &l.queues[i]; q.used > 0 || len(q.waiting) > 0 {
				active++
			}
		}
		out = append(out, Level{l.plan.name, l.plan.nominal, l.plan.reserved, most, l.used, l.running, l.waiting, active, l.retired})
	}
	return out
}

// Schema says what became of the requests of a flow schema since it exists, for metrics.
type Schema struct {
	Name, Level                                                      string
	Dispatched, RejectedLimit, RejectedFull, RejectedTime, Cancelled int64
	Waits                                                            [len(Waits) + 1]int64 // each bound's own, then the rest
	Waiting                                                          time.Duration         // in all
}

// Schemas gives those of all schemas.
func (f *Fairness) Schemas() []Schema {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]Schema, 0, len(f.counted))
	for name, n := range f.counted {
		one := Schema{
			Name: name, Level: n.level, Dispatched: n.dispatched.Load(), RejectedLimit: n.limit.Load(), RejectedFull: n.full.Load(),
			RejectedTime: n.late.Load(), Cancelled: n.cancelled.Load(), Waiting: time.Duration(n.waiting.Load()),
		}
		for i := range n.waits {
			one.Waits[i] = n.waits[i].Load()
		}
		out = append(out, one)
	}
	return out
}
