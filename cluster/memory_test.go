package cluster

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestHeadroom(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int
	}{{0, 6400}, {32 << 20, 200}, {64 << 20, 100}, {192 << 20, 33}, {600 << 20, 33}} {
		if got := headroom(c.live); got != c.want {
			t.Errorf("headroom of %d MiB = %d %%, want %d", c.live>>20, got, c.want)
		}
	}
}

func TestPacerFollowsTheHeap(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	p := &pacer{percent: 100}
	p.rearm()
	large := make([]byte, 300<<20)
	collect := func(ok func(percent int) bool) {
		t.Helper()
		for range 100 {
			runtime.GC()
			time.Sleep(time.Millisecond) // cleanups run beside
			now := debug.SetGCPercent(100)
			debug.SetGCPercent(now)
			if ok(now) {
				return
			}
		}
		t.Error("the percentage did not follow")
	}
	collect(func(percent int) bool { return percent < 50 })
	runtime.KeepAlive(large)
	large = nil
	collect(func(percent int) bool { return percent > 200 })
}
