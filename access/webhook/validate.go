package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"

	admissionv1 "k8s.io/api/admission/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/access/admission"
	"github.com/proa-dev/proa/access/admission/match"
	"github.com/proa-dev/proa/apis/admissionregistration"
)

// validator asks the validating webhooks.
type validator struct{ w *Webhooks }

// call is one webhook that is asked about one request.
type call struct {
	*hook
	to      admission.Observer
	request *admissionv1.AdmissionRequest
	answer  *admissionv1.AdmissionResponse
	err     error
}

func (v validator) Validate(ctx context.Context, a *admission.Attributes) error {
	hooks := v.w.validating.hooks(v.w)
	if len(hooks) == 0 || admissionregistration.Excluded(a.Kind.Group, a.Kind.Resource.Resource) {
		return nil
	}
	r := match.NewRequest(ctx, &v.w.env, a)
	calls, err := v.calls(ctx, r, hooks)
	if err != nil || len(calls) == 0 {
		return err
	}
	if ctx.Err() != nil {
		return timedOut()
	}
	var group sync.WaitGroup
	for _, c := range calls {
		group.Go(func() { v.w.guarded(ctx, c) })
	}
	group.Wait()
	for _, c := range calls {
		if c.answer != nil {
			c.note(r, c.answer)
		}
	}
	for i, c := range calls {
		if err := v.w.judge(c, r, i); err != nil {
			return err
		}
	}
	return nil
}

func timedOut() error {
	return apierrors.NewTimeoutError("request did not complete within requested timeout", 0)
}

// calls finds who is to be asked; the object is encoded once for each version.
func (v validator) calls(ctx context.Context, r *match.Request, hooks []*hook) ([]*call, error) {
	var out []*call
	made := map[schema.GroupVersionKind]*admissionv1.AdmissionRequest{}
	for _, h := range hooks {
		t, ok, err := h.wants(ctx, r)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		encoded := made[t.GVK]
		if encoded == nil {
			if encoded, err = encode(r, t); err != nil {
				return nil, apierrors.NewInternalError(err)
			}
			made[t.GVK] = encoded
		}
		request := r.Review(t)
		request.Object, request.OldObject = encoded.Object, encoded.OldObject
		out = append(out, &call{hook: h, to: r.Observer, request: request})
	}
	return out, nil
}

// encode describes a request with its objects as JSON.
func encode(r *match.Request, t match.Target) (*admissionv1.AdmissionRequest, error) {
	out := r.Review(t)
	obj, old, err := r.In(t)
	if err != nil {
		return nil, err
	}
	if out.Object, err = raw(obj); err != nil {
		return nil, err
	}
	out.OldObject, err = raw(old)
	return out, err
}

func raw(obj runtime.Object) (runtime.RawExtension, error) {
	if obj == nil {
		return runtime.RawExtension{}, nil
	}
	data, err := json.Marshal(obj)
	return runtime.RawExtension{Raw: data}, err
}

// guarded asks; a panic is an error of this call alone.
func (w *Webhooks) guarded(ctx context.Context, c *call) {
	defer func() {
		if p := recover(); p != nil {
			w.log.Error("panic calling webhook", "webhook", c.Name, "panic", p, "stack", string(debug.Stack()))
			c.err = &callError{c.Name, fmt.Errorf("panicked: %v", p)}
		}
	}()
	c.answer, c.err = c.ask(ctx, c.to, c.request, false)
}

// judge makes of an answer, or of none, what the client is told.
func (w *Webhooks) judge(c *call, r *match.Request, index int) error {
	var failed *callError
	switch {
	case c.err == nil && c.answer.Allowed:
		return nil
	case c.err == nil:
		return c.denied(c.answer.Result)
	case !errors.As(c.err, &failed):
		return c.err
	case !c.ignores():
		return apierrors.NewInternalError(c.err)
	}
	w.log.Warn("webhook failed, the request passes", "webhook", c.Name, "err", c.err)
	if r.Annotate != nil {
		r.Annotate(fmt.Sprintf("failed-open.validating.webhook.admission.k8s.io/round_0_index_%d", index), c.Name)
	}
	return nil
}
