package ownership

import (
	"cmp"
	"reflect"
	"slices"
	"strings"
)

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
