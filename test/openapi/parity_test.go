package parity

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/proa-dev/proa/apiserver/catalog"
	"github.com/proa-dev/proa/apiserver/openapi"
	"github.com/proa-dev/proa/cluster"
)

const listed = "../../docs/openapi.md"

// ours are the documents that a server without custom resources answers, with all feature gates on,
// as those are that are published.
func ours(t *testing.T, names []string) Golden {
	h := openapi.New(catalog.New(cluster.Kinds()))
	h.SpeakCBOR()
	get := func(path string) Tree {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code == http.StatusNotFound {
			return nil
		}
		if w.Code != http.StatusOK {
			t.Fatalf("%s: %d %s", path, w.Code, w.Body)
		}
		tree, err := Read(w.Body.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		return tree
	}
	g := Golden{V2: get("/openapi/v2"), V3: map[string]Tree{}}
	for _, name := range names {
		if doc := get("/openapi/v3/" + name); doc != nil {
			g.V3[name] = doc
		}
	}
	return g
}

func published(t *testing.T) Golden {
	packed, err := os.ReadFile("testdata/published.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	g, err := Unpack(packed)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// TestPublished fails for each difference that docs/openapi.md does not list, and for what it
// lists and is no longer there.
func TestPublished(t *testing.T) {
	want := published(t)
	got := ours(t, slices.Sorted(maps.Keys(want.V3)))
	differences := Compare("v2", got.V2, want.V2)
	both, differ := Described("v2", got.V2, want.V2)
	for _, name := range slices.Sorted(maps.Keys(want.V3)) {
		if got.V3[name] == nil {
			differences = append(differences, Difference{"v3 " + name, "lacks"})
			continue
		}
		differences = append(differences, Compare("v3 "+name, got.V3[name], want.V3[name])...)
		b, d := Described("v3 "+name, got.V3[name], want.V3[name])
		both, differ = both+b, append(differ, d...)
	}
	t.Logf("%d of %d descriptions are worded otherwise", len(differ), both)
	if out := os.Getenv("DIFFERENCES"); out != "" {
		var b strings.Builder
		for _, d := range differences {
			fmt.Fprintln(&b, d)
		}
		for _, place := range differ {
			fmt.Fprintln(&b, place+": is worded otherwise")
		}
		if err := os.WriteFile(out, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	check(t, differences, known(t))
}

// allowance is a row of the table in docs/openapi.md: a pattern for differences, in which *
// stands for anything, and why they are there.
type allowance struct {
	pattern *regexp.Regexp
	text    string
	used    int
}

var row = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (.+) \\|$")

func known(t *testing.T) []*allowance {
	page, err := os.ReadFile(listed)
	if err != nil {
		t.Fatal(err)
	}
	var all []*allowance
	for _, m := range row.FindAllStringSubmatch(string(page), -1) {
		pattern := strings.ReplaceAll(regexp.QuoteMeta(m[1]), `\*`, ".*")
		all = append(all, &allowance{regexp.MustCompile("^" + pattern + "$"), m[1], 0})
	}
	return all
}

// check holds differences against the list. It names the first ones of what is new alone.
func check(t *testing.T, differences []Difference, list []*allowance) {
	const shown = 40
	unlisted := 0
	for _, d := range differences {
		i := slices.IndexFunc(list, func(a *allowance) bool { return a.pattern.MatchString(d.String()) })
		if i >= 0 {
			list[i].used++
			continue
		}
		if unlisted++; unlisted <= shown {
			t.Error(d)
		}
	}
	if unlisted > shown {
		t.Errorf("and %d more", unlisted-shown)
	}
	for _, a := range list {
		if a.used == 0 {
			t.Errorf("%s lists %q, which differs no more", listed, a.text)
		}
	}
}
