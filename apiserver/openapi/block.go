package openapi

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// block is compressed text that can stand between others in one gzip file without being
// compressed again: deflate blocks (RFC 1951) that refer to no text before them, that end at
// a whole byte, and of which none says that it is the last.
type block struct {
	deflate []byte
	sum     uint32 // CRC-32 of the text
	size    int64  // of the text, in bytes
}

// newBlock compresses what f writes.
func newBlock(f func(io.Writer) error) (block, error) {
	var b bytes.Buffer
	z, err := flate.NewWriter(&b, flate.BestSpeed)
	if err != nil {
		return block{}, fmt.Errorf("compress: %w", err)
	}
	sum := crc32.NewIEEE()
	n := &counter{w: io.MultiWriter(z, sum)}
	if err := f(n); err != nil {
		return block{}, err
	}
	if n.size == 0 {
		return block{}, nil
	}
	if err := z.Flush(); err != nil { // ends at a whole byte; Close would say that it is the last
		return block{}, fmt.Errorf("compress: %w", err)
	}
	return block{bytes.Clone(b.Bytes()), sum.Sum32(), n.size}, nil
}

type counter struct {
	w    io.Writer
	size int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.size += int64(n)
	return n, err
}

// stored is a block of a short text as it is, below 64 KB.
func stored(text string) block {
	n := uint16(len(text))
	raw := binary.LittleEndian.AppendUint16([]byte{0}, n)
	raw = binary.LittleEndian.AppendUint16(raw, ^n)
	return block{append(raw, text...), crc32.ChecksumIEEE([]byte(text)), int64(n)}
}

// gzipped is the gzip file (RFC 1952) of blocks one after the other.
func gzipped(blocks []block) []byte {
	size := 32
	for _, b := range blocks {
		size += len(b.deflate)
	}
	const unknownSystem = 255
	file := append(make([]byte, 0, size), 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, unknownSystem)
	sum, length := uint32(0), int64(0)
	for _, b := range blocks {
		file = append(file, b.deflate...)
		sum = concatSums(sum, b.sum, b.size)
		length += b.size
	}
	file = append(file, 1, 0, 0, 0xff, 0xff) // the last block, which holds nothing
	file = binary.LittleEndian.AppendUint32(file, sum)
	return binary.LittleEndian.AppendUint32(file, uint32(length)) // modulo 4 GB, as it is defined
}

// concatSums is the CRC-32 of a text that is followed by another of size bytes: the first's sum after
// as many zero bytes, plus the second's. A zero bit is one linear map of the sum's 32 bits; the map for
// 8*size of them comes by squaring.
func concatSums(first, second uint32, size int64) uint32 {
	var one matrix
	one[0] = crc32.IEEE
	for i := 1; i < 32; i++ {
		one[i] = 1 << (i - 1)
	}
	power := one.square().square().square() // a zero byte
	for ; size > 0; size >>= 1 {
		if size&1 != 0 {
			first = power.times(first)
		}
		power = power.square()
	}
	return first ^ second
}

// matrix is a linear map of 32 bits: what each bit becomes.
type matrix [32]uint32

func (m *matrix) times(v uint32) uint32 {
	var out uint32
	for i := 0; v != 0; i, v = i+1, v>>1 {
		if v&1 != 0 {
			out ^= m[i]
		}
	}
	return out
}

func (m *matrix) square() *matrix {
	var out matrix
	for i, column := range m {
		out[i] = m.times(column)
	}
	return &out
}
