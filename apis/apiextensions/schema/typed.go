package schema

import (
	"maps"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiserver/pkg/cel/common"
)

// typed is a Schema as the CEL library reads schemas.
type typed struct{ *Schema }

var _ common.Schema = typed{}

func typedOrNil(s *Schema) common.Schema {
	if s == nil {
		return nil
	}
	return typed{s}
}

func (t typed) Type() string         { return t.props.Type }
func (t typed) Format() string       { return t.props.Format }
func (t typed) Items() common.Schema { return typedOrNil(t.Schema.Items) }
func (t typed) Default() any         { return t.fallback }

func (t typed) Properties() map[string]common.Schema {
	out := make(map[string]common.Schema, len(t.Schema.Properties))
	for name, s := range t.Schema.Properties {
		out[name] = typed{s}
	}
	return out
}

func (t typed) AdditionalProperties() common.SchemaOrBool {
	if t.props.AdditionalProperties == nil {
		return nil
	}
	return additional{t.Schema}
}

type additional struct{ of *Schema }

func (a additional) Schema() common.Schema { return typedOrNil(a.of.Additional) }
func (a additional) Allows() bool          { return a.of.anyAdditional }

func (t typed) Pattern() string          { return t.props.Pattern }
func (t typed) Minimum() *float64        { return t.props.Minimum }
func (t typed) IsExclusiveMinimum() bool { return t.props.ExclusiveMinimum }
func (t typed) Maximum() *float64        { return t.props.Maximum }
func (t typed) IsExclusiveMaximum() bool { return t.props.ExclusiveMaximum }
func (t typed) MultipleOf() *float64     { return t.props.MultipleOf }
func (t typed) MinItems() *int64         { return t.props.MinItems }
func (t typed) MaxItems() *int64         { return t.props.MaxItems }
func (t typed) MinLength() *int64        { return t.props.MinLength }
func (t typed) MaxLength() *int64        { return t.props.MaxLength }
func (t typed) MinProperties() *int64    { return t.props.MinProperties }
func (t typed) MaxProperties() *int64    { return t.props.MaxProperties }
func (t typed) Required() []string       { return t.props.Required }
func (t typed) Enum() []any              { return t.enum }
func (t typed) Nullable() bool           { return t.props.Nullable }
func (t typed) UniqueItems() bool        { return t.props.UniqueItems }

func (t typed) AllOf() []common.Schema { return typedList(t.allOf) }
func (t typed) OneOf() []common.Schema { return typedList(t.oneOf) }
func (t typed) AnyOf() []common.Schema { return typedList(t.anyOf) }
func (t typed) Not() common.Schema     { return typedOrNil(t.not) }

func typedList(list []*Schema) []common.Schema {
	var out []common.Schema
	for _, s := range list {
		out = append(out, typed{s})
	}
	return out
}

func (t typed) IsXIntOrString() bool           { return t.IntOrString }
func (t typed) IsXEmbeddedResource() bool      { return t.Embedded }
func (t typed) IsXPreserveUnknownFields() bool { return t.Preserve }
func (t typed) XListType() string              { return t.listType }
func (t typed) XListMapKeys() []string         { return t.props.XListMapKeys }
func (t typed) XMapType() string               { return t.mapType }

func (t typed) XValidations() []common.ValidationRule {
	var out []common.ValidationRule
	for i := range t.props.XValidations {
		out = append(out, rule{&t.props.XValidations[i]})
	}
	return out
}

type rule struct {
	*apiextensionsv1.ValidationRule
}

func (r rule) Rule() string              { return r.ValidationRule.Rule }
func (r rule) Message() string           { return r.ValidationRule.Message }
func (r rule) MessageExpression() string { return r.ValidationRule.MessageExpression }
func (r rule) FieldPath() string         { return r.ValidationRule.FieldPath }

// WithTypeAndObjectMeta adds what rules of a whole object always see.
func (t typed) WithTypeAndObjectMeta() common.Schema { return typed{t.withMeta()} }

func (s *Schema) withMeta() *Schema {
	s.rooted.Do(func() {
		str := &Schema{props: &Props{Type: "string"}}
		meta := &Schema{props: &Props{Type: "object"}, Properties: map[string]*Schema{"name": str, "generateName": str}}
		properties := map[string]*Schema{}
		maps.Copy(properties, s.Properties)
		maps.Copy(properties, map[string]*Schema{"apiVersion": str, "kind": str, "metadata": meta})
		s.root = &Schema{
			props: s.props, Properties: properties, Additional: s.Additional, Preserve: s.Preserve,
			Embedded: s.Embedded, listType: s.listType, mapType: s.mapType,
		}
	})
	return s.root
}
