package admissionregistration

import (
	"fmt"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	pathvalidation "k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const all = "*"

func validateRule(r *admissionv1.RuleWithOperations, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	ops := path.Child("operations")
	if len(r.Operations) == 0 {
		errs = append(errs, field.Required(ops, ""))
	}
	if len(r.Operations) > 1 && slices.Contains(r.Operations, admissionv1.OperationAll) {
		errs = append(errs, field.Invalid(ops, r.Operations, "if '*' is present, must not specify other operations"))
	}
	for i, op := range r.Operations {
		errs = append(errs, oneOf(&op, operations, ops.Index(i))...)
	}
	errs = append(errs, validateNames(r.APIGroups, "API groups", path.Child("apiGroups"))...)
	errs = append(errs, validateNames(r.APIVersions, "API versions", path.Child("apiVersions"))...)
	for i, v := range r.APIVersions {
		if v == "" {
			errs = append(errs, field.Required(path.Child("apiVersions").Index(i), ""))
		}
	}
	errs = append(errs, validateResources(r.Resources, path.Child("resources"))...)
	return append(errs, oneOf(r.Scope, scopes, path.Child("scope"))...)
}

// validateNames wants some, and nothing beside "*".
func validateNames(names []string, what string, path *field.Path) field.ErrorList {
	switch {
	case len(names) == 0:
		return field.ErrorList{field.Required(path, "")}
	case len(names) > 1 && slices.Contains(names, all):
		return field.ErrorList{field.Invalid(path, names, fmt.Sprintf("if '*' is present, must not specify other %s", what))}
	}
	return nil
}

// validateResources checks names such as pods, pods/status, pods/*, */scale, * and */*.
func validateResources(resources []string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(resources) == 0 {
		errs = append(errs, field.Required(path, ""))
	}
	allSubs, allWith, plain := map[string]bool{}, map[string]bool{}, false
	for i, name := range resources {
		if name == "" {
			errs = append(errs, field.Required(path.Index(i), ""))
			continue
		}
		resource, sub, isSub := strings.Cut(name, "/")
		if !isSub {
			plain = plain || name != all
			continue
		}
		if allSubs[resource] {
			errs = append(errs, field.Invalid(path.Index(i), name, fmt.Sprintf("if '%s/*' is present, must not specify %s", resource, name)))
		}
		if allWith[sub] {
			errs = append(errs, field.Invalid(path.Index(i), name, fmt.Sprintf("if '*/%s' is present, must not specify %s", sub, name)))
		}
		allSubs[resource] = allSubs[resource] || sub == all
		allWith[sub] = allWith[sub] || resource == all
	}
	if len(resources) > 1 && slices.Contains(resources, "*/*") {
		errs = append(errs, field.Invalid(path, resources, "if '*/*' is present, must not specify other resources"))
	}
	if plain && slices.Contains(resources, all) {
		errs = append(errs, field.Invalid(path, resources, "if '*' is present, must not specify other resources without subresources"))
	}
	return errs
}

func validateNamedRules(rules []admissionv1.NamedRuleWithOperations, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range rules {
		path, seen := path.Index(i), map[string]bool{}
		for j, name := range rules[i].ResourceNames {
			at := path.Child("resourceNames").Index(j)
			for _, msg := range pathvalidation.IsValidPathSegmentName(name) {
				errs = append(errs, field.Invalid(at, name, msg))
			}
			if seen[name] {
				errs = append(errs, field.Duplicate(at, name))
			}
			seen[name] = true
		}
		errs = append(errs, validateRule(&rules[i].RuleWithOperations, path)...)
	}
	return errs
}

// validateMatch checks what a policy or binding applies to; nil is everything.
func validateMatch(m *admissionv1.MatchResources, path *field.Path) field.ErrorList {
	if m == nil {
		return nil
	}
	var errs field.ErrorList
	if m.MatchPolicy == nil {
		errs = append(errs, field.Required(path.Child("matchPolicy"), ""))
	}
	errs = append(errs, oneOf(m.MatchPolicy, matchPolicies, path.Child("matchPolicy"))...)
	if m.NamespaceSelector == nil {
		errs = append(errs, field.Required(path.Child("namespaceSelector"), ""))
	} else {
		errs = append(errs, validateSelector(m.NamespaceSelector, path.Child("namespaceSelector"))...)
	}
	if m.ObjectSelector == nil {
		errs = append(errs, field.Required(path.Child("objectSelector"), ""))
	} else {
		errs = append(errs, validateSelector(m.ObjectSelector, path.Child("objectSelector"))...)
	}
	errs = append(errs, validateNamedRules(m.ResourceRules, path.Child("resourceRules"))...)
	return append(errs, validateNamedRules(m.ExcludeResourceRules, path.Child("excludeResourceRules"))...)
}
