package apis_test

import (
	"bytes"
	"encoding/json"
	"fmt"

	yaml "sigs.k8s.io/yaml/goyaml.v3"
)

// filledIn gives the text of a table with what a judge says as what is expected; the rest stays as it is.
func filledIn(text []byte, ask judge) ([]byte, error) {
	t, err := parsed(text)
	if err != nil {
		return nil, err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	top := doc.Content[0]
	var base Result
	for i, r := range t.rows() {
		got, err := r.play(t.Object, ask)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r, err)
		}
		at := top
		if i == 0 {
			base = got
		} else {
			at = member(top, "cases").Content[i-1]
			got.Stored = beyond(got.Stored, base.Stored)
		}
		if r.Apart != "" {
			continue
		}
		if err := got.write(at); err != nil {
			return nil, err
		}
	}
	if cases := member(top, "cases"); cases != nil { // after what the object gives
		remove(top, "cases")
		top.Content = append(top.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: "cases"}, cases)
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	enc.CompactSeqIndent()
	if err := enc.Encode(&doc); err != nil {
		return nil, err
	}
	return out.Bytes(), enc.Close()
}

func (r Result) write(at *yaml.Node) error {
	for _, f := range []struct {
		name  string
		value any
		empty bool
	}{{"errors", r.Errors, len(r.Errors) == 0}, {"warnings", r.Warnings, len(r.Warnings) == 0}, {"stored", r.Stored, len(r.Stored) == 0}} {
		remove(at, f.name)
		if f.empty {
			continue
		}
		node, err := nodeOf(f.value)
		if err != nil {
			return err
		}
		at.Content = append(at.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: f.name}, node)
	}
	return nil
}

// nodeOf writes the elements of a list or map one a line, each in one line.
func nodeOf(v any) (*yaml.Node, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	node := doc.Content[0]
	plain(node)
	node.Style = 0
	return node, nil
}

func plain(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode {
		n.Style = 0
	}
	for _, c := range n.Content {
		plain(c)
	}
}

func member(n *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}

func remove(n *yaml.Node, name string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			n.Content = append(n.Content[:i:i], n.Content[i+2:]...)
			return
		}
	}
}
