package policy

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/proa-dev/proa/access/admission"
	"github.com/proa-dev/proa/access/admission/match"
	"github.com/proa-dev/proa/apis/admissionregistration"
	"github.com/proa-dev/proa/internal/expression"
)

// mutator changes objects by mutating policies.
type mutator struct{ p *Policies }

// invocation is a policy as it is asked: with a binding, and a parameter.
type invocation struct{ policy, binding, namespace, param string }

// rounds is what the second round must know of the first.
type rounds struct {
	asked  map[invocation]bool // want to be asked again if needed
	needed map[invocation]bool // are
	last   runtime.Object      // as the policies left it
}

func (s *rounds) changed() {
	for i := range s.asked {
		s.needed[i] = true
	}
	clear(s.asked)
}

func (m mutator) Mutate(ctx context.Context, a *admission.Attributes) error {
	all := m.p.mutating.all(m.p.env.Reader)
	if len(all) == 0 || a.Operation == admission.Delete || a.Object == nil || admissionregistration.Excluded(a.Kind.Group, a.Kind.Resource.Resource) {
		return nil
	}
	state, _ := a.Kept(m).(*rounds)
	if state == nil {
		state = &rounds{asked: map[invocation]bool{}, needed: map[invocation]bool{}}
		a.Keep(m, state)
	}
	if a.Second() && state.last != nil && !equality.Semantic.DeepEqual(state.last, a.Object) {
		state.changed()
	}
	c := &round{m: m, r: match.NewRequest(ctx, &m.p.env, a), state: state}
	for i := 0; i < len(all) && c.fatal == nil; i++ {
		c.policy(ctx, &all[i])
	}
	if len(state.asked) > 0 {
		state.last = a.Object.DeepCopyObject()
	}
	return c.refusal()
}

// round is one pass over all policies for one request.
type round struct {
	m     mutator
	r     *match.Request
	state *rounds
	errs  []string
	// reason is why the first of errs refuses: "" that a policy cannot be asked.
	reason metav1.StatusReason
	fatal  error // ends the request, whatever policies say of failures
}

// fail notes what is wrong, if the policy does not say to ignore it.
func (c *round) fail(p *bound, binding string, reason metav1.StatusReason, err error) {
	var status *apierrors.StatusError
	if errors.As(err, &status) && reason != "" {
		c.fatal = status
		return
	}
	if p.ignore {
		return
	}
	if len(c.errs) == 0 {
		c.reason = reason
	}
	switch {
	case binding == "":
		c.errs = append(c.errs, fmt.Sprintf("policy %q denied request: %s", p.name, err))
	default:
		c.errs = append(c.errs, fmt.Sprintf("policy '%s' with binding '%s' denied request: %s", p.name, binding, err))
	}
}

func (c *round) refusal() error {
	if c.fatal != nil || len(c.errs) == 0 {
		return c.fatal
	}
	err := admission.Forbidden(c.r.Attributes, errors.New("admission request denied by policy"))
	var status *apierrors.StatusError
	if !errors.As(err, &status) {
		return err
	}
	s := &status.ErrStatus
	if s.Message = c.errs[0]; c.reason != "" {
		s.Reason = c.reason
	}
	for _, text := range c.errs {
		s.Details.Causes = append(s.Details.Causes, metav1.StatusCause{Message: text})
	}
	return status
}

func (c *round) policy(ctx context.Context, p *bound) {
	t, ok, err := p.scope.covers(c.r)
	if !ok && err == nil {
		return
	}
	kind, kindErr := c.m.p.paramKind(p.policy)
	if err = cmpErr(err, kindErr); err != nil {
		c.fail(p, "", "", fmt.Errorf("failed to configure policy: %w", err))
		return
	}
	for _, b := range p.bindings {
		_, ok, err := b.scope.covers(c.r)
		if !ok && err == nil {
			continue
		}
		var params []runtime.Object
		if err == nil {
			params, err = c.m.p.paramsOf(ctx, kind, b, c.r)
		}
		if err != nil {
			c.fail(p, b.name, "", fmt.Errorf("failed to configure binding: %w", err))
			continue
		}
		for i := 0; i < len(params) && c.fatal == nil; i++ {
			c.invoke(ctx, t, p, b, params[i])
		}
	}
}

// invoke carries out a policy's mutations with one parameter.
func (c *round) invoke(ctx context.Context, t match.Target, p *bound, b *binding, param runtime.Object) {
	matched, err := p.conditions.Match(ctx, c.r, t, param)
	if err != nil {
		c.fail(p, b.name, metav1.StatusReasonInvalid, err)
		return
	}
	id := invocation{policy: p.name, binding: b.name}
	if o, ok := param.(metav1.Object); ok {
		id.namespace, id.param = o.GetNamespace(), o.GetName()
	}
	if !matched || c.r.Second() && !c.state.needed[id] {
		return
	}
	before := c.r.Object.DeepCopyObject()
	for i := range p.mutations {
		if err := c.mutate(ctx, t, p, &p.mutations[i], param); err != nil {
			c.fail(p, b.name, metav1.StatusReasonInvalid, err)
		}
		if c.fatal != nil {
			return
		}
	}
	if !equality.Semantic.DeepEqual(before, c.r.Object) {
		c.state.changed()
		c.r.Again()
	}
	if p.again {
		c.state.asked[id] = true
	}
}

// mutate carries out one mutation.
func (c *round) mutate(ctx context.Context, t match.Target, p *bound, m *mutation, param runtime.Object) error {
	in, err := c.r.Input(t, param, true)
	if err != nil {
		return err
	}
	run := expression.NewRun(ctx, in, p.compiler, expression.Budget)
	if m.patch.Program != nil || m.patch.err != nil {
		return c.jsonPatch(run, t, in.Object, m.patch)
	}
	v, err := evaluate(run, m.apply)
	if err != nil {
		return err
	}
	configuration, err := applied(v)
	if err != nil {
		return err
	}
	if !c.r.Whole() || c.m.p.merge == nil {
		return fmt.Errorf("error applying patch: the schema of %s is not known", t.GVK)
	}
	gv, kind := t.GVK.ToAPIVersionAndKind()
	configuration["apiVersion"], configuration["kind"] = gv, kind
	merged, err := c.m.p.merge(t.Kind, in.Object, configuration)
	if err != nil {
		return fmt.Errorf("error applying patch: %w", err)
	}
	return c.r.Set(t, merged)
}
