// Package memory keeps little of the machine's memory: a quiet process gives back what a
// burst or its start left behind, and the collector lets a heap carry garbage by its size.
//
// The one idea: what is not in use goes back to the kernel at the first quiet moment, at
// the price of a page fault should it be needed again.
//
// Package cluster runs Run in the server and in agents; the container runtime's own process
// has a collector with fixed limits, and uses Settle alone.
package memory

import (
	"context"
	"log/slog"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// What a quiet process gives back: looked at this often, when more than this is garbage.
const (
	quiet   = 5 * time.Second
	garbage = 24 << 20
)

// started is when a process has done what it does only once.
const started = 10 * time.Second

// Run paces the collector, and returns memory to the machine once the process has started
// and whenever it has become quiet, until ctx ends. A burst leaves a heap with its headroom
// behind it, which the collector alone keeps until the next burst.
func Run(ctx context.Context, log *slog.Logger) error {
	pace := &pacer{percent: 100}
	pace.rearm()
	tick := time.NewTicker(quiet)
	defer tick.Stop()
	defer Settle(log)()
	var before, settled runtime.MemStats
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		var now runtime.MemStats
		runtime.ReadMemStats(&now)
		// What is free, and what came since: gaps between live objects cannot be given back.
		spare := int64(now.HeapIdle-now.HeapReleased) + max(0, int64(now.HeapAlloc)-int64(settled.HeapAlloc))
		if now.NumGC == before.NumGC && spare > garbage+int64(settled.HeapAlloc)/8 {
			debug.FreeOSMemory()
			runtime.ReadMemStats(&settled)
			runtime.ReadMemStats(&now)
		}
		before = now
	}
}

// Settle gives back what only the start needed once the process has started, unless stop is called before.
func Settle(log *slog.Logger) (stop func()) {
	later := time.AfterFunc(started, func() { forget(log) })
	return func() { later.Stop() }
}

func forget(log *slog.Logger) {
	bytes, err := ForgetProgram()
	if err != nil {
		log.Warn("the program's pages stay in memory", "err", err)
		return
	}
	log.Debug("gave back the program's pages that the start needed", "MiB", bytes>>20)
}

// The garbage that a heap may gather before it is collected: a small heap would be
// collected all the time for little, a large one would carry as much garbage as what is alive.
const (
	leastHeadroom = 64 << 20
	part          = 3 // of what is alive: a third
	coarse        = 10
)

// headroom is the collector's percentage for a heap of which so many bytes are alive.
func headroom(live uint64) int {
	return int(100 * max(leastHeadroom, live/part) / max(live, 1<<20))
}

// pacer sets the collector's percentage after each collection.
type pacer struct {
	percent int
	sample  [1]metrics.Sample
}

// rearm makes garbage that the next collection finds. It has a pointer: what has none may
// share its memory with other small objects, and live as long as they do.
func (p *pacer) rearm() { runtime.AddCleanup(new(*pacer), (*pacer).collected, p) }

func (p *pacer) collected() {
	p.sample[0].Name = "/gc/heap/live:bytes"
	metrics.Read(p.sample[:])
	if want := headroom(p.sample[0].Value.Uint64()); want < p.percent*(100-coarse)/100 || want > p.percent*(100+coarse)/100 {
		p.percent = want
		debug.SetGCPercent(want)
	}
	p.rearm()
}
