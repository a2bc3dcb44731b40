package patch

import (
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

func TestTooDeep(t *testing.T) {
	for levels, want := range map[int]bool{0: false, 500: false, maxDepth + 1: true, 100 * maxDepth: true} {
		// Built from the inside out, each level in front of the last.
		size, heads := 0, [][]byte{}
		for range levels {
			head := protowire.AppendVarint(protowire.AppendTag(nil, 12, protowire.BytesType), uint64(size))
			size += len(head)
			heads = append(heads, head)
		}
		var nest []byte
		for i := len(heads) - 1; i >= 0; i-- {
			nest = append(nest, heads[i]...)
		}
		if got := tooDeep(nest); got != want {
			t.Errorf("%d levels: %v", levels, got)
		}
	}
}
