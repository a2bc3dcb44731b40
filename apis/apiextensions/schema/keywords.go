package schema

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

func sortedProps(m map[string]Props) []string { return slices.Sorted(maps.Keys(m)) }

var jsonTypes = []string{"array", "boolean", "integer", "number", "object", "string"}

// place is what matters about where a part of a schema is.
type place struct {
	root       bool
	inMeta     bool   // within apiVersion, kind or metadata
	noDefaults string // why there must be none
}

// keywords finds keywords that are not supported, or make no sense together.
func keywords(p *Props, path *field.Path, in place) (errs field.ErrorList) {
	if p == nil {
		return nil
	}
	errs = append(errs, unsupported(p, path, in)...)
	errs = append(errs, listKeywords(p, path)...)
	errs = append(errs, ruleKeywords(p, path)...)
	below := place{inMeta: in.inMeta, noDefaults: in.noDefaults}
	if a := p.AdditionalProperties; a != nil {
		if len(p.Properties) > 0 && (!a.Allows || a.Schema != nil) {
			errs = append(errs, field.Forbidden(path.Child("additionalProperties"), "additionalProperties and properties are mutual exclusive"))
		}
		inside := below
		if in.inMeta {
			inside.noDefaults = "inside additionalProperties applying to object metadata"
		}
		errs = append(errs, keywords(a.Schema, path.Child("additionalProperties"), inside)...)
	}
	for _, name := range sortedProps(p.Properties) {
		child, inside := p.Properties[name], below
		if meta := name == "metadata" || name == "kind" || name == "apiVersion"; meta && (in.root || p.XEmbeddedResource) {
			inside.inMeta = true
			if in.root {
				inside.noDefaults = "in top-level " + name
			}
		}
		errs = append(errs, keywords(&child, path.Child("properties").Key(name), inside)...)
	}
	errs = append(errs, keywords(p.Not, path.Child("not"), below)...)
	for i := range p.AllOf {
		errs = append(errs, keywords(&p.AllOf[i], path.Child("allOf").Index(i), below)...)
	}
	for i := range p.OneOf {
		errs = append(errs, keywords(&p.OneOf[i], path.Child("oneOf").Index(i), below)...)
	}
	for i := range p.AnyOf {
		errs = append(errs, keywords(&p.AnyOf[i], path.Child("anyOf").Index(i), below)...)
	}
	if p.Items != nil {
		errs = append(errs, keywords(p.Items.Schema, path.Child("items"), below)...)
	}
	return errs
}

func unsupported(p *Props, path *field.Path, in place) (errs field.ErrorList) {
	forbid := func(when bool, name, text string) {
		if when {
			errs = append(errs, field.Forbidden(path.Child(name), text))
		}
	}
	if p.Type != "" && !slices.Contains(jsonTypes, p.Type) {
		errs = append(errs, field.NotSupported(path.Child("type"), p.Type, jsonTypes))
	}
	forbid(p.Default != nil && in.noDefaults != "", "default", "must not be set "+in.noDefaults)
	forbid(p.ID != "", "id", "id is not supported")
	forbid(p.AdditionalItems != nil, "additionalItems", "additionalItems is not supported")
	forbid(len(p.PatternProperties) > 0, "patternProperties", "patternProperties is not supported")
	forbid(len(p.Definitions) > 0, "definitions", "definitions is not supported")
	forbid(p.Dependencies != nil, "dependencies", "dependencies is not supported")
	forbid(p.Ref != nil, "$ref", "$ref is not supported")
	forbid(p.Type == "null", "type", "type cannot be set to null, use nullable as an alternative")
	forbid(p.Items != nil && len(p.Items.JSONSchemas) > 0, "items", "items must be a schema object and not an array")
	forbid(in.inMeta && p.XEmbeddedResource, "x-kubernetes-embedded-resource", "must not be used inside of resource meta")
	forbid(p.UniqueItems, "uniqueItems", "uniqueItems cannot be set to true since the runtime complexity becomes quadratic")
	if p.XPreserveUnknownFields != nil && !*p.XPreserveUnknownFields {
		errs = append(errs, field.Invalid(path.Child("x-kubernetes-preserve-unknown-fields"), false, "must be true or undefined"))
	}
	return errs
}

// typeFor says that a keyword needs a type.
func typeFor(p *Props, want, keyword string, path *field.Path) *field.Error {
	text := "must be " + want + " if " + keyword + " is specified"
	if p.Type == "" {
		return field.Required(path.Child("type"), text)
	}
	return field.Invalid(path.Child("type"), p.Type, text)
}

// listKeywords checks how lists and maps say that they merge.
func listKeywords(p *Props, path *field.Path) (errs field.ErrorList) {
	const listType, mapType = "x-kubernetes-list-type", "x-kubernetes-map-type"
	if p.XMapType != nil && p.Type != "object" {
		errs = append(errs, typeFor(p, "object", mapType, path))
	}
	if t := p.XMapType; t != nil && *t != "atomic" && *t != "granular" {
		errs = append(errs, field.NotSupported(path.Child(mapType), *t, []string{"atomic", "granular"}))
	}
	if p.XListType != nil && p.Type != "array" {
		errs = append(errs, typeFor(p, "array", listType, path))
	} else if text(p.XListType) == "set" && p.Items != nil && p.Items.Schema != nil {
		errs = append(errs, setItems(p.Items.Schema, path.Child("items"))...)
	}
	if t := p.XListType; t != nil && !slices.Contains([]string{"atomic", "set", "map"}, *t) {
		errs = append(errs, field.NotSupported(path.Child(listType), *t, []string{"atomic", "set", "map"}))
	}
	if len(p.XListMapKeys) > 0 && text(p.XListType) != "map" {
		const want = "must be map if x-kubernetes-list-map-keys is non-empty"
		if p.XListType == nil {
			errs = append(errs, field.Required(path.Child(listType), want))
		} else {
			errs = append(errs, field.Invalid(path.Child(listType), *p.XListType, want))
		}
	}
	if text(p.XListType) == "map" {
		errs = append(errs, mapKeys(p, path)...)
	}
	if t := text(p.XListType); (t == "map" || t == "set") && p.Items != nil && p.Items.Schema != nil && p.Items.Schema.Nullable {
		errs = append(errs, field.Forbidden(path.Child("items").Child("nullable"), "cannot be nullable when x-kubernetes-list-type is "+t))
	}
	return errs
}

// setItems: what is in a set is one value.
func setItems(items *Props, path *field.Path) (errs field.ErrorList) {
	const want = "must be atomic as item of a list with x-kubernetes-list-type=set"
	if items.Type == "array" && items.XListType != nil && *items.XListType != "atomic" {
		errs = append(errs, field.Invalid(path.Child("x-kubernetes-list-type"), *items.XListType, want))
	}
	if items.Type == "object" && text(items.XMapType) != "atomic" {
		errs = append(errs, field.Invalid(path.Child("x-kubernetes-map-type"), items.XMapType, want))
	}
	return errs
}

func mapKeys(p *Props, path *field.Path) (errs field.ErrorList) {
	keysPath, itemsPath := path.Child("x-kubernetes-list-map-keys"), path.Child("items")
	if len(p.XListMapKeys) == 0 {
		errs = append(errs, field.Required(keysPath, "must not be empty if x-kubernetes-list-type is map"))
	}
	if p.Items == nil || p.Items.Schema == nil {
		return append(errs, field.Required(itemsPath, "must have a schema if x-kubernetes-list-type is map"))
	}
	items := p.Items.Schema
	if items.Type != "object" {
		return append(errs, field.Invalid(itemsPath.Child("type"), items.Type, "must be object if parent array's x-kubernetes-list-type is map"))
	}
	for i, k := range p.XListMapKeys {
		if slices.Contains(p.XListMapKeys[:i], k) {
			errs = append(errs, field.Invalid(keysPath, p.XListMapKeys, "must not contain duplicate entries"))
		}
		key, ok := items.Properties[k]
		at := itemsPath.Child("properties").Key(k)
		switch {
		case !ok:
			errs = append(errs, field.Invalid(keysPath, p.XListMapKeys, "entries must all be names of item properties"))
			continue
		case key.Type == "array" || key.Type == "object":
			errs = append(errs, field.Invalid(at.Child("type"), items.Type, "must be a scalar type if parent array's x-kubernetes-list-type is map"))
		}
		if !slices.Contains(items.Required, k) && key.Default == nil {
			errs = append(errs, field.Required(at.Child("default"), "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"))
		}
		if key.Nullable {
			errs = append(errs, field.Forbidden(at.Child("nullable"), "this property is in x-kubernetes-list-map-keys, so it cannot be nullable"))
		}
	}
	return errs
}

var reasons = []string{"FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"}

// ruleKeywords checks the rules as far as they are no CEL.
func ruleKeywords(p *Props, path *field.Path) (errs field.ErrorList) {
	for i := range p.XValidations {
		r, at := &p.XValidations[i], path.Child("x-kubernetes-validations").Index(i)
		breaks := func(s string) bool { return strings.ContainsAny(s, "\n\r") }
		rule, message := strings.TrimSpace(r.Rule), strings.TrimSpace(r.Message)
		switch {
		case rule == "":
			errs = append(errs, field.Required(at.Child("rule"), "rule is not specified"))
		case r.Message != "" && message == "":
			errs = append(errs, field.Invalid(at.Child("message"), r.Message, "must be non-empty if specified"))
		case breaks(message):
			errs = append(errs, field.Invalid(at.Child("message"), r.Message, "must not contain line breaks"))
		case breaks(rule) && message == "":
			errs = append(errs, field.Required(at.Child("message"), "message must be specified if rule contains line breaks"))
		}
		if r.MessageExpression != "" && strings.TrimSpace(r.MessageExpression) == "" {
			errs = append(errs, field.Required(at.Child("messageExpression"), "messageExpression must be non-empty if specified"))
		}
		if r.Reason != nil && !slices.Contains(reasons, string(*r.Reason)) {
			errs = append(errs, field.NotSupported(at.Child("reason"), string(*r.Reason), reasons))
		}
		if r.FieldPath == "" {
			continue
		}
		if strings.TrimSpace(r.FieldPath) == "" {
			errs = append(errs, field.Invalid(at.Child("fieldPath"), r.FieldPath, "must be non-empty if specified"))
		}
		if breaks(r.FieldPath) {
			errs = append(errs, field.Invalid(at.Child("fieldPath"), r.FieldPath, "must not contain line breaks"))
		}
		if s, err := New(p); err == nil {
			if _, _, err := s.At(r.FieldPath, true); err != nil {
				errs = append(errs, field.Invalid(at.Child("fieldPath"), r.FieldPath, "must be a valid path"))
			}
		}
	}
	return errs
}

// UncheckedFormats gives the formats of texts that nothing checks, in no order.
func UncheckedFormats(p *Props) (all []string) {
	if p == nil {
		return nil
	}
	if f := p.Format; p.Type == "string" && f != "" && !checked(f) {
		all = append(all, f)
	}
	for _, name := range sortedProps(p.Properties) {
		child := p.Properties[name]
		all = append(all, UncheckedFormats(&child)...)
	}
	if p.Items != nil {
		all = append(all, UncheckedFormats(p.Items.Schema)...)
	}
	if p.AdditionalProperties != nil {
		all = append(all, UncheckedFormats(p.AdditionalProperties.Schema)...)
	}
	return all
}

// checked says that values of a format are looked at.
func checked(format string) bool {
	return formats[strings.ReplaceAll(format, "-", "")] || format == "k8s-short-name" || format == "k8s-long-name"
}
