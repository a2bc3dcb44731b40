package h2

import "time"

// budget is what a peer may spend on frames that make work and ask for nothing: streams that
// are reset, pings, settings, empty frames, faults. A program that behaves never comes near.
type budget struct {
	left int
	last time.Time
}

const (
	budgetMost  = 10_000
	budgetGains = 2_000 // in a second
	costFrame   = 1     // of a frame that is answered or ignored
	costReset   = 10    // of a stream that ends before its answer
)

// spend takes cost; false: there is not that much.
func (b *budget) spend(cost int, now time.Time) bool {
	if b.last.IsZero() {
		b.left, b.last = budgetMost, now
	}
	elapsed := min(now.Sub(b.last), time.Minute) // more would not fit in what follows, nor in the budget
	if gained := int(elapsed * budgetGains / time.Second); gained > 0 {
		b.left, b.last = min(b.left+gained, budgetMost), now
	}
	b.left -= cost
	return b.left >= 0
}
