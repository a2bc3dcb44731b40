package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	admissionv1 "k8s.io/api/admission/v1"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/proa-dev/proa/access/admission"
	"github.com/proa-dev/proa/access/admission/match"
)

// callError is a failure to ask, as opposed to an answer.
type callError struct {
	hook   string
	reason error
}

func (e *callError) Error() string {
	return fmt.Sprintf("failed calling webhook %q: %v", e.hook, e.reason)
}
func (e *callError) Unwrap() error { return e.reason }

// wants says whether the webhook is to be asked, and about which form of the request.
func (h *hook) wants(ctx context.Context, r *match.Request) (match.Target, bool, error) {
	if ok, err := r.InNamespace(h.namespaces); !ok || err != nil {
		return match.Target{}, false, err
	}
	if ok, err := r.Labelled(h.labels); !ok || err != nil {
		return match.Target{}, false, err
	}
	t, ok := r.Rules(h.Rules, h.MatchPolicy)
	if !ok {
		return t, false, nil
	}
	ok, err := h.conditions.Match(ctx, r, t, nil)
	if err != nil {
		if h.ignores() {
			return t, false, nil
		}
		return t, false, apierrors.NewForbidden(r.Kind.GroupResource(), r.Name, err)
	}
	return t, ok, nil
}

// review is the question in the newest form that the webhook speaks.
func (h *hook) review(request *admissionv1.AdmissionRequest) (*admissionv1.AdmissionReview, error) {
	for _, v := range h.AdmissionReviewVersions {
		if v == "v1" || v == "v1beta1" { // the two look the same
			one := *request
			one.UID = types.UID(uuid.NewString())
			return &admissionv1.AdmissionReview{
				TypeMeta: metav1.TypeMeta{APIVersion: admissionv1.GroupName + "/" + v, Kind: "AdmissionReview"}, Request: &one,
			}, nil
		}
	}
	return nil, errors.New("webhook does not accept known AdmissionReview versions (v1, v1beta1)")
}

// ask sends the question and has the answer counted. Errors are *callError, or an
// *apierrors.StatusError for what is not asked at all.
func (h *hook) ask(ctx context.Context, to admission.Observer, request *admissionv1.AdmissionRequest, mutating bool) (*admissionv1.AdmissionResponse, error) {
	begun := time.Now()
	answer, err := h.send(ctx, request, mutating)
	if to == nil {
		return answer, err
	}
	call := admission.WebhookCall{
		Name: h.Name, Phase: admission.Validate, Operation: admission.Operation(request.Operation), Took: time.Since(begun),
	}
	if mutating {
		call.Phase = admission.Admit
	}
	switch {
	case err != nil:
		var failed *callError
		call.Failed = true
		call.FailedOpen = errors.As(err, &failed) && h.ignores()
		call.Rejected = !call.FailedOpen
	case answer.Allowed:
		call.Code = http.StatusOK
	default:
		call.Rejected, call.Code = true, http.StatusBadRequest
		if answer.Result != nil {
			call.Code = int(max(answer.Result.Code, http.StatusBadRequest))
		}
	}
	to.Webhook(call)
	return answer, err
}

func (h *hook) send(ctx context.Context, request *admissionv1.AdmissionRequest, mutating bool) (*admissionv1.AdmissionResponse, error) {
	failed := func(what string, err error) error { return &callError{h.Name, fmt.Errorf("%s: %w", what, err)} }
	if request.DryRun != nil && *request.DryRun {
		if h.SideEffects == nil || *h.SideEffects != registrationv1.SideEffectClassNone && *h.SideEffects != registrationv1.SideEffectClassNoneOnDryRun {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("admission webhook %q does not support dry run", h.Name))
		}
	}
	question, err := h.review(request)
	if err != nil {
		return nil, failed("could not create admission objects", err)
	}
	if h.broken != nil {
		return nil, failed("could not get REST client", h.broken)
	}
	if h.TimeoutSeconds != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(*h.TimeoutSeconds)*time.Second)
		defer cancel()
	}
	answer := &admissionv1.AdmissionReview{}
	if err := h.client.Call(ctx, question, answer); err != nil {
		return nil, failed("failed to call webhook", err)
	}
	if err := verify(question, answer, mutating); err != nil {
		return nil, failed("received invalid webhook response", err)
	}
	return answer.Response, nil
}

// verify checks that an answer is one to the question.
func verify(question, answer *admissionv1.AdmissionReview, mutating bool) error {
	r := answer.Response
	if r == nil {
		return errors.New("webhook response was absent")
	}
	if question.APIVersion != admissionv1.SchemeGroupVersion.String() { // v1beta1 was never strict
		if len(r.Patch) > 0 {
			json := admissionv1.PatchTypeJSONPatch
			r.PatchType = &json
		}
		if !mutating {
			r.Patch, r.PatchType = nil, nil
		}
		return nil
	}
	switch {
	case r.UID != question.Request.UID:
		return fmt.Errorf("expected response.uid=%q, got %q", question.Request.UID, r.UID)
	case answer.GroupVersionKind() != question.GroupVersionKind():
		return fmt.Errorf("expected webhook response of %v, got %v", question.GroupVersionKind(), answer.GroupVersionKind())
	case !mutating && len(r.Patch) > 0:
		return errors.New("validating webhook may not return response.patch")
	case !mutating && r.PatchType != nil:
		return errors.New("validating webhook may not return response.patchType")
	case len(r.Patch) > 0 && r.PatchType == nil:
		return errors.New("webhook returned response.patch but not response.patchType")
	case len(r.Patch) == 0 && r.PatchType != nil:
		return errors.New("webhook returned response.patchType but not response.patch")
	case r.PatchType != nil && *r.PatchType == "":
		return fmt.Errorf("webhook returned invalid response.patchType of %q", *r.PatchType)
	}
	return nil
}

// denied is the refusal of a webhook; what it leaves out of the status is filled in.
func (h *hook) denied(s *metav1.Status) error {
	by := fmt.Sprintf("admission webhook %q denied the request", h.Name)
	if s == nil {
		s = &metav1.Status{}
	}
	s.Code = max(s.Code, http.StatusBadRequest)
	if s.Status == "" || s.Status == metav1.StatusSuccess {
		s.Status = metav1.StatusFailure
	}
	switch {
	case s.Message != "":
		s.Message = by + ": " + s.Message
	case s.Reason != "":
		s.Message = by + ": " + string(s.Reason)
	default:
		s.Message = by + " without explanation"
	}
	return &apierrors.StatusError{ErrStatus: *s}
}

// note passes on what an answer has for client and audit.
func (h *hook) note(r *match.Request, answer *admissionv1.AdmissionResponse) {
	if r.Annotate != nil {
		for k, v := range answer.AuditAnnotations {
			r.Annotate(h.Name+"/"+k, v)
		}
	}
	if r.Warn != nil {
		for _, text := range answer.Warnings {
			r.Warn(text)
		}
	}
}
