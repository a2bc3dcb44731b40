// Package schema is what a definition says its custom resources look like: it prunes, sets
// defaults and validates, and runs the CEL rules.
//
// The one idea: the JSON schema of a version is compiled once into a tree of nodes, which
// know of each subtree whether it holds defaults or rules at all. Every operation is one walk of
// an object along that tree; validation walks the object before with it, so that what did not
// change is not refused (ratcheting) and transition rules find the value they compare with.
//
// Used by apis/apiextensions to check definitions, and by apiserver/custom to serve them.
// Values are those of decoded JSON: map[string]any, []any, string, bool, int64, float64, nil.
package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"sync"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	kjson "sigs.k8s.io/json"
)

// Props is the JSON schema of a definition, or a part of it.
type Props = apiextensionsv1.JSONSchemaProps

// Schema is a compiled schema; immutable and safe for concurrent use.
type Schema struct {
	props *Props // never changed

	Properties    map[string]*Schema
	Items         *Schema
	Additional    *Schema // of the values that Properties do not name
	anyAdditional bool    // these may be anything: additionalProperties: true
	noAdditional  bool    // there may be none: additionalProperties: false

	Preserve    bool // unknown fields are kept
	Embedded    bool // a whole object with apiVersion, kind and metadata
	IntOrString bool
	listType    string
	mapType     string

	fallback    any  // the default
	hasDefault  bool // of the node
	anyDefault  bool // of the subtree
	anyRule     bool // of the subtree
	anyEmbedded bool // of the subtree

	enum                []any
	pattern             *regexp.Regexp
	allOf, anyOf, oneOf []*Schema
	not                 *Schema

	rules    sync.Once
	compiled *ruleSet
	root     *Schema // the schema with the metadata that rules see; of roots and embedded objects
	rooted   sync.Once
}

// HasDefaults says whether a schema sets any.
func HasDefaults(p *Props) bool {
	s, err := New(p)
	return err == nil && s != nil && s.anyDefault
}

// New compiles a schema. What is not a valid schema is an error, but a schema need not be
// structural: see Check.
func New(props *Props) (*Schema, error) {
	if props == nil {
		return nil, nil
	}
	s := &Schema{
		props: props, Preserve: isTrue(props.XPreserveUnknownFields), Embedded: props.XEmbeddedResource,
		IntOrString: props.XIntOrString, listType: text(props.XListType), mapType: text(props.XMapType),
		anyRule: len(props.XValidations) > 0, anyEmbedded: props.XEmbeddedResource,
	}
	if err := s.compileValues(); err != nil {
		return nil, err
	}
	return s, s.compileChildren()
}

func (s *Schema) compileValues() (err error) {
	if p := s.props.Pattern; p != "" {
		if s.pattern, err = regexp.Compile(p); err != nil {
			return fmt.Errorf("pattern %q: %w", p, err)
		}
	}
	for _, e := range s.props.Enum {
		v, err := decode(e.Raw)
		if err != nil {
			return fmt.Errorf("enum value %s: %w", e.Raw, err)
		}
		s.enum = append(s.enum, v)
	}
	if d := s.props.Default; d != nil && len(bytes.TrimSpace(d.Raw)) > 0 {
		if s.fallback, err = decode(d.Raw); err != nil {
			return fmt.Errorf("default %s: %w", d.Raw, err)
		}
		s.hasDefault, s.anyDefault = true, true
	}
	return nil
}

func (s *Schema) compileChildren() (err error) {
	p := s.props
	if len(p.Properties) > 0 {
		s.Properties = make(map[string]*Schema, len(p.Properties))
	}
	for name := range p.Properties {
		child := p.Properties[name]
		if s.Properties[name], err = New(&child); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		s.inherit(s.Properties[name])
	}
	if p.Items != nil && p.Items.Schema != nil {
		if s.Items, err = New(p.Items.Schema); err != nil {
			return fmt.Errorf("items: %w", err)
		}
		s.inherit(s.Items)
	}
	if a := p.AdditionalProperties; a != nil {
		if s.Additional, err = New(a.Schema); err != nil {
			return fmt.Errorf("additionalProperties: %w", err)
		}
		s.anyAdditional = a.Schema == nil && a.Allows
		s.noAdditional = a.Schema == nil && !a.Allows
		s.inherit(s.Additional)
	}
	for _, group := range []struct {
		from []Props
		to   *[]*Schema
	}{{p.AllOf, &s.allOf}, {p.AnyOf, &s.anyOf}, {p.OneOf, &s.oneOf}} {
		for i := range group.from {
			one, err := New(&group.from[i])
			if err != nil {
				return err
			}
			*group.to = append(*group.to, one)
		}
	}
	for _, one := range s.allOf {
		s.anyRule = s.anyRule || one.anyRule
	}
	s.not, err = New(p.Not)
	return err
}

func (s *Schema) inherit(child *Schema) {
	if child == nil {
		return
	}
	s.anyDefault = s.anyDefault || child.anyDefault
	s.anyRule = s.anyRule || child.anyRule
	s.anyEmbedded = s.anyEmbedded || child.anyEmbedded
}

// child is the schema of a field of an object, nil when there is none.
func (s *Schema) child(name string) *Schema {
	if c, ok := s.Properties[name]; ok {
		return c
	}
	return s.Additional
}

// Props is the JSON schema; read-only.
func (s *Schema) Props() *Props { return s.props }

// Type is the JSON type ("object"), "" where any or several are allowed.
func (s *Schema) jsonType() string { return s.props.Type }

// decode reads a JSON value as objects are decoded: whole numbers are int64. The types keep null as nothing.
func decode(raw []byte) (any, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	var v any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &v); err != nil {
		return nil, err
	}
	return v, nil
}

// copyOf is a deep copy of a JSON value.
func copyOf(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = copyOf(e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = copyOf(e)
		}
		return out
	case json.Number:
		return v.String()
	}
	return v
}

func isTrue(b *bool) bool { return b != nil && *b }

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
