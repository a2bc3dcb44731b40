package checker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
)

// note is what one client was told.
type note struct {
	what     string
	key      string
	value    string // that was to be written
	at       int64  // the revision that was asked for
	lo, hi   int64  // the answer is from between: acknowledged before, there after
	got      Object
	selected Selection
	list     []Object
	err      error
}

func (n *note) String() string {
	return fmt.Sprintf("%s %s at %d between %d and %d: %+v, %v", n.what, n.key, n.at, n.lo, n.hi, n.got, n.err)
}

func (r *run) note(n note) {
	n.hi = max(n.hi, r.cfg.Head())
	if n.err == nil && n.what != "delete" {
		raise(&r.acked, n.got.Revision)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if n.err == nil && n.key != "" {
		r.last[n.key] = max(r.last[n.key], n.got.Revision)
	}
	r.notes = append(r.notes, n)
}

func raise(to interface {
	Load() int64
	CompareAndSwap(old, new int64) bool
}, value int64) {
	for old := to.Load(); old < value && !to.CompareAndSwap(old, value); {
		old = to.Load()
	}
}

func (r *run) any(rnd *rand.Rand) Object {
	return Object{
		Namespace: namespaces[rnd.IntN(len(namespaces))], Name: fmt.Sprint("o", rnd.IntN(r.cfg.Keys)),
		Color: colors[rnd.IntN(len(colors))], Value: fmt.Sprint(r.serial.Add(1)),
	}
}

// write says whether there was an answer.
func (r *run) write(ctx context.Context, rnd *rand.Rand) bool {
	o, t := r.any(rnd), r.cfg.Target
	r.mu.Lock()
	at := r.last[o.key()]
	r.mu.Unlock()
	n := note{key: o.key(), value: o.Value, lo: r.acked.Load()}
	switch what := rnd.IntN(10); {
	case what < 3 || at == 0:
		n.what = "create"
		n.got, n.err = t.Create(ctx, o)
	case what < 6:
		n.what, n.at = "update", at
		n.got, n.err = t.Update(ctx, o, at)
	case what < 8:
		n.what = "update"
		n.got, n.err = t.Update(ctx, o, 0)
	case what < 9:
		n.what, n.at = "delete", at
		n.err = t.Delete(ctx, o.Namespace, o.Name, at)
	default:
		n.what = "delete"
		n.err = t.Delete(ctx, o.Namespace, o.Name, 0)
	}
	if r.unknown(n.err) {
		if n.what != "delete" {
			r.mu.Lock()
			r.maybe[o.Value] = o.key()
			r.mu.Unlock()
		}
		return false
	}
	if n.err == nil {
		r.result.Writes.Add(1)
		if n.what != "delete" && (n.got.Value != o.Value || n.got.Color != o.Color) {
			r.fail("%s answered with another object: %+v", n.what, n.got)
		}
	} else {
		r.result.Refused.Add(1)
	}
	r.note(n)
	return true
}

func (r *run) read(ctx context.Context, rnd *rand.Rand) {
	n := note{lo: r.acked.Load()}
	switch rnd.IntN(4) {
	case 0:
		n.what, n.selected = "list", r.selection(rnd)
		if rnd.IntN(2) == 0 {
			n.at = max(1, n.lo-int64(rnd.IntN(int(r.cfg.Kept))))
		}
		n.list, n.got.Revision, n.err = r.cfg.Target.List(ctx, n.selected, n.at, 1+rnd.IntN(20))
		if errors.Is(n.err, ErrGone) && max(n.at, n.got.Revision) < r.gone.Load() {
			return
		}
		if r.unknown(n.err) {
			return
		}
		r.result.Lists.Add(1)
	default:
		o := r.any(rnd)
		n.what, n.key = "get", o.key()
		n.got, n.err = r.cfg.Target.Get(ctx, o.Namespace, o.Name)
		if r.unknown(n.err) {
			return
		}
		r.result.Reads.Add(1)
	}
	r.note(n)
}

func (r *run) selection(rnd *rand.Rand) Selection {
	var s Selection
	if rnd.IntN(2) == 0 {
		s.Namespace = namespaces[rnd.IntN(len(namespaces))]
		if rnd.IntN(3) == 0 {
			s.Name = fmt.Sprint("o", rnd.IntN(r.cfg.Keys))
		}
	}
	if rnd.IntN(2) == 0 {
		s.Color = colors[rnd.IntN(len(colors))]
	}
	return s
}
