package schema

import (
	"fmt"
	"reflect"
	"regexp"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// level is where in a schema a part of it is.
type level int

const (
	atRoot level = iota
	atItem
	atField
)

// structural finds what keeps a schema from being structural: each field's type is said
// once, outside of allOf, anyOf, oneOf and not.
func structural(p *Props, at level, path *field.Path) (errs field.ErrorList) {
	if p == nil {
		return nil
	}
	if p.Type == "array" && (p.Items == nil || p.Items.Schema == nil && len(p.Items.JSONSchemas) == 0) {
		errs = append(errs, field.Required(path.Child("items"), "must be specified"))
	}
	if p.Items != nil {
		errs = append(errs, structural(p.Items.Schema, atItem, path.Child("items"))...)
	}
	for _, name := range sortedProps(p.Properties) {
		child := p.Properties[name]
		errs = append(errs, structural(&child, atField, path.Child("properties").Key(name))...)
	}
	if a := p.AdditionalProperties; a != nil {
		if at == atRoot {
			errs = append(errs, field.Forbidden(path.Child("additionalProperties"), "must not be used at the root"))
		}
		if p.XEmbeddedResource {
			errs = append(errs, field.Forbidden(path.Child("additionalProperties"), "must not be used if x-kubernetes-embedded-resource is set"))
		}
		errs = append(errs, structural(a.Schema, atField, path.Child("additionalProperties"))...)
	}
	errs = append(errs, structuralNode(p, at, path)...)
	errs = append(errs, junctors(p, isIntOrString(p.AnyOf), len(p.AllOf) > 0 && isIntOrString(p.AllOf[0].AnyOf), path, true)...)
	return append(errs, complete(p, path)...)
}

func structuralNode(p *Props, at level, path *field.Path) (errs field.ErrorList) {
	typePath := path.Child("type")
	if p.XIntOrString && isTrue(p.XPreserveUnknownFields) {
		errs = append(errs, field.Invalid(path.Child("x-kubernetes-preserve-unknown-fields"), true, "must be false if x-kubernetes-int-or-string is true"))
	}
	if p.XIntOrString && p.XEmbeddedResource {
		errs = append(errs, field.Invalid(path.Child("x-kubernetes-embedded-resource"), true, "must be false if x-kubernetes-int-or-string is true"))
	}
	switch {
	case p.XEmbeddedResource && p.Type == "":
		errs = append(errs, field.Required(typePath, "must be object if x-kubernetes-embedded-resource is true"))
	case p.XEmbeddedResource && p.Type != "object":
		errs = append(errs, field.Invalid(typePath, p.Type, "must be object if x-kubernetes-embedded-resource is true"))
	case p.Type == "" && !p.XIntOrString && !isTrue(p.XPreserveUnknownFields):
		errs = append(errs, field.Required(typePath, map[level]string{
			atRoot:  "must not be empty at the root",
			atItem:  "must not be empty for specified array items",
			atField: "must not be empty for specified object fields",
		}[at]))
	}
	if at == atRoot && p.Type != "" && p.Type != "object" {
		errs = append(errs, field.Invalid(typePath, p.Type, "must be object at the root"))
	}
	whole := at == atRoot || p.XEmbeddedResource
	for _, name := range []string{"kind", "apiVersion"} {
		if child, ok := p.Properties[name]; ok && whole && child.Type != "string" {
			errs = append(errs, field.Invalid(path.Child("properties").Key(name).Child("type"), child.Type, "must be string"))
		}
	}
	if meta, ok := p.Properties["metadata"]; ok {
		errs = append(errs, structuralMeta(meta, whole, at, path.Child("properties").Key("metadata"))...)
	}
	if p.XEmbeddedResource && !isTrue(p.XPreserveUnknownFields) && len(p.Properties) == 0 {
		errs = append(errs, field.Required(path.Child("properties"), "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields"))
	}
	return errs
}

// structuralMeta: of an object's own metadata a schema may restrict names alone.
func structuralMeta(meta Props, whole bool, at level, path *field.Path) (errs field.ErrorList) {
	if whole && meta.Type != "object" {
		errs = append(errs, field.Invalid(path.Child("type"), meta.Type, "must be object"))
	}
	if at != atRoot {
		return errs
	}
	names := 0
	for _, name := range []string{"name", "generateName"} {
		if _, ok := meta.Properties[name]; ok {
			names++
		}
	}
	if names == len(meta.Properties) {
		meta.Properties = nil
	}
	meta.Type, meta.Default = "", nil
	if !reflect.DeepEqual(meta, Props{}) {
		errs = append(errs, field.Forbidden(path, "must not specify anything other than name and generateName, but metadata is implicitly specified"))
	}
	return errs
}

// isIntOrString is the one alternative that may name types.
func isIntOrString(anyOf []Props) bool {
	return len(anyOf) == 2 && reflect.DeepEqual(anyOf, []Props{{Type: "integer"}, {Type: "string"}})
}

// junctors checks what is in allOf, anyOf, oneOf and not. Rules are allowed within allOf.
func junctors(p *Props, skipAnyOf, skipFirstAllOf bool, path *field.Path, rules bool) (errs field.ErrorList) {
	if !skipAnyOf {
		for i := range p.AnyOf {
			errs = append(errs, nested(&p.AnyOf[i], false, path.Child("anyOf").Index(i), false)...)
		}
	}
	for i := range p.AllOf {
		errs = append(errs, nested(&p.AllOf[i], skipFirstAllOf && i == 0, path.Child("allOf").Index(i), rules)...)
	}
	for i := range p.OneOf {
		errs = append(errs, nested(&p.OneOf[i], false, path.Child("oneOf").Index(i), false)...)
	}
	errs = append(errs, nested(p.Not, false, path.Child("not"), false)...)
	if p.Pattern != "" {
		if _, err := regexp.Compile(p.Pattern); err != nil {
			errs = append(errs, field.Invalid(path.Child("pattern"), p.Pattern, fmt.Sprintf("must be a valid regular expression, but isn't: %v", err)))
		}
	}
	return errs
}

func nested(p *Props, skipAnyOf bool, path *field.Path, rules bool) (errs field.ErrorList) {
	if p == nil {
		return nil
	}
	errs = junctors(p, skipAnyOf, false, path, rules)
	if p.Items != nil {
		errs = append(errs, nested(p.Items.Schema, false, path.Child("items"), rules)...)
	}
	for _, name := range sortedProps(p.Properties) {
		child := p.Properties[name]
		errs = append(errs, nested(&child, false, path.Child("properties").Key(name), rules)...)
	}
	forbid := func(when bool, name, text string) {
		if when {
			errs = append(errs, field.Forbidden(path.Child(name), text+" to be structural"))
		}
	}
	forbid(p.Type != "", "type", "must be empty")
	forbid(p.AdditionalProperties != nil, "additionalProperties", "must be undefined")
	forbid(p.Default != nil, "default", "must be undefined")
	forbid(p.Title != "", "title", "must be empty")
	forbid(p.Description != "", "description", "must be empty")
	forbid(p.Nullable, "nullable", "must be false")
	forbid(isTrue(p.XPreserveUnknownFields), "x-kubernetes-preserve-unknown-fields", "must be false")
	forbid(p.XEmbeddedResource, "x-kubernetes-embedded-resource", "must be false")
	forbid(p.XIntOrString, "x-kubernetes-int-or-string", "must be false")
	forbid(len(p.XListMapKeys) > 0, "x-kubernetes-list-map-keys", "must be empty")
	forbid(p.XListType != nil, "x-kubernetes-list-type", "must be undefined")
	forbid(p.XMapType != nil, "x-kubernetes-map-type", "must be undefined")
	forbid(len(p.XValidations) > 0 && !rules, "x-kubernetes-validations", "must be empty")
	if _, ok := p.Properties["metadata"]; ok {
		errs = append(errs, field.Forbidden(path.Child("properties").Key("metadata"), "must not be specified in a nested context"))
	}
	return errs
}

// complete: what junctors speak of is specified outside of them.
func complete(p *Props, path *field.Path) (errs field.ErrorList) {
	for i := range p.AnyOf {
		errs = append(errs, covered(p, &p.AnyOf[i], path, path.Child("anyOf").Index(i))...)
	}
	for i := range p.AllOf {
		errs = append(errs, covered(p, &p.AllOf[i], path, path.Child("allOf").Index(i))...)
	}
	for i := range p.OneOf {
		errs = append(errs, covered(p, &p.OneOf[i], path, path.Child("oneOf").Index(i))...)
	}
	return append(errs, covered(p, p.Not, path, path.Child("not"))...)
}

func covered(by, part *Props, path, partPath *field.Path) (errs field.ErrorList) {
	if part == nil {
		return nil
	}
	for _, name := range sortedProps(part.Properties) {
		child := part.Properties[name]
		at, partAt := path.Child("properties").Key(name), partPath.Child("properties").Key(name)
		if outer, ok := by.Properties[name]; ok {
			errs = append(errs, covered(&outer, &child, at, partAt)...)
		} else if by.AdditionalProperties != nil && by.AdditionalProperties.Schema != nil {
			errs = append(errs, covered(by.AdditionalProperties.Schema, &child, path.Child("additionalProperties"), partAt)...)
		} else {
			errs = append(errs, field.Required(at, fmt.Sprintf("because it is defined in %s", partAt)))
		}
	}
	if part.Items != nil && part.Items.Schema != nil {
		if by.Items == nil || by.Items.Schema == nil {
			errs = append(errs, field.Required(path.Child("items"), fmt.Sprintf("because it is defined in %s", partPath.Child("items"))))
		} else {
			errs = append(errs, covered(by.Items.Schema, part.Items.Schema, path.Child("items"), partPath.Child("items"))...)
		}
	}
	for _, group := range [][]Props{part.AllOf, part.AnyOf, part.OneOf} {
		for i := range group {
			errs = append(errs, covered(by, &group[i], path, partPath)...)
		}
	}
	return append(errs, covered(by, part.Not, path, partPath.Child("not"))...)
}
