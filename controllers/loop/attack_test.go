package loop

import (
	"context"
	"log/slog"
	"testing"
	"time"
)

// An object that makes a controller panic costs that object its attention, no more
// (CVE-2024-0793): the loop, the other workers and the other keys go on.
func TestAttackPanic(t *testing.T) {
	done := make(chan string, 100)
	l := New("test", Deps{Log: slog.New(slog.DiscardHandler)}, func(_ context.Context, k string) error {
		switch k {
		case "nil":
			var none *struct{ x int }
			none.x++
		case "panic":
			panic("hostile object")
		}
		done <- k
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx, 2) }()
	for range 10 {
		for _, k := range []string{"nil", "panic"} {
			l.Add(k)
		}
	}
	for _, k := range []string{"a", "b", "c"} {
		l.Add(k)
	}
	seen := map[string]bool{}
	for len(seen) < 3 {
		select {
		case k := <-done:
			seen[k] = true
		case <-time.After(10 * time.Second):
			t.Fatalf("only %v were reconciled", seen)
		}
	}
	if n := l.NumRequeues("panic"); n > 0 {
		t.Errorf("the key that panics is tried again %d times at once", n)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
