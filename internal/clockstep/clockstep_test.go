package clockstep

import (
	"context"
	"testing"
	"time"
)

// The clock of the machine is not to be set by a test: it is followed and let go.
func TestFollowEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Follow(ctx, func() { t.Error("the clock was set") }) }()
	select {
	case err := <-ended:
		t.Fatalf("ended by itself: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("it does not end")
	}
}
