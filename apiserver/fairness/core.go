package fairness

import (
	"math"
	"time"
)

// Bounds of what a configuration may ask for.
const (
	maxQueues = 1 << 14
	maxHand   = 12
)

// guess is how long a request is taken to last until it is known.
const guess = 5 * time.Millisecond

// core shares seats out among levels, and within a level among flows. It is pure: time comes
// from its caller, who also holds the lock.
//
// Between levels: each has reserved seats, which are kept for it even when they are idle.
// All others (spare) go to whoever needs them first, up to the level's most. So a level
// lends what it does not use down to its reserve, and borrows what others leave; freed seats
// go first to levels below their nominal number. Upstream recomputes limits every ten seconds
// from past demand; this needs no clock and reacts at once.
//
// Within a level: each flow has a hand of queues, drawn by its hash, and a request joins the one
// that has done least; so a flow that floods fills its own hand, and hardly ever all queues
// of another one's. The queue whose requests have used least (virtual time: seats x seconds) goes first.
type core struct {
	seats  int
	spare  int // seats - the sum over levels of max(used, reserved)
	levels []*level
	byName map[string]*level
}

// level is the state of a priority level.
type level struct {
	plan    levelPlan
	used    int // seats
	running int // requests
	waiting int // requests
	queues  []queue
	now     float64 // virtual time of the last dispatch
	retired bool    // no longer configured: drains
}

// queue is one of a level's.
type queue struct {
	waiting []*ticket // in order of arrival
	used    int       // seats of those that run
	done    float64   // virtual time up to which its requests were served
}

// ticket is one request's place.
type ticket struct {
	level   *level
	queue   int // -1: the level has none
	seats   int
	started time.Time
	ready   chan struct{} // closed when a waiting one may go on; nil when it never waited
	running bool
	aside   bool // it runs on without seats
}

// refusal is why a request neither runs nor waits.
type refusal int

const (
	admitted refusal = iota
	noSeats
	queueFull
)

func newCore(seats int) *core { return &core{seats: seats, spare: seats, byName: map[string]*level{}} }

// configure takes over the levels of a plan. Requests that wait or run stay where they are.
func (c *core) configure(p *plan) {
	for name, want := range p.levels {
		l := c.byName[name]
		if l == nil {
			l = &level{}
			c.byName[name] = l
			c.levels = append(c.levels, l)
		}
		l.plan, l.retired = *want, false
		for len(l.queues) < want.queues {
			l.queues = append(l.queues, queue{})
		}
	}
	kept := c.levels[:0]
	c.spare = c.seats
	for _, l := range c.levels {
		if p.levels[l.plan.name] == nil {
			if l.running == 0 && l.waiting == 0 {
				delete(c.byName, l.plan.name)
				continue
			}
			l.retired, l.plan.reserved, l.plan.nominal, l.plan.most = true, 0, 1, math.MaxInt32
		}
		kept = append(kept, l)
		c.spare -= l.held()
	}
	clear(c.levels[len(kept):])
	c.levels = kept
}

// held is what the level keeps from others.
func (l *level) held() int {
	if l.plan.exempt {
		return 0
	}
	return max(l.used, l.plan.reserved)
}

// take gives n seats to a level if it may have them. A request wider than the level can ever
// get goes alone.
func (c *core) take(l *level, n int) bool {
	if !l.plan.exempt {
		if l.used > 0 && l.used+n > l.plan.most || l.plan.most == 0 {
			return false
		}
		more := max(l.used+n, l.plan.reserved) - max(l.used, l.plan.reserved)
		if more > c.spare && (l.used > 0 || l.plan.nominal == 0) {
			return false
		}
		c.spare -= more
	}
	l.used += n
	l.running++
	return true
}

func (c *core) give(l *level, n int) {
	if !l.plan.exempt {
		c.spare += max(l.used, l.plan.reserved) - max(l.used-n, l.plan.reserved)
	}
	l.used -= n
	l.running--
}

// arrive places a request: it runs, waits (ready is set), or is refused (nil).
func (c *core) arrive(l *level, hash uint64, n int, now time.Time) (*ticket, refusal) {
	t := &ticket{level: l, queue: -1, seats: n}
	if l.plan.queuing {
		t.queue = l.pick(hash)
	}
	if (l.waiting == 0 || !l.plan.queuing) && c.take(l, n) {
		l.start(t, now)
		return t, admitted
	}
	if t.queue < 0 {
		return nil, noSeats
	}
	q := &l.queues[t.queue]
	if len(q.waiting) >= l.plan.length {
		return nil, queueFull
	}
	t.ready = make(chan struct{})
	q.waiting = append(q.waiting, t)
	l.waiting++
	c.dispatch(now) // others of this level may wait for a wider place than this one needs
	return t, admitted
}

// start lets a request run whose seats are taken.
func (l *level) start(t *ticket, now time.Time) {
	t.started, t.running = now, true
	if t.queue < 0 {
		return
	}
	q := &l.queues[t.queue]
	q.done = max(q.done, l.now)
	l.now = q.done
	q.done += cost(t.seats, guess)
	q.used += t.seats
}

func cost(seats int, d time.Duration) float64 { return float64(seats) * d.Seconds() }

// finish gives back what a request held, and lets others run.
func (c *core) finish(t *ticket, now time.Time) {
	l := t.level
	t.running = false
	c.give(l, t.seats)
	if t.queue >= 0 {
		q := &l.queues[t.queue]
		q.used -= t.seats
		q.done += cost(t.seats, now.Sub(t.started)) - cost(t.seats, guess)
	}
	if c.anyWaiting() {
		c.dispatch(now)
	}
}

func (c *core) anyWaiting() bool {
	for _, l := range c.levels {
		if l.waiting > 0 {
			return true
		}
	}
	return false
}

// leave removes a request that waits no longer, for whatever reason.
func (c *core) leave(t *ticket, now time.Time) {
	q := &t.level.queues[t.queue]
	for i, other := range q.waiting {
		if other == t {
			q.waiting = append(q.waiting[:i], q.waiting[i+1:]...)
			t.level.waiting--
			break
		}
	}
	c.dispatch(now)
}

// dispatch lets run what can: first levels below their nominal seats, then borrowers.
func (c *core) dispatch(now time.Time) {
	for _, borrow := range []bool{false, true} {
		for _, l := range c.levels {
			for l.waiting > 0 && (borrow || l.used < l.plan.nominal) && c.dispatchOne(l, now) {
			}
		}
	}
}

func (c *core) dispatchOne(l *level, now time.Time) bool {
	best := -1
	for i := range l.queues {
		q := &l.queues[i]
		if len(q.waiting) > 0 && (best < 0 || q.done < l.queues[best].done) {
			best = i
		}
	}
	if best < 0 {
		return false
	}
	q := &l.queues[best]
	t := q.waiting[0]
	if !c.take(l, t.seats) {
		return false
	}
	q.waiting[0] = nil
	q.waiting = q.waiting[1:]
	if len(q.waiting) == 0 {
		q.waiting = nil
	}
	l.waiting--
	l.start(t, now)
	close(t.ready)
	return true
}

// pick chooses a queue of the flow's hand: the one with the fewest seats asked for or held,
// then the one served least.
func (l *level) pick(hash uint64) int {
	var hand [maxHand]int
	deal(hash, l.plan.queues, hand[:l.plan.hand])
	best, least := -1, 0
	for _, i := range hand[:l.plan.hand] {
		q := &l.queues[i]
		work := q.used + len(q.waiting)
		if best < 0 || work < least || work == least && q.done < l.queues[best].done {
			best, least = i, work
		}
	}
	return best
}

// deal draws len(hand) different numbers below n: each is a digit of the hash in a smaller base,
// counted among those that are left.
func deal(hash uint64, n int, hand []int) {
	for i := range hand {
		base := uint64(n - i)
		card := int(hash % base)
		hash /= base
		at := 0
		for at < i && card >= hand[at] { // hand[:i] is sorted
			card++
			at++
		}
		copy(hand[at+1:i+1], hand[at:i])
		hand[at] = card
	}
}
