// Package admissionregistration describes the kinds of admissionregistration.k8s.io to the
// server: webhooks and policies that look at objects on their way in.
//
// What is written here only says what a good configuration is; access/webhook and
// access/policy act on it.
package admissionregistration

import (
	"slices"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/apis/api"
)

const (
	group   = admissionv1.GroupName
	version = "v1"
)

// Kinds are the group's kinds.
var Kinds = []*api.Kind{
	MutatingWebhookConfigurations, ValidatingWebhookConfigurations,
	ValidatingAdmissionPolicies, ValidatingAdmissionPolicyBindings,
	MutatingAdmissionPolicies, MutatingAdmissionPolicyBindings,
}

func or[T any](p **T, value T) {
	if *p == nil {
		*p = &value
	}
}

func defaultRules(rules []admissionv1.RuleWithOperations) {
	for i := range rules {
		or(&rules[i].Scope, admissionv1.AllScopes)
	}
}

func defaultNamedRules(rules []admissionv1.NamedRuleWithOperations) {
	for i := range rules {
		or(&rules[i].Scope, admissionv1.AllScopes)
	}
}

func defaultMatch(m *admissionv1.MatchResources) {
	if m == nil {
		return
	}
	or(&m.MatchPolicy, admissionv1.Equivalent)
	or(&m.NamespaceSelector, metav1.LabelSelector{})
	or(&m.ObjectSelector, metav1.LabelSelector{})
	defaultNamedRules(m.ResourceRules)
	defaultNamedRules(m.ExcludeResourceRules)
}

// What the tables show of parameters.
const unset = "<unset>"

func paramKind(k *admissionv1.ParamKind) string {
	if k == nil {
		return unset
	}
	return k.APIVersion + "/" + k.Kind
}

func paramRef(r *admissionv1.ParamRef) string {
	switch {
	case r == nil:
		return unset
	case r.Name != "" && r.Namespace != "":
		return r.Namespace + "/" + r.Name
	case r.Name != "":
		return "*/" + r.Name
	case r.Selector != nil:
		return r.Selector.String()
	}
	return unset
}

// excluded resources are answered and never stored; webhooks and policies are not asked
// about them, since a cluster whose reviews are refused cannot be mended.
var excluded = map[string][]string{
	"authentication.k8s.io": {"selfsubjectreviews", "tokenreviews"},
	"authorization.k8s.io":  {"localsubjectaccessreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews", "subjectaccessreviews"},
}

// Excluded says that webhooks and policies are never asked about a resource: the reviews
// that the server only answers, and the group's own kinds.
func Excluded(apiGroup, resource string) bool {
	if apiGroup == group {
		return slices.ContainsFunc(Kinds, func(k *api.Kind) bool { return k.Resource.Resource == resource })
	}
	return slices.Contains(excluded[apiGroup], resource)
}
