package job

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// indexes is a set of completion indexes; on the wire "1,3-5,7".
type indexes map[int]bool

// parseIndexes reads the wire form; what is malformed or not below limit is left out.
func parseIndexes(s string, limit int) indexes {
	set := indexes{}
	for part := range strings.SplitSeq(s, ",") {
		from, to, span := strings.Cut(part, "-")
		a, err := strconv.Atoi(from)
		if err != nil {
			continue
		}
		b := a
		if span {
			if b, err = strconv.Atoi(to); err != nil {
				continue
			}
		}
		for i := max(a, 0); i <= min(b, limit-1); i++ {
			set[i] = true
		}
	}
	return set
}

func (set indexes) String() string {
	var sorted []int
	for i := range set {
		sorted = append(sorted, i)
	}
	slices.Sort(sorted)
	var b strings.Builder
	for i := 0; i < len(sorted); {
		k := i
		for k+1 < len(sorted) && sorted[k+1] == sorted[k]+1 {
			k++
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		switch k - i {
		case 0:
			fmt.Fprint(&b, sorted[i])
		case 1:
			fmt.Fprintf(&b, "%d,%d", sorted[i], sorted[k])
		default:
			fmt.Fprintf(&b, "%d-%d", sorted[i], sorted[k])
		}
		i = k + 1
	}
	return b.String()
}
