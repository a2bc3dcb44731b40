package ownership

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// Plan is how objects of one kind are compared. It is immutable.
type Plan struct {
	typ     reflect.Type
	empty   reflect.Value
	root    *shape
	version string
}

// form is how the value of a field counts.
type form uint8

const (
	leaf      form = iota // as a whole: scalars and what is atomic
	structure             // each field by itself
	mapping               // each entry by itself
	keyed                 // a list, each item by itself, told by its key fields
	set                   // a list of scalars, each by itself
	unknown               // the schema does not say
)

// shape is a Go type joined with its schema.
type shape struct {
	form   form
	equal  func(a, b reflect.Value) bool // of a leaf
	fields []*field                      // of a structure, in the order of their names
	named  map[string]*field             // the same by path element
	elem   *shape                        // of a mapping or list
	keys   []key                         // of a keyed list, in the order of their names
	plain  bool                          // of a mapping: of strings to strings
}

type field struct {
	name      string
	elem      string // as path element: "f:spec"
	index     []int
	typ       reflect.Type
	omitEmpty bool
	omitZero  func(reflect.Value) bool
	shape     *shape
}

// key is a field that tells the items of a list apart.
type key struct {
	name     string
	field    *field // nil: the Go type does not have it
	fallback string // the default of the schema, as written; "" for none
}

// unowned is the metadata that no manager owns.
var unowned = []string{"creationTimestamp", "generation", "managedFields", "name", "namespace", "resourceVersion", "selfLink", "uid"}

// NewPlan makes the plan for objects of the struct type t, whose schema is ref in s. version is
// that of their entries, such as "apps/v1".
func NewPlan(t reflect.Type, s *schema.Schema, ref schema.TypeRef, version string) (*Plan, error) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	c := shared.compilers[s]
	if c == nil {
		c = &compiler{schema: s, known: map[typeKey]*shape{}}
		shared.compilers[s] = c
	}
	root := c.shape(t, ref)
	if root.form != structure {
		return nil, fmt.Errorf("plan for %v: its schema is no structure", t)
	}
	meta := root.named["f:metadata"]
	if meta == nil || meta.shape.form != structure {
		return nil, fmt.Errorf("plan for %v: its schema has no metadata", t)
	}
	owned := *meta
	owned.shape = meta.shape.without(unowned...)
	trimmed := root.without("apiVersion", "kind", "metadata")
	trimmed.add(&owned)
	return &Plan{t, reflect.New(t).Elem(), trimmed, version}, nil
}

// without is a copy of a structure that lacks some fields.
func (s *shape) without(names ...string) *shape {
	out := &shape{form: structure, named: map[string]*field{}}
	for _, f := range s.fields {
		if !slices.Contains(names, f.name) {
			out.add(f)
		}
	}
	return out
}

func (s *shape) add(f *field) {
	at, _ := slices.BinarySearchFunc(s.fields, f, func(a, b *field) int { return strings.Compare(a.name, b.name) })
	s.fields = slices.Insert(s.fields, at, f)
	s.named[f.elem] = f
}

type typeKey struct {
	typ      reflect.Type
	name     string
	relation schema.ElementRelationship
}

type compiler struct {
	schema *schema.Schema
	known  map[typeKey]*shape // types contain each other and themselves
}

// shared has what the kinds of a schema have in common: that of a pod is in nine of them.
var shared = struct {
	mu        sync.Mutex
	compilers map[*schema.Schema]*compiler
}{compilers: map[*schema.Schema]*compiler{}}

func (c *compiler) shape(t reflect.Type, ref schema.TypeRef) *shape {
	s := &shape{}
	if ref.NamedType != nil {
		id := typeKey{typ: t, name: *ref.NamedType}
		if ref.ElementRelationship != nil {
			id.relation = *ref.ElementRelationship
		}
		if known, ok := c.known[id]; ok {
			return known
		}
		c.known[id] = s
	}
	c.fill(s, t, ref)
	if s.form == leaf {
		s.equal = equality(t)
	}
	return s
}

// fill sets all of s but equal.
func (c *compiler) fill(s *shape, t reflect.Type, ref schema.TypeRef) {
	atom, ok := c.schema.Resolve(ref)
	if s.form = unknown; !ok {
		return
	}
	if value.TypeReflectEntryOf(t).CanConvertToUnstructured() {
		if whole(atom) {
			s.form = leaf
		}
		return
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8:
		c.list(s, t, atom.List)
	case t.Kind() == reflect.Struct, t.Kind() == reflect.Map:
		c.mapped(s, t, atom.Map)
	case atom.Scalar != nil && fits(t, *atom.Scalar):
		s.form = leaf
	}
}

// whole says that whatever a value of this schema is, it counts as a whole.
func whole(a schema.Atom) bool {
	return (a.Map == nil || a.Map.ElementRelationship == schema.Atomic) &&
		(a.List == nil || a.List.ElementRelationship == schema.Atomic) &&
		(a.Map != nil || a.List != nil || a.Scalar != nil)
}

// fits says that values of t are scalars of this kind.
func fits(t reflect.Type, s schema.Scalar) bool {
	switch t.Kind() {
	case reflect.String, reflect.Slice:
		return s == schema.String || s == schema.Untyped
	case reflect.Bool:
		return s == schema.Boolean || s == schema.Untyped
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Float32, reflect.Float64:
		return s == schema.Numeric || s == schema.Untyped
	}
	return false
}

func (c *compiler) list(s *shape, t reflect.Type, l *schema.List) {
	switch {
	case l == nil:
	case l.ElementRelationship == schema.Atomic:
		s.form = leaf
	case l.ElementRelationship != schema.Associative:
	case len(l.Keys) == 0:
		if s.elem = c.shape(t.Elem(), l.ElementType); s.elem.form == leaf && plainKey(t.Elem()) {
			s.form = set
		}
	case t.Elem().Kind() == reflect.Struct:
		if keys, ok := c.listKeys(t.Elem(), l); ok {
			s.form, s.keys = keyed, keys
			s.elem = c.shape(t.Elem(), l.ElementType)
		}
	}
}

func (c *compiler) listKeys(t reflect.Type, l *schema.List) ([]key, bool) {
	atom, ok := c.schema.Resolve(l.ElementType)
	if !ok || atom.Map == nil {
		return nil, false
	}
	fields := map[string]*field{}
	if !goFields(t, nil, fields) {
		return nil, false
	}
	var out []key
	for _, name := range l.Keys {
		k := key{name: name, field: fields[name]}
		if k.field != nil && !plainKey(k.field.typ) {
			return nil, false
		}
		declared, _ := atom.Map.FindField(name)
		if k.fallback, ok = defaultText(declared.Default); !ok {
			return nil, false
		}
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b key) int { return strings.Compare(a.name, b.name) })
	return out, true
}

func (c *compiler) mapped(s *shape, t reflect.Type, m *schema.Map) {
	switch {
	case m == nil:
	case m.ElementRelationship == schema.Atomic:
		s.form = leaf
	case t.Kind() == reflect.Struct:
		fields := map[string]*field{}
		if !goFields(t, nil, fields) {
			return
		}
		s.form, s.named = structure, map[string]*field{}
		for name, f := range fields {
			ref := m.ElementType
			if declared, ok := m.FindField(name); ok {
				ref = declared.Type
			}
			f.shape = c.shape(f.typ, ref)
			s.add(f)
		}
	case t.Key().Kind() == reflect.String && len(m.Fields) == 0:
		s.form, s.elem = mapping, c.shape(t.Elem(), m.ElementType)
		s.plain = t == texts && s.elem.form == leaf
	}
}

// goFields collects the fields of a struct by their names in JSON, those of embedded structs
// with them. ok is false where they are embedded by pointer.
func goFields(t reflect.Type, at []int, into map[string]*field) bool {
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("json")
		if tag == "-" || !f.IsExported() && !f.Anonymous {
			continue
		}
		name, rest, _ := strings.Cut(tag, ",")
		index := append(slices.Clone(at), i)
		if f.Anonymous && name == "" {
			if f.Type.Kind() != reflect.Struct || !goFields(f.Type, index, into) {
				return false
			}
			continue
		}
		if name == "" {
			name = f.Name
		}
		options := strings.Split(rest, ",")
		into[name] = &field{name: name, elem: "f:" + name, index: index, typ: f.Type, omitEmpty: slices.Contains(options, "omitempty")}
		if slices.Contains(options, "omitzero") {
			into[name].omitZero = value.OmitZeroFunc(f.Type)
		}
	}
	return true
}
