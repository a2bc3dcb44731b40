// Package nft writes nftables rules as short phrases and keeps element batches within
// the size of one netlink attribute. The one idea: a concatenated key is a list of
// fields loaded into consecutive 4-byte registers, so that a rule reads here as
// `nft list ruleset` prints it. Used by proxy and network.
package nft

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// first is NFT_REG32_00, the first of sixteen 4-byte registers.
const first = 8

// chunk is how many elements go into one message: an attribute holds at most 64 KiB.
const chunk = 400

// Field loads one value of a packet into a register.
type Field func(register uint32) expr.Any

// SourceAddr is `ip saddr`.
func SourceAddr(r uint32) expr.Any { return network(r, 12) }

// DestAddr is `ip daddr`.
func DestAddr(r uint32) expr.Any { return network(r, 16) }

// Proto is `meta l4proto`.
func Proto(r uint32) expr.Any { return &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: r} }

// DestPort is `th dport`.
func DestPort(r uint32) expr.Any {
	return &expr.Payload{DestRegister: r, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}
}

// Random is `numgen random mod n offset from`.
func Random(n, from uint32) Field {
	return func(r uint32) expr.Any {
		return &expr.Numgen{Register: r, Modulus: n, Type: unix.NFT_NG_RANDOM, Offset: from}
	}
}

func network(r, offset uint32) expr.Any {
	return &expr.Payload{DestRegister: r, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4}
}

// Rule joins phrases to one rule.
func Rule(phrases ...[]expr.Any) []expr.Any {
	var all []expr.Any
	for _, p := range phrases {
		all = append(all, p...)
	}
	return all
}

// Load puts the fields into consecutive registers.
func Load(fields ...Field) []expr.Any { return loadAt(first, fields) }

func loadAt(register uint32, fields []Field) []expr.Any {
	out := make([]expr.Any, 0, len(fields)+1)
	for i, f := range fields {
		out = append(out, f(register+uint32(i)))
	}
	return out
}

// In is `<fields> @set`.
func In(set *nftables.Set, fields ...Field) []expr.Any {
	return append(Load(fields...), &expr.Lookup{SourceRegister: first, SetName: set.Name, SetID: set.ID})
}

// Verdicts is `<fields> vmap @set`.
func Verdicts(set *nftables.Set, fields ...Field) []expr.Any {
	return append(Load(fields...), &expr.Lookup{SourceRegister: first, IsDestRegSet: true, SetName: set.Name, SetID: set.ID})
}

// TranslateTo is `dnat ip to <fields> map @set`, whose values are address . port. A
// field that has no element there ends the rule, and the next rule has its turn.
func TranslateTo(set *nftables.Set, fields ...Field) []expr.Any {
	return append(Load(fields...),
		&expr.Lookup{SourceRegister: first, DestRegister: unix.NFT_REG_1, IsDestRegSet: true, SetName: set.Name, SetID: set.ID},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: unix.NFT_REG_1, RegProtoMin: first + 1, Specified: true})
}

// Remember is `update @memory { <key> timeout t : <value> }`: an element that is there
// keeps its value and lives t longer.
func Remember(memory *nftables.Set, timeout time.Duration, key []Field, value Field) []expr.Any {
	const data = unix.NFT_REG_2
	return Rule(Load(key...), []expr.Any{value(data), &expr.Dynset{SrcRegKey: first, SrcRegData: data,
		SetName: memory.Name, SetID: memory.ID, Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: timeout}})
}

// Recall is `ct mark set <key> map @memory`.
func Recall(memory *nftables.Set, key ...Field) []expr.Any {
	return append(Load(key...),
		&expr.Lookup{SourceRegister: first, DestRegister: unix.NFT_REG_1, IsDestRegSet: true, SetName: memory.Name, SetID: memory.ID},
		&expr.Ct{Key: expr.CtKeyMARK, Register: unix.NFT_REG_1, SourceRegister: true})
}

// FlowMark is `ct mark`.
func FlowMark(r uint32) expr.Any { return &expr.Ct{Register: r, Key: expr.CtKeyMARK} }

// Within is `ip saddr <prefix>` (or `ip daddr`, by field).
func Within(field Field, p netip.Prefix) []expr.Any { return prefix(field, p, expr.CmpOpEq) }

// Outside is `ip saddr != <prefix>`.
func Outside(field Field, p netip.Prefix) []expr.Any { return prefix(field, p, expr.CmpOpNeq) }

func prefix(field Field, p netip.Prefix, op expr.CmpOp) []expr.Any {
	mask := make([]byte, 4)
	binary.BigEndian.PutUint32(mask, ^uint32(0)<<(32-p.Bits()))
	return []expr.Any{field(1),
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: op, Register: 1, Data: p.Masked().Addr().AsSlice()}}
}

// ToThisHost is `fib daddr type local` for addresses other than 127.0.0.0/8.
func ToThisHost() []expr.Any {
	return Rule([]expr.Any{
		&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}, Outside(DestAddr, netip.MustParsePrefix("127.0.0.0/8")))
}

// Translated is `ct status dnat`.
func Translated() []expr.Any {
	return []expr.Any{&expr.Ct{Register: 1, Key: expr.CtKeySTATUS},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(1 << 5), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)}}
}

// Mark is `meta mark set meta mark | bit`.
func Mark(bit uint32) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(^bit), Xor: binaryutil.NativeEndian.PutUint32(bit)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1}}
}

// Marked is `meta mark & bit != 0`.
func Marked(bit uint32) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bit), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)}}
}

// Entering is `iifname link`.
func Entering(link string) []expr.Any { return device(expr.MetaKeyIIFNAME, link, expr.CmpOpEq) }

// NotLeaving is `oifname != link`.
func NotLeaving(link string) []expr.Any { return device(expr.MetaKeyOIFNAME, link, expr.CmpOpNeq) }

// Leaving is `oifname link`.
func Leaving(link string) []expr.Any { return device(expr.MetaKeyOIFNAME, link, expr.CmpOpEq) }

func device(key expr.MetaKey, link string, op expr.CmpOp) []expr.Any {
	name := make([]byte, 16)
	copy(name, link)
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: name}}
}

// Masquerade is `masquerade fully-random`.
func Masquerade() []expr.Any { return []expr.Any{&expr.Masq{FullyRandom: true}} }

// ResetTCP is `meta l4proto tcp reject with tcp reset`. Unlike ICMP errors, resets are not
// limited in rate, so that every client is refused at once.
func ResetTCP() []expr.Any {
	return []expr.Any{Proto(1), &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}
}

// Reject answers with ICMP port unreachable.
func Reject() []expr.Any {
	return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: 3}}
}

// Verdict is one of accept, drop, return.
func Verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }

// Key puts values into the padded form of a concatenated key: 4 bytes a field.
func Key(fields ...[]byte) []byte {
	out := make([]byte, 4*len(fields))
	for i, f := range fields {
		copy(out[4*i:], f)
	}
	return out
}

// Port gives a port in network order.
func Port(p uint16) []byte { return binary.BigEndian.AppendUint16(nil, p) }

// Number gives a number as numgen and mark hold it.
func Number(n uint32) []byte { return binaryutil.NativeEndian.PutUint32(n) }

// Add adds elements in as many messages of one transaction as they need.
func Add(c *nftables.Conn, set *nftables.Set, elements []nftables.SetElement) error {
	return each(elements, func(part []nftables.SetElement) error { return c.SetAddElements(set, part) })
}

// Remove removes elements likewise; each must exist.
func Remove(c *nftables.Conn, set *nftables.Set, elements []nftables.SetElement) error {
	return each(elements, func(part []nftables.SetElement) error { return c.SetDeleteElements(set, part) })
}

func each(all []nftables.SetElement, do func([]nftables.SetElement) error) error {
	for len(all) > 0 {
		n := min(chunk, len(all))
		if err := do(all[:n]); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

// Open gives a connection that can carry a transaction of some hundred thousand elements.
func Open() (*nftables.Conn, error) {
	return nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error {
		if err := c.SetWriteBuffer(sendBuffer); err != nil {
			return err
		}
		return c.SetReadBuffer(receiveBuffer)
	}))
}

const (
	sendBuffer    = 256 << 20 // a limit, not memory: the kernel holds what is being sent
	receiveBuffer = 4 << 20
)

// Established is `ct state established,related`.
func Established() []expr.Any {
	const established, related = 1 << 1, 1 << 2
	return []expr.Any{&expr.Ct{Register: 1, Key: expr.CtKeySTATE},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(established | related), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)}}
}

// IsProto is `meta l4proto p`.
func IsProto(p uint8) []expr.Any {
	return []expr.Any{Proto(1), &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{p}}}
}

// ToPorts is `th dport first-last`.
func ToPorts(first, last uint16) []expr.Any {
	if first == last {
		return []expr.Any{DestPort(1), &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: Port(first)}}
	}
	return []expr.Any{DestPort(1), &expr.Cmp{Op: expr.CmpOpGte, Register: 1, Data: Port(first)},
		&expr.Cmp{Op: expr.CmpOpLte, Register: 1, Data: Port(last)}}
}

// Count is `counter`.
func Count() []expr.Any { return []expr.Any{&expr.Counter{}} }

// JumpTo and GoTo continue in a chain; after the first, what follows is next.
func JumpTo(chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: chain}}
}

// GoTo is without return.
func GoTo(chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: chain}}
}
