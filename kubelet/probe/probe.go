// Package probe asks containers how they are: startup, liveness and readiness probes by
// http, tcp, exec and grpc.
//
// The one idea: one timer for all probes of the node; a probe's outcome is a pure step of
// a small counter, and the pod's worker is woken only when a verdict changes. The kubelet
// alone calls it.
package probe

import (
	"container/heap"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Kind of a probe.
type Kind string

// The kinds, as event messages write them.
const (
	Startup   Kind = "Startup"
	Liveness  Kind = "Liveness"
	Readiness Kind = "Readiness"
)

// Result of one try.
type Result int

// The results. Undecided is none yet.
const (
	Undecided Result = iota
	Success
	Failure
	Warning
	Errored // the try itself did not work; nothing is known of the container
)

// Target is a running container to be asked.
type Target struct {
	Pod         *corev1.Pod
	Container   *corev1.Container
	ContainerID string
	StartedAt   time.Time
	PodIP       string
}

// Tester makes one try within ctx.
type Tester interface {
	Test(ctx context.Context, t *Target, p *corev1.Probe) (Result, string)
}

// Config of a Prober.
type Config struct {
	Tester Tester
	// Changed is called without locks when a verdict on a container of the pod changed.
	Changed func(types.UID)
	// Event reports a failed try.
	Event   func(t *Target, reason, message string)
	Log     *slog.Logger
	AtOnce  int  // most tries at the same time; default 64
	Restart bool // spread first tries: set when many containers are adopted at once
}

const (
	defaultAtOnce = 64
	tries         = 3 // a try that errors is repeated at once
)

// Prober runs all probes of a node.
type Prober struct {
	Config
	mu     sync.Mutex
	queue  queue
	probes map[key]*probe
	wake   chan struct{}
	slots  chan struct{}
}

type key struct {
	id   string
	kind Kind
}

type probe struct {
	key    key
	spec   *corev1.Probe
	target Target
	counter
	due     time.Time
	results [Errored + 1]uint64 // tries, by what they ended in
	took    durations
	index   int // in the queue; -1 outside
	removed bool
}

// New makes a Prober; it does nothing before Run.
func New(cfg Config) *Prober {
	if cfg.AtOnce == 0 {
		cfg.AtOnce = defaultAtOnce
	}
	return &Prober{Config: cfg, probes: map[key]*probe{}, wake: make(chan struct{}, 1), slots: make(chan struct{}, cfg.AtOnce)}
}

// Add begins the probes of a running container. Adding it again only renews its pod.
func (p *Prober) Add(t Target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range []struct {
		kind Kind
		spec *corev1.Probe
	}{{Startup, t.Container.StartupProbe}, {Liveness, t.Container.LivenessProbe}, {Readiness, t.Container.ReadinessProbe}} {
		if s.spec == nil {
			continue
		}
		k := key{t.ContainerID, s.kind}
		if have, ok := p.probes[k]; ok {
			have.target = t
			continue
		}
		n := &probe{key: k, spec: s.spec, target: t, index: -1, counter: counter{verdict: initial(s.kind)}}
		n.due = t.StartedAt.Add(seconds(s.spec.InitialDelaySeconds))
		if p.Restart && time.Since(t.StartedAt) > period(s.spec) {
			n.due = time.Now().Add(rand.N(period(s.spec)))
		}
		p.probes[k] = n
		if s.kind == Startup || t.Container.StartupProbe == nil || p.verdict(key{t.ContainerID, Startup}) == Success {
			heap.Push(&p.queue, n)
		}
	}
	p.poke()
}

func initial(k Kind) Result {
	switch k {
	case Liveness:
		return Success
	case Readiness:
		return Failure
	}
	return Undecided
}

// Remove ends the probes of a container, of only the kinds named or of all.
func (p *Prober) Remove(containerID string, kinds ...Kind) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(kinds) == 0 {
		kinds = []Kind{Startup, Liveness, Readiness}
	}
	for _, k := range kinds {
		if n, ok := p.probes[key{containerID, k}]; ok {
			n.removed = true
			if n.index >= 0 {
				heap.Remove(&p.queue, n.index)
			}
			delete(p.probes, n.key)
		}
	}
}

// Verdict is the present result for a container. Without such a probe: Undecided.
func (p *Prober) Verdict(containerID string, k Kind) Result {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.verdict(key{containerID, k})
}

func (p *Prober) verdict(k key) Result {
	if n, ok := p.probes[k]; ok {
		return n.counter.verdict
	}
	return Undecided
}

func (p *Prober) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Run makes tries when they are due until ctx ends.
func (p *Prober) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(p.begin(ctx, &running))
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake:
		case <-timer.C:
		}
	}
}

// begin starts every try that is due and answers how long the next one is away.
func (p *Prober) begin(ctx context.Context, running *sync.WaitGroup) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.queue) > 0 {
		n := p.queue[0]
		if wait := time.Until(n.due); wait > 0 {
			return wait
		}
		select {
		case p.slots <- struct{}{}:
		default:
			return time.Hour // woken when a try ends
		}
		heap.Pop(&p.queue)
		running.Go(func() { p.try(ctx, n) })
	}
	return time.Hour
}

func (p *Prober) try(ctx context.Context, n *probe) {
	defer func() { <-p.slots; p.poke() }()
	p.mu.Lock()
	target := n.target
	p.mu.Unlock()
	var result Result
	var message string
	began := time.Now()
	for range tries {
		within, cancel := context.WithTimeout(ctx, timeout(n.spec))
		result, message = p.Tester.Test(within, &target, n.spec)
		cancel()
		if result != Errored {
			break
		}
	}
	if ctx.Err() != nil {
		return
	}
	changed, over := p.settle(n, result, time.Since(began))
	p.report(&target, n.key.kind, result, message)
	if changed && !over {
		p.Changed(target.Pod.UID)
	}
}

// settle counts a result and plans the next try.
func (p *Prober) settle(n *probe, r Result, took time.Duration) (changed, over bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n.removed {
		return false, true
	}
	n.results[r]++
	n.took.add(took)
	changed = n.step(r, n.spec)
	condemned := n.verdict == Failure && n.key.kind != Readiness
	started := n.verdict == Success && n.key.kind == Startup
	n.due = time.Now().Add(period(n.spec))
	if !condemned && !started {
		heap.Push(&p.queue, n)
	}
	if started {
		p.afterStartup(n.key.id)
	}
	return changed, false
}

// afterStartup lets the other probes of a container begin.
func (p *Prober) afterStartup(id string) {
	for _, k := range []Kind{Liveness, Readiness} {
		if n, ok := p.probes[key{id, k}]; ok && n.index < 0 {
			if now := time.Now(); n.due.Before(now) {
				n.due = now
			}
			heap.Push(&p.queue, n)
		}
	}
}

func (p *Prober) report(t *Target, k Kind, r Result, message string) {
	switch r {
	case Failure:
		p.Event(t, "Unhealthy", fmt.Sprintf("%s probe failed: %s", k, message))
	case Warning:
		p.Event(t, "ProbeWarning", fmt.Sprintf("%s probe warning: %s", k, message))
	case Errored:
		p.Event(t, "Unhealthy", fmt.Sprintf("%s probe errored and resulted in unknown state: %s", k, message))
	}
}

// counter turns single results into a verdict: as many alike in a row as the threshold says.
type counter struct {
	verdict Result
	last    Result
	run     int32
}

// step counts one result and tells whether the verdict changed.
func (c *counter) step(r Result, spec *corev1.Probe) bool {
	switch r {
	case Errored:
		return false
	case Warning:
		r = Success
	}
	if r == c.last {
		c.run++
	} else {
		c.last, c.run = r, 1
	}
	need := max(spec.SuccessThreshold, 1)
	if r == Failure {
		need = spec.FailureThreshold
		if need == 0 {
			need = 3
		}
	}
	if c.run < need || c.verdict == r {
		return false
	}
	c.verdict = r
	return true
}

func seconds(n int32) time.Duration { return time.Duration(n) * time.Second }

func period(p *corev1.Probe) time.Duration {
	if p.PeriodSeconds <= 0 {
		return 10 * time.Second
	}
	return seconds(p.PeriodSeconds)
}

func timeout(p *corev1.Probe) time.Duration { return seconds(max(p.TimeoutSeconds, 1)) }

// queue orders probes by when they are due.
type queue []*probe

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}
func (q *queue) Push(x any) {
	n := x.(*probe)
	n.index = len(*q)
	*q = append(*q, n)
}
func (q *queue) Pop() any {
	old := *q
	n := old[len(old)-1]
	*q, n.index = old[:len(old)-1], -1
	return n
}
