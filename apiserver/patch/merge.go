package patch

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// Merge gives a copy of obj with a configuration, an object that has apiVersion, kind and some fields, merged in as
// the schema says. Nobody comes to own anything. Lists, maps and structs that can only be replaced as a whole are
// refused: what the configuration leaves out of them would be lost.
func (f *Fields) Merge(obj runtime.Object, configuration map[string]any) (runtime.Object, error) {
	wanted, err := f.types.ObjectToTyped(&unstructured.Unstructured{Object: configuration})
	if err != nil {
		return nil, fmt.Errorf("failed to convert patch object to typed object: %w", err)
	}
	if whole := atomics(nil, wanted.Schema(), wanted.TypeRef(), wanted.AsValue()); len(whole) > 0 {
		return nil, fmt.Errorf("invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: %s", strings.Join(whole, ", "))
	}
	live, err := f.types.ObjectToTyped(obj, typed.AllowDuplicates)
	if err != nil {
		return nil, fmt.Errorf("failed to convert original object to typed object: %w", err)
	}
	merged, err := live.Merge(wanted)
	if err != nil {
		return nil, fmt.Errorf("failed to merge patch: %w", err)
	}
	loose, err := f.types.TypedToObject(merged)
	if err != nil {
		return nil, fmt.Errorf("failed to convert typed object to object: %w", err)
	}
	u, ok := loose.(*unstructured.Unstructured)
	if !ok {
		return nil, errors.New("failed to convert typed object to object: it has no fields")
	}
	if f.kind.Type == reflect.TypeFor[unstructured.Unstructured]() {
		return u.DeepCopy(), nil
	}
	made := f.kind.New()
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, made); err != nil {
		return nil, fmt.Errorf("convert %s to its type: %w", f.kind.Kind, err)
	}
	return made, nil
}

// atomics finds what a value has that can only be replaced as a whole.
func atomics(path fieldpath.Path, s *schema.Schema, ref schema.TypeRef, v value.Value) []string {
	atom, ok := s.Resolve(ref)
	if !ok || v == nil {
		return nil
	}
	var out []string
	switch {
	case v.IsMap() && atom.Map != nil:
		if atom.Map.ElementRelationship == schema.Atomic {
			out = append(out, path.String())
		}
		v.AsMap().Iterate(func(key string, v value.Value) bool {
			if field, ok := atom.Map.FindField(key); ok {
				out = append(out, atomics(append(path[:len(path):len(path)], fieldpath.PathElement{FieldName: &key}), s, field.Type, v)...)
			}
			return true
		})
	case v.IsList() && atom.List != nil:
		if atom.List.ElementRelationship == schema.Atomic {
			out = append(out, path.String())
		}
		items := v.AsList()
		for i := range items.Length() {
			out = append(out, atomics(append(path[:len(path):len(path)], fieldpath.PathElement{Index: &i}), s, atom.List.ElementType, items.At(i))...)
		}
	}
	return out
}
