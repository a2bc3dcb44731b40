package openapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
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
	if len(k.Schema) == 0 || json.Unmarshal(k.Schema, &s) != nil {
		s = spec.Schema{SchemaProps: spec.SchemaProps{Type: spec.StringOrArray{"object"}}}
		if m.v3 {
			s.AddExtension(extension+"preserve-unknown-fields", true)
		}
		return s
	}
	if !m.v3 {
		if preserve, _ := s.Extensions.GetBool(extension + "preserve-unknown-fields"); preserve {
			// Clients would take what is said of some fields for all that there are.
			return spec.Schema{SchemaProps: spec.SchemaProps{Type: spec.StringOrArray{"object"}}}
		}
		s = *version2(&s)
	}
	s.Type = spec.StringOrArray{"object"}
	m.embed(&s)
	m.whole(&s)
	addSelectable(&s, k)
	return s
}

// addSelectable names the fields that lists can be narrowed by.
func addSelectable(s *spec.Schema, k *api.Kind) {
	var list []any
	for _, name := range slices.Sorted(maps.Keys(k.Fields)) {
		if name != "metadata.name" && name != "metadata.namespace" {
			list = append(list, map[string]any{"fieldPath": name})
		}
	}
	if list != nil {
		s.AddExtension(extension+"selectable-fields", list)
	}
}

// whole adds the fields that every object has.
func (m *models) whole(s *spec.Schema) {
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
		Ref: m.refTo(m.add(reflect.TypeFor[metav1.ObjectMeta]())), Description: "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata",
	}}
	s.Properties["metadata"] = m.wrap(meta)
}

// embed adds them to the objects that are embedded in a schema.
func (m *models) embed(s *spec.Schema) {
	for name, p := range s.Properties {
		m.embed(&p)
		s.Properties[name] = p
	}
	if s.Items != nil && s.Items.Schema != nil {
		m.embed(s.Items.Schema)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		m.embed(s.AdditionalProperties.Schema)
	}
	preserve, _ := s.Extensions.GetBool(extension + "preserve-unknown-fields")
	embedded, _ := s.Extensions.GetBool(extension + "embedded-resource")
	if !embedded || preserve && !m.v3 {
		return
	}
	m.whole(s)
	for _, name := range []string{"kind", "apiVersion"} {
		if !slices.Contains(s.Required, name) {
			s.Required = append(s.Required, name)
		}
	}
}

// version2 leaves out of a schema what version 2 cannot say, and what its readers are
// known to misread: alternatives, defaults, values that may be null or of any shape.
func version2(s *spec.Schema) *spec.Schema {
	if s == nil {
		return nil
	}
	v := *s
	v.OneOf, v.AnyOf, v.AllOf, v.Not, v.Default = nil, nil, nil, nil, nil
	preserve, _ := v.Extensions.GetBool(extension + "preserve-unknown-fields")
	if v.Nullable || preserve {
		v.Items, v.Properties = nil, nil
	}
	if v.Nullable || preserve && v.Type.Contains("object") || v.Type.Contains("array") && v.Items == nil {
		v.Type = nil
	}
	v.Nullable = false
	if v.Properties != nil {
		properties := make(map[string]spec.Schema, len(v.Properties))
		for name, p := range v.Properties {
			properties[name] = *version2(&p)
			if p.Nullable {
				v.Required = slices.DeleteFunc(slices.Clone(v.Required), func(r string) bool { return r == name })
			}
		}
		v.Properties = properties
	}
	if len(v.Required) == 0 {
		v.Required = nil
	}
	if v.Items != nil && v.Items.Schema != nil {
		v.Items = &spec.SchemaOrArray{Schema: version2(v.Items.Schema)}
	}
	if v.AdditionalProperties != nil && v.AdditionalProperties.Schema != nil {
		if v.AdditionalProperties.Schema.Nullable {
			v.Required = nil
		}
		v.AdditionalProperties = &spec.SchemaOrBool{Allows: true, Schema: version2(v.AdditionalProperties.Schema)}
	}
	return &v
}

// Types makes of the schemas of the versions of one custom kind what server-side apply needs to tell
// their fields apart. preserve says that any field may be there beside those of the schema.
func Types(kinds []*api.Kind, preserve bool) (managedfields.TypeConverter, error) {
	m := newModels(true)
	for _, k := range kinds {
		m.kind(k)
	}
	m.finish()
	all := make(map[string]*spec.Schema, len(m.definitions))
	for name, s := range m.definitions {
		all[name] = &s
	}
	types, err := managedfields.NewTypeConverter(all, preserve)
	if err != nil {
		return nil, fmt.Errorf("read the types of %s: %w", kinds[0].Kind, err)
	}
	return types, nil
}

// reversed is a host name from the top down.
func reversed(host string) string {
	labels := strings.Split(host, ".")
	for i, j := 0, len(labels)-1; i < j; i, j = i+1, j-1 {
		labels[i], labels[j] = labels[j], labels[i]
	}
	return strings.Join(labels, ".")
}
