package flowcontrol

import (
	"fmt"
	"slices"
	"strings"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// all stands for every verb, group, resource, namespace or path.
const all = "*"

// What lists in a schema may hold; errors name them in this order.
var (
	methods      = []string{"ByNamespace", "ByUser"}
	verbs        = []string{"create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"}
	subjectKinds = []string{"Group", "ServiceAccount", "User"}
)

func validateFlowSchema(s *flowcontrolv1.FlowSchema) field.ErrorList {
	var errs field.ErrorList
	spec, path := &s.Spec, field.NewPath("spec")
	at := path.Child("matchingPrecedence")
	if spec.MatchingPrecedence <= 0 {
		errs = append(errs, field.Invalid(at, spec.MatchingPrecedence, "must be a positive value"))
	}
	if spec.MatchingPrecedence > flowcontrolv1.FlowSchemaMaxMatchingPrecedence {
		errs = append(errs, field.Invalid(at, spec.MatchingPrecedence, fmt.Sprintf("must not be greater than %v", flowcontrolv1.FlowSchemaMaxMatchingPrecedence)))
	}
	if spec.MatchingPrecedence == 1 && s.Name != flowcontrolv1.FlowSchemaNameExempt {
		errs = append(errs, field.Invalid(at, spec.MatchingPrecedence, "only the schema named 'exempt' may have matchingPrecedence 1"))
	}
	if m := spec.DistinguisherMethod; m != nil && !slices.Contains(methods, string(m.Type)) {
		errs = append(errs, field.NotSupported(path.Child("distinguisherMethod", "type"), m.Type, methods))
	}
	at = path.Child("priorityLevelConfiguration", "name")
	if name := spec.PriorityLevelConfiguration.Name; name == "" {
		errs = append(errs, field.Required(at, "must reference a priority level"))
	} else {
		errs = append(errs, invalid(at, name, apivalidation.NameIsDNSSubdomain(name, false))...)
	}
	for i := range spec.Rules {
		errs = append(errs, validateRule(&spec.Rules[i], path.Child("rules").Index(i))...)
	}
	for _, m := range MandatorySchemas() {
		if m.Name == s.Name {
			errs = append(errs, validateFixed(s.Name, s.Spec, m.Spec, "spec of '%s' must equal the fixed value")...)
		}
	}
	return append(errs, validateFlowSchemaStatus(s)...)
}

func validateFlowSchemaStatus(s *flowcontrolv1.FlowSchema) field.ErrorList {
	var types []string
	for _, c := range s.Status.Conditions {
		types = append(types, string(c.Type))
	}
	return validateConditions(types)
}

func validateConditions(types []string) field.ErrorList {
	var errs field.ErrorList
	for i, one := range types {
		at := field.NewPath("status", "conditions").Index(i).Child("type")
		if slices.Contains(types[:i], one) {
			errs = append(errs, field.Duplicate(at, one))
		}
		if one == "" {
			errs = append(errs, field.Required(at, ""))
		}
	}
	return errs
}

func validateRule(r *flowcontrolv1.PolicyRulesWithSubjects, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range r.Subjects {
		errs = append(errs, validateSubject(&r.Subjects[i], path.Child("subjects").Index(i))...)
	}
	if len(r.Subjects) == 0 {
		errs = append(errs, field.Required(path.Child("subjects"), "subjects must contain at least one value"))
	}
	if len(r.ResourceRules) == 0 && len(r.NonResourceRules) == 0 {
		errs = append(errs, field.Required(path, "at least one of resourceRules and nonResourceRules has to be non-empty"))
	}
	for i := range r.ResourceRules {
		errs = append(errs, validateResourceRule(&r.ResourceRules[i], path.Child("resourceRules").Index(i))...)
	}
	for i := range r.NonResourceRules {
		errs = append(errs, validatePathRule(&r.NonResourceRules[i], path.Child("nonResourceRules").Index(i))...)
	}
	return errs
}

func validateSubject(s *flowcontrolv1.Subject, path *field.Path) field.ErrorList {
	if !slices.Contains(subjectKinds, string(s.Kind)) {
		return field.ErrorList{field.NotSupported(path.Child("kind"), s.Kind, subjectKinds)}
	}
	var errs field.ErrorList
	one := func(kind, name string, given bool, check func(*field.Path) field.ErrorList) {
		at := path.Child(name)
		switch {
		case string(s.Kind) == kind && !given:
			errs = append(errs, field.Required(at, fmt.Sprintf("%s is required when subject kind is '%s'", name, kind)))
		case string(s.Kind) == kind:
			errs = append(errs, check(at)...)
		case given:
			errs = append(errs, field.Forbidden(at, fmt.Sprintf("%s is forbidden when subject kind is not '%s'", name, kind)))
		}
	}
	named := func(name func() string) func(*field.Path) field.ErrorList {
		return func(at *field.Path) field.ErrorList {
			if name() == "" {
				return field.ErrorList{field.Required(at.Child("name"), "")}
			}
			return nil
		}
	}
	one("ServiceAccount", "serviceAccount", s.ServiceAccount != nil, func(at *field.Path) field.ErrorList { return validateAccount(s.ServiceAccount, at) })
	one("User", "user", s.User != nil, named(func() string { return s.User.Name }))
	one("Group", "group", s.Group != nil, named(func() string { return s.Group.Name }))
	return errs
}

func validateAccount(a *flowcontrolv1.ServiceAccountSubject, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch {
	case a.Name == "":
		errs = append(errs, field.Required(path.Child("name"), ""))
	case a.Name != all:
		errs = append(errs, invalid(path.Child("name"), a.Name, apivalidation.ValidateServiceAccountName(a.Name, false))...)
	}
	if a.Namespace == "" {
		return append(errs, field.Required(path.Child("namespace"), "must specify namespace for service account"))
	}
	return append(errs, invalid(path.Child("namespace"), a.Namespace, apivalidation.ValidateNamespaceName(a.Namespace, false))...)
}

// list checks one that holds something, and nothing beside the wildcard.
func list(values []string, path *field.Path, empty, what string) field.ErrorList {
	if len(values) == 0 {
		return field.ErrorList{field.Required(path, empty)}
	}
	if len(values) > 1 && slices.Contains(values, all) {
		return field.ErrorList{field.Invalid(path, values, "if '*' is present, must not specify other "+what)}
	}
	return nil
}

func validateVerbs(values []string, path *field.Path) field.ErrorList {
	errs := list(values, path, "verbs must contain at least one value", "verbs")
	if len(errs) > 0 || slices.Contains(values, all) {
		return errs
	}
	for _, v := range values {
		if !slices.Contains(verbs, v) {
			return field.ErrorList{field.NotSupported(path, values, verbs)}
		}
	}
	return nil
}

func validateResourceRule(r *flowcontrolv1.ResourcePolicyRule, path *field.Path) field.ErrorList {
	errs := validateVerbs(r.Verbs, path.Child("verbs"))
	errs = append(errs, list(r.APIGroups, path.Child("apiGroups"), "resource rules must supply at least one api group", "api groups")...)
	errs = append(errs, list(r.Resources, path.Child("resources"), "resource rules must supply at least one resource", "resources")...)
	at := path.Child("namespaces")
	if len(r.Namespaces) == 0 && r.ClusterScope {
		return errs
	}
	more := list(r.Namespaces, at, "resource rules that are not cluster scoped must supply at least one namespace", "namespaces")
	if errs = append(errs, more...); len(more) > 0 || slices.Contains(r.Namespaces, all) {
		return errs
	}
	for i, ns := range r.Namespaces {
		for _, msg := range apivalidation.ValidateNamespaceName(ns, false) {
			errs = append(errs, field.Invalid(at.Index(i), ns, "each member of this list must be '*' or a DNS-1123 label; "+msg))
		}
	}
	return errs
}

func validatePathRule(r *flowcontrolv1.NonResourcePolicyRule, path *field.Path) field.ErrorList {
	errs := validateVerbs(r.Verbs, path.Child("verbs"))
	at := path.Child("nonResourceURLs")
	more := list(r.NonResourceURLs, at, "nonResourceURLs must contain at least one value", "non-resource URLs")
	if errs = append(errs, more...); len(more) > 0 || slices.Contains(r.NonResourceURLs, all) {
		return errs
	}
	for i, url := range r.NonResourceURLs {
		if msg := badPath(url); msg != "" {
			errs = append(errs, field.Invalid(at.Index(i), url, msg))
		}
	}
	return errs
}

// badPath says what is wrong with a path of a rule, "" for nothing.
func badPath(path string) string {
	switch {
	case path == "":
		return "must not be empty"
	case path == "/":
		return ""
	case !strings.HasPrefix(path, "/"):
		return "must start with slash"
	case strings.Contains(path, " "):
		return "must not contain white-space"
	case strings.Contains(path, "//"):
		return "must not contain double slash"
	}
	if star := strings.Index(path, all); star >= 0 && (star != len(path)-1 || !strings.HasSuffix(path, "/*")) {
		return "wildcard can only do suffix matching"
	}
	return ""
}

func invalid(path *field.Path, value any, messages []string) field.ErrorList {
	var errs field.ErrorList
	for _, m := range messages {
		errs = append(errs, field.Invalid(path, value, m))
	}
	return errs
}
