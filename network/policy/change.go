package policy

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/proa-dev/proa/internal/netpol"
)

// change is a difference between the kernel and what should be.
type change struct {
	add      []*object // sets first, then chains after those they jump to
	remove   []*object // the other way round
	elements map[*object]*elements
	verdicts [netpol.Directions]moves
	own      moves // addresses that may always reach themselves
}

// elements are those of a set that came and went.
type elements struct{ add, remove []element }

// moves are the elements of a map of addresses that came and went; one that changed is in both.
type moves struct {
	add    map[netip.Addr]string // to the name of a chain
	remove []netip.Addr
}

func (c *change) empty() bool {
	return len(c.add)+len(c.remove)+len(c.elements)+len(c.own.add)+len(c.own.remove)+len(c.verdicts[0].add)+len(c.verdicts[0].remove)+
		len(c.verdicts[1].add)+len(c.verdicts[1].remove) == 0
}

// settle gives what changed since the last call.
func (r *rules) settle() *change {
	if len(r.stale) > 0 {
		for _, p := range r.attached {
			if _, yes := r.stale[p.Namespace]; yes {
				r.judge(p)
			}
		}
		clear(r.stale)
	}
	c := &change{elements: map[*object]*elements{}}
	c.own.add = map[netip.Addr]string{}
	for d := range c.verdicts {
		c.verdicts[d].add = map[netip.Addr]string{}
	}
	for addr, before := range r.moved {
		c.move(addr, before, r.attached[addr])
	}
	clear(r.moved)
	r.settleObjects(c)
	byKind := func(a, b *object) int { return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.name, b.name)) }
	slices.SortFunc(c.add, byKind)
	slices.SortFunc(c.remove, func(a, b *object) int { return byKind(b, a) })
	return c
}

func (r *rules) settleObjects(c *change) {
	for len(r.touched) > 0 {
		for o := range r.touched {
			delete(r.touched, o)
			if o.users == 0 && r.objects[o.name] == o {
				delete(r.objects, o.name)
				for _, u := range o.uses {
					r.giveBack(u) // which may be touched once more
				}
			}
			c.take(o)
		}
	}
}

// take adds what is to be done about an object.
func (c *change) take(o *object) {
	switch {
	case o.users == 0:
		delete(c.elements, o)
		if i := slices.Index(c.add, o); i >= 0 {
			c.add = slices.Delete(c.add, i, i+1)
		} else if o.installed {
			c.remove = append(c.remove, o)
		}
		o.installed = false
	case !o.installed:
		o.installed = true
		c.add = append(c.add, o)
		if len(o.elements) > 0 {
			all := &elements{}
			for e := range o.elements {
				all.add = append(all.add, e)
			}
			c.elements[o] = all
		}
	case o.before != nil:
		e := c.elements[o]
		if e == nil {
			e = &elements{}
		}
		for one, was := range o.before {
			if is := o.elements[one] > 0; is && !was {
				e.add = append(e.add, one)
			} else if was && !is {
				e.remove = append(e.remove, one)
			}
		}
		if len(e.add)+len(e.remove) > 0 {
			c.elements[o] = e
		}
	}
	o.before = nil
}

// move adds what is to be done about a pod that was judged by before.
func (c *change) move(addr netip.Addr, before *verdicts, p *pod) {
	var now verdicts
	if p != nil {
		now = p.judged
	}
	for d := range now {
		was, is := before[d], now[d]
		if was != nil && is != nil && was.name == is.name {
			continue
		}
		if was != nil {
			c.verdicts[d].remove = append(c.verdicts[d].remove, addr)
		}
		if is != nil {
			c.verdicts[d].add[addr] = is.name
		}
	}
	switch had, has := *before != (verdicts{}), now != (verdicts{}); {
	case had && !has:
		c.own.remove = append(c.own.remove, addr)
	case has && !had:
		c.own.add[addr] = ""
	}
}

// whole gives everything that should be, for a kernel that has nothing.
func (r *rules) whole() *change {
	r.settle()
	for _, o := range r.objects {
		o.installed, o.before = false, nil
		r.touched[o] = struct{}{}
	}
	for addr, p := range r.attached {
		if p.judged != (verdicts{}) {
			r.moved[addr] = &verdicts{}
		}
	}
	return r.settle()
}

// none says whether no pod of this node is selected by any policy; settled before.
func (r *rules) none() bool { return len(r.objects) == 0 }

// dirty says whether there may be something to settle.
func (r *rules) dirty() bool { return len(r.stale)+len(r.touched)+len(r.moved) > 0 }
