package ownership

import (
	"cmp"
	"encoding/json"
	"strings"
	"testing"

	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// fromLibrary reads an element as the library does, and writes it again.
func fromLibrary(t *testing.T, e string) (pe fieldpath.PathElement, again string) {
	t.Helper()
	var text string
	if err := json.Unmarshal([]byte(`"`+e+`"`), &text); err != nil {
		t.Fatalf("%s: %v", e, err)
	}
	pe, err := fieldpath.DeserializePathElement(text)
	if err != nil {
		t.Fatalf("%s: %v", e, err)
	}
	again, err = fieldpath.SerializePathElement(pe)
	if err != nil {
		t.Fatalf("%s: %v", e, err)
	}
	return pe, strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(again)
}

// FuzzElements compares what is read here with the library: how it is written, and in what order.
func FuzzElements(f *testing.F) {
	for _, pair := range [][2]string{
		{"f:name", "f:name2"}, {"f:", "k:{}"}, {`k:{\"name\":\"a\"}`, `k:{\"name\":\"a-b\"}`}, {`k:{\"name\":\"aZ\"}`, `k:{\"name\":\"a\"}`},
		{`k:{\"containerPort\":80,\"protocol\":\"TCP\"}`, `k:{\"containerPort\":8080}`}, {`k:{\"port\":-1}`, `k:{\"port\":\"1\"}`},
		{`v:9`, `v:10`}, {`v:9`, `v:\"9\"`}, {`v:\"a<b\"`, `v:\"a\\\"b\"`}, {`v:007`, `v:-0`}, {`k:{\"a\":1,\"a\":2}`, `k:{\"b\":1,\"a\":2}`},
		{`k: {\"a\":1}`, `k:{\"a\": 1}`}, {`k:{\"a\":1}}`, `k:{{\"a\":1}`}, {`v:9007199254740993`, `v:1e3`}, {"i:1", "x:"},
	} {
		f.Add(pair[0], pair[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if !canonical(a) || !canonical(b) {
			return
		}
		x, againA := fromLibrary(t, a)
		y, againB := fromLibrary(t, b)
		if againA != a || againB != b {
			t.Errorf("%s is written %s, %s %s", a, againA, b, againB)
		}
		if got, want := cmp.Compare(compareElements(a, b), 0), cmp.Compare(x.Compare(y), 0); got != want {
			t.Errorf("%s against %s: %d, want %d", a, b, got, want)
		}
	})
}

// anything is a shape that has every form in every depth.
func anything() *shape {
	s := &shape{form: structure, named: map[string]*field{}}
	s.add(&field{name: "s", elem: "f:s", shape: s})
	s.add(&field{name: "m", elem: "f:m", shape: &shape{form: mapping, elem: s}})
	s.add(&field{name: "k", elem: "f:k", shape: &shape{form: keyed, elem: s}})
	s.add(&field{name: "v", elem: "f:v", shape: &shape{form: set, elem: &shape{form: leaf}}})
	s.add(&field{name: "l", elem: "f:l", shape: &shape{form: leaf}})
	return s
}

// FuzzEntries reads entries: what is read is what the library reads and writes, and a merge without changes
// leaves it as it was.
func FuzzEntries(f *testing.F) {
	for _, s := range []string{
		"{}", `{"f:l":{}}`, `{"f:k":{".":{},"k:{\"a\":1}":{},"k:{\"a\":2}":{"f:l":{}}},"f:m":{"f:x":{".":{},"f:v":{"v:\"1\"":{}}}}}`, `{"f:s":{".":{}}}`,
		`{".":{}}`, `{"f:l":{"f:l":{}}}`, `{"f:m":{"f:b":{},"f:a":{}}}`, `{"f:l":{},"f:l":{}}`, `{"f:l":{},}`, `{"f:l":1}`, `{"f:l":{}} `, `{"f:l"`, "", "{", `{"f:s":{".":{},}}`,
	} {
		f.Add(s)
	}
	shape := anything()
	f.Fuzz(func(t *testing.T, raw string) {
		tree, ok := shape.parse(raw)
		if !ok {
			return
		}
		var set fieldpath.Set
		if err := set.FromJSON(strings.NewReader(raw)); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		if again, err := set.ToJSON(); err != nil || string(again) != raw {
			t.Errorf("%s is written %s, %v", raw, again, err)
		}
		m := merger{out: []byte("{")}
		if m.merge(tree, nil); string(m.out)+"}" != raw {
			t.Errorf("%s is merged to %s}", raw, m.out)
		}
	})
}
