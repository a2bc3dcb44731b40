package h2

import "time"

// alarm is a timer that is set once until it rings; under the mutex of who has it.
type alarm struct {
	ring  func() // in a goroutine of its own, which clears armed
	armed bool
	timer *time.Timer
}

// set has it ring after so long, if it is not set already.
func (a *alarm) set(after time.Duration) {
	if a.armed {
		return
	}
	a.armed = true
	if a.timer == nil {
		a.timer = time.AfterFunc(after, a.ring)
		return
	}
	a.timer.Reset(after)
}

// stop takes that back, unless it is about to ring.
func (a *alarm) stop() {
	if a.armed {
		a.armed = !a.timer.Stop()
	}
}
