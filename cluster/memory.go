package cluster

import (
	"context"
	"runtime"
	"runtime/debug"
	"time"
)

// What a quiet process gives back: looked at this often, when more than this is garbage.
const (
	quiet   = 5 * time.Second
	garbage = 24 << 20
)

// giveBack returns memory to the machine once the process has become quiet. A burst
// leaves a heap of twice what is alive behind it, which the collector alone keeps until
// the next burst.
func giveBack(ctx context.Context) error {
	tick := time.NewTicker(quiet)
	defer tick.Stop()
	var before, settled runtime.MemStats
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		var now runtime.MemStats
		runtime.ReadMemStats(&now)
		held := int64(now.HeapSys-now.HeapReleased) - int64(settled.HeapAlloc)
		if now.NumGC == before.NumGC && held > garbage+int64(settled.HeapAlloc)/8 {
			debug.FreeOSMemory()
			runtime.ReadMemStats(&settled)
			runtime.ReadMemStats(&now)
		}
		before = now
	}
}
