package openapi

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/proa-dev/proa/apis/api"
)

// models turns Go types into definitions of one document. A type is visited once;
// types that refer to themselves are fine.
type models struct {
	v3          bool // refs, defaults and alternatives as version 3 writes them
	definitions map[string]spec.Schema
	marks       map[string]*typeMarks
	words       map[string]map[string]string // see readWords
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
	m.tagOwn(t, name)
	return name
}

// tagOwn tags a type with the kind that it is the Go type of, if it is of one. What is of a kind in
// each group, as are the options of requests, is here that of v1 alone.
func (m *models) tagOwn(t reflect.Type, name string) {
	obj, ok := reflect.New(t).Interface().(runtime.Object)
	if !ok {
		return
	}
	kinds, _, err := scheme.Scheme.ObjectKinds(obj)
	if err != nil { // it is of none
		return
	}
	kinds = slices.Clone(kinds) // it is the scheme's own
	if len(kinds) > 1 {
		kinds = slices.DeleteFunc(kinds, func(k schema.GroupVersionKind) bool { return k.Group != "" || k.Version != "v1" })
	}
	m.kinds[name] = kinds
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
	items := m.wrap(spec.Schema{SchemaProps: spec.SchemaProps{Ref: m.refTo(object)}})
	s := spec.Schema{}
	s.Type = spec.StringOrArray{"object"}
	s.Description = k.ListKind().Kind + " is a list of " + k.Kind
	s.Required = []string{"items"}
	m.shell(&s, reflect.TypeFor[metav1.ListMeta](), "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds", !custom(k))
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
	docs := m.described(t, name)
	if special, ok := m.special(t); ok {
		special.Description = docs[""]
		return special
	}
	s := spec.Schema{}
	s.Description = docs[""]
	s.Type = spec.StringOrArray{"object"}
	s.Required = m.fields(&s, t, docs)
	marked := m.marked(t)
	marked.own.addMergeRules(&s)
	marked.addUnion(&s, t)
	return s
}

// fields adds the properties of struct t, those of embedded structs among them, and
// gives the names of those that must be set.
func (m *models) fields(s *spec.Schema, t reflect.Type, docs map[string]string) []string {
	var required []string
	marked := m.marked(t).fields
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
			required = append(required, m.fields(s, embedded, all)...)
			continue
		}
		if tag == "" {
			continue
		}
		omitEmpty := strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero")
		of := marked[f.Name]
		if of.has("required") || !omitEmpty && !of.has("optional") {
			required = append(required, tag)
		}
		p := m.property(f, docs[tag], omitEmpty, of)
		if s.Properties == nil {
			s.Properties = map[string]spec.Schema{}
		}
		s.Properties[tag] = p
	}
	return required
}

// property is the schema of one field of a struct.
func (m *models) property(f reflect.StructField, doc string, omitEmpty bool, of marks) spec.Schema {
	p := m.value(f.Type)
	p.Description = doc + m.meanings(f.Type)
	p.Default = zero(f.Type, omitEmpty)
	if v := of.value("default"); v != nil {
		p.Default = v
	}
	of.addMergeRules(&p)
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
		for _, value := range slices.Sorted(maps.Keys(m.values(t))) {
			s.Enum = append(s.Enum, value)
		}
		return s
	}
	switch t.Kind() {
	case reflect.Slice, reflect.Array:
		element := m.value(t.Elem())
		return *spec.ArrayProperty(&element)
	case reflect.Map:
		element := m.value(t.Elem())
		return *spec.MapProperty(&element)
	}
	return spec.Schema{SchemaProps: spec.SchemaProps{Type: spec.StringOrArray{"object"}}}
}

// values are those that a string of type t may have, and what each means; nil: any.
func (m *models) values(t reflect.Type) map[string]any {
	values, _ := m.marked(t).own.value("enum").(map[string]any)
	return values
}

// meanings is what the description of a field says of the values that it may have.
func (m *models) meanings(t reflect.Type) string {
	values := m.values(deref(t))
	if len(values) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n\nPossible enum values:")
	for _, value := range slices.Sorted(maps.Keys(values)) {
		b.WriteString(strings.TrimSuffix(fmt.Sprintf("\n - `%q` %v", value, values[value]), " "))
	}
	return b.String()
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
