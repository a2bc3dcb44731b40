package schema

import (
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/interpreter"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/common"
)

// Rules evaluates the x-kubernetes-validations of an object that its schema has found valid, within the
// cost that one request may have. old is nil on create. What did not change is not refused.
func (s *Schema) Rules(ctx context.Context, obj, old map[string]any) field.ErrorList {
	if !s.anyRule {
		return nil
	}
	e := &evaluation{ctx: ctx, budget: celconfig.RuntimeCELCostBudget}
	var was *before
	if old != nil {
		was = &before{old}
	}
	e.value(s, s, true, nil, obj, was, pair{})
	return e.errs
}

// evaluation is one object's rules on their way.
type evaluation struct {
	ctx    context.Context
	budget int64 // negative: over
	errs   field.ErrorList
}

// value evaluates the rules of a node and below. s has the rules, node is the schema of the
// values: another one only within allOf.
func (e *evaluation) value(s, node *Schema, whole bool, path *field.Path, v any, old *before, near pair) {
	if s == nil || node == nil || !s.anyRule || v == nil || e.budget < 0 {
		return
	}
	if old != nil {
		near = pair{v, old}
	}
	e.rules(s, node, whole, path, v, old, near)
	for _, one := range s.allOf {
		e.value(one, node, whole, path, v, old, near)
	}
	switch v := v.(type) {
	case []any:
		for i, element := range v {
			if s.Items != nil && node.Items != nil {
				e.value(s.Items, node.Items, node.Items.Embedded, path.Index(i), element, old.item(node, element), near)
			}
		}
	case map[string]any:
		for _, name := range sortedKeys(v) {
			below, shape := s.child(name), node.child(name)
			if below == nil || shape == nil {
				continue
			}
			at := path.Child(name)
			if _, named := s.Properties[name]; !named {
				at = path.Key(name)
			}
			e.value(below, shape, shape.Embedded, at, v[name], old.key(name, false), near)
		}
	}
}

// pair is a value with what it was; of the nearest around a value whose own past cannot be told.
type pair struct {
	value any
	old   *before
}

func (p pair) same() bool { return p.old.equals(p.value) }

func (e *evaluation) fail(err *field.Error) { e.errs = append(e.errs, err) }

// over ends the evaluation of all rules.
func (e *evaluation) over(err *field.Error) {
	e.fail(err)
	e.budget = -1
}

const overBudget = "validation failed due to running out of cost budget, no further validation rules will be run"

func (e *evaluation) rules(s, node *Schema, whole bool, path *field.Path, v any, old *before, near pair) {
	s.rules.Do(func() { s.compiled = s.compileRules(node, whole, always) })
	set, kind := s.compiled, node.jsonType()
	switch {
	case set.failed != nil:
		e.fail(field.Invalid(path, kind, fmt.Sprintf("rule compiler initialization error: %v", set.failed)))
		return
	case len(set.rules) == 0:
		return
	case e.budget == 0:
		e.over(field.Invalid(path, kind, overBudget))
		return
	}
	vars, optional := activate(node, whole, v, old, set.usesOld)
	for i := range set.rules {
		r := &set.rules[i]
		if r.fault != "" {
			e.fail(field.Invalid(path, kind, "rule compile error: "+r.fault))
			continue
		}
		known := old != nil && old.value != nil
		if r.program == nil || r.usesOld && !known && !isTrue(r.source.OptionalOldSelf) {
			continue
		}
		with := vars
		if isTrue(r.source.OptionalOldSelf) {
			with = optional
		}
		e.rule(r, kind, path, v, near, with)
		if e.budget < 0 {
			return
		}
	}
}

func (e *evaluation) rule(r *compiledRule, kind string, path *field.Path, v any, near pair, with *variables) {
	result, details, err := r.program.ContextEval(e.ctx, with)
	if !e.spend(details) {
		e.over(field.Invalid(path, kind, overBudget))
		return
	}
	said := said(r.source)
	switch {
	case err == nil:
	case strings.HasPrefix(err.Error(), "no such overload"):
		e.fail(field.Invalid(path, kind, fmt.Sprintf("'%v': call arguments did not match a supported operator, function or macro signature for rule: %v", err, said)))
		return
	case strings.HasPrefix(err.Error(), "operation cancelled: actual cost limit exceeded"):
		e.over(field.Invalid(path, kind, fmt.Sprintf("'%v': no further validation rules will be run due to call cost exceeds limit for rule: %v", err, said)))
		return
	default:
		e.fail(field.Invalid(path, kind, fmt.Sprintf("%v evaluating rule: %v", err, said)))
		return
	}
	if result == types.True || !r.usesOld && near.same() {
		return
	}
	at := path
	if r.source.FieldPath != "" {
		at = under(path, r.source.FieldPath)
	}
	detail, fault := e.message(r, with)
	switch {
	case fault != "":
		e.over(field.Invalid(at, kind, fault))
		return
	case detail != "":
	case r.source.Message != "":
		detail = said
	default:
		detail = "failed rule: " + said
	}
	if kind == "object" || kind == "array" {
		v = field.OmitValueType{}
	}
	e.fail(because(r.source.Reason, at, v, detail))
}

// spend takes the cost of an evaluation from the budget.
func (e *evaluation) spend(details *cel.EvalDetails) bool {
	if details == nil || details.ActualCost() == nil {
		return false
	}
	cost := *details.ActualCost()
	if cost > math.MaxInt64 || int64(cost) > e.budget {
		return false
	}
	e.budget -= int64(cost)
	return true
}

// message evaluates a messageExpression, "" when it gives nothing of use; a fault ends all.
func (e *evaluation) message(r *compiledRule, with *variables) (text, fault string) {
	if r.message == nil {
		return "", ""
	}
	result, details, err := r.message.ContextEval(e.ctx, with)
	switch {
	case !e.spend(details):
		return "", "messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run"
	case err != nil && strings.HasPrefix(err.Error(), "operation cancelled: actual cost limit exceeded"):
		return "", fmt.Sprintf("no further validation rules will be run due to call cost exceeds limit for messageExpression: %q", r.source.MessageExpression)
	case err != nil:
		return "", ""
	}
	text, _ = result.Value().(string)
	text = strings.TrimSpace(text)
	if len(text) > celconfig.MaxEvaluatedMessageExpressionSizeBytes || strings.Contains(text, "\n") {
		return "", ""
	}
	return text, ""
}

// said is how a rule is named in messages.
func said(r *apiextensionsv1.ValidationRule) string {
	if r.Message != "" {
		return strings.TrimSpace(r.Message)
	}
	return strings.TrimSpace(r.Rule)
}

func because(reason *apiextensionsv1.FieldValueErrorReason, path *field.Path, v any, detail string) *field.Error {
	if reason != nil {
		switch *reason {
		case apiextensionsv1.FieldValueForbidden:
			return field.Forbidden(path, detail)
		case apiextensionsv1.FieldValueRequired:
			return field.Required(path, detail)
		case apiextensionsv1.FieldValueDuplicate:
			return field.Duplicate(path, v)
		}
	}
	return field.Invalid(path, v, detail)
}

// variables are what a rule sees.
type variables struct {
	self, old ref.Val
	hasOld    bool
}

var _ interpreter.Activation = (*variables)(nil)

func (v *variables) ResolveName(name string) (any, bool) {
	switch name {
	case selfName:
		return v.self, true
	case oldSelfName:
		return v.old, v.hasOld
	}
	return nil, false
}

func (*variables) Parent() interpreter.Activation { return nil }

// activate gives the variables of rules, and of those that take oldSelf as an optional.
func activate(node *Schema, whole bool, v any, old *before, usesOld bool) (plain, optional *variables) {
	if whole {
		node = node.withMeta()
	}
	plain = &variables{self: common.UnstructuredToVal(v, typed{node})}
	if !usesOld {
		return plain, plain
	}
	optional = &variables{self: plain.self, old: types.OptionalNone, hasOld: true}
	if old != nil && old.value != nil {
		plain.old, plain.hasOld = common.UnstructuredToVal(old.value, typed{node}), true
		optional.old = types.OptionalOf(plain.old)
	}
	return plain, optional
}

// HasRules says that there are rules anywhere.
func (s *Schema) HasRules() bool { return s.anyRule }
