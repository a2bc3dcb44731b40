package policy

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"

	"github.com/proa-dev/proa/internal/netpol"
	"github.com/proa-dev/proa/internal/nft"
)

// family is what differs between IPv4 and IPv6. Each has a table of its own, filled from the
// same rules.
type family struct {
	table        nftables.TableFamily
	name         string // in the journal
	addr         nftables.SetDatatype
	source, dest nft.Field
	has          func(netip.Addr) bool
}

var ipv4 = family{nftables.TableFamilyIPv4, "ip", nftables.TypeIPAddr, nft.SourceAddr, nft.DestAddr, netip.Addr.Is4}

// The priorities of the two hooks: each pod is judged where it sends and where it receives.
// An accept ends one of them; a drop ends the packet.
var priorities = [netpol.Directions]nftables.ChainPriority{netpol.Egress: 0, netpol.Ingress: 1}

// own is the set of address pairs of pods that send to themselves, through a service.
const own = "own"

// kernel holds the rules in one nftables table.
type kernel struct {
	family
	tab *nftables.Table
	ids uint32 // of sets, within a transaction
}

func newKernel(f family, table string) *kernel {
	return &kernel{family: f, tab: &nftables.Table{Family: f.table, Name: table}}
}

// replace makes the table anew with everything in c, in one transaction.
func (k *kernel) replace(c *change) error {
	return k.transaction(func(conn *nftables.Conn) error {
		conn.AddTable(k.tab)
		conn.DelTable(k.tab)
		conn.AddTable(k.tab)
		if err := conn.AddSet(k.set(own, nftables.MustConcatSetType(k.addr, k.addr)), nil); err != nil {
			return fmt.Errorf("make set %s: %w", own, err)
		}
		for d := range netpol.Directions {
			verdicts := k.verdicts(d)
			if err := conn.AddSet(verdicts, nil); err != nil {
				return fmt.Errorf("make map %s: %w", verdicts.Name, err)
			}
			side := k.source
			if d == netpol.Ingress {
				side = k.dest
			}
			chain := conn.AddChain(&nftables.Chain{Table: k.tab, Name: d.String(), Type: nftables.ChainTypeFilter,
				Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityRef(priorities[d])})
			k.rule(conn, chain.Name, nft.Established(), nft.Verdict(expr.VerdictAccept))
			k.rule(conn, chain.Name, nft.Verdicts(verdicts, side))
		}
		return k.write(conn, c)
	})
}

// apply performs a difference in one transaction.
func (k *kernel) apply(c *change) error {
	return k.transaction(func(conn *nftables.Conn) error { return k.write(conn, c) })
}

// remove deletes the table, if there is one.
func (k *kernel) remove() error {
	return k.transaction(func(conn *nftables.Conn) error {
		conn.AddTable(k.tab)
		conn.DelTable(k.tab)
		return nil
	})
}

func (k *kernel) transaction(fill func(*nftables.Conn) error) error {
	conn, err := nft.Open()
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	k.ids = 0
	if err := fill(conn); err != nil {
		return err
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("commit rules: %w", err)
	}
	return nil
}

// write adds a change to a transaction: what others refer to comes first and goes last.
func (k *kernel) write(conn *nftables.Conn, c *change) error {
	for _, o := range c.add {
		if err := k.add(conn, o); err != nil {
			return fmt.Errorf("make %s: %w", o.name, err)
		}
	}
	for o, e := range c.elements {
		set := k.setOf(o)
		if err := nft.Remove(conn, set, k.peerElements(o, e.remove)); err != nil {
			return fmt.Errorf("remove from %s: %w", o.name, err)
		}
		if err := nft.Add(conn, set, k.peerElements(o, e.add)); err != nil {
			return fmt.Errorf("add to %s: %w", o.name, err)
		}
	}
	for d := range netpol.Directions {
		if err := k.move(conn, k.verdicts(d), &c.verdicts[d], func(a netip.Addr) []byte { return a.AsSlice() }); err != nil {
			return err
		}
	}
	pairs := k.set(own, nftables.MustConcatSetType(k.addr, k.addr))
	if err := k.move(conn, pairs, &c.own, func(a netip.Addr) []byte { return nft.Key(a.AsSlice(), a.AsSlice()) }); err != nil {
		return err
	}
	for _, o := range c.remove {
		if o.kind == allows || o.kind == judges {
			conn.DelChain(&nftables.Chain{Table: k.tab, Name: o.name})
		} else {
			conn.DelSet(k.setOf(o))
		}
	}
	return nil
}

// move changes a map or set of addresses.
func (k *kernel) move(conn *nftables.Conn, set *nftables.Set, m *moves, key func(netip.Addr) []byte) error {
	var out, in []nftables.SetElement
	for _, a := range m.remove {
		if k.has(a) {
			out = append(out, nftables.SetElement{Key: key(a)})
		}
	}
	for a, chain := range m.add {
		if !k.has(a) {
			continue
		}
		e := nftables.SetElement{Key: key(a)}
		if set.IsMap {
			e.VerdictData = &expr.Verdict{Kind: expr.VerdictGoto, Chain: chain}
		}
		in = append(in, e)
	}
	if err := nft.Remove(conn, set, out); err != nil {
		return fmt.Errorf("remove from %s: %w", set.Name, err)
	}
	if err := nft.Add(conn, set, in); err != nil {
		return fmt.Errorf("add to %s: %w", set.Name, err)
	}
	return nil
}

// add makes an object.
func (k *kernel) add(conn *nftables.Conn, o *object) error {
	switch o.kind {
	case allows, judges:
		conn.AddChain(&nftables.Chain{Table: k.tab, Name: o.name})
		for _, exprs := range k.chain(o) {
			conn.AddRule(&nftables.Rule{Table: k.tab, Chain: &nftables.Chain{Table: k.tab, Name: o.name}, Exprs: exprs})
		}
		return nil
	default:
		set := k.setOf(o)
		if err := conn.AddSet(set, nil); err != nil {
			return err
		}
		return nft.Add(conn, set, k.ranges(o))
	}
}

// chain is the content of a chain.
func (k *kernel) chain(o *object) [][]expr.Any {
	var out [][]expr.Any
	if o.kind == allows {
		for _, r := range o.rules {
			out = append(out, k.phrase(o, r))
		}
		return out
	}
	for _, u := range o.uses {
		out = append(out, nft.JumpTo(u.name))
	}
	return append(out,
		nft.Rule(nft.In(k.set(own, k.addr), k.source, k.dest), nft.Verdict(expr.VerdictAccept)),
		nft.Rule(nft.Count(), nft.Verdict(expr.VerdictDrop)))
}

// phrase is one rule of what a policy allows.
func (k *kernel) phrase(o *object, r rule) []expr.Any {
	other := k.dest
	if o.side == netpol.Ingress {
		other = k.source
	}
	var parts [][]expr.Any
	if r.protocol != 0 {
		parts = append(parts, nft.IsProto(r.protocol))
	}
	if r.ports != "" {
		parts = append(parts, nft.In(k.set(r.ports, k.addr), nft.DestPort))
	} else if !r.anyPort() {
		parts = append(parts, nft.ToPorts(r.first, r.last))
	}
	for _, name := range []string{r.peer, r.block} {
		if name != "" {
			parts = append(parts, nft.In(k.set(name, k.addr), other))
		}
	}
	if r.named != "" {
		parts = append(parts, nft.In(k.set(r.named, k.addr), k.dest, nft.Proto, nft.DestPort))
	}
	return nft.Rule(append(parts, nft.Verdict(expr.VerdictAccept))...)
}

func (k *kernel) rule(conn *nftables.Conn, chain string, phrases ...[]expr.Any) {
	conn.AddRule(&nftables.Rule{Table: k.tab, Chain: &nftables.Chain{Table: k.tab, Name: chain}, Exprs: nft.Rule(phrases...)})
}

// set is a set by name. The numbers are ours: the library counts its own in a variable that
// all connections of the process share.
func (k *kernel) set(name string, key nftables.SetDatatype) *nftables.Set {
	k.ids++
	return &nftables.Set{Table: k.tab, Name: name, ID: k.ids, KeyType: key, Concatenation: name == own}
}

func (k *kernel) verdicts(d netpol.Direction) *nftables.Set {
	s := k.set("pods-"+d.String(), k.addr)
	s.IsMap, s.DataType = true, nftables.TypeVerdict
	return s
}

func (k *kernel) setOf(o *object) *nftables.Set {
	s := k.set(o.name, k.addr)
	switch o.kind {
	case namedSet:
		s.KeyType, s.Concatenation = nftables.MustConcatSetType(k.addr, nftables.TypeInetProto, nftables.TypeInetService), true
	case portSet:
		s.KeyType, s.Interval = nftables.TypeInetService, true
	case blockSet:
		s.Interval = true
	}
	s.KeyByteOrder = binaryutil.BigEndian
	return s
}

// ranges are the elements of a set of ranges: where each begins, and what is first behind it.
func (k *kernel) ranges(o *object) []nftables.SetElement {
	var out []nftables.SetElement
	for _, r := range o.blocks {
		if !k.has(r.First) {
			continue
		}
		out = append(out, nftables.SetElement{Key: r.First.AsSlice()})
		if next := r.Last.Next(); next.IsValid() {
			out = append(out, nftables.SetElement{Key: next.AsSlice(), IntervalEnd: true})
		}
	}
	for _, r := range o.ports {
		out = append(out, nftables.SetElement{Key: nft.Port(r.First)})
		if r.Last < 65535 {
			out = append(out, nftables.SetElement{Key: nft.Port(r.Last + 1), IntervalEnd: true})
		}
	}
	return out
}

func (k *kernel) peerElements(o *object, list []element) []nftables.SetElement {
	var out []nftables.SetElement
	for _, e := range list {
		switch {
		case !k.has(e.addr):
		case o.kind == namedSet:
			out = append(out, nftables.SetElement{Key: nft.Key(e.addr.AsSlice(), []byte{e.protocol}, nft.Port(e.port))})
		default:
			out = append(out, nftables.SetElement{Key: e.addr.AsSlice()})
		}
	}
	return out
}
