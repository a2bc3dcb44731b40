package patch

import (
	"bytes"
	"maps"
	"reflect"
	"slices"

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
