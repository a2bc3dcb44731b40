package openapi

import (
	"encoding/json"
	"reflect"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/proa-dev/proa/apis/api"
)

// custom says that the kind has no Go type of its own.
func custom(k *api.Kind) bool {
	return k.Type == nil || k.Type == reflect.TypeFor[unstructured.Unstructured]()
}

// kind defines a kind and gives the name of its definition.
func (m *models) kind(k *api.Kind) string {
	if !custom(k) {
		return m.tag(k.Type, k.GroupVersionKind)
	}
	name := customName(k.GroupVersionKind)
	m.definitions[name] = m.custom(k)
	m.kinds[name] = []schema.GroupVersionKind{k.GroupVersionKind}
	return name
}

// customName is the group's labels in reverse order, version and kind: io.example.v1.Backup.
func customName(gvk schema.GroupVersionKind) string {
	return reversed(gvk.Group) + "." + gvk.Version + "." + gvk.Kind
}

// custom is the definition of a kind that came with a schema.
func (m *models) custom(k *api.Kind) spec.Schema {
	s := spec.Schema{}
	if err := json.Unmarshal(k.Schema, &s); err != nil {
		// Definitions are checked when they are stored; what cannot be read may have any fields.
		s = spec.Schema{}
		s.AddExtension(extension+"preserve-unknown-fields", true)
	}
	s.Type = spec.StringOrArray{"object"}
	if !m.v3 {
		s = *version2(&s)
		if s.Properties == nil {
			return s // any fields: nothing may be said of some
		}
	}
	if s.Properties == nil {
		s.Properties = map[string]spec.Schema{}
	}
	docs := typeDocs(reflect.TypeFor[metav1.TypeMeta]())
	for _, field := range []string{"apiVersion", "kind"} {
		p := *spec.StringProperty()
		p.Description = docs[field]
		s.Properties[field] = p
	}
	meta := spec.Schema{SchemaProps: spec.SchemaProps{
		Ref: m.refTo(m.add(reflect.TypeFor[metav1.ObjectMeta]())), Description: "Standard object's metadata.",
	}}
	s.Properties["metadata"] = m.wrap(meta)
	return s
}

// version2 leaves out of a schema what version 2 cannot say, and what its readers are
// known to misread: alternatives, defaults, values that may be null.
func version2(s *spec.Schema) *spec.Schema {
	if s == nil {
		return nil
	}
	v := *s
	v.OneOf, v.AnyOf, v.AllOf, v.Not, v.Default = nil, nil, nil, nil, nil
	if preserve, _ := v.Extensions.GetBool(extension + "preserve-unknown-fields"); preserve || v.Nullable {
		nullable := v.Nullable
		v.Items, v.Properties, v.AdditionalProperties, v.Required, v.Nullable = nil, nil, nil, nil, false
		if nullable {
			v.Type, v.Format = nil, ""
		}
		return &v
	}
	if v.Properties != nil {
		properties := make(map[string]spec.Schema, len(v.Properties))
		for name, p := range v.Properties {
			properties[name] = *version2(&p)
		}
		v.Properties = properties
	}
	if v.Items != nil && v.Items.Schema != nil {
		v.Items = &spec.SchemaOrArray{Schema: version2(v.Items.Schema)}
	}
	if v.AdditionalProperties != nil && v.AdditionalProperties.Schema != nil {
		v.AdditionalProperties = &spec.SchemaOrBool{Allows: true, Schema: version2(v.AdditionalProperties.Schema)}
	}
	return &v
}

// reversed is a host name from the top down.
func reversed(host string) string {
	labels := strings.Split(host, ".")
	for i, j := 0, len(labels)-1; i < j; i, j = i+1, j-1 {
		labels[i], labels[j] = labels[j], labels[i]
	}
	return strings.Join(labels, ".")
}
