package proxy

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/proa-dev/proa/internal/nft"
)

// markBit is set on packets that get this node's address as their source.
const markBit = 0x4000

// kernel holds the rules in one nftables table. Everything constant is written when the
// table is made; later transactions touch elements, and add the
// chain of a pick when it is first needed.
type kernel struct {
	table  *nftables.Table
	pods   netip.Prefix
	sets   [tables]*nftables.Set
	memory *nftables.Set // client . frontend -> slot, with timeouts; written by the kernel
	chains map[string]bool
}

func newKernel(name string, pods netip.Prefix) *kernel {
	k := &kernel{table: &nftables.Table{Family: nftables.TableFamilyIPv4, Name: name}, pods: pods, chains: map[string]bool{}}
	byAddr := nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService)
	byPort := nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService)
	target := nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)
	verdicts := func(t table, name string, key nftables.SetDatatype) {
		k.sets[t] = &nftables.Set{Table: k.table, Name: name, IsMap: true, Concatenation: true, KeyType: key, DataType: nftables.TypeVerdict}
	}
	verdicts(inside, "inside", byAddr)
	verdicts(services, "services", byAddr)
	verdicts(insidePorts, "inside-ports", byPort)
	verdicts(nodePorts, "node-ports", byPort)
	verdicts(refused, "refused", byAddr)
	verdicts(refusedPorts, "refused-ports", byPort)
	k.sets[endpoints] = &nftables.Set{Table: k.table, Name: "endpoints", IsMap: true, Concatenation: true, DataType: target,
		KeyType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService, nftables.TypeMark)}
	k.sets[portEndpoints] = &nftables.Set{Table: k.table, Name: "port-endpoints", IsMap: true, Concatenation: true, DataType: target,
		KeyType: nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService, nftables.TypeMark)}
	k.sets[clusterAddr] = &nftables.Set{Table: k.table, Name: "cluster-addresses", KeyType: nftables.TypeIPAddr}
	k.sets[hairpin] = &nftables.Set{Table: k.table, Name: "hairpin", Concatenation: true,
		KeyType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeIPAddr)}
	k.sets[fenced] = &nftables.Set{Table: k.table, Name: "fenced", Concatenation: true, KeyType: byAddr}
	k.sets[allowed] = &nftables.Set{Table: k.table, Name: "allowed", Concatenation: true, Interval: true,
		KeyType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService, nftables.TypeIPAddr)}
	k.memory = &nftables.Set{Table: k.table, Name: "memory", IsMap: true, Concatenation: true, Dynamic: true, HasTimeout: true,
		Timeout: 3 * time.Hour, Size: 1 << 18, DataType: nftables.TypeMark,
		KeyType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService)}
	return k
}

// replace makes the table anew with everything in c, in one transaction: translated
// connections live on in conntrack and never see a moment without rules.
func (k *kernel) replace(c *change) error {
	conn, err := nft.Open()
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	k.chains = map[string]bool{}
	conn.AddTable(k.table)
	conn.DelTable(k.table)
	conn.AddTable(k.table)
	for _, s := range append(k.sets[:], k.memory) {
		s.ID = 0
		if err := conn.AddSet(s, nil); err != nil {
			return fmt.Errorf("make set %s: %w", s.Name, err)
		}
	}
	for _, name := range []string{"refuse", "route", "fence"} {
		conn.AddChain(&nftables.Chain{Table: k.table, Name: name})
	}
	k.constant(conn)
	return k.commit(conn, c)
}

// apply performs a difference in one transaction.
func (k *kernel) apply(c *change) error {
	conn, err := nft.Open()
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	return k.commit(conn, c)
}

func (k *kernel) remove() error {
	conn, err := nft.Open()
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	conn.AddTable(k.table)
	conn.DelTable(k.table)
	return conn.Flush()
}

// constant writes the rules that never change.
func (k *kernel) constant(conn *nftables.Conn) {
	rule := func(chain *nftables.Chain, phrases ...[]expr.Any) {
		conn.AddRule(&nftables.Rule{Table: k.table, Chain: chain, Exprs: nft.Rule(phrases...)})
	}
	base := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority int32) *nftables.Chain {
		return conn.AddChain(&nftables.Chain{Table: k.table, Name: name, Type: kind, Hooknum: hook,
			Priority: nftables.ChainPriorityRef(nftables.ChainPriority(priority))})
	}
	byAddr := []nft.Field{nft.DestAddr, nft.Proto, nft.DestPort}
	byPort := []nft.Field{nft.Proto, nft.DestPort}

	route := &nftables.Chain{Table: k.table, Name: "route"}
	rule(route, nft.Verdicts(k.sets[services], byAddr...))
	rule(route, nft.ToThisHost(), nft.Verdicts(k.sets[nodePorts], byPort...))

	pre := base("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, -100)
	if k.pods.IsValid() {
		rule(pre, nft.Within(nft.SourceAddr, k.pods), nft.Verdicts(k.sets[inside], byAddr...))
		rule(pre, nft.Within(nft.SourceAddr, k.pods), nft.ToThisHost(), nft.Verdicts(k.sets[insidePorts], byPort...))
	}
	rule(pre, nft.GoTo("route"))
	out := base("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, -100)
	rule(out, nft.Verdicts(k.sets[inside], byAddr...))
	rule(out, nft.ToThisHost(), nft.Verdicts(k.sets[insidePorts], byPort...))
	rule(out, nft.GoTo("route"))

	refuse := &nftables.Chain{Table: k.table, Name: "refuse"}
	rule(refuse, nft.ResetTCP())
	rule(refuse, nft.Reject())
	for _, c := range []*nftables.Chain{
		base("refuse-prerouting", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, -95),
		base("refuse-output", nftables.ChainTypeFilter, nftables.ChainHookOutput, -95),
	} {
		rule(c, nft.Verdicts(k.sets[refused], byAddr...))
		rule(c, nft.ToThisHost(), nft.Verdicts(k.sets[refusedPorts], byPort...))
		rule(c, nft.In(k.sets[clusterAddr], nft.DestAddr), nft.GoTo("refuse"))
	}

	fence := &nftables.Chain{Table: k.table, Name: "fence"}
	rule(fence, nft.In(k.sets[allowed], append(slices.Clone(byAddr), nft.SourceAddr)...), nft.Verdict(expr.VerdictReturn))
	rule(fence, nft.Verdict(expr.VerdictDrop))
	for _, c := range []*nftables.Chain{
		base("fence-prerouting", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, -110),
		base("fence-output", nftables.ChainTypeFilter, nftables.ChainHookOutput, -110),
	} {
		rule(c, nft.In(k.sets[fenced], byAddr...), nft.GoTo("fence"))
	}

	post := base("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, 100)
	rule(post, nft.Marked(markBit), nft.Masquerade())
	rule(post, nft.Translated(), nft.In(k.sets[hairpin], nft.SourceAddr, nft.DestAddr), nft.Masquerade())
}

// commit adds chains and elements of c to the transaction and sends it.
func (k *kernel) commit(conn *nftables.Conn, c *change) error {
	made := k.addChains(conn, c)
	var out, in [tables][]nftables.SetElement
	for _, e := range c.remove {
		gone := nftables.SetElement{Key: key(e)}
		if e.table == allowed {
			gone.KeyEnd = end(e)
		}
		out[e.table] = append(out[e.table], gone)
	}
	for e, v := range c.add {
		in[e.table] = append(in[e.table], element(e, v))
	}
	for t, set := range k.sets {
		if err := nft.Remove(conn, set, out[t]); err != nil {
			return fmt.Errorf("remove from %s: %w", set.Name, err)
		}
		if err := nft.Add(conn, set, in[t]); err != nil {
			return fmt.Errorf("add to %s: %w", set.Name, err)
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("commit rules: %w", err)
	}
	for _, name := range made {
		k.chains[name] = true
	}
	return nil
}

// addChains adds the chains that c needs and the kernel has not.
func (k *kernel) addChains(conn *nftables.Conn, c *change) []string {
	var made []string
	chain := func(name string) (*nftables.Chain, bool) {
		if k.chains[name] {
			return nil, false
		}
		made = append(made, name)
		return conn.AddChain(&nftables.Chain{Table: k.table, Name: name}), true
	}
	for p := range c.picks {
		if ch, missing := chain(p.chain()); missing {
			for _, exprs := range k.pickRules(p) {
				conn.AddRule(&nftables.Rule{Table: k.table, Chain: ch, Exprs: exprs})
			}
		}
	}
	return made
}

// pickRules is the content of a pick's chain.
func (k *kernel) pickRules(p pick) [][]expr.Any {
	if p.count == 0 {
		return [][]expr.Any{nft.Verdict(expr.VerdictDrop)}
	}
	var out [][]expr.Any
	switch {
	case p.masquerade == masqueradeEveryone:
		out = append(out, nft.Mark(markBit))
	case p.masquerade == masqueradeOutside && k.pods.IsValid():
		out = append(out, nft.Rule(nft.Outside(nft.SourceAddr, k.pods), nft.Mark(markBit)))
	}
	var from uint32
	if p.local {
		from = localSlots
	}
	fields, set := []nft.Field{nft.DestAddr, nft.Proto, nft.DestPort}, k.sets[endpoints]
	if p.nodePort {
		fields, set = fields[1:], k.sets[portEndpoints]
	}
	random := nft.Random(uint32(p.count), from)
	if p.sticky > 0 {
		client := []nft.Field{nft.SourceAddr, nft.DestAddr, nft.Proto, nft.DestPort}
		out = append(out,
			nft.Remember(k.memory, time.Duration(p.sticky)*time.Second, client, random),
			nft.Recall(k.memory, client...),
			nft.TranslateTo(set, append(slices.Clone(fields), nft.FlowMark)...))
	}
	return append(out, nft.TranslateTo(set, append(fields, random)...)) // of a sticky one: when the memory is full
}

// forgetMemory removes what the kernel remembers of slots whose endpoint changed.
func (k *kernel) forgetMemory(c *change) error {
	lost := map[string]bool{}
	for e, was := range c.before {
		if was != nil && (e.table == endpoints || e.table == portEndpoints) {
			lost[string(key(e))] = true
		}
	}
	if len(lost) == 0 {
		return nil
	}
	conn, err := nft.Open()
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	all, err := conn.GetSetElements(k.memory)
	if err != nil {
		return fmt.Errorf("read affinities: %w", err)
	}
	var drop []nftables.SetElement
	for _, e := range all {
		if len(e.Key) < 16 || len(e.Val) < 4 { // client . address . protocol . port -> slot
			continue
		}
		byAddr := string(e.Key[4:16]) + string(e.Val[:4])
		if lost[byAddr] || lost[byAddr[4:]] {
			drop = append(drop, nftables.SetElement{Key: e.Key})
		}
	}
	if len(drop) == 0 {
		return nil
	}
	if err := nft.Remove(conn, k.memory, drop); err != nil {
		return fmt.Errorf("forget affinities: %w", err)
	}
	return conn.Flush()
}

// key is the kernel's form of an entry.
func key(e entry) []byte {
	f := e.frontend
	switch e.table {
	case clusterAddr:
		return f.addr.AsSlice()
	case hairpin:
		return nft.Key(f.addr.AsSlice(), f.addr.AsSlice())
	case endpoints:
		return nft.Key(f.addr.AsSlice(), []byte{byte(f.proto)}, nft.Port(f.port), nft.Number(e.slot))
	case portEndpoints:
		return nft.Key([]byte{byte(f.proto)}, nft.Port(f.port), nft.Number(e.slot))
	case allowed:
		return nft.Key(f.addr.AsSlice(), []byte{byte(f.proto)}, nft.Port(f.port), e.from.Addr().AsSlice())
	case insidePorts, nodePorts, refusedPorts:
		return nft.Key([]byte{byte(f.proto)}, nft.Port(f.port))
	default:
		return nft.Key(f.addr.AsSlice(), []byte{byte(f.proto)}, nft.Port(f.port))
	}
}

func element(e entry, v value) nftables.SetElement {
	out := nftables.SetElement{Key: key(e)}
	switch e.table {
	case endpoints, portEndpoints:
		out.Val = nft.Key(v.endpoint.addr.AsSlice(), nft.Port(v.endpoint.port))
	case allowed:
		out.KeyEnd = end(e)
	case clusterAddr, hairpin, fenced:
	default:
		out.VerdictData = &expr.Verdict{Kind: expr.VerdictGoto, Chain: v.chain}
	}
	return out
}

// end is the last key of an element that is a range.
func end(e entry) []byte {
	last := e.from.Addr().As4()
	for bit := e.from.Bits(); bit < 32; bit++ {
		last[bit/8] |= 1 << (7 - bit%8)
	}
	f := e.frontend
	return nft.Key(f.addr.AsSlice(), []byte{byte(f.proto)}, nft.Port(f.port), last[:])
}
