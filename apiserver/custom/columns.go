package custom

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/util/jsonpath"

	"github.com/proa-dev/proa/apis/api"
)

type object = *unstructured.Unstructured

// columns are those of a definition, or the age alone.
func columns(defined []apiextensionsv1.CustomResourceColumnDefinition) (all []api.Column[object]) {
	docs := metav1.ObjectMeta{}.SwaggerDoc()
	if len(defined) == 0 {
		defined = []apiextensionsv1.CustomResourceColumnDefinition{{
			Name: "Age", Type: "date", Description: docs["creationTimestamp"], JSONPath: ".metadata.creationTimestamp",
		}}
	}
	for _, d := range defined {
		description := d.Description
		if description == "" {
			description = fmt.Sprintf("Custom resource definition column (in JSONPath format): %s", d.JSONPath)
		}
		all = append(all, api.Column[object]{
			Name: d.Name, Type: d.Type, Format: d.Format, Description: description, Priority: d.Priority,
			Value: cell(d),
		})
	}
	return all
}

// cell finds what a column shows of an object: nil when there is nothing, or nothing of its type.
func cell(d apiextensionsv1.CustomResourceColumnDefinition) func(object) any {
	path := jsonpath.New(d.Name).AllowMissingKeys(true)
	if path.Parse("{"+d.JSONPath+"}") != nil {
		return func(object) any { return nil }
	}
	return func(u object) (shown any) {
		defer func() {
			if recover() != nil { // the library stumbles over some paths, and over null in lists
				shown = nil
			}
		}()
		// A path keeps state while it is followed.
		follow := jsonpath.New(d.Name).AllowMissingKeys(true)
		if follow.Parse("{"+d.JSONPath+"}") != nil {
			return nil
		}
		results, err := follow.FindResults(u.Object)
		if err != nil || len(results) == 0 || len(results[0]) == 0 {
			return nil
		}
		if d.Type == "string" {
			return printed(follow, results[0][:1]) // a column shows one value
		}
		return typed(d.Type, results[0][0].Interface())
	}
}

func printed(path *jsonpath.JSONPath, values []reflect.Value) any {
	var b bytes.Buffer
	if path.PrintResults(&b, values) != nil {
		return nil
	}
	return b.String()
}

// typed is a value as a column of a type shows it.
func typed(kind string, v any) any {
	switch kind {
	case "integer":
		switch n := v.(type) {
		case int64:
			return n
		case float64:
			return int64(n)
		}
	case "number":
		switch n := v.(type) {
		case int64:
			return float64(n)
		case float64:
			return n
		}
	case "boolean":
		if b, ok := v.(bool); ok {
			return b
		}
	case "date":
		if s, ok := v.(string); ok {
			at, err := time.Parse(time.RFC3339, s)
			if err != nil {
				return "<invalid>"
			}
			return api.Since(metav1.NewTime(at))
		}
	}
	return nil
}

// selectable are the field selectors of a version.
func selectable(fields []apiextensionsv1.SelectableField) map[string]func(object) string {
	all := map[string]func(object) string{}
	for _, f := range fields {
		names := strings.Split(strings.TrimPrefix(f.JSONPath, "."), ".")
		all[strings.Join(names, ".")] = func(u object) string {
			v, found, err := unstructured.NestedFieldNoCopy(u.Object, names...)
			if err != nil || !found || v == nil {
				return ""
			}
			return fmt.Sprint(v)
		}
	}
	return all
}
