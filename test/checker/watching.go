package checker

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// watching is one client that watches, resumes and falls behind.
type watching struct {
	r      *run
	number int
	wants  Selection
	pause  time.Duration // between two looks, up to
	since  int64         // what the present watch began after
	seen   int64         // up to here everything was shown
	events []Event       // of the present watch
	past   []int64       // revisions that were seen, to resume from
	stream Stream
}

func newWatching(r *run, number int, start int64) *watching {
	w := &watching{r: r, number: number, since: start, seen: start}
	rnd := rand.New(rand.NewPCG(r.cfg.Seed, uint64(number)))
	if number > 0 {
		w.wants = r.selection(rnd)
	}
	w.pause = []time.Duration{0, 0, time.Millisecond, 20 * time.Millisecond}[number%4]
	return w
}

// watch looks on until active ends, then until everything was shown.
func (w *watching) watch(ctx, active context.Context, rnd *rand.Rand) {
	defer w.stop()
	var end time.Time
	for ctx.Err() == nil {
		if w.stream == nil {
			if !w.open(ctx) {
				return
			}
			continue
		}
		if active.Err() != nil {
			if end.IsZero() {
				end = time.Now().Add(10 * time.Second)
			}
			if w.complete() {
				return
			}
			if time.Now().After(end) {
				w.r.fail("watch %d of %+v since %d: after %d nothing more is shown (%v)", w.number, w.wants, w.since, w.seen, w.stream)
				return
			}
		} else if w.pause > 0 {
			time.Sleep(time.Duration(rnd.Int64N(int64(w.pause))))
		}
		w.look(ctx, time.Duration(1+rnd.IntN(50))*time.Millisecond)
		if len(w.past) > 0 && rnd.IntN(60) == 0 && active.Err() == nil {
			w.resume(w.past[rnd.IntN(len(w.past))])
		}
	}
}

// look takes what is there.
func (w *watching) look(ctx context.Context, wait time.Duration) {
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	events, err := w.stream.Next(limited)
	for _, e := range events {
		if e.Type == Bookmark {
			w.r.result.Bookmarks.Add(1)
		} else {
			w.r.result.Events.Add(1)
		}
		w.events = append(w.events, e)
		if e.Revision < w.seen || e.Revision == w.seen && e.Type != Bookmark {
			w.r.fail("watch %d of %+v shows %d after %d", w.number, w.wants, e.Revision, w.seen)
		}
		w.seen = max(w.seen, e.Revision)
		if len(w.past) == 0 || rand.IntN(8) == 0 {
			w.past = append(w.past, e.Revision)
		}
	}
	if len(w.past) > 50 {
		w.past = w.past[25:]
	}
	over := errors.Is(err, ErrEnded) || errors.Is(err, ErrGone) // said once, maybe just when the time was up
	if over || err != nil && limited.Err() == nil {
		if !over {
			w.r.fail("watch %d of %+v: %v", w.number, w.wants, err)
		}
		w.resume(w.seen)
		if errors.Is(err, ErrGone) {
			w.relist(ctx)
		}
	}
}

// resume ends the present watch and begins one after a revision.
func (w *watching) resume(since int64) {
	w.stop()
	w.compare()
	w.since, w.seen, w.events = since, since, nil
	w.r.result.Resumed.Add(1)
}

func (w *watching) stop() {
	if w.stream != nil {
		w.stream.Stop()
		w.stream = nil
	}
}

// open begins after what was seen, or, when that is gone, with what a list tells.
func (w *watching) open(ctx context.Context) bool {
	stream, err := w.r.cfg.Target.Watch(ctx, w.wants, w.seen)
	if w.r.unknown(err) {
		return true
	}
	w.past = append(w.past, w.seen)
	if err == nil {
		w.stream = stream
		return true
	}
	if !errors.Is(err, ErrGone) {
		w.r.fail("watch %d since %d: %v", w.number, w.seen, err)
		return false
	}
	return w.relist(ctx)
}

// relist begins anew, with what is there, and complains if it need not be.
func (w *watching) relist(ctx context.Context) bool {
	w.r.result.Gone.Add(1)
	if head := w.r.cfg.Head(); w.seen >= w.r.gone.Load() && head-w.seen < w.r.cfg.Kept {
		w.r.fail("watch %d since %d is refused at %d, compacted is %d", w.number, w.seen, head, w.r.gone.Load())
	}
	n := note{what: "list", selected: w.wants, lo: w.r.acked.Load()}
	n.list, n.got.Revision, n.err = w.r.cfg.Target.List(ctx, n.selected, 0, 1000)
	if w.r.unknown(n.err) {
		return true
	}
	w.r.note(n)
	w.past = nil
	w.since, w.seen, w.events = n.got.Revision, n.got.Revision, nil
	return n.err == nil
}

// expected is what a watch since a revision shows up to another.
func (w *watching) expected(since, to int64) (events []Event) {
	for _, c := range w.r.truth.after(since, to) {
		is := !c.gone && w.wants.selects(&c.object)
		was := c.old != nil && w.wants.selects(c.old)
		switch {
		case is && was:
			events = append(events, Event{Modified, c.object})
		case is:
			events = append(events, Event{Added, c.object})
		case was:
			last := *c.old
			last.Revision = c.revision
			events = append(events, Event{Deleted, last})
		}
	}
	return events
}

// complete tells whether nothing is missing of what happened until now.
func (w *watching) complete() bool {
	expected := w.expected(w.since, w.r.truth.seen())
	return len(expected) == 0 || expected[len(expected)-1].Revision <= w.seen
}

// compare holds the present watch against the truth, as far as that is.
func (w *watching) compare() {
	if w.since < w.r.truth.floor { // the beginning is trimmed
		return
	}
	if err := w.r.truth.reach(context.Background(), w.seen, 10*time.Second); err != nil {
		w.r.fail("watch %d: %v", w.number, err)
		return
	}
	want := w.expected(w.since, w.seen)
	for _, e := range w.events {
		if e.Type == Bookmark {
			if len(want) > 0 && want[0].Revision <= e.Revision {
				w.r.fail("watch %d of %+v since %d: a bookmark of %d is ahead of %+v", w.number, w.wants, w.since, e.Revision, want[0])
				return
			}
			continue
		}
		if len(want) == 0 || want[0] != e {
			next := "nothing"
			if len(want) > 0 {
				next = want[0].Type + " " + want[0].key()
			}
			w.r.fail("watch %d of %+v since %d shows %+v, not %s %+v", w.number, w.wants, w.since, e, next, want[:min(1, len(want))])
			return
		}
		want = want[1:]
	}
	if len(want) > 0 {
		w.r.fail("watch %d of %+v since %d lacks %+v", w.number, w.wants, w.since, want[0])
	}
}

// check ends a round.
func (w *watching) check(int64) {
	w.compare()
	w.since, w.events, w.past = w.seen, nil, append(w.past, w.seen)
}
