package wire

import (
	"bytes"
	"errors"
	"os"

	"go.yaml.in/yaml/v3"
)

// Record writes an answer as what step i wants. Save writes the file.
func (c *Case) Record(i int, a *Answer) error {
	var value yaml.Node
	if err := value.Encode(a); err != nil {
		return err
	}
	flow(&value)
	steps := field(c.doc.Content[0], "steps")
	if steps == nil {
		return errors.New("the file has no steps")
	}
	step := steps.Content[i]
	if want := field(step, "want"); want != nil {
		*want = value
		return nil
	}
	step.Content = append(step.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: "want"}, &value)
	return nil
}

// Save writes the file, with what was recorded.
func (c *Case) Save() error {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(&c.doc); err != nil {
		return err
	}
	return os.WriteFile(c.path, b.Bytes(), 0o644)
}

func field(m *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == name {
			return m.Content[i+1]
		}
	}
	return nil
}

// flow writes what is short on one line. It returns the length of the node on one line.
func flow(n *yaml.Node) int {
	const line = 110
	size := len(n.Value) + 2
	for _, c := range n.Content {
		size += flow(c) + 2
	}
	if n.Kind != yaml.ScalarNode && size <= line {
		n.Style = yaml.FlowStyle
	}
	return size
}
