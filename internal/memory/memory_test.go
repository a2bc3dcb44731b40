package memory

import (
	"os"
	"os/exec"
	"runtime"
	"runtime/metrics"
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

// pacerAlone, in the environment, says that the process has no heap but this test's.
const pacerAlone = "PROA_TEST_PACER_ALONE"

func TestPacerFollowsTheHeap(t *testing.T) {
	if os.Getenv(pacerAlone) == "" { // what other tests keep alive counts too
		child := exec.Command(os.Args[0], "-test.run=^TestPacerFollowsTheHeap$")
		child.Env = append(os.Environ(), pacerAlone+"=yes")
		if out, err := child.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return
	}
	p := &pacer{percent: 100}
	p.rearm()
	large := make([]byte, 300<<20)
	now := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	follows := func(what string, ok func(percent int) bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			runtime.GC()      // cleanups run beside
			metrics.Read(now) // setting it to see it would undo what the pacer sets meanwhile
			if ok(int(now[0].Value.Uint64())) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("not within 20 s: %s", what)
			}
		}
	}
	follows("little headroom beside much", func(percent int) bool { return percent < 50 })
	runtime.KeepAlive(large)
	large = nil
	follows("much headroom beside little", func(percent int) bool { return percent > 200 })
}
