package openapi

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/openapiconv"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/proa-dev/proa/apis/api"
)

// release is the version of the API that the documents name.
const release = "v1.37.1"

// version is one group version and its kinds.
type version struct {
	schema.GroupVersion
	kinds []*api.Kind
	cbor  bool // it is spoken
}

// versions sorts kinds into group versions.
func versions(kinds []*api.Kind, cbor bool) []version {
	byVersion := map[schema.GroupVersion][]*api.Kind{}
	for _, k := range kinds {
		byVersion[k.GroupVersion()] = append(byVersion[k.GroupVersion()], k)
	}
	var all []version
	for gv, kinds := range byVersion {
		slices.SortFunc(kinds, func(a, b *api.Kind) int { return strings.Compare(a.Resource.Resource, b.Resource.Resource) })
		all = append(all, version{gv, kinds, cbor})
	}
	slices.SortFunc(all, func(a, b version) int { return strings.Compare(root(a.GroupVersion), root(b.GroupVersion)) })
	return all
}

func newModels(v3 bool) *models {
	return &models{
		v3: v3, definitions: map[string]spec.Schema{},
		marks: readMarks(), words: readWords(), kinds: map[string][]schema.GroupVersionKind{},
	}
}

func info() *spec.Info {
	return &spec.Info{InfoProps: spec.InfoProps{Title: "Kubernetes", Version: release}}
}

func security() (*spec.SecurityScheme, []map[string][]string) {
	s := &spec.SecurityScheme{SecuritySchemeProps: spec.SecuritySchemeProps{
		Type: "apiKey", Name: "authorization", In: "header", Description: "Bearer Token authentication",
	}}
	return s, []map[string][]string{{"BearerToken": {}}}
}

// describe3 builds the document of one group version, as JSON.
func (v version) describe3() ([]byte, error) {
	p := newPaths(newModels(true), v)
	for _, k := range v.kinds {
		p.kind(k)
	}
	return p.encode3(v.String())
}

// encode3 makes a version 3 document of the paths and their models.
func (p *paths) encode3(name string) ([]byte, error) {
	p.models.finish()
	doc := &spec3.OpenAPI{
		Version: "3.0.0", Info: info(), Paths: p.convert(),
		Components: &spec3.Components{Schemas: map[string]*spec.Schema{}},
	}
	for name, s := range p.models.definitions {
		doc.Components.Schemas[name] = &s
	}
	scheme, _ := security()
	doc.Components.SecuritySchemes = spec3.SecuritySchemes{"BearerToken": openapiconv.ConvertSecurityScheme(scheme)}
	raw, err := doc.MarshalJSON() // json.Marshal would check and compact it once more
	if err != nil {
		return nil, fmt.Errorf("encode OpenAPI v3 of %s: %w", name, err)
	}
	return raw, nil
}

// convert gives the paths the form of version 3.
func (p *paths) convert() *spec3.Paths {
	all := openapiconv.ConvertPaths(&spec.Paths{Paths: p.items})
	for path, item := range p.items {
		to := all.Paths[path]
		for _, of := range []struct {
			from *spec.Operation
			to   *spec3.Operation
		}{{item.Post, to.Post}, {item.Put, to.Put}, {item.Patch, to.Patch}, {item.Delete, to.Delete}} {
			if of.from != nil && of.to.RequestBody != nil {
				of.to.RequestBody.Required = of.from.Parameters[0].Required // the body comes first
			}
		}
	}
	return all
}
