package schema

import (
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/validation/field"
	openapierrors "k8s.io/kube-openapi/pkg/validation/errors"
	"k8s.io/kube-openapi/pkg/validation/strfmt"
	"k8s.io/kube-openapi/pkg/validation/validate"
)

// Validate returns what is wrong with an object, by its schema alone; for its rules see Rules. old is the
// object before an update, nil on create: what is equal in both is not looked at, so that an
// object that was valid once can still be changed elsewhere when its schema grew stricter.
func (s *Schema) Validate(obj, old map[string]any) field.ErrorList {
	var errs field.ErrorList
	if old == nil {
		errs = s.values(nil, obj, nil)
	} else {
		errs = s.values(nil, obj, &before{old})
	}
	if s.anyEmbedded {
		errs = append(errs, s.embedded(nil, obj, false)...)
	}
	if old == nil || len(s.lists(nil, old)) == 0 {
		errs = append(errs, s.lists(nil, obj)...)
	}
	return errs
}

// before is the value that a value was before; a nil pointer where that cannot be told.
type before struct{ value any }

// key is what a field was.
func (b *before) key(name string, root bool) *before {
	if b == nil || root && (name == "apiVersion" || name == "kind") {
		return nil // the versions of an object are not what the client changed
	}
	m, _ := b.value.(map[string]any)
	if v, ok := m[name]; ok {
		return &before{v}
	}
	return nil
}

// item is what the element of a list was: only the elements of list maps can be told.
func (b *before) item(s *Schema, element any) *before {
	if b == nil || s.listType != "map" {
		return nil
	}
	list, _ := b.value.([]any)
	for _, e := range list {
		if sameKeys(s.props.XListMapKeys, e, element) {
			return &before{e}
		}
	}
	return nil
}

func (b *before) equals(v any) bool { return b != nil && reflect.DeepEqual(b.value, v) }

func sameKeys(keys []string, a, b any) bool {
	x, ok := a.(map[string]any)
	y, ok2 := b.(map[string]any)
	if !ok || !ok2 {
		return false
	}
	for _, k := range keys {
		if !reflect.DeepEqual(x[k], y[k]) {
			return false
		}
	}
	return true
}

// values checks a value by the keywords of its schema.
func (s *Schema) values(path *field.Path, v any, old *before) field.ErrorList {
	if s == nil || old.equals(v) {
		return nil
	}
	errs, name := s.typed(path, v), nameOf(path)
	if v != nil {
		errs = append(errs, s.combined(path, v)...)
		switch v := v.(type) {
		case string:
			errs = append(errs, s.ofText(path, name, v)...)
		case int64, float64:
			errs = append(errs, s.ofNumber(path, name, v)...)
		case []any:
			errs = append(errs, s.ofList(path, name, v, old)...)
		case map[string]any:
			errs = append(errs, s.ofObject(path, name, v, old)...)
		}
	}
	if len(s.enum) > 0 && validate.Enum(name, "body", v, s.enum) != nil {
		errs = appendError(errs, path, openapierrors.EnumFail(name, "body", v, s.enum)) // with null, which the library leaves out
	}
	return errs
}

// nameOf is a path as messages name it.
func nameOf(path *field.Path) string {
	if path == nil {
		return ""
	}
	return path.String()
}

// appendError gives an error of the library its field error.
func appendError(errs field.ErrorList, path *field.Path, err *openapierrors.Validation) field.ErrorList {
	if err == nil {
		return errs
	}
	value := err.Value
	if value == nil {
		value = ""
	}
	number := func(v any) int {
		n, ok := v.(int64)
		if !ok {
			return -1
		}
		return int(n)
	}
	switch err.Code() {
	case openapierrors.RequiredFailCode:
		return append(errs, field.Required(path, ""))
	case openapierrors.EnumFailCode:
		return append(errs, field.NotSupported(path, err.Value, enumTexts(err.Values)))
	case openapierrors.TooLongFailCode:
		return append(errs, field.TooLong(path, "", number(err.Valid)))
	case openapierrors.MaxItemsFailCode, openapierrors.TooManyPropertiesCode:
		return append(errs, field.TooMany(path, number(err.Value), number(err.Valid)))
	case openapierrors.InvalidTypeCode:
		return append(errs, field.TypeInvalid(path, value, err.Error()))
	}
	return append(errs, field.Invalid(path, value, err.Error()))
}

func enumTexts(values []any) []string {
	out := make([]string, 0, len(values))
	for _, v := range values {
		s, ok := v.(string)
		if !ok {
			raw, _ := json.Marshal(v) // values of JSON encode
			s = string(raw)
		}
		out = append(out, s)
	}
	return out
}

// typeOf is the JSON type of a value.
func typeOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case int64:
		return "integer"
	case float64:
		return "number"
	case []any:
		return "array"
	}
	return "object"
}

func (s *Schema) typed(path *field.Path, v any) field.ErrorList {
	want, is := s.jsonType(), typeOf(v)
	wanted := []string{want}
	if s.IntOrString {
		wanted = []string{"integer", "string"}
	}
	switch {
	case wanted[0] == "" || slices.Contains(wanted, is):
		return nil
	case s.misfits(is, v):
		return appendError(nil, path, openapierrors.InvalidType(nameOf(path), "body", s.props.Format, nativeFormat[is]))
	case is == "null" && s.props.Nullable:
		return nil
	case is == "integer" && want == "number":
		return nil
	case is == "number" && slices.Contains(wanted, "integer") && whole(v.(float64)):
		return nil
	}
	return appendError(nil, path, openapierrors.InvalidType(nameOf(path), "body", strings.Join(wanted, ","), is))
}

// misfits says that a value of a wrong type is told about by its format.
func (s *Schema) misfits(is string, v any) bool {
	f, want := s.props.Format, s.jsonType()
	if f == "" || want == "string" && !checked(f) || is == "null" || is == "string" || is == "array" || nativeFormat[is] == f {
		return false
	}
	n, float := v.(float64)
	return !(is == "integer" && want == "number" || float && whole(n) && want == "integer")
}

// whole says that a number with a fraction has none, and is small enough to be exact.
func whole(n float64) bool { return n == math.Trunc(n) && math.Abs(n) < 1<<53 }

var nativeFormat = map[string]string{"integer": "int64", "number": "float64"}

func (s *Schema) ofText(path *field.Path, name, v string) (errs field.ErrorList) {
	p, size := s.props, int64(utf8.RuneCountInString(v))
	switch { // the first fault alone is told
	case p.MaxLength != nil && size > *p.MaxLength:
		errs = append(errs, field.TooLong(path, "", int(*p.MaxLength)))
	case p.MinLength != nil && size < *p.MinLength:
		errs = appendError(errs, path, validate.MinLength(name, "body", v, *p.MinLength))
	case s.pattern != nil && !s.pattern.MatchString(v):
		errs = appendError(errs, path, openapierrors.FailedPattern(name, "body", p.Pattern, v))
	}
	if f := p.Format; f != "" && checked(f) {
		errs = appendError(errs, path, validate.FormatOf(name, "body", f, v, strfmt.Default))
	}
	return errs
}

// formats are those that are checked; others say something to people alone.
var formats = func() map[string]bool {
	all := map[string]bool{}
	for name := range strings.FieldsSeq("bsonobjectid uri email hostname ipv4 ipv6 cidr mac uuid uuid3 uuid4 uuid5 isbn isbn10 isbn13 creditcard ssn hexcolor rgbcolor byte password date duration datetime") {
		all[name] = true
	}
	return all
}()

func (s *Schema) ofNumber(path *field.Path, name string, v any) (errs field.ErrorList) {
	p := s.props
	if err := validate.IsValueValidAgainstRange(v, s.numeric(), s.numericFormat(), "Checked", name); err != nil {
		errs = append(errs, field.Invalid(nil, "", err.Error()))
	}
	if p.MultipleOf != nil {
		errs = appendError(errs, path, validate.MultipleOfNativeType(name, "body", v, *p.MultipleOf))
	}
	if p.Minimum != nil {
		errs = appendError(errs, path, validate.MinimumNativeType(name, "body", v, *p.Minimum, p.ExclusiveMinimum))
	}
	if p.Maximum != nil {
		errs = appendError(errs, path, validate.MaximumNativeType(name, "body", v, *p.Maximum, p.ExclusiveMaximum))
	}
	return errs
}

// numeric is the type that bounds numbers, "" for none.
func (s *Schema) numeric() string {
	if t := s.jsonType(); !s.IntOrString && (t == "integer" || t == "number") {
		return t
	}
	return ""
}

// numericFormat is the format that bounds numbers, "" for none.
func (s *Schema) numericFormat() string {
	switch f := s.props.Format; s.numeric() + " " + f {
	case "integer int32", "integer int64", "number float", "number double":
		return f
	}
	return ""
}

func (s *Schema) ofList(path *field.Path, name string, v []any, old *before) (errs field.ErrorList) {
	if s.Items != nil {
		for i, e := range v {
			errs = append(errs, s.Items.values(path.Index(i), e, old.item(s, e))...)
		}
	}
	p, size := s.props, int64(len(v))
	if p.MinItems != nil {
		errs = appendError(errs, path, validate.MinItems(name, "body", size, *p.MinItems))
	}
	if p.MaxItems != nil {
		errs = appendError(errs, path, validate.MaxItems(name, "body", size, *p.MaxItems))
	}
	if p.UniqueItems {
		errs = appendError(errs, path, validate.UniqueItems(name, "body", v))
	}
	return errs
}

func (s *Schema) ofObject(path *field.Path, name string, v map[string]any, old *before) (errs field.ErrorList) {
	p, size := s.props, int64(len(v))
	if p.MinProperties != nil && size < *p.MinProperties {
		errs = appendError(errs, path, openapierrors.TooFewProperties(name, "body", *p.MinProperties, size))
	}
	if p.MaxProperties != nil && size > *p.MaxProperties {
		errs = appendError(errs, path, openapierrors.TooManyProperties(name, "body", *p.MaxProperties, size))
	}
	for _, key := range sortedKeys(v) {
		child := s.child(key)
		if child == nil {
			if s.noAdditional {
				errs = appendError(errs, path, openapierrors.PropertyNotAllowed(name, "body", key))
			}
			continue
		}
		errs = append(errs, child.values(path.Child(key), v[key], old.key(key, path == nil))...)
	}
	for _, key := range p.Required {
		if _, ok := v[key]; !ok {
			errs = append(errs, field.Required(path.Child(key), ""))
		}
	}
	return errs
}

// combined checks allOf, anyOf, oneOf and not.
func (s *Schema) combined(path *field.Path, v any) (errs field.ErrorList) {
	fail := func(text string) {
		errs = append(errs, field.Invalid(nil, "", `"`+nameOf(path)+`" `+text)) // the text has the place
	}
	if best, valid := closest(s.anyOf, path, v); len(s.anyOf) > 0 && valid == 0 {
		fail("must validate at least one schema (anyOf)")
		errs = append(errs, best...)
	}
	if best, valid := closest(s.oneOf, path, v); len(s.oneOf) > 0 && valid != 1 {
		if valid == 0 {
			fail("must validate one and only one schema (oneOf). Found none valid")
			errs = append(errs, best...)
		} else {
			fail("must validate one and only one schema (oneOf). Found " + itoa(valid) + " valid alternatives")
		}
	}
	failed := 0
	for _, one := range s.allOf {
		more := one.values(path, v, nil)
		if len(more) > 0 {
			failed++
		}
		errs = append(errs, more...)
	}
	switch {
	case failed > 0 && failed == len(s.allOf):
		fail("must validate all the schemas (allOf). None validated")
	case failed > 0:
		fail("must validate all the schemas (allOf)")
	}
	if s.not != nil && len(s.not.values(path, v, nil)) == 0 {
		fail("must not validate the schema (not)")
	}
	return errs
}

// closest tries alternatives: how many hold, and if none does, what is wrong by the one
// that comes closest.
func closest(alternatives []*Schema, path *field.Path, v any) (best field.ErrorList, valid int) {
	for i, one := range alternatives {
		errs := one.values(path, v, nil)
		if len(errs) == 0 {
			valid++
		}
		if i == 0 || len(errs) < len(best) {
			best = errs
		}
	}
	return best, valid
}
