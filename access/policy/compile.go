package policy

import (
	"fmt"
	"strings"

	"github.com/google/cel-go/cel"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/access/admission/match"
	"github.com/proa-dev/proa/apis/admissionregistration"
	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/internal/expression"
)

// scope is what a policy or binding applies to, ready to be asked; nil is everything.
type scope struct {
	rules, excluded    []admissionv1.NamedRuleWithOperations
	match              *admissionv1.MatchPolicyType
	namespaces, labels match.Selector
}

func newScope(m *admissionv1.MatchResources) *scope {
	if m == nil {
		return nil
	}
	return &scope{
		rules: m.ResourceRules, excluded: m.ExcludeResourceRules, match: m.MatchPolicy,
		namespaces: match.NewSelector(m.NamespaceSelector), labels: match.NewSelector(m.ObjectSelector),
	}
}

// covers says whether the scope has the request, and in which form.
func (s *scope) covers(r *match.Request) (match.Target, bool, error) {
	whole := match.Target{Kind: r.Kind, GVK: r.GVK(), Resource: r.Kind.Resource}
	if s == nil {
		return whole, true, nil
	}
	if ok, err := r.InNamespace(s.namespaces); !ok || err != nil {
		return whole, false, err
	}
	if ok, err := r.Labelled(s.labels); !ok || err != nil {
		return whole, false, err
	}
	if _, out := r.Named(s.excluded, s.match); out {
		return whole, false, nil
	}
	if len(s.rules) == 0 {
		return whole, true, nil
	}
	t, ok := r.Named(s.rules, s.match)
	return t, ok, nil
}

// policy is one of either sort, compiled.
type policy struct {
	name, version string
	ignore        bool // failures let the request pass
	params        *admissionv1.ParamKind
	scope         *scope
	conditions    match.Conditions
	compiler      *expression.Compiler

	validations []validation
	annotations []annotation

	mutations []mutation
	again     bool // is asked again when something changed the object after it
}

// program is an expression of a policy, or why there is none.
type program struct {
	*expression.Program
	err error
}

type validation struct {
	check, message program // message may be nothing
	text           string
	reason         metav1.StatusReason
}

type annotation struct {
	key   string
	value program
}

type mutation struct {
	apply, patch program // one of them
}

// binding says where a policy holds.
type binding struct {
	name, policy string
	params       *admissionv1.ParamRef
	selector     match.Selector // of params
	scope        *scope
	actions      []admissionv1.ValidationAction
}

// newBinding gives nil for what is no binding.
func newBinding(o api.Object) *binding {
	if o == nil {
		return nil
	}
	b := &binding{name: o.GetName()}
	switch o := o.(type) {
	case *admissionv1.ValidatingAdmissionPolicyBinding:
		b.policy, b.params, b.scope, b.actions = o.Spec.PolicyName, o.Spec.ParamRef, newScope(o.Spec.MatchResources), o.Spec.ValidationActions
	case *admissionv1.MutatingAdmissionPolicyBinding:
		b.policy, b.params, b.scope = o.Spec.PolicyName, o.Spec.ParamRef, newScope(o.Spec.MatchResources)
	default:
		return nil
	}
	if b.params != nil {
		b.selector = match.NewSelector(b.params.Selector)
	}
	return b
}

func ignores(f *admissionv1.FailurePolicyType) bool { return f != nil && *f == admissionv1.Ignore }

// compiler knows the policy's variables; it is the shared one when there are none.
func compiler(variables []admissionv1.Variable, params bool) *expression.Compiler {
	if len(variables) == 0 {
		return expression.Plain()
	}
	c := expression.NewCompiler()
	for _, v := range variables {
		_ = c.Variable(v.Name, v.Expression, expression.Uses{Params: params, Authorizer: true}) // kept: who names it gets the error
	}
	return c
}

func compile(c *expression.Compiler, text string, uses expression.Uses, returns ...*cel.Type) program {
	p, err := c.Compile(text, uses, returns...)
	if err != nil {
		err = fmt.Errorf("compilation error: %w", err)
	}
	return program{p, err}
}

func compileValidating(o api.Object) *policy {
	stored, ok := o.(*admissionv1.ValidatingAdmissionPolicy)
	if !ok {
		return nil
	}
	spec, params := &stored.Spec, stored.Spec.ParamKind != nil
	c := compiler(spec.Variables, params)
	p := &policy{
		name: stored.Name, ignore: ignores(spec.FailurePolicy), params: spec.ParamKind, scope: newScope(spec.MatchConstraints),
		conditions: match.NewConditions(spec.MatchConditions, params), compiler: c,
	}
	for _, v := range spec.Validations {
		one := validation{text: strings.TrimSpace(v.Message), reason: metav1.StatusReasonInvalid}
		one.check = compile(c, v.Expression, expression.Uses{Params: params, Authorizer: true}, cel.BoolType)
		if v.MessageExpression != "" {
			one.message = compile(c, v.MessageExpression, expression.Uses{Params: params}, cel.StringType)
		}
		if v.Reason != nil {
			one.reason = *v.Reason
		}
		if one.text == "" {
			one.text = "failed expression: " + strings.TrimSpace(v.Expression)
		}
		p.validations = append(p.validations, one)
	}
	for _, a := range spec.AuditAnnotations {
		value := compile(c, a.ValueExpression, expression.Uses{Params: params, Authorizer: true}, cel.StringType, cel.NullType)
		p.annotations = append(p.annotations, annotation{a.Key, value})
	}
	return p
}

func compileMutating(o api.Object) *policy {
	stored, ok := o.(*admissionv1.MutatingAdmissionPolicy)
	if !ok {
		return nil
	}
	spec, params := &stored.Spec, stored.Spec.ParamKind != nil
	c := compiler(spec.Variables, params)
	p := &policy{
		name: stored.Name, ignore: ignores(spec.FailurePolicy), params: spec.ParamKind, scope: newScope(spec.MatchConstraints),
		conditions: match.NewConditions(spec.MatchConditions, params), compiler: c,
		again: spec.ReinvocationPolicy == admissionv1.IfNeededReinvocationPolicy,
	}
	uses := expression.Uses{Params: params, Authorizer: true, Patch: true}
	for _, m := range spec.Mutations {
		var one mutation
		switch {
		case m.PatchType == admissionv1.PatchTypeApplyConfiguration && m.ApplyConfiguration != nil:
			one.apply = compile(c, strings.TrimSpace(m.ApplyConfiguration.Expression), uses, admissionregistration.ApplyType)
		case m.PatchType == admissionv1.PatchTypeJSONPatch && m.JSONPatch != nil:
			one.patch = compile(c, strings.TrimSpace(m.JSONPatch.Expression), uses, admissionregistration.PatchType)
		default:
			one.apply.err = fmt.Errorf("unsupported patchType %q", m.PatchType)
		}
		p.mutations = append(p.mutations, one)
	}
	return p
}
