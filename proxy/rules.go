package proxy

import (
	"net/netip"
	"slices"
)

// table is one of the kernel's maps and sets.
type table uint8

const (
	inside        table = iota // frontend -> chain, for pods and this node; asked first
	services                   // frontend -> chain
	insidePorts                // the same two for node ports
	nodePorts                  //
	endpoints                  // frontend and slot -> endpoint
	portEndpoints              // node port and slot -> endpoint
	refused                    // external frontends without endpoints
	refusedPorts               //
	clusterAddr                // cluster addresses: what no rule translates is refused
	hairpin                    // endpoint . endpoint: a pod that reaches itself
	fenced                     // external frontends that not everyone may use
	allowed                    // fenced frontend . source
	tables
)

// localSlots is where the slots of the endpoints on this node begin.
const localSlots = 1 << 16

// entry is the key of one element; which fields count depends on the table.
type entry struct {
	table    table
	frontend frontend
	slot     uint32
	from     netip.Prefix
}

// value is what an element holds: a chain, or an endpoint. Sets hold nothing.
type value struct {
	chain    string
	endpoint endpoint
}

// change is one transaction: old elements out, new ones in.
type change struct {
	before map[entry]*value // of every element touched: what the kernel has, nil for nothing
	remove []entry
	add    map[entry]value
	picks  map[pick]struct{}       // chains that must be there
	gone   map[frontend][]endpoint // endpoints that a frontend no longer has, to forget their flows
}

func newChange() *change {
	return &change{before: map[entry]*value{}, add: map[entry]value{}, picks: map[pick]struct{}{}, gone: map[frontend][]endpoint{}}
}

// touch notes what the kernel has before the first mutation of an element.
func (r *rules) touch(c *change, e entry) {
	if _, known := c.before[e]; known {
		return
	}
	if v, there := r.elements[e]; there {
		c.before[e] = &v
	} else {
		c.before[e] = nil
	}
}

// settle turns what was touched into the least removals and additions.
func (r *rules) settle(c *change) {
	for e, was := range c.before {
		now, there := r.elements[e]
		if was != nil && there && *was == now {
			continue
		}
		if was != nil {
			c.remove = append(c.remove, e)
		}
		if there {
			c.add[e] = now
		}
	}
}

func (c *change) empty() bool { return len(c.remove) == 0 && len(c.add) == 0 }

// rules is the desired ruleset, kept as elements so that a change of one service costs
// what changed in it. Pure: no clock, no kernel.
//
// Two services may claim the same external frontend. The first keeps it; the others wait
// and are asked again when it leaves.
type rules struct {
	elements map[entry]value
	owned    map[owner]map[frontend]*slots
	holder   map[frontend]owner
	waiting  map[frontend][]owner
	sets     map[owner][]entry
	uses     map[entry]int // of set elements, which several services share
}

// slots is the place of each endpoint of a frontend, kept stable so that a change moves
// at most one other endpoint.
type slots struct{ cluster, local []endpoint }

func newRules() *rules {
	return &rules{elements: map[entry]value{}, owned: map[owner]map[frontend]*slots{}, holder: map[frontend]owner{},
		waiting: map[frontend][]owner{}, sets: map[owner][]entry{}, uses: map[entry]int{}}
}

// set makes routes, and elements of sets, what service o has, adds the difference to c and returns the services
// that have to be set again because a frontend they wait for is free.
func (r *rules) set(o owner, routes []route, sets []entry, c *change) []owner {
	next := map[entry]value{}
	nextSlots := map[frontend]*slots{}
	for i := range routes {
		f := routes[i].frontend
		if h, taken := r.holder[f]; taken && h != o {
			if !slices.Contains(r.waiting[f], o) {
				r.waiting[f] = append(r.waiting[f], o)
			}
			continue
		}
		r.holder[f] = o
		nextSlots[f] = r.lay(&routes[i], r.owned[o][f], next, c)
		for _, e := range routes[i].local {
			sets = append(sets, entry{table: hairpin, frontend: frontend{addr: e.addr}})
		}
	}
	freed := r.replace(o, next, nextSlots, c)
	r.replaceSets(o, sets, c)
	return freed
}

// lay writes the elements of one route.
func (r *rules) lay(route *route, was *slots, next map[entry]value, c *change) *slots {
	f := route.frontend
	if was == nil {
		was = &slots{}
	}
	if route.refuse {
		if f.isNodePort() {
			next[entry{table: refusedPorts, frontend: f}] = value{chain: "refuse"}
		} else {
			next[entry{table: refused, frontend: f}] = value{chain: "refuse"}
		}
		forget(c, f, was, &slots{})
		return &slots{}
	}
	in, out, to := inside, services, endpoints
	if f.isNodePort() {
		in, out, to = insidePorts, nodePorts, portEndpoints
	}
	now := &slots{}
	use := func(t table, p pick) {
		next[entry{table: t, frontend: f}] = value{chain: p.chain()}
		c.picks[p] = struct{}{}
		if p.local && now.local == nil {
			now.local = place(was.local, route.local)
		} else if !p.local && now.cluster == nil {
			now.cluster = place(was.cluster, route.cluster)
		}
	}
	use(out, route.outside)
	if route.inside != nil {
		use(in, *route.inside)
	}
	for i, e := range now.cluster {
		next[entry{table: to, frontend: f, slot: uint32(i)}] = value{endpoint: e}
	}
	for i, e := range now.local {
		next[entry{table: to, frontend: f, slot: localSlots + uint32(i)}] = value{endpoint: e}
	}
	forget(c, f, was, now)
	return now
}

// place keeps endpoints where they were and fills the gaps with the others.
func place(was, want []endpoint) []endpoint {
	out := make([]endpoint, len(want))
	taken := make([]bool, len(want))
	at := make(map[endpoint]int, len(was))
	for i, e := range was {
		at[e] = i
	}
	var rest []endpoint
	for _, e := range want {
		if i, ok := at[e]; ok && i < len(out) {
			out[i], taken[i] = e, true
		} else {
			rest = append(rest, e)
		}
	}
	for i := range out {
		if !taken[i] {
			out[i], rest = rest[0], rest[1:]
		}
	}
	return out
}

// forget notes the endpoints that the frontend had and has no longer.
func forget(c *change, f frontend, was, now *slots) {
	for _, e := range slices.Concat(was.cluster, was.local) {
		if !slices.Contains(now.cluster, e) && !slices.Contains(now.local, e) {
			c.gone[f] = append(c.gone[f], e)
		}
	}
}

// replace swaps the elements of a service for next.
func (r *rules) replace(o owner, next map[entry]value, nextSlots map[frontend]*slots, c *change) []owner {
	var freed []owner
	for f, s := range r.owned[o] {
		r.withdraw(f, s, next, c)
		if _, kept := nextSlots[f]; !kept {
			delete(r.holder, f)
			forget(c, f, s, &slots{})
			freed = append(freed, r.waiting[f]...)
			delete(r.waiting, f)
		}
	}
	for e, v := range next {
		if old, ok := r.elements[e]; ok && old == v {
			continue
		}
		r.touch(c, e)
		r.elements[e] = v
	}
	if len(nextSlots) == 0 {
		delete(r.owned, o)
	} else {
		r.owned[o] = nextSlots
	}
	return freed
}

// withdraw removes the elements of a frontend that next does not have.
func (r *rules) withdraw(f frontend, s *slots, next map[entry]value, c *change) {
	drop := func(e entry) {
		if _, there := r.elements[e]; !there {
			return
		}
		if _, stays := next[e]; !stays {
			r.touch(c, e)
			delete(r.elements, e)
		}
	}
	kinds, to := []table{inside, services, refused}, endpoints
	if f.isNodePort() {
		kinds, to = []table{insidePorts, nodePorts, refusedPorts}, portEndpoints
	}
	for _, t := range kinds {
		drop(entry{table: t, frontend: f})
	}
	for i := range s.cluster {
		drop(entry{table: to, frontend: f, slot: uint32(i)})
	}
	for i := range s.local {
		drop(entry{table: to, frontend: f, slot: localSlots + uint32(i)})
	}
}

// replaceSets counts the uses of set elements.
func (r *rules) replaceSets(o owner, next []entry, c *change) {
	for _, e := range next {
		if r.uses[e]++; r.uses[e] == 1 {
			r.touch(c, e)
			r.elements[e] = value{}
		}
	}
	for _, e := range r.sets[o] {
		if r.uses[e]--; r.uses[e] > 0 {
			continue
		}
		r.touch(c, e)
		delete(r.uses, e)
		delete(r.elements, e)
	}
	if len(next) == 0 {
		delete(r.sets, o)
	} else {
		r.sets[o] = next
	}
}

// whole gives a change that makes an empty kernel what r is.
func (r *rules) whole(picks map[pick]struct{}) *change {
	c := newChange()
	c.add, c.picks = r.elements, picks
	return c
}
