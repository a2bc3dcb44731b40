package patch

import "google.golang.org/protobuf/encoding/protowire"

// maxDepth bounds how deep protobuf messages nest. The generated decoders call themselves
// for each level, so that a body of 3 MiB that is all nesting could exhaust the stack, which no
// recover can catch. The deepest honest bodies are the schemas of custom resources.
const maxDepth = 1000

// tooDeep says whether data could hold messages nested deeper than maxDepth. Without the
// schema strings look like messages too, so only fields long enough for the levels still
// missing (two bytes each) are looked into, and text, whose bytes never spell such a
// length, is not. It keeps a stack of its own and gives up, as too deep, on a body that has it
// read more than 64 times over.
func tooDeep(data []byte) bool {
	type span struct {
		data []byte
		left int
	}
	pending := []span{{data, maxDepth}}
	budget := 64 * (len(data) + 1)
	for len(pending) > 0 {
		s := pending[len(pending)-1]
		pending = pending[:len(pending)-1]
		if s.left == 0 {
			return true
		}
		rest := s.data
		for len(rest) > 0 {
			_, kind, n := protowire.ConsumeTag(rest)
			if n < 0 {
				break
			}
			rest = rest[n:]
			if kind == protowire.BytesType {
				field, m := protowire.ConsumeBytes(rest)
				if m < 0 {
					break
				}
				if len(field) >= 2*(s.left-1) {
					pending = append(pending, span{field, s.left - 1})
				}
				rest = rest[m:]
				budget -= n + m
			} else {
				m := protowire.ConsumeFieldValue(0, kind, rest)
				if m < 0 {
					break
				}
				rest = rest[m:]
				budget -= n + m
			}
			if budget < 0 {
				return true
			}
		}
	}
	return false
}
