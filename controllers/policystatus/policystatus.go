// Package policystatus checks the expressions of validating admission policies against the
// schemas of what they match, and writes what it finds into the policy's status. What it
// finds are warnings: they change nothing of what the policy decides.
//
// The one idea: a generation of a policy is checked once, with the schemas that the API
// publishes; nothing is kept.
//
// Used by controllers.All.
package policystatus

import (
	"context"
	"fmt"

	"github.com/google/cel-go/cel"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	applyv1 "k8s.io/client-go/applyconfigurations/admissionregistration/v1"
	listers "k8s.io/client-go/listers/admissionregistration/v1"

	apicel "k8s.io/apiserver/pkg/cel"

	"github.com/proa-dev/proa/controllers/loop"
	"github.com/proa-dev/proa/internal/expression"
)

const (
	manager  = "validatingadmissionpolicy-status"
	maxKinds = 10 // that a policy is checked against
)

// Controller is the loop.
type Controller struct {
	*loop.Loop[string]
	deps     loop.Deps
	policies listers.ValidatingAdmissionPolicyLister
}

// New registers the loop's informer.
func New(deps loop.Deps) (*Controller, error) {
	informer := deps.Informers.Admissionregistration().V1().ValidatingAdmissionPolicies()
	c := &Controller{deps: deps, policies: informer.Lister()}
	c.Loop = loop.New("policystatus", deps, c.reconcile)
	c.Watch(informer.Informer(), func(obj any) []string {
		k, _ := loop.KeyOf(obj)
		return []string{k.Name}
	})
	return c, nil
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.Loop.Run(ctx, 1) }

func (c *Controller) reconcile(ctx context.Context, name string) error {
	p, err := c.policies.Get(name)
	if err != nil || p.Generation <= p.Status.ObservedGeneration {
		return loop.Gone(err)
	}
	checked := applyv1.TypeChecking()
	for _, w := range c.check(p) {
		checked.WithExpressionWarnings(applyv1.ExpressionWarning().WithFieldRef(w.FieldRef).WithWarning(w.Warning))
	}
	status := applyv1.ValidatingAdmissionPolicyStatus().WithObservedGeneration(p.Generation).WithTypeChecking(checked)
	_, err = c.deps.Client.AdmissionregistrationV1().ValidatingAdmissionPolicies().ApplyStatus(ctx,
		applyv1.ValidatingAdmissionPolicy(p.Name).WithStatus(status), metav1.ApplyOptions{FieldManager: manager, Force: true})
	return loop.Gone(err)
}

// typed is a kind with its schema.
type typed struct {
	schema.GroupVersionKind
	declared *apicel.DeclType
}

// check compiles each expression once for each kind that the policy matches.
func (c *Controller) check(p *admissionv1.ValidatingAdmissionPolicy) []admissionv1.ExpressionWarning {
	s := schemas{discovery: c.deps.Discovery, log: c.deps.Log}
	kinds := s.matched(p)
	if len(kinds) == 0 {
		return nil
	}
	var params *apicel.DeclType
	if k := p.Spec.ParamKind; k != nil {
		params = s.declared(schema.FromAPIVersionAndKind(k.APIVersion, k.Kind))
	}
	var warnings []admissionv1.ExpressionWarning
	add := func(field, text string) {
		if found := problems(p, text, kinds, params); found != "" {
			warnings = append(warnings, admissionv1.ExpressionWarning{FieldRef: field, Warning: found})
		}
	}
	for i, v := range p.Spec.Validations {
		add(fmt.Sprintf("spec.validations[%d].expression", i), v.Expression)
		if v.MessageExpression != "" {
			add(fmt.Sprintf("spec.validations[%d].messageExpression", i), v.MessageExpression)
		}
	}
	return warnings
}

// problems are those of one expression, of all kinds; "" when there are none.
func problems(p *admissionv1.ValidatingAdmissionPolicy, text string, kinds []typed, params *apicel.DeclType) string {
	out := ""
	uses := expression.Uses{Params: p.Spec.ParamKind != nil, Authorizer: true}
	for _, k := range kinds {
		c := expression.NewChecker(expression.Types{Object: k.declared, Params: params})
		for _, v := range p.Spec.Variables {
			_ = c.Variable(v.Name, v.Expression, uses) // its own type is unknown then
		}
		if _, err := c.Compile(text, uses, cel.AnyType); err != nil {
			if out != "" {
				out += "\n"
			}
			out += fmt.Sprintf("%v: %v\n", k.GroupVersionKind, err)
		}
	}
	return out
}
