package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/google/cel-go/common/types"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/proa-dev/proa/access/admission"
	"github.com/proa-dev/proa/access/admission/match"
	"github.com/proa-dev/proa/apis/admissionregistration"
	"github.com/proa-dev/proa/internal/expression"
)

// Bounds of what a policy says, as in Kubernetes.
const (
	maxMessage    = 5 * 1024  // bytes of an evaluated message
	maxAnnotation = 10 * 1024 // bytes of an audit annotation
	maxFailures   = 50        // in the audit annotation about them
)

// validator refuses by validating policies.
type validator struct{ p *Policies }

// finding is one thing that is wrong with a request.
type finding struct {
	policy, binding string // binding is "" when the policy itself is wrong
	index           int    // of the validation
	message         string
	reason          metav1.StatusReason
	actions         []admissionv1.ValidationAction
}

func (v validator) Validate(ctx context.Context, a *admission.Attributes) error {
	all := v.p.validating.all(v.p.env.Reader)
	if len(all) == 0 || admissionregistration.Excluded(a.Kind.Group, a.Kind.Resource.Resource) {
		return nil
	}
	r := match.NewRequest(ctx, &v.p.env, a)
	c := &collector{r: r}
	for i := range all {
		v.policy(ctx, r, &all[i], c)
	}
	c.publish()
	if len(c.denied) == 0 {
		return nil
	}
	return c.denied[0].refusal(a)
}

// policy evaluates one policy with all its bindings.
func (v validator) policy(ctx context.Context, r *match.Request, p *bound, c *collector) {
	t, ok, err := p.scope.covers(r)
	if !ok && err == nil {
		return
	}
	kind, kindErr := v.p.paramKind(p.policy)
	if err = cmpErr(err, kindErr); err != nil {
		c.broken(p, "", fmt.Errorf("failed to configure policy: %w", err))
		return
	}
	for _, b := range p.bindings {
		_, ok, err := b.scope.covers(r)
		if !ok && err == nil {
			continue
		}
		var params []runtime.Object
		if err == nil {
			params, err = v.p.paramsOf(ctx, kind, b, r)
		}
		if err != nil {
			c.broken(p, b.name, fmt.Errorf("failed to configure binding: %w", err))
			continue
		}
		for _, param := range params {
			v.evaluate(ctx, r, t, p, b, param, c)
		}
	}
}

func cmpErr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// evaluate runs the policy's expressions with one parameter.
func (v validator) evaluate(ctx context.Context, r *match.Request, t match.Target, p *bound, b *binding, param runtime.Object, c *collector) {
	fail := func(i int, err error) {
		if !p.ignore {
			c.found(finding{p.name, b.name, i, err.Error(), metav1.StatusReasonInvalid, b.actions}, r)
		}
	}
	matched, err := p.conditions.Match(ctx, r, t, param)
	if err != nil {
		fail(0, err)
		return
	}
	in, err := r.Input(t, param, true)
	if !matched || err != nil {
		if err != nil {
			fail(0, err)
		}
		return
	}
	run := expression.NewRun(ctx, in, p.compiler, expression.Budget)
	for i := range p.validations {
		one := &p.validations[i]
		result, err := evaluate(run, one.check)
		switch {
		case errors.Is(err, expression.ErrBudget):
			fail(0, err)
			return
		case err != nil:
			fail(i, err)
		case result != types.True:
			text, err := message(ctx, in, p.policy, one, run.Left())
			if err != nil {
				fail(i, err)
				continue
			}
			c.found(finding{p.name, b.name, i, text, one.reason, b.actions}, r)
		}
	}
	v.annotate(ctx, in, p, b, c)
}

// message is what a failed validation says; one that cannot be evaluated is not said.
func message(ctx context.Context, in expression.Input, p *policy, v *validation, budget int64) (string, error) {
	if v.message.Program == nil {
		return v.text, nil
	}
	in.Authorizer, in.RequestResource = nil, nil
	result, err := evaluate(expression.NewRun(ctx, in, p.compiler, budget), v.message)
	if errors.Is(err, expression.ErrBudget) {
		return "", fmt.Errorf("failed messageExpression: %w", err)
	}
	if err != nil {
		return v.text, nil
	}
	text, _ := result.Value().(string)
	text = strings.TrimSpace(text)
	if text == "" || len(text) > maxMessage || strings.Contains(text, "\n") {
		return v.text, nil
	}
	return text, nil
}

// annotate evaluates the policy's audit annotations.
func (v validator) annotate(ctx context.Context, in expression.Input, p *bound, b *binding, c *collector) {
	if len(p.annotations) == 0 {
		return
	}
	run := expression.NewRun(ctx, in, p.compiler, expression.Budget)
	for _, a := range p.annotations {
		result, err := evaluate(run, a.value)
		if err != nil {
			if !p.ignore {
				c.denied = append(c.denied, finding{policy: p.name, binding: b.name, message: err.Error(), reason: metav1.StatusReasonInvalid})
			}
			continue
		}
		if text, ok := result.Value().(string); ok {
			c.annotate(p.name+"/"+a.key, strings.TrimSpace(text))
		}
	}
}

// collector gathers what policies say of one request.
type collector struct {
	r           *match.Request
	denied      []finding
	audited     []finding
	annotations map[string][]string
}

// broken is for a policy or binding that cannot be evaluated.
func (c *collector) broken(p *bound, binding string, err error) {
	if !p.ignore {
		c.denied = append(c.denied, finding{policy: p.name, binding: binding, message: err.Error(), reason: metav1.StatusReasonInvalid})
	}
}

func (c *collector) found(f finding, r *match.Request) {
	for _, action := range f.actions {
		switch action {
		case admissionv1.Deny:
			c.denied = append(c.denied, f)
		case admissionv1.Audit:
			c.audited = append(c.audited, f)
		case admissionv1.Warn:
			if r.Warn != nil {
				r.Warn(fmt.Sprintf("Validation failed for ValidatingAdmissionPolicy '%s' with binding '%s': %s", f.policy, f.binding, f.message))
			}
		}
	}
}

func (c *collector) annotate(key, value string) {
	value = value[:min(len(value), maxAnnotation)]
	if value == "" || slices.Contains(c.annotations[key], value) {
		return
	}
	if c.annotations == nil {
		c.annotations = map[string][]string{}
	}
	c.annotations[key] = append(c.annotations[key], value)
}

// publish gives the audit its annotations.
func (c *collector) publish() {
	if c.r.Annotate == nil {
		return
	}
	for key, values := range c.annotations {
		c.r.Annotate(key, strings.Join(values, ", "))
	}
	if len(c.audited) == 0 {
		return
	}
	var out []map[string]any
	for _, f := range c.audited[:min(len(c.audited), maxFailures)] {
		out = append(out, map[string]any{
			"message": f.message, "policy": f.policy, "binding": f.binding, "expressionIndex": f.index, "validationActions": f.actions,
		})
	}
	value, _ := json.Marshal(out) // strings and numbers
	c.r.Annotate("validation.policy.admission.k8s.io/validation_failure", string(value))
}

var codes = map[metav1.StatusReason]int32{
	metav1.StatusReasonForbidden: http.StatusForbidden, metav1.StatusReasonUnauthorized: http.StatusUnauthorized,
	metav1.StatusReasonRequestEntityTooLarge: http.StatusRequestEntityTooLarge, metav1.StatusReasonInvalid: http.StatusUnprocessableEntity,
}

// refusal is what the client is told.
func (f finding) refusal(a *admission.Attributes) error {
	text := fmt.Sprintf("ValidatingAdmissionPolicy '%s' with binding '%s' denied request: %s", f.policy, f.binding, f.message)
	if f.binding == "" {
		text = fmt.Sprintf("ValidatingAdmissionPolicy '%s' denied request: %s", f.policy, f.message)
	}
	err := admission.Forbidden(a, errors.New(text))
	var status *apierrors.StatusError
	if !errors.As(err, &status) {
		return err
	}
	s := &status.ErrStatus
	s.Reason, s.Code = f.reason, codes[f.reason]
	if s.Code == 0 {
		s.Code = http.StatusUnprocessableEntity
	}
	s.Details.Causes = append(s.Details.Causes, metav1.StatusCause{Message: text})
	return status
}
