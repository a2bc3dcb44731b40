package openapi

import (
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"testing"
)

// FuzzBlocks reads joined blocks back, checksum and all.
func FuzzBlocks(f *testing.F) {
	f.Add("", "", "")
	f.Add("a", strings.Repeat("long ", 20000), "z")
	f.Fuzz(func(t *testing.T, first, second, third string) {
		var blocks []block
		for _, text := range []string{first, second} {
			b, err := newBlock(func(w io.Writer) error { _, err := io.WriteString(w, text); return err })
			if err != nil {
				t.Fatal(err)
			}
			blocks = append(blocks, b)
		}
		third = third[:min(len(third), 1000)]
		blocks = append(blocks, stored(third), blocks[0])
		z, err := gzip.NewReader(bytes.NewReader(gzipped(blocks)))
		if err != nil {
			t.Fatal(err)
		}
		z.Multistream(false)
		got, err := io.ReadAll(z)
		if err != nil || string(got) != first+second+third+first {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}
