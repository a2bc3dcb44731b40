package store

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"weak"
)

// Objects of a kind resemble each other: the pods of a template, a node before and after
// its heartbeat. A text is kept as what differs from another one, its base.
//
// Packed it is a row of steps: so many bytes of its own (uvarint, the bytes), then so many of
// the base (uvarint), from where the last such step ended plus an offset (varint; left out
// when there are none).

// text is one encoding of an object. The zero text is empty.
type text struct {
	base  *base  // nil: bytes are all
	bytes []byte // packed; nil: the text is the base's own
	size  int    // unpacked
}

func whole(b []byte) text { return text{bytes: b, size: len(b)} }

// base is a text that others are packed against; never changed.
type base struct {
	bytes  []byte
	once   sync.Once
	index  []uint16                // by hash of a block: its number, plus one
	object atomic.Pointer[decoded] // one of those packed against it: the others share its parts

	mu    sync.Mutex
	forms map[int]weak.Pointer[base] // of other encodings, by slot: alive as long as one is kept
}

const (
	block      = 8 // bytes that are looked for
	stride     = 4 // a block begins at each of these
	leastText  = 128
	mostText   = stride << 15 // longer ones are kept whole
	leastTable = 64
)

// packs tells whether a text of this length may be packed or be a base.
func packs(size int) bool { return size >= leastText && size <= mostText }

func (b *base) prepare() {
	b.once.Do(func() {
		n := leastTable
		for n < len(b.bytes)*2/stride {
			n *= 2
		}
		index := make([]uint16, n)
		for at := 0; at+block <= len(b.bytes); at += stride {
			index[b.slot(index, word(b.bytes, at))] = uint16(at/stride + 1)
		}
		b.index = index
	})
}

func (b *base) slot(index []uint16, w uint64) int {
	return int(w * 0x9e3779b97f4a7c15 >> (64 - bits.TrailingZeros(uint(len(index)))))
}

func word(b []byte, at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }

// find gives where the base has the 8 bytes that value has at p: where it goes on after the
// last step, or else anywhere; -1 when it is not known to have them.
func (b *base) find(value []byte, p, next int) int {
	w := word(value, p)
	if next+block <= len(b.bytes) && word(b.bytes, next) == w {
		return next
	}
	at := (int(b.index[b.slot(b.index, w)]) - 1) * stride
	if at >= 0 && word(b.bytes, at) == w {
		return at
	}
	return -1
}

// pack gives the steps that make value of the base, false when they are longer than limit.
func (b *base) pack(value []byte, limit int) (text, bool) {
	b.prepare()
	var room [512]byte
	out := room[:0]
	own, next := 0, 0 // where bytes of its own begin; where the base goes on
	for p := 0; p+block <= len(value); {
		at := b.find(value, p, next+p-own)
		if at < 0 {
			if p++; p-own > limit {
				return text{}, false
			}
			continue
		}
		for p > own && at > 0 && value[p-1] == b.bytes[at-1] {
			p, at = p-1, at-1
		}
		n := common(value[p:], b.bytes[at:])
		out = step(out, value[own:p], n, at-next)
		p, next = p+n, at+n
		own = p
		if len(out) > limit {
			return text{}, false
		}
	}
	if own < len(value) {
		out = step(out, value[own:], 0, 0)
	}
	return text{base: b, bytes: slices.Clone(out), size: len(value)}, len(out) <= limit
}

func step(out, own []byte, n, offset int) []byte {
	out = append(binary.AppendUvarint(out, uint64(len(own))), own...)
	if out = binary.AppendUvarint(out, uint64(n)); n > 0 {
		out = binary.AppendVarint(out, int64(offset))
	}
	return out
}

// common is how many bytes a and b begin with in common.
func common(a, b []byte) int {
	most := min(len(a), len(b))
	n := 0
	for ; n+8 <= most; n += 8 {
		if x := word(a, n) ^ word(b, n); x != 0 {
			return n + bits.TrailingZeros64(x)/8
		}
	}
	for n < most && a[n] == b[n] {
		n++
	}
	return n
}

// append unpacks.
func (t *text) append(dst []byte) []byte {
	if t.base == nil {
		return append(dst, t.bytes...)
	}
	if t.bytes == nil {
		return append(dst, t.base.bytes...)
	}
	dst = slices.Grow(dst, t.size)
	at := 0
	for steps := t.bytes; len(steps) > 0; {
		n, v := binary.Uvarint(steps)
		own := v + int(n)
		dst = append(dst, steps[v:own]...)
		steps = steps[own:]
		if n, v = binary.Uvarint(steps); n > 0 {
			offset, o := binary.Varint(steps[v:])
			at += int(offset)
			dst = append(dst, t.base.bytes[at:at+int(n)]...)
			at, v = at+int(n), v+o
		}
		steps = steps[v:]
	}
	return dst
}

// in gives the text, read-only: unpacked into scratch if it is packed.
func (t *text) in(scratch *[]byte) []byte {
	switch {
	case t.base == nil:
		return t.bytes
	case t.bytes == nil:
		return t.base.bytes
	}
	*scratch = t.append((*scratch)[:0])
	return *scratch
}

// held is how many bytes it keeps for itself.
func (t *text) held() int {
	if t.bytes == nil {
		return t.size
	}
	return len(t.bytes)
}

// form packs another encoding of what t is the stored form of.
func (t *text) form(slot int, value []byte) text {
	if t.base == nil || !packs(len(value)) {
		return whole(value)
	}
	first := t.base.form(slot, value)
	if &first.bytes[0] == &value[0] { // both are at least leastText long
		return text{base: first, size: len(value)}
	}
	if packed, ok := first.pack(value, len(value)/fair); ok {
		return packed
	}
	return whole(value)
}

// form is the base of a slot's encodings: value, when there is none.
func (b *base) form(slot int, value []byte) *base {
	b.mu.Lock()
	defer b.mu.Unlock()
	if first := b.forms[slot].Value(); first != nil {
		return first
	}
	first := &base{bytes: value}
	if b.forms == nil {
		b.forms = map[int]weak.Pointer[base]{}
	}
	b.forms[slot] = weak.Make(first)
	return first
}

// scratches are buffers to unpack into.
var scratches = sync.Pool{New: func() any { return new([]byte) }}
