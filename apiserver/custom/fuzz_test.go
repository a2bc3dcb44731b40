package custom

import (
	"encoding/json"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Paths that a definition names are followed through whatever an object is.
func FuzzPaths(f *testing.F) {
	const object = `{"metadata":{"name":"a","creationTimestamp":"x"},"spec":{"replicas":3,"list":[{"a":1},null,[2]],"m":{"k":null},"t":"2026-01-01T00:00:00Z"}}`
	for _, path := range []string{".spec.replicas", ".spec.list[*].a", ".spec.list[-1:]", ".spec.list[?(@.a==1)].a", "..a", ".spec.m.k", ".", "", "..", ".spec['m']",
		".spec.list[0:9:0]", "} {", "range .spec.list[*]}{.a}{end", "range.}{[]", ".metadata.creationTimestamp"} {
		f.Add(path, object)
	}
	f.Fuzz(func(t *testing.T, path, text string) {
		var content map[string]any
		if json.Unmarshal([]byte(text), &content) != nil || content == nil {
			return
		}
		u := &unstructured.Unstructured{Object: content}
		var defined []apiextensionsv1.CustomResourceColumnDefinition
		for _, kind := range []string{"string", "integer", "number", "boolean", "date", "other"} {
			defined = append(defined, apiextensionsv1.CustomResourceColumnDefinition{Name: kind, Type: kind, JSONPath: path})
		}
		for _, c := range columns(defined) {
			c.Value(u)
		}
		for _, value := range selectable([]apiextensionsv1.SelectableField{{JSONPath: path}}) {
			value(u)
		}
		v := &apiextensionsv1.CustomResourceDefinitionVersion{Subresources: &apiextensionsv1.CustomResourceSubresources{
			Scale: &apiextensionsv1.CustomResourceSubresourceScale{SpecReplicasPath: path, StatusReplicasPath: path, LabelSelectorPath: &path},
		}}
		_ = scaled(v)(u) // says why not
		s := scaleOf(v)
		s.Get(u)
		s.Set(u, 5)
	})
}
