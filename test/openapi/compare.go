// Package parity compares the server's OpenAPI documents with those that the Kubernetes
// project publishes for the release that the server stands for.
//
// The one idea: a document becomes a tree in which order means nothing and every list has
// keys (parameters by place and name, required fields and media types as sets), so that two
// trees differ where clients would see a difference, and each difference has an address.
// Descriptions are kept as short hashes and are compared apart.
//
// The published documents are kept in testdata, made by generate.go. docs/openapi.md lists
// what is known to differ and why; the test reads it, so that nothing drifts unnoticed.
package parity

//go:generate go run generate.go

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Tree is a document, or a part of it, made comparable.
type Tree = map[string]any

// Read makes a document of version 2 or 3 comparable.
func Read(raw []byte) (Tree, error) {
	var doc Tree
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("read an OpenAPI document: %w", err)
	}
	shared, _ := doc["parameters"].(Tree)
	delete(doc, "parameters")
	delete(doc, "info") // title and version, which say who answers
	n := normalizer{shared: shared}
	tree, _ := n.value(doc).(Tree)
	return tree, nil
}

type normalizer struct{ shared Tree } // parameters that others refer to

// value makes comparable what follows a keyword.
func (n normalizer) value(v any) any {
	object, ok := v.(Tree)
	if !ok {
		return v
	}
	out := make(Tree, len(object))
	for key, v := range object {
		switch list, _ := v.([]any); {
		case key == "description":
			if text, ok := v.(string); ok {
				out["description"] = brief(text)
			}
		case key == "default" || key == "x-kubernetes-group-version-kind" && list == nil:
			out[key] = v
		case named[key]:
			out[key] = n.names(v)
		case key == "parameters" && list != nil:
			out[key] = n.parameters(list)
		case list != nil:
			out[key] = n.set(list)
		default:
			out[key] = n.value(v)
		}
	}
	return out
}

// named are the keywords below which keys are names.
var named = map[string]bool{
	"paths": true, "definitions": true, "schemas": true, "properties": true, "responses": true, "content": true,
	"securityDefinitions": true, "securitySchemes": true,
}

func (n normalizer) names(v any) any {
	object, ok := v.(Tree)
	if !ok {
		return v
	}
	out := make(Tree, len(object))
	for name, v := range object {
		out[name] = n.value(v)
	}
	return out
}

func (n normalizer) parameters(list []any) Tree {
	out := Tree{}
	for _, v := range list {
		p, ok := v.(Tree)
		if !ok {
			continue
		}
		if ref, _ := p["$ref"].(string); ref != "" {
			p, _ = n.shared[strings.TrimPrefix(ref, "#/parameters/")].(Tree)
		}
		out[fmt.Sprint(p["in"], " ", p["name"])] = n.value(p)
	}
	return out
}

// set turns a list into a map from what it holds; of objects, from their JSON.
func (n normalizer) set(list []any) Tree {
	out := Tree{}
	for _, v := range list {
		if text, ok := v.(string); ok {
			out[text] = true
			continue
		}
		raw, err := json.Marshal(n.value(v))
		if err != nil { // cannot be: it was read from JSON
			continue
		}
		out[string(raw)] = true
	}
	return out
}

// brief tells texts apart, but for white space.
func brief(text string) string {
	sum := sha256.Sum256([]byte(strings.Join(strings.Fields(text), " ")))
	return hex.EncodeToString(sum[:3])
}

// Difference is one place at which two trees are not the same.
type Difference struct {
	Place string // keys from the root, joined by " > "
	What  string // lacks, extra, or what it is and what was wanted
}

func (d Difference) String() string { return d.Place + ": " + d.What }

// Compare lists where got is not what is wanted. Below what one of them lacks nothing more is
// said. Descriptions that both have may differ.
func Compare(place string, got, want Tree) []Difference {
	keys := maps.Clone(want)
	maps.Copy(keys, got)
	var all []Difference
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		at := place + " > " + key
		g, there := got[key]
		w, wanted := want[key]
		gotTree, isTree := g.(Tree)
		wantTree, areTrees := w.(Tree)
		switch {
		case !there:
			all = append(all, Difference{at, "lacks"})
		case !wanted:
			all = append(all, Difference{at, "extra"})
		case isTree && areTrees:
			all = append(all, Compare(at, gotTree, wantTree)...)
		case key == "description":
		case fmt.Sprint(g) != fmt.Sprint(w):
			all = append(all, Difference{at, fmt.Sprintf("is %v, want %v", g, w)})
		}
	}
	return all
}

// Described counts the descriptions that both trees have, and lists where they are worded otherwise.
func Described(place string, got, want Tree) (both int, differ []string) {
	for _, key := range slices.Sorted(maps.Keys(got)) {
		at := place + " > " + key
		if text, ok := got[key].(string); ok && key == "description" {
			if other, ok := want[key].(string); ok {
				both++
				if text != other {
					differ = append(differ, at)
				}
			}
			continue
		}
		gotTree, _ := got[key].(Tree)
		wantTree, _ := want[key].(Tree)
		if gotTree != nil && wantTree != nil {
			b, d := Described(at, gotTree, wantTree)
			both, differ = both+b, append(differ, d...)
		}
	}
	return both, differ
}
