package ownership

import (
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
	odd  bool // something the library must judge
	// trusted says that the entries are those of the live object, which were written here or by the library.
	trusted bool
	text    []byte   // scratch
	keys    []string // scratch
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

// fieldsBut is fields without those that are ignored, told by their paths. Only what is not null can have ignored
// parts: structs in structs.
func (w *walker) fieldsBut(ignored []string, path string, fields []*field, l, r reflect.Value) {
	for i, f := range fields {
		at := path + f.name
		switch {
		case slices.Contains(ignored, at):
		case f.shape.form == structure && f.typ.Kind() == reflect.Struct && slices.ContainsFunc(ignored, func(p string) bool { return strings.HasPrefix(p, at+".") }):
			lv, rv := f.of(l), f.of(r)
			if lv.IsValid() || rv.IsValid() {
				n := w.open(f.elem)
				var m mark
				switch {
				case !lv.IsValid():
					m = written
				case !rv.IsValid():
					m = dropped
				}
				w.fieldsBut(ignored, at+".", f.shape.fields, lv, rv)
				w.close(n, m)
			}
		default:
			w.fields(fields[i:i+1], l, r)
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
