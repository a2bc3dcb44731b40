package ownership

import "strings"

// parse reads the fields of an entry. ok is false unless they stand as the library writes them and
// each is one of the schema: then only the library knows what becomes of them.
func (s *shape) parse(fields string) (tree []node, ok bool) {
	p := parser{rest: fields, tree: make([]node, 0, strings.Count(fields, "{"))}
	if p.children(s) {
		p.odd = true // nobody owns the whole object
	}
	return p.tree, !p.odd && p.rest == ""
}

type parser struct {
	rest string
	tree []node
	odd  bool
}

func (p *parser) take(prefix string) bool {
	rest, ok := strings.CutPrefix(p.rest, prefix)
	p.rest = rest
	return ok
}

// children reads the object after a path element and says whether it has the "." of a member.
func (p *parser) children(s *shape) (self bool) {
	if !p.take("{") {
		p.odd = true
		return false
	}
	if p.take("}") {
		return false
	}
	last := ""
	if p.take(`".":{}`) {
		// A member without children is written without the dot.
		if self = true; !p.take(",") {
			p.odd = true
		}
	}
	for !p.odd {
		last = p.child(s, last)
		if p.take("}") {
			return self
		}
		p.odd = p.odd || !p.take(",")
	}
	return self
}

// child reads one path element, which must come after last, and what is under it.
func (p *parser) child(s *shape, last string) string {
	elem, ok := p.elem()
	under := s.under(elem, ok)
	if under == nil || last != "" && compareElements(last, elem) >= 0 {
		p.odd = true
		return elem
	}
	at := len(p.tree)
	p.tree = append(p.tree, node{elem: elem})
	self := p.children(under)
	n := len(p.tree) - at
	p.tree[at].size = n
	if self || n == 1 {
		p.tree[at].mark = member
	}
	return elem
}

// elem reads `"f:name":`.
func (p *parser) elem() (string, bool) {
	if !p.take(`"`) {
		return "", false
	}
	for i := 0; i < len(p.rest); i++ {
		switch p.rest[i] {
		case '\\':
			i++
		case '"':
			elem := p.rest[:i]
			p.rest = p.rest[i+1:]
			return elem, p.take(":") && canonical(elem)
		}
	}
	return "", false
}

// under is the shape of what a path element names, nil for nothing known.
func (s *shape) under(elem string, ok bool) *shape {
	switch {
	case !ok:
	case s.form == structure:
		if f := s.named[elem]; f != nil {
			return f.shape
		}
	case s.form == mapping && elem[0] == 'f', s.form == keyed && elem[0] == 'k', s.form == set && elem[0] == 'v':
		return s.elem
	}
	return nil
}

// merger writes the fields of an entry after a write.
type merger struct {
	out    []byte
	writer bool // the entry is that of who wrote
}

// merge writes what is left of an entry and, for the writer, what was written. It leaves out
// what has neither.
func (m *merger) merge(entry, change []node) {
	for len(entry)+len(change) > 0 {
		c := 0
		switch {
		case len(entry) == 0:
			c = 1
		case len(change) == 0:
			c = -1
		default:
			c = compareElements(entry[0].elem, change[0].elem)
		}
		var e, ch node
		var under, changed []node
		if c <= 0 {
			e = entry[0]
			under, entry = entry[1:e.size], entry[e.size:]
		}
		if c >= 0 {
			ch = change[0]
			changed, change = change[1:ch.size], change[ch.size:]
		}
		if c <= 0 {
			m.node(e.elem, e.mark&member != 0 && ch.mark == 0 || m.owns(ch), under, changed)
		} else if m.writer {
			m.node(ch.elem, m.owns(ch), nil, changed)
		}
	}
}

func (m *merger) owns(change node) bool { return m.writer && change.mark&written != 0 }

func (m *merger) node(elem string, self bool, under, changed []node) {
	start := len(m.out)
	if start > 0 && m.out[start-1] != '{' {
		m.out = append(m.out, ',')
	}
	m.out = append(append(append(m.out, '"'), elem...), `":{`...)
	inside := len(m.out)
	if len(under)+len(changed) > 0 {
		if self {
			m.out = append(m.out, `".":{}`...)
		}
		before := len(m.out)
		if m.merge(under, changed); len(m.out) == before {
			m.out = m.out[:inside]
		}
	}
	if len(m.out) == inside && !self {
		m.out = m.out[:start]
		return
	}
	m.out = append(m.out, '}')
}
