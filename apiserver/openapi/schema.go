package openapi

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/kube-openapi/pkg/validation/spec"
	smd "sigs.k8s.io/structured-merge-diff/v6/schema"

	"github.com/proa-dev/proa/apis/api"
)

// models turns Go types into definitions of one document. A type is visited once;
// types that refer to themselves are fine.
type models struct {
	v3          bool // refs, defaults and alternatives as version 3 writes them
	definitions map[string]spec.Schema
	// structure is what server-side apply knows of the types: list types, map keys, defaults.
	structure *smd.Schema
	// kinds are the group version kinds that a definition is tagged with.
	kinds map[string][]schema.GroupVersionKind
}

const extension = "x-kubernetes-"

// add defines the type, and all it refers to, and gives its name.
func (m *models) add(t reflect.Type) string {
	name := modelName(t)
	if _, known := m.definitions[name]; known {
		return name
	}
	m.definitions[name] = spec.Schema{} // stops the recursion
	m.definitions[name] = m.define(t, name)
	return name
}

// tag marks a type as the form of a kind, for clients that look it up by that.
func (m *models) tag(t reflect.Type, gvk schema.GroupVersionKind) string {
	name := m.add(t)
	if !slices.Contains(m.kinds[name], gvk) {
		m.kinds[name] = append(m.kinds[name], gvk)
	}
	return name
}

// meta defines a kind that belongs to no group but is answered in v1.
func (m *models) meta(t reflect.Type) string {
	return m.tag(t, schema.GroupVersionKind{Version: "v1", Kind: t.Name()})
}

// list defines the list of a kind, whose own definition is object.
func (m *models) list(k *api.Kind, object string) string {
	if t, ok := scheme.Scheme.AllKnownTypes()[k.ListKind()]; ok {
		return m.tag(t, k.ListKind())
	}
	name := strings.TrimSuffix(object, k.Kind) + k.ListKind().Kind
	items := m.wrap(spec.Schema{SchemaProps: spec.SchemaProps{Ref: m.refTo(object), Default: map[string]any{}}})
	s := m.define(reflect.TypeFor[metav1.PartialObjectMetadataList](), name)
	s.Description = k.ListKind().Kind + " is a list of " + k.Kind
	s.Required = []string{"items"}
	list := *spec.ArrayProperty(&items)
	list.Description = "List of " + k.Resource.Resource + "."
	s.Properties["items"] = list
	m.definitions[name] = s
	m.kinds[name] = []schema.GroupVersionKind{k.ListKind()}
	return name
}

// finish writes the tags into the definitions.
func (m *models) finish() {
	for name, kinds := range m.kinds {
		slices.SortFunc(kinds, func(a, b schema.GroupVersionKind) int { return strings.Compare(a.String(), b.String()) })
		list := make([]any, len(kinds))
		for i, gvk := range kinds {
			list[i] = kindExtension(gvk)
		}
		s := m.definitions[name]
		s.AddExtension(extension+"group-version-kind", list)
		m.definitions[name] = s
	}
}

func kindExtension(gvk schema.GroupVersionKind) map[string]any {
	return map[string]any{"group": gvk.Group, "version": gvk.Version, "kind": gvk.Kind}
}

func (m *models) define(t reflect.Type, name string) spec.Schema {
	docs := typeDocs(t)
	s := spec.Schema{}
	s.Description = docs[""]
	if special, ok := m.special(t); ok {
		special.Description = describe(name, s.Description)
		return special
	}
	s.Description = describe(name, s.Description)
	s.Type = spec.StringOrArray{"object"}
	structure, known := m.atom(name)
	s.Required = m.fields(&s, t, structure, docs)
	if known {
		addMapType(&s, structure.ElementRelationship)
		addUnions(&s, structure.Unions)
	}
	return s
}

// atom is what server-side apply knows of a named type with fields.
func (m *models) atom(name string) (*smd.Map, bool) {
	if m.structure == nil {
		return &smd.Map{}, false
	}
	def, ok := m.structure.FindNamedType(name)
	if !ok || def.Map == nil {
		return &smd.Map{}, false
	}
	return def.Map, true
}

// fields adds the properties of struct t, those of embedded structs among them, and
// gives the names of those that must be set.
func (m *models) fields(s *spec.Schema, t reflect.Type, structure *smd.Map, docs map[string]string) []string {
	var required []string
	for i := range t.NumField() {
		f := t.Field(i)
		tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if tag == "-" || !f.IsExported() {
			continue
		}
		if f.Anonymous && (tag == "" || strings.Contains(options, "inline")) {
			embedded := deref(f.Type)
			all := maps.Clone(docs)
			if all == nil {
				all = map[string]string{}
			}
			for name, doc := range typeDocs(embedded) {
				if name != "" && all[name] == "" {
					all[name] = doc
				}
			}
			required = append(required, m.fields(s, embedded, structure, all)...)
			continue
		}
		if tag == "" {
			continue
		}
		omitEmpty := strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero")
		if !omitEmpty && !optional(t, f.Name) {
			required = append(required, tag)
		}
		p := m.property(f, docs[tag], omitEmpty, structure, tag)
		if s.Properties == nil {
			s.Properties = map[string]spec.Schema{}
		}
		s.Properties[tag] = p
	}
	return required
}

// property is the schema of one field of a struct.
func (m *models) property(f reflect.StructField, doc string, omitEmpty bool, structure *smd.Map, name string) spec.Schema {
	p := m.value(f.Type)
	p.Description = doc
	p.Default = zero(f.Type, omitEmpty)
	if known, ok := structure.FindField(name); ok {
		if known.Default != nil {
			p.Default = known.Default
		}
		addMergeRules(&p, known.Type)
	}
	if strategy := f.Tag.Get("patchStrategy"); strategy != "" {
		p.AddExtension(extension+"patch-strategy", strategy)
	}
	if key := f.Tag.Get("patchMergeKey"); key != "" {
		p.AddExtension(extension+"patch-merge-key", key)
	}
	return m.wrap(p)
}

// value is the schema of a value of type t, without what the field around it adds.
func (m *models) value(t reflect.Type) spec.Schema {
	t = deref(t)
	if t.Kind() == reflect.Struct {
		return spec.Schema{SchemaProps: spec.SchemaProps{Ref: m.refTo(m.add(t))}}
	}
	if typ, format, ok := scalar(t); ok {
		s := spec.Schema{SchemaProps: spec.SchemaProps{Type: spec.StringOrArray{typ}, Format: format}}
		for _, v := range enums[goName(t)] {
			s.Enum = append(s.Enum, v)
		}
		return s
	}
	switch t.Kind() {
	case reflect.Slice, reflect.Array:
		element := m.element(t.Elem())
		return *spec.ArrayProperty(&element)
	case reflect.Map:
		element := m.element(t.Elem())
		return *spec.MapProperty(&element)
	}
	return spec.Schema{SchemaProps: spec.SchemaProps{Type: spec.StringOrArray{"object"}}}
}

// element is the schema of what a list or map holds.
func (m *models) element(t reflect.Type) spec.Schema {
	s := m.value(t)
	s.Default = zero(t, false)
	return m.wrap(s)
}

// wrap gives a schema the form of the document's version: version 2 has no defaults,
// and in version 3 nothing may stand beside a reference.
func (m *models) wrap(s spec.Schema) spec.Schema {
	if !m.v3 {
		s.Default = nil
		return s
	}
	if s.Ref.String() == "" || s.Description == "" && s.Default == nil && len(s.Extensions) == 0 {
		return s
	}
	ref := spec.Schema{SchemaProps: spec.SchemaProps{Ref: s.Ref}}
	s.Ref = spec.Ref{}
	s.AllOf = []spec.Schema{ref}
	return s
}

func (m *models) refTo(name string) spec.Ref {
	if m.v3 {
		return spec.MustCreateRef("#/components/schemas/" + name)
	}
	return spec.MustCreateRef("#/definitions/" + name)
}

// special is the schema of a type that says itself how it is written in JSON.
func (m *models) special(t reflect.Type) (spec.Schema, bool) {
	value := reflect.Zero(t).Interface()
	typed, ok := value.(interface {
		OpenAPISchemaType() []string
		OpenAPISchemaFormat() string
	})
	if !ok {
		return spec.Schema{}, false
	}
	s := spec.Schema{}
	s.Format = typed.OpenAPISchemaFormat()
	if any, ok := value.(interface{ OpenAPIV3OneOfTypes() []string }); ok && m.v3 {
		for _, one := range any.OpenAPIV3OneOfTypes() {
			s.OneOf = append(s.OneOf, spec.Schema{SchemaProps: spec.SchemaProps{Type: spec.StringOrArray{one}}})
		}
		return s, true
	}
	s.Type = typed.OpenAPISchemaType()
	return s, true
}

// addMergeRules says how server-side apply merges the list or map.
func addMergeRules(s *spec.Schema, t smd.TypeRef) {
	if list := t.Inlined.List; list != nil {
		switch {
		case list.ElementRelationship == smd.Atomic:
			s.AddExtension(extension+"list-type", "atomic")
		case len(list.Keys) > 0:
			keys := make([]any, len(list.Keys))
			for i, k := range list.Keys {
				keys[i] = k
			}
			s.AddExtension(extension+"list-type", "map")
			s.AddExtension(extension+"list-map-keys", keys)
		default:
			s.AddExtension(extension+"list-type", "set")
		}
	}
	relationship := t.ElementRelationship
	if t.Inlined.Map != nil && relationship == nil {
		relationship = &t.Inlined.Map.ElementRelationship
	}
	if relationship != nil {
		addMapType(s, *relationship)
	}
}

// addMapType says whether the map or object has one owner, or each of its fields one.
func addMapType(s *spec.Schema, r smd.ElementRelationship) {
	switch r {
	case smd.Atomic:
		s.AddExtension(extension+"map-type", "atomic")
	case smd.Separable:
		s.AddExtension(extension+"map-type", "granular")
	}
}

func addUnions(s *spec.Schema, unions []smd.Union) {
	var list []any
	for _, u := range unions {
		one := map[string]any{}
		if u.Discriminator != nil {
			one["discriminator"] = *u.Discriminator
		}
		fields := map[string]any{}
		for _, f := range u.Fields {
			fields[f.FieldName] = f.DiscriminatorValue
		}
		one["fields-to-discriminateBy"] = fields
		list = append(list, one)
	}
	if list != nil {
		s.AddExtension(extension+"unions", list)
	}
}
