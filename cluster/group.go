package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// Part is a component as Group sees it.
type Part struct {
	Name string
	// Run blocks until ctx ends and everything it started has ended.
	Run func(ctx context.Context) error
	// Ready closes when the next part may start; nil: at once.
	Ready <-chan struct{}
	// Fatal parts end the process when they fail; others are started again after a pause.
	Fatal bool
}

// Group runs an ordered list of parts: started in order, each when the one before is
// ready, stopped in reverse order. A panic in one part is caught, logged, and restarts
// that part alone.
type Group struct {
	log     *slog.Logger
	mu      sync.Mutex
	running []running
	failed  chan error

	stateMu sync.Mutex
	state   map[string]error // of each part: why it does not run now, nil when it does
}

type running struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{}
}

// NewGroup makes an empty group.
func NewGroup(log *slog.Logger) *Group {
	return &Group{log: log, state: map[string]error{}, failed: make(chan error, 1)}
}

// Start runs a part and waits until it is ready.
func (g *Group) Start(ctx context.Context, p Part) error {
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := running{name: p.Name, cancel: cancel, done: make(chan struct{})}
	g.mu.Lock()
	g.running = append(g.running, r)
	g.mu.Unlock()
	go func() {
		defer close(r.done)
		g.supervise(own, p)
	}()
	if p.Ready == nil {
		return nil
	}
	select {
	case <-p.Ready:
		return nil
	case err := <-g.failed:
		return err
	case <-ctx.Done():
		return fmt.Errorf("start %s: %w", p.Name, context.Cause(ctx))
	}
}

// Wait blocks until ctx ends (nil) or a fatal part fails.
func (g *Group) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-g.failed:
		return err
	}
}

var errNotStarted = errors.New("not started in this process")

// Health tells why one of the parts that are meant does not run: it failed, and waits to be started
// again. errNotStarted: there is no such part.
func (g *Group) Health(meant func(name string) bool) error {
	g.stateMu.Lock()
	defer g.stateMu.Unlock()
	err := errNotStarted
	for _, name := range slices.Sorted(maps.Keys(g.state)) {
		if !meant(name) {
			continue
		}
		if err = g.state[name]; err != nil {
			return err
		}
	}
	return err
}

// note keeps why a part does not run; nil: it does.
func (g *Group) note(name string, why error) {
	g.stateMu.Lock()
	defer g.stateMu.Unlock()
	g.state[name] = why
}

// Stop ends the parts, last started first.
func (g *Group) Stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := len(g.running) - 1; i >= 0; i-- {
		r := g.running[i]
		r.cancel()
		select {
		case <-r.done:
		case <-time.After(10 * time.Second):
			g.log.Warn("part does not stop", "part", r.name)
		}
	}
	g.running = nil
}

// supervise runs a part until its context ends, with a pause that doubles from 0.1 s to
// 30 s between runs that fail, and begins anew after a run of a minute.
func (g *Group) supervise(ctx context.Context, p Part) {
	const first, most = 100 * time.Millisecond, 30 * time.Second
	pause := first
	for {
		begun := time.Now()
		g.note(p.Name, nil)
		err := guarded(ctx, p.Run)
		if ctx.Err() != nil {
			if err != nil && !errors.Is(err, context.Canceled) {
				g.log.Warn("part stopped", "part", p.Name, "err", err)
			}
			return
		}
		if err == nil {
			err = errors.New("ended by itself")
		}
		err = fmt.Errorf("%s: %w", p.Name, err)
		if p.Fatal {
			select {
			case g.failed <- err:
			default: // the first failure is the one that counts
			}
			return
		}
		if time.Since(begun) > time.Minute {
			pause = first
		}
		g.note(p.Name, err)
		g.log.Error("part failed, starting it again", "part", p.Name, "in", pause, "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, most)
	}
}

func guarded(ctx context.Context, run func(context.Context) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	return run(ctx)
}
