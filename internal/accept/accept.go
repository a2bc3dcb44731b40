// Package accept reads HTTP's Accept headers.
//
// The one idea: a header is a list of wishes in an order, and who answers takes the first that it
// can meet.
//
// Used by apiserver and its discovery.
package accept

import (
	"cmp"
	"iter"
	"mime"
	"slices"
	"strconv"
	"strings"
)

// Wish is one media type that a client takes.
type Wish struct {
	Media  string // "application/json", "*/*"
	Params map[string]string
	weight float64
}

// Wishes are those of a header in the client's order: by weight, and what names no type last. What
// cannot be read is left out.
func Wishes(header string) iter.Seq[Wish] {
	if !strings.Contains(header, "*") && !strings.Contains(header, "q=") {
		return written(header)
	}
	return slices.Values(slices.SortedStableFunc(written(header), func(a, b Wish) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(strings.Count(a.Media, "*"), strings.Count(b.Media, "*")))
	}))
}

// written are the wishes as they stand in the header.
func written(header string) iter.Seq[Wish] {
	return func(yield func(Wish) bool) {
		for entry := range strings.SplitSeq(header, ",") {
			if w, ok := read(strings.TrimSpace(entry)); ok && !yield(w) {
				return
			}
		}
	}
}

func read(entry string) (Wish, bool) {
	if !strings.Contains(entry, ";") { // as most are
		return Wish{strings.ToLower(entry), nil, 1}, entry != ""
	}
	media, params, err := mime.ParseMediaType(entry)
	if err != nil {
		return Wish{}, false
	}
	w := Wish{media, params, 1}
	if q, err := strconv.ParseFloat(params["q"], 64); err == nil {
		w.weight = q
	}
	return w, true
}
