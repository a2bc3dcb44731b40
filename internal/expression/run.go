package expression

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/interpreter"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/apiserver/pkg/cel/lazy"
)

// ErrBudget ends all expressions of a run: together they cost more than they may.
var ErrBudget = errors.New("validation failed due to running out of cost budget, no further validation rules will be run")

// Input is one request's values. Nil values are null to expressions.
type Input struct {
	Object, Old, Params         runtime.Object // read-only
	Request                     any            // *admissionv1.AdmissionRequest
	Namespace                   any            // *corev1.Namespace
	Authorizer, RequestResource ref.Val        // nil: not declared
}

// Value is what an object is to expressions: seen through, not copied.
func Value(obj runtime.Object) any {
	switch o := obj.(type) {
	case nil:
		return types.NullValue
	case *unstructured.Unstructured:
		if o == nil {
			return types.NullValue
		}
		return types.DefaultTypeAdapter.NativeToValue(o.Object)
	}
	return common.SchemalessTypedToVal(obj)
}

// Run evaluates expressions over one request's values within a budget. Not safe for
// concurrent use.
type Run struct {
	ctx    context.Context
	values map[string]any
	left   int64
	spent  int64 // by variables within the present evaluation
}

// NewRun binds the values. Variables are evaluated when first named, once.
func NewRun(ctx context.Context, in Input, c *Compiler, budget int64) *Run {
	r := &Run{ctx: ctx, left: budget, values: map[string]any{
		object: Value(in.Object), oldObject: Value(in.Old), params: Value(in.Params),
		request: common.SchemalessTypedToVal(in.Request), namespaceObject: common.SchemalessTypedToVal(in.Namespace),
	}}
	if in.Authorizer != nil {
		r.values[authorizer], r.values[requestAuthorizer] = in.Authorizer, in.RequestResource
	}
	if c != nil && c.vars != nil {
		all := lazy.NewMapValue(c.vars)
		for _, v := range c.stored {
			all.Append(v.Name, func(*lazy.MapValue) ref.Val { return r.variable(v) })
		}
		r.values[variables] = all
	}
	return r
}

// Left is what remains of the budget.
func (r *Run) Left() int64 { return r.left }

// Eval evaluates an expression. After ErrBudget nothing more may be evaluated.
func (r *Run) Eval(p *Program) (ref.Val, error) {
	r.spent = 0
	v, cost, err := r.eval(p)
	if cost < 0 {
		return nil, fmt.Errorf("runtime cost could not be calculated for expression: %s, no further expression will be run", p.Source)
	}
	if cost > r.left || r.spent > r.left-cost {
		r.left = 0
		return nil, ErrBudget
	}
	r.left -= cost + r.spent
	if err != nil {
		return nil, fmt.Errorf("expression '%s' resulted in error: %w", p.Source, err)
	}
	return v, nil
}

func (r *Run) eval(p *Program) (ref.Val, int64, error) {
	v, details, err := p.program.ContextEval(r.ctx, (*activation)(r))
	if details == nil || details.ActualCost() == nil {
		if err != nil {
			return nil, 0, err
		}
		return nil, -1, err
	}
	return v, int64(min(*details.ActualCost(), math.MaxInt64/4)), err
}

func (r *Run) variable(v Variable) ref.Val {
	if v.Err != nil {
		return types.NewErr("composited variable %q fails to compile: %v", v.Name, v.Err)
	}
	out, cost, err := r.eval(v.Program)
	if cost < 0 {
		return types.NewErr("unable to calculate cost of variable %q", v.Name)
	}
	r.spent = min(r.spent+cost, math.MaxInt64/4)
	if err != nil {
		return types.NewErr("composited variable %q fails to evaluate: %v", v.Name, err)
	}
	return out
}

// activation shows a run to the interpreter.
type activation Run

var _ interpreter.Activation = (*activation)(nil)

func (a *activation) ResolveName(name string) (any, bool) {
	v, ok := a.values[name]
	return v, ok
}

func (a *activation) Parent() interpreter.Activation { return nil }
