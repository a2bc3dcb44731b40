package policystatus

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apicel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/common"
	celopenapi "k8s.io/apiserver/pkg/cel/openapi"
	"k8s.io/client-go/discovery"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// schemas reads what the API publishes, for one check.
type schemas struct {
	discovery discovery.DiscoveryInterface
	log       *slog.Logger
	documents map[schema.GroupVersion]*spec3.OpenAPI
}

// matched are the kinds that a policy's rules name, with their schemas: no wildcards, no
// subresources, none that are not served.
func (s *schemas) matched(p *admissionv1.ValidatingAdmissionPolicy) []typed {
	if p.Spec.MatchConstraints == nil {
		return nil
	}
	found := map[schema.GroupVersionKind]bool{}
	for _, r := range p.Spec.MatchConstraints.ResourceRules {
		for _, gvk := range s.named(&r.Rule) {
			if len(found) < maxKinds {
				found[gvk] = true
			}
		}
	}
	var out []typed
	for gvk := range found {
		if d := s.declared(gvk); d != nil {
			out = append(out, typed{gvk, d})
		}
	}
	slices.SortFunc(out, func(a, b typed) int { return strings.Compare(a.String(), b.String()) })
	return out
}

// named are the kinds that a rule names.
func (s *schemas) named(r *admissionv1.Rule) []schema.GroupVersionKind {
	if slices.Contains(r.APIGroups, "*") || slices.Contains(r.APIVersions, "*") {
		return nil
	}
	var out []schema.GroupVersionKind
	for _, group := range r.APIGroups {
		for _, version := range r.APIVersions {
			gv := schema.GroupVersion{Group: group, Version: version}
			served, err := s.discovery.ServerResourcesForGroupVersion(gv.String())
			if err != nil {
				continue // not served, now at least
			}
			for _, resource := range served.APIResources {
				if slices.Contains(r.Resources, resource.Name) && !strings.Contains(resource.Name, "/") {
					out = append(out, gv.WithKind(resource.Kind))
				}
			}
		}
	}
	return out
}

// declared is a kind's type for expressions, nil when its schema is not known.
func (s *schemas) declared(gvk schema.GroupVersionKind) *apicel.DeclType {
	root, err := s.schema(gvk)
	if err != nil {
		s.log.Debug("no schema to check a policy with", "kind", gvk, "err", err)
		return nil
	}
	d := common.SchemaDeclType(&celopenapi.Schema{Schema: root}, true)
	if d == nil {
		return nil
	}
	return d.MaybeAssignTypeName("proa." + gvk.Kind)
}

func (s *schemas) schema(gvk schema.GroupVersionKind) (*spec.Schema, error) {
	doc, err := s.document(gvk.GroupVersion())
	if err != nil {
		return nil, err
	}
	if doc.Components == nil {
		return nil, fmt.Errorf("the schemas of %s are empty", gvk.GroupVersion())
	}
	for _, one := range doc.Components.Schemas {
		if describes(one, gvk) {
			return resolved(one, doc.Components.Schemas, nil), nil
		}
	}
	return nil, fmt.Errorf("%s has no schema", gvk)
}

// document is what is published of a group version.
func (s *schemas) document(gv schema.GroupVersion) (*spec3.OpenAPI, error) {
	if doc, ok := s.documents[gv]; ok {
		return doc, nil
	}
	paths, err := s.discovery.OpenAPIV3().Paths()
	if err != nil {
		return nil, fmt.Errorf("list the schemas: %w", err)
	}
	path := "apis/" + gv.String()
	if gv.Group == "" {
		path = "api/" + gv.Version
	}
	published, ok := paths[path]
	if !ok {
		return nil, fmt.Errorf("%s has no schemas", gv)
	}
	raw, err := published.Schema("application/json")
	if err != nil {
		return nil, fmt.Errorf("read the schemas of %s: %w", gv, err)
	}
	doc := &spec3.OpenAPI{}
	if err := json.Unmarshal(raw, doc); err != nil {
		return nil, fmt.Errorf("decode the schemas of %s: %w", gv, err)
	}
	if s.documents == nil {
		s.documents = map[schema.GroupVersion]*spec3.OpenAPI{}
	}
	s.documents[gv] = doc
	return doc, nil
}

func describes(one *spec.Schema, gvk schema.GroupVersionKind) bool {
	var named []metav1.GroupVersionKind
	raw, err := json.Marshal(one.Extensions["x-kubernetes-group-version-kind"])
	if err != nil || json.Unmarshal(raw, &named) != nil {
		return false
	}
	return slices.Contains(named, metav1.GroupVersionKind(gvk))
}

// resolved is a schema with what it refers to in its place; within are the names it is
// part of, and what refers to one of them is any object.
func resolved(one *spec.Schema, all map[string]*spec.Schema, within []string) *spec.Schema {
	if name := reference(one); name != "" {
		target := all[name]
		if target == nil || slices.Contains(within, name) {
			return &spec.Schema{SchemaProps: spec.SchemaProps{Type: []string{"object"}}}
		}
		return resolved(target, all, append(within[:len(within):len(within)], name))
	}
	out := *one
	if one.Properties != nil {
		out.Properties = make(map[string]spec.Schema, len(one.Properties))
		for name, p := range one.Properties {
			out.Properties[name] = *resolved(&p, all, within)
		}
	}
	if a := one.AdditionalProperties; a != nil && a.Schema != nil {
		out.AdditionalProperties = &spec.SchemaOrBool{Allows: a.Allows, Schema: resolved(a.Schema, all, within)}
	}
	if i := one.Items; i != nil && i.Schema != nil {
		out.Items = &spec.SchemaOrArray{Schema: resolved(i.Schema, all, within)}
	}
	return &out
}

// reference is the name that a schema refers to; a reference may be wrapped to be described.
func reference(one *spec.Schema) string {
	if one.Ref.GetURL() != nil {
		return strings.TrimPrefix(one.Ref.String(), "#/components/schemas/")
	}
	for i := range one.AllOf {
		if name := reference(&one.AllOf[i]); name != "" {
			return name
		}
	}
	return ""
}
