package schema

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// lists finds what is twice in lists that are sets or maps.
func (s *Schema) lists(path *field.Path, v any) (errs field.ErrorList) {
	if s == nil {
		return nil
	}
	switch v := v.(type) {
	case map[string]any:
		for _, name := range sortedKeys(v) {
			if child := s.child(name); child != nil {
				at := path.Child(name)
				if _, named := s.Properties[name]; !named {
					at = path.Key(name)
				}
				errs = append(errs, child.lists(at, v[name])...)
			}
		}
	case []any:
		switch s.listType {
		case "set":
			errs = append(errs, twice(path, v, func(e any) (any, bool) { return e, true })...)
		case "map":
			for i, e := range v {
				if _, ok := e.(map[string]any); !ok {
					return append(errs, field.Invalid(path.Index(i), e, "must be an object for an array of list-type map"))
				}
			}
			errs = append(errs, twice(path, v, s.keysOf)...)
		}
		for i, e := range v {
			errs = append(errs, s.Items.lists(path.Index(i), e)...)
		}
	}
	return errs
}

// keysOf is what of an element of a list map must be unique.
func (s *Schema) keysOf(e any) (any, bool) {
	element, keys := e.(map[string]any), map[string]any{}
	for _, k := range s.props.XListMapKeys {
		if v, ok := element[k]; ok {
			keys[k] = v
		}
	}
	return keys, true
}

// twice reports each value that is in a list more than once, where it is the second time.
func twice(path *field.Path, list []any, key func(any) (any, bool)) (errs field.ErrorList) {
	seen := make(map[string]int, len(list))
	for i, e := range list {
		k, ok := key(e)
		if !ok {
			continue
		}
		raw, err := json.Marshal(k) // maps are written in the order of their keys
		if err != nil {
			continue
		}
		if seen[string(raw)]++; seen[string(raw)] == 2 {
			errs = append(errs, field.Duplicate(path.Index(i), k))
		}
	}
	return errs
}

// embedded checks the objects that are embedded in a value.
func (s *Schema) embedded(path *field.Path, v any, whole bool) (errs field.ErrorList) {
	if s == nil || !s.anyEmbedded {
		return nil
	}
	switch v := v.(type) {
	case map[string]any:
		if whole {
			errs = validateEmbedded(v, path)
		}
		for _, name := range sortedKeys(v) {
			if child := s.child(name); child != nil {
				errs = append(errs, child.embedded(path.Child(name), v[name], child.Embedded)...)
			}
		}
	case []any:
		for i, e := range v {
			if s.Items != nil {
				errs = append(errs, s.Items.embedded(path.Index(i), e, s.Items.Embedded)...)
			}
		}
	}
	return errs
}

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

func itoa(n int) string { return strconv.Itoa(n) }
