package openapi

import (
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// Media types of bodies.
var (
	anything = []string{"*/*"}
	object   = []string{"application/json", "application/yaml", "application/vnd.kubernetes.protobuf"}
	stream   = slices.Concat(object, []string{
		"application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch",
	})
	patches = []string{
		"application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json",
		"application/apply-patch+yaml",
	}
	// Strategic merge needs a Go type.
	customPatches = slices.DeleteFunc(slices.Clone(patches), func(p string) bool { return strings.Contains(p, "strategic") })
)

// withCBOR adds to media types what goes with them in CBOR.
func withCBOR(list []string) []string {
	with := slices.Clone(list)
	for _, media := range list {
		if other := inCBOR[media]; other != "" {
			with = append(with, other)
		}
	}
	return with
}

// inCBOR is what there is beside a media type when CBOR is spoken.
var inCBOR = map[string]string{
	"application/vnd.kubernetes.protobuf":              "application/cbor",
	"application/vnd.kubernetes.protobuf;stream=watch": "application/cbor-seq",
	"application/apply-patch+yaml":                     "application/apply-patch+cbor",
}

// Query parameters by what they are for.
var (
	prettyOnly       = []spec.Parameter{query("pretty", "string", "Write the answer indented when 'true'; the default is 'false' unless the client is a browser or a tool such as curl.")}
	listParameters   = options(reflect.TypeFor[metav1.ListOptions]())
	deleteParameters = slices.DeleteFunc(options(reflect.TypeFor[metav1.DeleteOptions]()), func(p spec.Parameter) bool {
		return p.Name == "preconditions"
	})
	// A collection is deleted as it is listed, but not watched.
	selectParameters = slices.DeleteFunc(options(reflect.TypeFor[metav1.ListOptions]()), func(p spec.Parameter) bool {
		return p.Name == "watch" || p.Name == "allowWatchBookmarks"
	})
	changeParameters = options(reflect.TypeFor[metav1.CreateOptions]())
	patchParameters  = options(reflect.TypeFor[metav1.PatchOptions]())
)

func query(name, typ, doc string) spec.Parameter {
	return parameter("query", name, typ, doc)
}

func pathParameter(name, doc string) spec.Parameter {
	return parameter("path", name, "string", doc)
}

func parameter(in, name, typ, doc string) spec.Parameter {
	p := spec.Parameter{ParamProps: spec.ParamProps{Name: name, In: in, Description: doc, Required: in == "path"}}
	p.Type, p.UniqueItems = typ, true
	return p
}

// options are the query parameters that an options type is decoded from: its scalar
// fields, and lists of them.
func options(t reflect.Type) []spec.Parameter {
	docs := typeDocs(t)
	var all []spec.Parameter
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous || name == "" || name == "-" {
			continue
		}
		typ := deref(f.Type)
		if typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		kind, _, ok := scalar(typ)
		if ok {
			all = append(all, query(name, kind, docs[name]))
		}
	}
	slices.SortFunc(all, func(a, b spec.Parameter) int { return strings.Compare(a.Name, b.Name) })
	return all
}
