package ownership

import (
	"cmp"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// mark says what happened to a path between old and new.
type mark uint8

const (
	written mark = 1 << iota // it was added or changed; the writer owns it
	dropped                  // it was removed
	member                   // in the tree of an entry: the manager owns it
)

// node is a path element in a tree. A tree is a slice of nodes, each before its children, siblings
// in order.
type node struct {
	elem string
	size int // of the nodes from here on that are this one and what is under it
	mark mark
}

// walker compares two objects. Values of old and new are absent (invalid), null, or there.
type walker struct {
	tree []node
	odd  bool     // something the library must judge
	text []byte   // scratch
	keys []string // scratch
}

var walkers = sync.Pool{New: func() any { return &walker{} }}

// release gives a walker to the next write.
func (w *walker) release() {
	clear(w.tree)
	clear(w.keys)
	w.tree, w.keys, w.odd = w.tree[:0], w.keys[:0], false
	walkers.Put(w)
}

func (w *walker) open(elem string) int {
	w.tree = append(w.tree, node{elem: elem})
	return len(w.tree) - 1
}

// close ends the node at i; without a mark in or under it, it is as if it never was.
func (w *walker) close(i int, m mark) {
	if n := len(w.tree) - i; m == 0 && n == 1 {
		w.tree = w.tree[:i]
	} else {
		w.tree[i].size, w.tree[i].mark = n, m
	}
}

// compare adds what is under the current node and returns the mark of the node itself. Not both are absent.
func (w *walker) compare(s *shape, l, r reflect.Value) mark {
	var m mark
	switch {
	case !l.IsValid():
		m = written
	case !r.IsValid():
		m = dropped
	}
	switch s.form {
	case leaf:
		if m == 0 && !s.equal(l, r) {
			return written
		}
	case unknown:
		w.odd = true
	case structure:
		return w.structure(s, inner(l), inner(r), m)
	default:
		l, r = inner(l), inner(r)
		if length(l)+length(r) == 0 {
			if m == 0 && null(l) != null(r) {
				return written // null or empty is a difference
			}
			return m
		}
		if s.form == mapping && s.plain {
			w.texts(l, r)
		} else if s.form == mapping {
			w.mapping(s, l, r)
		} else if m != 0 || !sameItems(l, r) {
			w.items(s, l, r)
		}
	}
	return m
}

func (w *walker) structure(s *shape, l, r reflect.Value, m mark) mark {
	bare := null(l) || null(r) // a null structure is one without fields, but told from an empty one
	if null(l) {
		l = reflect.Value{}
	}
	if null(r) {
		r = reflect.Value{}
	}
	if !l.IsValid() && !r.IsValid() {
		return m
	}
	before := len(w.tree)
	w.fields(s.fields, l, r)
	if m == 0 && bare && len(w.tree) == before {
		return written
	}
	return m
}

func (w *walker) fields(fields []*field, l, r reflect.Value) {
	for _, f := range fields {
		lv, rv := f.of(l), f.of(r)
		if lv.IsValid() || rv.IsValid() {
			i := w.open(f.elem)
			w.close(i, w.compare(f.shape, lv, rv))
		}
	}
}

// of is the field in a struct, absent where JSON omits it.
func (f *field) of(v reflect.Value) reflect.Value {
	if !v.IsValid() {
		return v
	}
	if v = v.FieldByIndex(f.index); f.omitEmpty && isEmpty(v) || f.omitZero != nil && f.omitZero(v) {
		return reflect.Value{}
	}
	return v
}

// pair is an entry of a map or an item of a list.
type pair struct {
	elem string
	at   int // in the list
	val  reflect.Value
}

func (w *walker) mapping(s *shape, l, r reflect.Value) {
	a, b := w.pairs(l), w.pairs(r)
	for len(a)+len(b) > 0 {
		var lv, rv reflect.Value
		c := first(a, b)
		elem := ""
		if c <= 0 {
			elem, lv, a = a[0].elem, a[0].val, a[1:]
		}
		if c >= 0 {
			elem, rv, b = b[0].elem, b[0].val, b[1:]
		}
		i := w.open(elem)
		w.close(i, w.compare(s.elem, lv, rv))
	}
}

// first compares the first of two sorted lists of which one is not empty.
func first(a, b []pair) int {
	switch {
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	}
	return compareElements(a[0].elem, b[0].elem)
}

// pairs are the entries of a map, sorted.
func (w *walker) pairs(v reflect.Value) []pair {
	n := length(v)
	if n == 0 {
		return nil
	}
	out := make([]pair, 0, n)
	for it := v.MapRange(); it.Next(); {
		out = append(out, pair{elem: w.entry(it.Key().String()), val: it.Value()})
	}
	slices.SortFunc(out, func(a, b pair) int { return strings.Compare(a.elem, b.elem) })
	return out
}

// entry is the path element of a map entry.
func (w *walker) entry(key string) string {
	w.odd = w.odd || !plain(key, false)
	return "f:" + key
}

// texts is mapping for maps of strings to strings.
func (w *walker) texts(l, r reflect.Value) {
	a, b := textsOf(l), textsOf(r)
	keys := w.keys[:0]
	for k, v := range a {
		if other, ok := b[k]; !ok || other != v {
			keys = append(keys, k)
		}
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		m := written
		if _, ok := b[k]; !ok {
			m = dropped
		}
		w.close(w.open(w.entry(k)), m)
	}
	w.keys = keys
}

func textsOf(v reflect.Value) map[string]string {
	if length(v) == 0 {
		return nil
	}
	return v.Interface().(map[string]string)
}

// items compares lists item by item. Items that share a key count as one path that is marked as a whole.
func (w *walker) items(s *shape, l, r reflect.Value) {
	a, b := w.sorted(s, l), w.sorted(s, r)
	for len(a)+len(b) > 0 && !w.odd {
		var x, y []pair
		c := first(a, b)
		if c <= 0 {
			x, a = run(a)
		}
		if c >= 0 {
			y, b = run(b)
		}
		var m mark
		var i int
		if len(x) > 0 {
			i = w.open(x[0].elem)
		} else {
			i = w.open(y[0].elem)
		}
		switch {
		case len(x) <= 1 && len(y) <= 1:
			m = w.compare(s.elem, only(x), only(y))
		case len(x) > 1 && len(y) > 1:
			if !slices.EqualFunc(x, y, func(a, b pair) bool { return sameJSON(a.val, b.val) }) {
				m = written
			}
		case len(x) > 1:
			if len(y) == 1 {
				m = w.compare(s.elem, reflect.Value{}, y[0].val)
			}
			m |= dropped
		default:
			if len(x) == 1 {
				m = w.compare(s.elem, x[0].val, reflect.Value{})
			}
			m |= written
		}
		w.close(i, m)
	}
}

func only(p []pair) reflect.Value {
	if len(p) == 0 {
		return reflect.Value{}
	}
	return p[0].val
}

// run cuts off the pairs of the first key.
func run(p []pair) (same, rest []pair) {
	n := 1
	for n < len(p) && p[n].elem == p[0].elem {
		n++
	}
	return p[:n], p[n:]
}

// sorted are the items of a list in the order of their keys.
func (w *walker) sorted(s *shape, v reflect.Value) []pair {
	n := length(v)
	if n == 0 {
		return nil
	}
	out := make([]pair, n)
	for i := range out {
		item := v.Index(i)
		text, ok := s.appendKey(w.text[:0], item)
		if !ok {
			w.odd = true
			return nil
		}
		w.text = text
		out[i] = pair{elem: string(text), at: i, val: item}
	}
	slices.SortFunc(out, func(a, b pair) int { return cmp.Or(compareElements(a.elem, b.elem), cmp.Compare(a.at, b.at)) })
	return out
}
