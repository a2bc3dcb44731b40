package openapi

import (
	"net/http"
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiversion "k8s.io/apimachinery/pkg/version"
)

// page is a path that belongs to no group version: what groups there are, the server's
// version. In version 3 each is a document of its own.
type page struct {
	name            string       // of the document
	id, tag, doc    string       // of its one operation
	answer          reflect.Type // nil: text
	takes, produces []string
}

// pages are those that a server with these group versions has.
func pages(all []version) []page {
	list := []page{
		{"apis", "getAPIVersions", "apis", "get available API versions", reflect.TypeFor[metav1.APIGroupList](), object, object},
		{"version", "getCodeVersion", "version", "get the version information for this server", reflect.TypeFor[apiversion.Info](), object[:1], object[:1]},
	}
	list = append(list,
		page{".well-known/openid-configuration", "getServiceAccountIssuerOpenIDConfiguration", "WellKnown", "get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'", nil, []string{}, object[:1]},
		page{"openid/v1/jwks", "getServiceAccountIssuerOpenIDKeyset", "openid", "get service account issuer OpenID JSON Web Key Set (contains public token verification keys)", nil, []string{}, []string{"application/jwk-set+json"}},
	)
	seen := map[string]bool{}
	for _, v := range all {
		if seen[v.Group] {
			continue
		}
		seen[v.Group] = true
		title := groupTitle(v.Group)
		if v.Group == "" {
			list = append(list, page{"api", "getCoreAPIVersions", lower(title), "get available API versions", reflect.TypeFor[metav1.APIVersions](), object, object})
			continue
		}
		list = append(list, page{"apis/" + v.Group, "get" + title + "APIGroup", lower(title), "get information of a group", reflect.TypeFor[metav1.APIGroup](), object, object})
	}
	return list
}

// add puts the page's path among the paths.
func (pg page) add(p *paths) {
	p.tag = pg.tag
	o := &operation{verb: http.MethodGet, id: pg.id, description: pg.doc, consumes: pg.takes, produces: pg.produces}
	if pg.answer == nil {
		o.text = true
	} else {
		o.answer = pg.define(p.models)
	}
	p.add("/"+pg.name+"/", nil, o)
}

// define defines the answer, a kind of the API except for the version.
func (pg page) define(m *models) string {
	if pg.name == "version" {
		return m.add(pg.answer)
	}
	return m.meta(pg.answer)
}

// describe3 builds the page's document, as JSON.
func (pg page) describe3(cbor bool) ([]byte, error) {
	p := emptyPaths(newModels(true), cbor)
	pg.add(p)
	return p.encode3(pg.name)
}
