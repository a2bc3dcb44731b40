package store

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// switches counts how often this process was woken.
func switches(t *testing.T) (n int) {
	t.Helper()
	tasks := must[[]string](t)(filepath.Glob("/proc/self/task/*/status"))
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // the thread is gone
		}
		for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
			if count, ok := strings.CutPrefix(lines.Text(), "voluntary_ctxt_switches:"); ok {
				n += must[int](t)(strconv.Atoi(strings.TrimSpace(count)))
			}
		}
	}
	return n
}

// A store that nobody uses lets the machine sleep.
func TestIdle(t *testing.T) {
	const span = 3 * time.Second
	openPods(t, Config{})
	time.Sleep(time.Second / 2) // etcd's own start
	rate := 0.0
	for range 4 { // a busy machine wakes more threads than one that sleeps; a store that polls does so each time
		before := switches(t)
		time.Sleep(span)
		rate = float64(switches(t)-before) / span.Seconds()
		t.Logf("%.0f wake-ups/s", rate)
		if rate <= 100 {
			return
		}
	}
	t.Errorf("%.0f wake-ups/s", rate)
}
