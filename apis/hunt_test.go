package apis_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/proa-dev/proa/apis"
	"github.com/proa-dev/proa/apis/api"
)

// grow adds to the tables what the hunt finds.
var grow = flag.Bool("grow", false, "with -judge: add a case to the tables for each error not yet in them")

// TestHunt changes every field of every valid object of the tables, and sets those that are not set, and
// compares what the kinds make of it with what the judge does.
func TestHunt(t *testing.T) {
	if *judgePath == "" {
		t.Skip("needs -judge")
	}
	upstream, end, err := program(*judgePath)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := end(); err != nil {
			t.Error(err)
		}
	}()
	for _, k := range apis.Kinds() {
		if k.Virtual != nil {
			continue
		}
		t.Run(k.Resource.Resource, func(t *testing.T) { huntKind(t, k, upstream) })
	}
}

func huntKind(t *testing.T, k *api.Kind, upstream judge) {
	text, err := os.ReadFile(tablePath(k))
	if err != nil {
		t.Skip(err)
	}
	table, err := parsed(text)
	if err != nil {
		t.Fatal(err)
	}
	h := hunt{kind: k, table: table, ask: upstream, seen: map[string]bool{}, told: map[string]bool{}, known: map[string]bool{}}
	for _, r := range table.rows() {
		for _, e := range r.Errors {
			h.known[shape(e)] = true
		}
	}
	for _, r := range table.rows() {
		if len(r.Errors) == 0 && r.Apart == "" {
			h.around(t, r)
		}
	}
	if *grow && len(h.found) > 0 {
		text = append(text, h.rows(t)...)
		if err := os.WriteFile(tablePath(k), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(h.differences)
	for _, d := range h.differences {
		t.Error(d)
	}
	t.Logf("%d asked", h.asked)
}

type hunt struct {
	kind  *api.Kind
	table table
	ask   judge
	asked int
	found []row
	// Requests made, shapes of errors in the table, shapes of differences reported.
	differences       []string
	seen, known, told map[string]bool
}

// around tries what differs from one valid row by one field.
func (h *hunt) around(t *testing.T, r row) {
	object, err := edited(h.table.Object, r.Create)
	if err != nil {
		t.Fatal(err)
	}
	if object, err = edited(object, r.Old); err != nil {
		t.Fatal(err)
	}
	if object, err = edited(object, r.Update); err != nil {
		t.Fatal(err)
	}
	m := mutator{pods: h.kind.Kind == "PodTemplate"}
	m.walk("", reflect.PointerTo(h.kind.Type), object, 0)
	for _, e := range m.edits {
		status := strings.HasPrefix(e.path, "status")
		edit := map[string]any{e.path: e.to}
		if !status && r.Update == nil {
			both := map[string]any{e.path: e.to}
			for k, v := range r.Create {
				if k != e.path {
					both[k] = v
				}
			}
			h.try(t, row{Create: both})
		}
		if r.Sub == "" && !status {
			h.try(t, row{Old: either(r.Old, r.Create), Update: edit})
		}
		if r.Sub != "" || status && h.kind.HasStatus {
			h.try(t, row{Old: either(r.Old, r.Create), Sub: first(r.Sub, "status"), Update: edit})
		}
	}
}

func either(a, b map[string]any) map[string]any {
	if a != nil {
		return a
	}
	return b
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (h *hunt) try(t *testing.T, r row) {
	key := fmt.Sprint(r)
	if h.seen[key] {
		return
	}
	h.seen[key] = true
	want, err := r.play(h.table.Object, h.ask)
	if err != nil {
		return // not decoded
	}
	h.asked++
	got, err := r.play(h.table.Object, rulesOf(h.kind))
	if err != nil {
		t.Errorf("%s: %v", r, err)
		return
	}
	h.compare(r, got, want)
	for _, e := range want.Errors {
		if !h.known[shape(e)] && len(want.Errors) < 3 && slices.Equal(got.Errors, want.Errors) {
			h.known[shape(e)] = true
			r.Result = want
			h.found = append(h.found, r)
			break
		}
	}
}

// compare keeps the first of all alike differences.
func (h *hunt) compare(r row, got, want Result) {
	missing, more := without(want.Errors, got.Errors), without(got.Errors, want.Errors)
	class := ""
	switch {
	case len(got.Errors) == 0 && len(missing) > 0:
		class = "1 accepts"
	case len(want.Errors) == 0 && len(more) > 0:
		class = "2 refuses"
	case len(missing)+len(more) > 0:
		class = "4 says"
	case strings.Join(got.Errors, "") != strings.Join(want.Errors, ""):
		class = "6 orders"
	default:
		missing, more = without(lines(want.Stored), lines(got.Stored)), without(lines(got.Stored), lines(want.Stored))
		class = "3 stores"
		if len(missing)+len(more) == 0 {
			missing, more = without(want.Warnings, got.Warnings), without(got.Warnings, want.Warnings)
			class = "5 warns"
		}
		if len(missing)+len(more) == 0 {
			return
		}
	}
	alike := shape(class + strings.Join(missing, "|") + "#" + strings.Join(more, "|"))
	if !h.told[alike] {
		h.told[alike] = true
		h.differences = append(h.differences, short(class+" "+h.kind.Resource.Resource+": "+r.String())+
			short("\n      want "+strings.Join(missing, "\n           "))+short("\n      got  "+strings.Join(more, "\n           ")))
	}
}

func short(s string) string {
	s = repeated.ReplaceAllString(s, "a..a")
	s = regexes.ReplaceAllString(s, "regex")
	return s[:min(len(s), 900)]
}

var (
	repeated = regexp.MustCompile(`a{20,}|(a\.){20,}a`)
	regexes  = regexp.MustCompile(`\(e\.g\. [^)]*\).*'\)|regex used for validation is .*`)
)

func without(a, b []string) []string {
	var out []string
	for _, s := range a {
		if !slices.Contains(b, s) {
			out = append(out, s)
		}
	}
	return out
}

var values = regexp.MustCompile(`"[^"]*"|-?[0-9]+|\\[[^\\]]*\\]`)

// shape is an error without the values in it.
func shape(e string) string { return values.ReplaceAllString(e, "_") }

func (h *hunt) rows(t *testing.T) []byte {
	var out strings.Builder
	for _, r := range h.found {
		out.WriteString("-")
		for _, f := range []struct {
			name  string
			value any
			skip  bool
		}{{"create", r.Create, r.Create == nil}, {"old", r.Old, r.Old == nil}, {"sub", r.Sub, r.Sub == ""}, {"update", r.Update, r.Update == nil}, {"errors", r.Errors, false}} {
			if f.skip {
				continue
			}
			text, err := json.Marshal(f.value)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&out, " %s: %s\n ", f.name, text)
		}
		s := strings.TrimSuffix(out.String(), " ")
		out.Reset()
		out.WriteString(s)
	}
	return []byte(out.String())
}
