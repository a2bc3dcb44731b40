package policy

import (
	"context"
	"fmt"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/access/admission"
	"github.com/proa-dev/proa/apis/admissionregistration"
	"github.com/proa-dev/proa/apis/api"
)

// Parameters is the step that keeps users from reading by a policy what they may not read:
// who writes a policy must be able to read its kind of parameters, who writes a binding
// the parameters that it names.
func (p *Policies) Parameters() admission.Step {
	return admission.Step{Name: "PolicyParameters", Validator: parameters{p}}
}

type parameters struct{ p *Policies }

func (s parameters) Validate(ctx context.Context, a *admission.Attributes) error {
	if a.Kind.Group != admissionv1.GroupName || a.Subresource != "" || a.Operation != admission.Create && a.Operation != admission.Update {
		return nil
	}
	var wrong *field.Error
	if b := newBinding(written(a)); b != nil {
		if old := newBinding(a.Old); old == nil || old.policy != b.policy || !equality.Semantic.DeepEqual(old.params, b.params) {
			wrong = s.ofBinding(ctx, a.User, s.kindFor(a.Kind, b.policy), b.params)
		}
	} else if kind := kindOf(written(a)); a.Old == nil || !equality.Semantic.DeepEqual(kindOf(a.Old), kind) {
		wrong = s.ofPolicy(ctx, a.User, kind)
	}
	if wrong != nil {
		return apierrors.NewInvalid(a.Kind.GroupKind(), a.Name, field.ErrorList{wrong})
	}
	return nil
}

func written(a *admission.Attributes) api.Object {
	obj, _ := a.Object.(api.Object)
	return obj
}

// kindOf is the kind of a policy's parameters; nil when it has none, or is no policy.
func kindOf(obj api.Object) *admissionv1.ParamKind {
	switch p := obj.(type) {
	case *admissionv1.ValidatingAdmissionPolicy:
		return p.Spec.ParamKind
	case *admissionv1.MutatingAdmissionPolicy:
		return p.Spec.ParamKind
	}
	return nil
}

// kindFor is that of the policy that a binding of the kind names.
func (s parameters) kindFor(binding *api.Kind, policy string) *admissionv1.ParamKind {
	of := admissionregistration.ValidatingAdmissionPolicies
	if binding == admissionregistration.MutatingAdmissionPolicyBindings {
		of = admissionregistration.MutatingAdmissionPolicies
	}
	stored, _ := s.p.env.Reader.Get(of.GroupResource(), "", policy)
	return kindOf(stored)
}

// resource is what a user must be able to read; everything that is not known is all.
func (s parameters) resource(kind *admissionv1.ParamKind) access.Attributes {
	out := access.Attributes{Resource: true, Group: "*", Version: "*", Plural: "*"}
	if kind == nil {
		return out
	}
	gv, err := schema.ParseGroupVersion(kind.APIVersion)
	if err != nil {
		return out
	}
	out.Group, out.Version = gv.Group, gv.Version
	if k := s.p.env.Kinds.Find(gv.WithKind(kind.Kind)); k != nil {
		out.Plural = k.Resource.Resource
	}
	return out
}

func (s parameters) may(ctx context.Context, u *api.User, q access.Attributes) bool {
	q.User = u
	d, _ := s.p.env.Authorizer.Authorize(ctx, &q)
	return d == access.Allow
}

func (s parameters) ofPolicy(ctx context.Context, u *api.User, kind *admissionv1.ParamKind) *field.Error {
	if kind == nil || u == nil {
		return nil
	}
	q := s.resource(kind)
	q.Verb, q.Name, q.Namespace = "get", "*", "*"
	if s.may(ctx, u, q) {
		return nil
	}
	return field.Forbidden(field.NewPath("spec", "paramKind"), fmt.Sprintf(
		`user %v must have "get" permission on all objects of the referenced paramKind (kind=%s, apiVersion=%s)`, u.Name, kind.Kind, kind.APIVersion))
}

func (s parameters) ofBinding(ctx context.Context, u *api.User, kind *admissionv1.ParamKind, ref *admissionv1.ParamRef) *field.Error {
	if ref == nil || u == nil {
		return nil
	}
	q := s.resource(kind)
	q.Verb, q.Name, q.Namespace = "get", ref.Name, ref.Namespace
	if q.Name == "" {
		q.Verb = "list"
	}
	if s.may(ctx, u, q) {
		return nil
	}
	return field.Forbidden(field.NewPath("spec", "paramRef"), fmt.Sprintf(
		`user %v does not have %q permission on the object referenced by paramRef`, u.Name, q.Verb))
}
