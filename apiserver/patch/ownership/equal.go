package ownership

import (
	"bytes"
	"maps"
	"reflect"

	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// inner follows a pointer that is not null.
func inner(v reflect.Value) reflect.Value {
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		return v.Elem()
	}
	return v
}

// null says that a value is there and null.
func null(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
		return v.IsNil()
	}
	return false
}

// length is that of a list or map, 0 for one that is absent or null.
func length(v reflect.Value) int {
	if !v.IsValid() || v.Kind() == reflect.Pointer {
		return 0
	}
	return v.Len()
}

// isEmpty is what omitempty omits.
func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map, reflect.String, reflect.Array:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

// equality is how leaves of type t are compared: as they stand in JSON, where null is not the same as empty.
func equality(t reflect.Type) func(a, b reflect.Value) bool {
	if e := value.TypeReflectEntryOf(t); e.CanConvertToUnstructured() {
		return func(a, b reflect.Value) bool {
			if same(a, b) {
				return true
			}
			x, errA := e.ToUnstructured(a)
			y, errB := e.ToUnstructured(b)
			return errA == nil && errB == nil && value.Equals(value.NewValueInterface(x), value.NewValueInterface(y))
		}
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t.Kind() == reflect.Struct, t.Kind() == reflect.Map:
		return sameJSON
	case t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8:
		return func(a, b reflect.Value) bool { return same(inner(a), inner(b)) } // the library's own rule for lists
	}
	return func(a, b reflect.Value) bool {
		a, b = inner(a), inner(b)
		if null(a) || null(b) {
			return null(a) && null(b)
		}
		if a.Kind() == reflect.Slice {
			return bytes.Equal(a.Bytes(), b.Bytes())
		}
		return a.Equal(b)
	}
}

// same is the strict equality of Go, for values without cycles. It is reflect.DeepEqual without
// the memory of what it has seen, which was most of its cost.
func same(a, b reflect.Value) bool {
	switch a.Kind() {
	case reflect.Struct:
		for i := range a.NumField() {
			if !same(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	case reflect.Pointer, reflect.Interface:
		if a.IsNil() || b.IsNil() {
			return a.IsNil() && b.IsNil()
		}
		if a.Kind() == reflect.Pointer && a.Pointer() == b.Pointer() {
			return true
		}
		a, b = a.Elem(), b.Elem()
		return a.Type() == b.Type() && same(a, b)
	case reflect.Slice:
		return a.IsNil() == b.IsNil() && a.Len() == b.Len() && (a.Pointer() == b.Pointer() || sameElements(a, b))
	case reflect.Map:
		return a.IsNil() == b.IsNil() && a.Len() == b.Len() && (a.Pointer() == b.Pointer() || sameEntries(a, b))
	case reflect.Array:
		return sameElements(a, b)
	case reflect.Func, reflect.Chan, reflect.UnsafePointer:
		return false
	}
	return a.Equal(b)
}

func sameElements(a, b reflect.Value) bool {
	if a.Type().Elem().Kind() == reflect.Uint8 && a.Kind() == reflect.Slice {
		return bytes.Equal(a.Bytes(), b.Bytes())
	}
	for i := range a.Len() {
		if !same(a.Index(i), b.Index(i)) {
			return false
		}
	}
	return true
}

func sameEntries(a, b reflect.Value) bool {
	if a.Type() == texts && a.CanInterface() && b.CanInterface() {
		return maps.Equal(a.Interface().(map[string]string), b.Interface().(map[string]string))
	}
	for it := a.MapRange(); it.Next(); {
		if other := b.MapIndex(it.Key()); !other.IsValid() || !same(it.Value(), other) {
			return false
		}
	}
	return true
}

// texts is the type of labels and the like.
var texts = reflect.TypeFor[map[string]string]()

// sameItems says that lists are the same without looking at their keys.
func sameItems(a, b reflect.Value) bool {
	return length(a) == length(b) && same(a, b)
}

// sameJSON compares values that may be different in Go and written the same.
func sameJSON(a, b reflect.Value) bool {
	if same(a, b) {
		return true
	}
	x, errA := value.NewValueReflect(pointer(a))
	y, errB := value.NewValueReflect(pointer(b))
	return errA == nil && errB == nil && value.Equals(x, y)
}

// pointer makes a pointer to a value that may not have an address.
func pointer(v reflect.Value) any {
	if v.Kind() == reflect.Pointer {
		return v.Interface()
	}
	if !v.CanAddr() {
		copied := reflect.New(v.Type())
		copied.Elem().Set(v)
		return copied.Interface()
	}
	return v.Addr().Interface()
}
