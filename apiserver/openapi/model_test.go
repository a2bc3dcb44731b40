package openapi

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/kube-openapi/pkg/schemaconv"
	"k8s.io/kube-openapi/pkg/validation/spec"
	smd "sigs.k8s.io/structured-merge-diff/v6/schema"
)

// TestStructure reads the definitions of all API types back into the form that
// server-side apply works with, and compares that with the one client-go carries: fields,
// list types, keys and defaults must be the same.
func TestStructure(t *testing.T) {
	m := newModels(true)
	for gvk, typ := range scheme.Scheme.AllKnownTypes() {
		if _, meta := reflect.New(typ).Interface().(metav1.Object); meta && !strings.Contains(gvk.Version, "internal") {
			m.add(typ)
		}
	}
	definitions := map[string]*spec.Schema{}
	for name, s := range m.definitions {
		definitions[name] = &s
	}
	ours, err := schemaconv.ToSchemaFromOpenAPI(definitions, false)
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, theirs := range structure(t).Types {
		mine, ok := ours.FindNamedType(theirs.Name)
		if !ok || theirs.Map == nil || len(theirs.Map.Fields) == 0 {
			continue
		}
		compared++
		compareMaps(t, theirs.Name, theirs.Map, mine.Map)
	}
	if compared < 500 {
		t.Errorf("compared %d types alone", compared)
	}
}

// structure is the schema that client-go's apply configurations carry: for each type how lists and
// maps merge, and the defaults.
func structure(t *testing.T) *smd.Schema {
	known := runtime.NewScheme()
	if err := corev1.AddToScheme(known); err != nil {
		t.Fatal(err)
	}
	some := &corev1.ConfigMap{}
	some.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("ConfigMap"))
	typed, err := applyconfigurations.NewTypeConverter(known).ObjectToTyped(some)
	if err != nil {
		t.Fatal(err)
	}
	return typed.Schema()
}

func compareMaps(t *testing.T, name string, want, got *smd.Map) {
	if got == nil {
		t.Errorf("%s is not a map", name)
		return
	}
	if want.ElementRelationship != got.ElementRelationship {
		t.Errorf("%s merges as %q, want %q", name, got.ElementRelationship, want.ElementRelationship)
	}
	if len(want.Fields) != len(got.Fields) {
		t.Errorf("%s has %d fields, want %d", name, len(got.Fields), len(want.Fields))
	}
	for _, w := range want.Fields {
		g, ok := got.FindField(w.Name)
		if !ok {
			t.Errorf("%s lacks field %s", name, w.Name)
			continue
		}
		if !reflect.DeepEqual(simple(w.Default), simple(g.Default)) {
			t.Errorf("%s.%s has default %v, want %v", name, w.Name, g.Default, w.Default)
		}
		// An object of any kind is a type of its own for client-go.
		any := w.Type.NamedType != nil && strings.HasPrefix(*w.Type.NamedType, "__untyped")
		if !any && written(t, w.Type) != written(t, g.Type) {
			t.Errorf("%s.%s is %s, want %s", name, w.Name, written(t, g.Type), written(t, w.Type))
		}
	}
}

func simple(v any) any {
	switch n := v.(type) {
	case int:
		return float64(n)
	case int64:
		return float64(n)
	case map[any]any:
		out := map[string]any{}
		for key, v := range n {
			out[fmt.Sprint(key)] = simple(v)
		}
		return out
	}
	return v
}

func written(t *testing.T, v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
