package convert

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Whatever a webhook answers, it never panics, and what is taken is still the same object.
func FuzzAccept(f *testing.F) {
	for _, text := range []string{
		`{"apiVersion":"g/v2","kind":"K","metadata":{"name":"a","uid":"u"}}`, `{"apiVersion":"g/v2","kind":"K","metadata":{"name":"a","uid":"u","labels":{"x":1}}}`,
		`{"apiVersion":"g/v2","kind":"K","metadata":[]}`, `{"apiVersion":"g/v2","kind":"K","metadata":{"name":"a","uid":"u","annotations":null,"finalizers":["x"]},"spec":null}`,
		`[]`, `null`, `{"metadata":null}`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		sent := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "g/v1", "kind": "K",
			"metadata": map[string]any{"name": "a", "uid": "u", "resourceVersion": "7", "labels": map[string]any{"a": "b"}},
		}}
		got, err := accept(sent, runtime.RawExtension{Raw: []byte(text)}, schema.GroupVersion{Group: "g", Version: "v2"})
		if err != nil {
			return
		}
		if got.GetName() != "a" || got.GetUID() != "u" || got.GetResourceVersion() != "7" || got.GetKind() != "K" || got.GetAPIVersion() != "g/v2" {
			t.Errorf("%s is taken as %v", text, got.Object)
		}
	})
}
