package policy

import (
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
)

// What was stored as an expression, by whatever release, never breaks the server that compiles it.
func FuzzCompile(f *testing.F) {
	for _, text := range []string{
		"object.spec.replicas <= params.max", "variables.a == 'x'", "'a' + 1", "[1,2].all(x, x > 0)", "authorizer.group('').resource('pods').check('get').allowed()",
		`[JSONPatch{op: "add", path: "/metadata/labels", value: {"a": "b"}}]`, `Object{metadata: Object.metadata{labels: {"a": "b"}}}`, "((((", "quantity('1Ki')", "\x00",
	} {
		f.Add(text, text)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		variables := []admissionv1.Variable{{Name: "a", Expression: b}, {Name: b, Expression: a}}
		conditions := []admissionv1.MatchCondition{{Name: "c", Expression: b}}
		compileValidating(&admissionv1.ValidatingAdmissionPolicy{Spec: admissionv1.ValidatingAdmissionPolicySpec{
			ParamKind: &admissionv1.ParamKind{Kind: a}, Variables: variables, MatchConditions: conditions,
			Validations:      []admissionv1.Validation{{Expression: a, MessageExpression: b}},
			AuditAnnotations: []admissionv1.AuditAnnotation{{Key: "k", ValueExpression: a}},
		}})
		compileMutating(&admissionv1.MutatingAdmissionPolicy{Spec: admissionv1.MutatingAdmissionPolicySpec{
			Variables: variables, MatchConditions: conditions,
			Mutations: []admissionv1.Mutation{
				{PatchType: admissionv1.PatchTypeJSONPatch, JSONPatch: &admissionv1.JSONPatch{Expression: a}},
				{PatchType: admissionv1.PatchTypeApplyConfiguration, ApplyConfiguration: &admissionv1.ApplyConfiguration{Expression: b}},
			},
		}})
	})
}
