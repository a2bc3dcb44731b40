package checker

import (
	"errors"
	"slices"
)

// check holds the notes of a round against the truth up to head.
func (r *run) check(head int64) {
	log := r.truth.after(0, head)
	byRevision, byKey := map[int64]*change{}, map[string][]*change{}
	for i := range log {
		c := &log[i]
		if byRevision[c.revision] != nil {
			r.fail("two changes have revision %d", c.revision)
		}
		byRevision[c.revision] = c
		byKey[c.object.key()] = append(byKey[c.object.key()], c)
	}
	told := map[int64]*note{}
	for i := range r.notes {
		n := &r.notes[i]
		switch n.what {
		case "get":
			r.checkState(n, byKey[n.key])
		case "list":
			// below, in order
		case "delete":
			r.checkDelete(n, byKey[n.key])
		default:
			r.checkWrite(n, byRevision[n.got.Revision], byKey[n.key])
			if other := told[n.got.Revision]; n.err == nil && other != nil {
				r.fail("two writes were told the same revision: %v and %v", n, other)
			}
			told[n.got.Revision] = n
		}
	}
	r.checkOrigins(log, head)
	r.checkLists(log)
	r.notes = nil
}

// checkOrigins: a client wrote what is in the log, once, and was not told otherwise.
func (r *run) checkOrigins(log []change, head int64) {
	written := map[string]string{}
	for i := range r.notes {
		if n := &r.notes[i]; n.err == nil && (n.what == "create" || n.what == "update") {
			written[n.value] = n.key
		}
	}
	for i := range log {
		o := &log[i].object
		if log[i].gone || log[i].revision <= r.checked {
			continue
		}
		if written[o.Value] != o.key() && r.maybe[o.Value] != o.key() {
			r.fail("nobody wrote %+v, or it was written before", *o)
		}
		delete(written, o.Value)
		delete(r.maybe, o.Value)
	}
	r.checked = head
}

// checkWrite: an acknowledged write is in the log as it was told, upon what it demanded.
func (r *run) checkWrite(n *note, c *change, key []*change) {
	if n.err != nil {
		r.checkRefusal(n, key)
		return
	}
	switch {
	case c == nil || c.gone || c.object != n.got:
		r.fail("%v: not in the log", n)
	case c.revision <= n.lo:
		r.fail("%v: older than what was acknowledged before it began", n)
	case n.what == "create" && c.old != nil:
		r.fail("%v: %+v was there", n, *c.old)
	case n.what == "update" && c.old == nil:
		r.fail("%v: nothing was there", n)
	case n.at != 0 && c.old.Revision != n.at:
		r.fail("%v: the object was at %d", n, c.old.Revision)
	}
}

// checkDelete: between the call and its answer the object went.
func (r *run) checkDelete(n *note, key []*change) {
	if n.err != nil {
		r.checkRefusal(n, key)
		return
	}
	if !slices.ContainsFunc(key, func(c *change) bool {
		return c.gone && c.revision > n.lo && c.revision <= n.hi && (n.at == 0 || c.old.Revision == n.at)
	}) {
		r.fail("%v: not in the log", n)
	}
}

// checkRefusal: for some moment between the call and its answer the reason was true.
func (r *run) checkRefusal(n *note, key []*change) {
	reason := false
	for state := range states(r, n, key) {
		switch {
		case errors.Is(n.err, ErrExists):
			reason = reason || state != nil
		case errors.Is(n.err, ErrNotFound):
			reason = reason || state == nil
		case errors.Is(n.err, ErrConflict):
			reason = reason || n.at == 0 || state == nil || state.Revision != n.at
		}
	}
	if !reason {
		r.fail("%v: without a reason", n)
	}
}

// checkState: the object was like that at some moment of the call.
func (r *run) checkState(n *note, key []*change) {
	for state := range states(r, n, key) {
		if n.err == nil && state != nil && *state == n.got || errors.Is(n.err, ErrNotFound) && state == nil {
			return
		}
	}
	r.fail("%v: it was never so", n)
}

// states are those of a key while a call lasted; nil: there was none.
func states(r *run, n *note, key []*change) func(func(*Object) bool) {
	return func(yield func(*Object) bool) {
		var state *Object
		if o, ok := r.truth.base[n.key]; ok {
			state = &o
		}
		i := 0
		for ; i < len(key) && key[i].revision <= n.lo; i++ {
			state = key[i].state()
		}
		if !yield(state) {
			return
		}
		for ; i < len(key) && key[i].revision <= n.hi; i++ {
			if !yield(key[i].state()) {
				return
			}
		}
	}
}

func (c *change) state() *Object {
	if c.gone {
		return nil
	}
	return &c.object
}

// checkLists goes through the log once, and compares each list with the state of its revision.
func (r *run) checkLists(log []change) {
	var lists []*note
	for i := range r.notes {
		n := &r.notes[i]
		switch {
		case n.what != "list":
		case n.err != nil:
			r.fail("%v", n)
		case n.at != 0 && n.got.Revision != n.at:
			r.fail("%v: it is of another revision", n)
		case n.at == 0 && (n.got.Revision < n.lo || n.got.Revision > n.hi):
			r.fail("%v: it is not of the present", n)
		case n.got.Revision >= r.truth.floor:
			lists = append(lists, n)
		}
	}
	slices.SortFunc(lists, func(a, b *note) int { return int(a.got.Revision - b.got.Revision) })
	state := map[string]Object{}
	for k, o := range r.truth.base {
		state[k] = o
	}
	for _, n := range lists {
		for ; len(log) > 0 && log[0].revision <= n.got.Revision; log = log[1:] {
			if log[0].gone {
				delete(state, log[0].object.key())
			} else {
				state[log[0].object.key()] = log[0].object
			}
		}
		want := 0
		for _, o := range state {
			if n.selected.selects(&o) {
				want++
			}
		}
		for i, o := range n.list {
			if state[o.key()] != o || !n.selected.selects(&o) {
				r.fail("a list %+v at %d has %+v, it was %+v", n.selected, n.got.Revision, o, state[o.key()])
			}
			if i > 0 && n.list[i-1].key() >= o.key() {
				r.fail("a list at %d has %s after %s", n.got.Revision, o.key(), n.list[i-1].key())
			}
		}
		if want != len(n.list) {
			r.fail("a list %+v at %d has %d objects, not %d", n.selected, n.got.Revision, len(n.list), want)
		}
	}
}
