package parity

import (
	"slices"
	"testing"
)

// TestCompare names each kind of difference, and none where order or wording differ alone.
func TestCompare(t *testing.T) {
	const want = `{"info": {"title": "A"}, "parameters": {"p-1": {"in": "query", "name": "limit", "type": "integer", "description": "How many."}},
		"paths": {"/a": {"get": {"consumes": ["x", "y"], "parameters": [{"$ref": "#/parameters/p-1"}]}}, "/b": {}},
		"definitions": {"T": {"required": ["a", "b"], "description": "A T.", "x-kubernetes-group-version-kind": [{"group": "", "kind": "T", "version": "v1"}],
			"properties": {"description": {"type": "string"}, "required": {"type": "array"}, "enum": {"enum": ["A"], "default": "A"}}}}}`
	for _, test := range []struct {
		got  string
		want []string
	}{
		{want, nil},
		{`{"paths": {"/b": {}, "/a": {"get": {"parameters": [{"in": "query", "name": "limit", "type": "integer", "description": "At most."}], "consumes": ["y", "x"]}}},
			"definitions": {"T": {"required": ["b", "a"], "description": "Another wording.", "x-kubernetes-group-version-kind": [{"version": "v1", "kind": "T", "group": ""}],
				"properties": {"enum": {"enum": ["A"], "default": "A"}, "required": {"type": "array"}, "description": {"type": "string"}}}}}`, nil},
		{`{"paths": {"/a": {"get": {"consumes": ["x"], "parameters": [{"in": "path", "name": "limit", "type": "integer"}]}}, "/c": {}},
			"definitions": {"T": {"required": ["a"], "description": "A T.", "x-kubernetes-group-version-kind": [{"group": "g", "kind": "T", "version": "v1"}],
				"properties": {"description": {"type": "integer"}, "enum": {"enum": ["B"], "default": "B"}, "required": {"type": "array"}}}}}`, []string{
			`d > definitions > T > properties > description > type: is integer, want string`,
			`d > definitions > T > properties > enum > default: is B, want A`,
			`d > definitions > T > properties > enum > enum > A: lacks`,
			`d > definitions > T > properties > enum > enum > B: extra`,
			`d > definitions > T > required > b: lacks`,
			`d > definitions > T > x-kubernetes-group-version-kind > {"group":"","kind":"T","version":"v1"}: lacks`,
			`d > definitions > T > x-kubernetes-group-version-kind > {"group":"g","kind":"T","version":"v1"}: extra`,
			`d > paths > /a > get > consumes > y: lacks`,
			`d > paths > /a > get > parameters > path limit: extra`,
			`d > paths > /a > get > parameters > query limit: lacks`,
			`d > paths > /b: lacks`,
			`d > paths > /c: extra`,
		}},
	} {
		var got []string
		for _, d := range Compare("d", read(t, test.got), read(t, want)) {
			got = append(got, d.String())
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("got\n%q\nwant\n%q", got, test.want)
		}
	}
	both, differ := Described("d", read(t, `{"definitions": {"T": {"description": "a  b"}, "U": {"description": "c"}}}`),
		read(t, `{"definitions": {"T": {"description": "a b"}, "U": {"description": "d"}}}`))
	if both != 2 || !slices.Equal(differ, []string{"d > definitions > U > description"}) {
		t.Errorf("of %d descriptions %q differ", both, differ)
	}
}

func read(t *testing.T, raw string) Tree {
	t.Helper()
	tree, err := Read([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// FuzzRead must never panic.
func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"parameters": {"a": 1}, "paths": {"/a": {"parameters": [{"$ref": "#/parameters/a"}, 3]}}, "definitions": []}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		tree, err := Read(raw)
		if err == nil && Compare("d", tree, tree) != nil {
			t.Errorf("%q differs from itself", raw)
		}
	})
}
