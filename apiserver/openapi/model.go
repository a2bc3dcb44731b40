package openapi

import (
	"encoding/json"
	"reflect"
	"strings"
)

// modelName is the name of a type's definition: its own, or made of its package's path.
func modelName(t reflect.Type) string {
	if named, ok := reflect.Zero(t).Interface().(interface{ OpenAPIModelName() string }); ok {
		return named.OpenAPIModelName()
	}
	host, path, _ := strings.Cut(t.PkgPath(), "/")
	return reversed(host) + "." + strings.ReplaceAll(path, "/", ".") + "." + t.Name()
}

func deref(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// typeDocs are the descriptions of a type ("") and its fields, by JSON name.
func typeDocs(t reflect.Type) map[string]string {
	if documented, ok := reflect.Zero(t).Interface().(interface{ SwaggerDoc() map[string]string }); ok {
		return documented.SwaggerDoc()
	}
	return nil
}

// scalar gives the JSON type and format of what is neither an object nor a list.
func scalar(t reflect.Type) (typ, format string, ok bool) {
	switch t.Kind() {
	case reflect.String:
		return "string", "", true
	case reflect.Bool:
		return "boolean", "", true
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Uint, reflect.Uint16, reflect.Uint32:
		return "integer", "int32", true
	case reflect.Uint8:
		return "integer", "byte", true
	case reflect.Int64, reflect.Uint64:
		return "integer", "int64", true
	case reflect.Float32:
		return "number", "float", true
	case reflect.Float64:
		return "number", "double", true
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "string", "byte", true
		}
	}
	return "", "", false
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

// zero is the default that a value has by its Go type: what decoding an object without it
// leaves there. Nil: none.
func zero(t reflect.Type, omitEmpty bool) any {
	if t.Implements(unmarshaler) || reflect.PointerTo(t).Implements(unmarshaler) {
		return nil
	}
	if t.Kind() == reflect.Struct {
		return map[string]any{}
	}
	if omitEmpty {
		return nil
	}
	switch typ, _, _ := scalar(t); {
	case t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer:
		return nil
	case typ == "string":
		return ""
	case typ == "boolean":
		return false
	case typ == "integer" || typ == "number":
		return 0
	}
	return nil
}
