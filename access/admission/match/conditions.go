package match

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/cel/library"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/internal/expression"
)

// Env is what requests are looked at with.
type Env struct {
	Reader     api.Reader
	Kinds      Kinds
	Authorizer access.Authorizer // what expressions ask by "authorizer"
}

// Conditions are the compiled match conditions of a webhook or policy.
type Conditions []condition

type condition struct {
	name    string
	program *expression.Program
	err     error
}

// NewConditions compiles; what does not compile is an error of each request, as it is
// when an expression fails.
func NewConditions(all []admissionv1.MatchCondition, params bool) Conditions {
	var out Conditions
	for _, c := range all {
		p, err := expression.Plain().Compile(c.Expression, expression.Uses{Params: params, Authorizer: true}, cel.BoolType)
		if err != nil {
			err = fmt.Errorf("compilation error: %w", err)
		}
		out = append(out, condition{c.Name, p, err})
	}
	return out
}

// Match says whether all conditions hold. One that is false settles it, whatever errors the
// others have.
func (cs Conditions) Match(ctx context.Context, r *Request, t Target, params runtime.Object) (bool, error) {
	if len(cs) == 0 {
		return true, nil
	}
	in, err := r.Input(t, params, true)
	if err != nil {
		return false, err
	}
	in.Namespace = nil // not given to match conditions
	run := expression.NewRun(ctx, in, nil, expression.BudgetMatchConditions)
	var errs []error
	for _, c := range cs {
		if c.err != nil {
			errs = append(errs, c.err)
			continue
		}
		v, err := run.Eval(c.program)
		switch {
		case errors.Is(err, expression.ErrBudget):
			return false, err
		case err != nil:
			errs = append(errs, err)
		case v == types.False:
			return false, nil
		}
	}
	return true, utilerrors.NewAggregate(errs)
}

// Input binds the request's values to expressions.
func (r *Request) Input(t Target, params runtime.Object, authorized bool) (expression.Input, error) {
	obj, old, err := r.In(t)
	if err != nil {
		return expression.Input{}, err
	}
	in := expression.Input{Object: obj, Old: old, Params: params, Request: r.Review(t)}
	if ns := r.NamespaceObject(); ns != nil {
		in.Namespace = ns
	}
	if authorized && r.env.Authorizer != nil && r.User != nil {
		in.Authorizer, in.RequestResource = r.authorizer()
	}
	return in, nil
}

func (r *Request) authorizer() (whole, resource ref.Val) {
	who := &user.DefaultInfo{Name: r.User.Name, UID: r.User.UID, Groups: r.User.Groups, Extra: r.User.Extra}
	ask := asker{r.env.Authorizer}
	return library.NewAuthorizerVal(who, ask), library.NewResourceAuthorizerVal(who, ask, requested{r})
}

// requested is the resource of "authorizer.requestResource".
type requested struct{ r *Request }

func (q requested) GetName() string        { return q.r.Name }
func (q requested) GetNamespace() string   { return q.r.Namespace }
func (q requested) GetSubresource() string { return q.r.Subresource }

// asker lets expressions ask our authorizer.
type asker struct{ access.Authorizer }

func (a asker) Authorize(ctx context.Context, q authorizer.Attributes) (authorizer.Decision, string, error) {
	ours := &access.Attributes{
		User: userOf(q.GetUser()), Verb: q.GetVerb(), Resource: q.IsResourceRequest(), Group: q.GetAPIGroup(), Version: q.GetAPIVersion(),
		Plural: q.GetResource(), Subresource: q.GetSubresource(), Namespace: q.GetNamespace(), Name: q.GetName(), Path: q.GetPath(),
		FieldSelector: fieldSelector(q), LabelSelector: labelSelector(q),
	}
	d, reason := a.Authorizer.Authorize(ctx, ours)
	switch d {
	case access.Allow:
		return authorizer.DecisionAllow, reason, nil
	case access.Deny:
		return authorizer.DecisionDeny, reason, nil
	}
	return authorizer.DecisionNoOpinion, reason, nil
}

func userOf(u user.Info) *api.User {
	return &api.User{Name: u.GetName(), UID: u.GetUID(), Groups: u.GetGroups(), Extra: u.GetExtra()}
}
