package store

import (
	"maps"
	"strings"
	"sync"
	"weak"
)

// bases chooses what the texts of a collection are packed against: for each class of
// names (those of one owner, as a rule) the last text that did not resemble the one
// before it. A base lives as long as something is packed against it.
type bases struct {
	mu      sync.Mutex
	classes map[string]*class
	last    weak.Pointer[base]
	sweep   int // classes at which the dead ones are removed
}

type class struct {
	base   weak.Pointer[base]
	misses uint
}

const (
	good      = 4  // a packed text is at most such a part of the whole
	fair      = 2  // the same for the first of a class, against another's base
	hopeless  = 4  // misses in a row after which few are tried
	fewOf     = 16 // one of so many, then
	leastLook = 256
)

// classOf is what the names of one owner's objects begin with.
func classOf(path string) string {
	if at := strings.LastIndexAny(path, "-./"); at >= 0 {
		return path[:at]
	}
	return ""
}

// candidate gives what a text may be packed against, if anything, and how long that may
// get, as a part of it; ok is false where packing has not been worth while.
func (s *bases) candidate(name string) (b *base, part int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.classes[name]
	if c == nil {
		s.add(name)
		return s.last.Value(), fair, true
	}
	if c.misses > hopeless {
		if c.misses++; c.misses%fewOf != 0 {
			return nil, 0, false
		}
	}
	if b = c.base.Value(); b == nil {
		b = s.last.Value()
	}
	return b, good, true
}

// add makes a class, and room for it.
func (s *bases) add(name string) *class {
	if len(s.classes) >= max(leastLook, s.sweep) {
		maps.DeleteFunc(s.classes, func(_ string, c *class) bool { return c.base.Value() == nil })
		s.sweep = 2 * len(s.classes)
	}
	if s.classes == nil {
		s.classes = map[string]*class{}
	}
	c := &class{}
	s.classes[strings.Clone(name)] = c
	return c
}

// found makes a text a base.
func (s *bases) found(name string, value []byte) *base {
	b := &base{bytes: value}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.classes[name]
	if c == nil {
		c = s.add(name)
	}
	c.base = weak.Make(b)
	c.misses++
	s.last = c.base
	return b
}

func (s *bases) hit(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.classes[name]; c != nil {
		c.misses = 0
	}
}

// fit is value as it is kept for an object; it is retained.
func (s *bases) fit(path string, value []byte) text {
	if !packs(len(value)) {
		return whole(value)
	}
	name := classOf(path)
	b, part, ok := s.candidate(name)
	if !ok {
		return whole(value)
	}
	if b != nil {
		if t, ok := b.pack(value, len(value)/part); ok {
			s.hit(name)
			return t
		}
	}
	return text{base: s.found(name, value), size: len(value)}
}
