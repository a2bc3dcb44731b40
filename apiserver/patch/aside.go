package patch

import (
	"bytes"
	"maps"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/proa-dev/proa/apis/api"
)

// aside gives live without its managedFields, which are often half of it, and the function that
// gives them back to what the patch made of it. They stay with live where the patch could see
// them: where it names them, may name them in disguise, or handles what contains them as one value.
func aside(live api.Object, body []byte, whole ...string) (bare api.Object, restore func(api.Object)) {
	entries := live.GetManagedFields()
	for _, seen := range append(whole, "managedFields", `\u`, `\/`) {
		if len(entries) == 0 || bytes.Contains(body, []byte(seen)) {
			return live, func(api.Object) {}
		}
	}
	return without(live), func(obj api.Object) { obj.SetManagedFields(slices.Clone(entries)) }
}

// without is a shallow copy of obj that lacks managedFields.
func without(obj api.Object) api.Object {
	if u, ok := obj.(*unstructured.Unstructured); ok {
		content := maps.Clone(u.Object)
		if meta, ok := content["metadata"].(map[string]any); ok {
			content["metadata"] = maps.Clone(meta)
		}
		obj = &unstructured.Unstructured{Object: content}
	} else {
		copied := reflect.New(reflect.TypeOf(obj).Elem())
		copied.Elem().Set(reflect.ValueOf(obj).Elem())
		obj = copied.Interface().(api.Object)
	}
	obj.SetManagedFields([]metav1.ManagedFieldsEntry(nil))
	return obj
}

// apart gives an object with only the top-level fields that a patch names, and its metadata, and
// the function that gives what the patch made of it the others: a report of a status need not turn
// the spec into JSON and back. An object without a Go type stays as it is.
func apart[V any](obj api.Object, patch map[string]V) (part api.Object, join func(api.Object)) {
	v := reflect.ValueOf(obj).Elem()
	if v.Type() == reflect.TypeFor[unstructured.Unstructured]() {
		return obj, func(api.Object) {}
	}
	for name := range patch {
		if strings.HasPrefix(name, "$") { // a directive for the whole object
			return obj, func(api.Object) {}
		}
	}
	some, others := reflect.New(v.Type()), reflect.New(v.Type())
	some.Elem().Set(v)
	var left []int
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if _, named := patch[name]; named || f.Anonymous || name == "" {
			continue
		}
		others.Elem().Field(i).Set(v.Field(i))
		some.Elem().Field(i).SetZero()
		left = append(left, i)
	}
	return some.Interface().(api.Object), func(made api.Object) {
		kept := reflect.ValueOf(others.Interface().(api.Object).DeepCopyObject()).Elem()
		for _, i := range left {
			reflect.ValueOf(made).Elem().Field(i).Set(kept.Field(i))
		}
	}
}
