package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	kjson "sigs.k8s.io/json"

	"github.com/proa-dev/proa/access/admission"
	"github.com/proa-dev/proa/access/admission/match"
	"github.com/proa-dev/proa/apis/admissionregistration"
)

// mutator asks the mutating webhooks.
type mutator struct{ w *Webhooks }

// rounds is what the second round must know of the first: a webhook that wants to be
// asked again is, if something changed the object after it.
type rounds struct {
	asked  map[string]bool // want to be asked again if needed
	needed map[string]bool // are
	last   runtime.Object  // as the webhooks left it; nil when nobody wants to be asked again
}

func (s *rounds) changed() {
	for id := range s.asked {
		s.needed[id] = true
	}
	clear(s.asked)
}

func (m mutator) Mutate(ctx context.Context, a *admission.Attributes) error {
	hooks := m.w.mutating.hooks(m.w)
	if len(hooks) == 0 || admissionregistration.Excluded(a.Kind.Group, a.Kind.Resource.Resource) {
		return nil
	}
	state, _ := a.Kept(m).(*rounds)
	if state == nil {
		state = &rounds{asked: map[string]bool{}, needed: map[string]bool{}}
		a.Keep(m, state)
	}
	if a.Second() && state.last != nil && !equality.Semantic.DeepEqual(state.last, a.Object) {
		state.changed()
	}
	r := match.NewRequest(ctx, &m.w.env, a)
	for i, h := range hooks {
		if err := m.one(ctx, r, h, state, i); err != nil {
			return err
		}
	}
	if len(state.asked) > 0 && a.Object != nil {
		state.last = a.Object.DeepCopyObject()
	}
	return nil
}

// one asks one webhook, if it is to be asked.
func (m mutator) one(ctx context.Context, r *match.Request, h *hook, state *rounds, index int) error {
	t, ok, err := h.wants(ctx, r)
	if err != nil || !ok || r.Second() && !state.needed[h.id] {
		return err
	}
	request, err := encode(r, t)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	changed, err := m.apply(ctx, r, h, t, request)
	if changed {
		state.changed()
		r.Again()
	}
	if h.ReinvocationPolicy != nil && *h.ReinvocationPolicy == registrationv1.IfNeededReinvocationPolicy {
		state.asked[h.id] = true
	}
	round := 0
	if r.Second() {
		round = 1
	}
	if r.Annotate != nil {
		value, _ := json.Marshal(map[string]any{"configuration": h.configuration, "webhook": h.Name, "mutated": changed}) // strings and a bool
		r.Annotate(fmt.Sprintf("mutation.webhook.admission.k8s.io/round_%d_index_%d", round, index), string(value))
	}
	var failed *callError
	switch {
	case err == nil || !errors.As(err, &failed):
		return err
	case !h.ignores():
		return apierrors.NewInternalError(err)
	case ctx.Err() != nil:
		return timedOut()
	}
	m.w.log.Warn("webhook failed, the request passes", "webhook", h.Name, "err", err)
	if r.Annotate != nil {
		r.Annotate(fmt.Sprintf("failed-open.mutation.webhook.admission.k8s.io/round_%d_index_%d", round, index), h.Name)
	}
	return nil
}

// apply asks and does what the answer says.
func (m mutator) apply(ctx context.Context, r *match.Request, h *hook, t match.Target, request *admissionv1.AdmissionRequest) (changed bool, err error) {
	answer, err := h.ask(ctx, r.Observer, request, true)
	if err != nil {
		return false, err
	}
	h.note(r, answer)
	if !answer.Allowed {
		return false, h.denied(answer.Result)
	}
	if len(answer.Patch) == 0 {
		return false, nil
	}
	operations, err := jsonpatch.DecodePatch(answer.Patch)
	if err != nil {
		return false, &callError{h.Name, fmt.Errorf("received undecodable patch in webhook response: %w", err)}
	}
	if len(operations) == 0 {
		return false, nil
	}
	if r.Object == nil {
		return false, apierrors.NewInternalError(fmt.Errorf("admission webhook %q attempted to modify the object, which is not supported for this operation", h.Name))
	}
	if answer.PatchType == nil || *answer.PatchType != admissionv1.PatchTypeJSONPatch {
		return false, &callError{h.Name, fmt.Errorf("unsupported patch type %q", *answer.PatchType)}
	}
	after, err := operations.Apply(request.Object.Raw)
	if err != nil {
		return false, apierrors.NewInternalError(err)
	}
	changed, err = set(r, t, after)
	if err != nil {
		return false, apierrors.NewInternalError(err)
	}
	return changed, nil
}

// set makes the JSON of a changed object the request's object.
func set(r *match.Request, t match.Target, data []byte) (changed bool, err error) {
	before, _, err := r.In(t)
	if err != nil {
		return false, err
	}
	obj := r.New(t)
	if u, ok := obj.(*unstructured.Unstructured); ok {
		u.Object = map[string]any{}
		err = kjson.UnmarshalCaseSensitivePreserveInts(data, &u.Object)
	} else {
		err = kjson.UnmarshalCaseSensitivePreserveInts(data, obj)
	}
	if err != nil {
		return false, fmt.Errorf("decode the patched object: %w", err)
	}
	if got := obj.GetObjectKind().GroupVersionKind(); got != t.GVK {
		return false, fmt.Errorf("a webhook may not change the kind of an object from %v to %v", t.GVK, got)
	}
	changed = !equality.Semantic.DeepEqual(before, obj)
	return changed, r.Set(t, obj)
}
