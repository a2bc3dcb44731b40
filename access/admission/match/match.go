// Package match finds out what a webhook or policy has to do with a request: whether its
// rules and selectors apply, in which version it wants to see the object, and what its
// match conditions say.
//
// The one idea: a Request is one write with all its forms, each made when first needed;
// everything else is a pure question to it.
//
// Used by access/webhook and access/policy.
package match

import (
	"context"
	"fmt"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/access/admission"
	"github.com/proa-dev/proa/apis/api"
)

// Kinds knows all kinds that are served now, custom resources among them.
type Kinds interface {
	// Equivalents are the other kinds that the same stored objects are served as: other
	// versions, or other groups.
	Equivalents(*api.Kind) []*api.Kind
	// Find gives the kind of a name, nil when it is not served.
	Find(schema.GroupVersionKind) *api.Kind
	// Convert gives an object, which it may change, as another of the Equivalents.
	Convert(ctx context.Context, obj api.Object, from, to *api.Kind) (api.Object, error)
	// View gives a stored object as the kind; it is read-only.
	View(ctx context.Context, k *api.Kind, stored api.Object) (api.Object, error)
	// Tidy brings a changed object into form: no fields that are none, and defaults.
	Tidy(*api.Kind, api.Object) error
}

var namespaces = schema.GroupResource{Resource: "namespaces"}

// Target is the form in which a hook wants a request.
type Target struct {
	Kind     *api.Kind
	GVK      schema.GroupVersionKind // of the object
	Resource schema.GroupVersionResource
}

// Rules says whether one of the rules applies, and to which form of the request.
func (r *Request) Rules(rules []admissionv1.RuleWithOperations, policy *admissionv1.MatchPolicyType) (Target, bool) {
	for i := range rules {
		if r.rule(&rules[i], r.Kind.Resource) {
			return Target{Kind: r.Kind, GVK: r.GVK(), Resource: r.Kind.Resource}, true
		}
	}
	if policy != nil && *policy == admissionv1.Exact {
		return Target{}, false
	}
	for i := range rules {
		for _, k := range r.equivalents() {
			if !r.rule(&rules[i], k.Resource) {
				continue
			}
			t := Target{Kind: k, GVK: k.GroupVersionKind, Resource: k.Resource}
			if !r.Whole() {
				t.GVK = r.GVK()
			}
			return t, true
		}
	}
	return Target{}, false
}

func (r *Request) equivalents() []*api.Kind {
	if !r.asked {
		r.asked = true
		r.others = r.env.Kinds.Equivalents(r.Kind)
	}
	return r.others
}

func (r *Request) rule(rule *admissionv1.RuleWithOperations, gvr schema.GroupVersionResource) bool {
	return has(rule.APIGroups, gvr.Group) && has(rule.APIVersions, gvr.Version) &&
		r.operation(rule.Operations) && r.resource(rule.Resources, gvr.Resource) && r.scope(rule.Scope)
}

func has(names []string, name string) bool {
	return slices.Contains(names, name) || slices.Contains(names, "*")
}

func (r *Request) operation(ops []admissionv1.OperationType) bool {
	return slices.Contains(ops, admissionv1.OperationType(r.Operation)) || slices.Contains(ops, admissionv1.OperationAll)
}

func (r *Request) resource(names []string, resource string) bool {
	for _, n := range names {
		res, sub, _ := strings.Cut(n, "/")
		if (res == "*" || res == resource) && (sub == "*" || sub == r.Subresource) {
			return true
		}
	}
	return false
}

func (r *Request) scope(s *admissionv1.ScopeType) bool {
	switch {
	case s == nil || *s == admissionv1.AllScopes:
		return true
	case *s == admissionv1.NamespacedScope:
		return r.Kind.Namespaced
	}
	return !r.Kind.Namespaced
}

// Named is Rules for rules that may also name objects.
func (r *Request) Named(rules []admissionv1.NamedRuleWithOperations, policy *admissionv1.MatchPolicyType) (Target, bool) {
	for i := range rules {
		names := rules[i].ResourceNames
		if len(names) > 0 && !slices.Contains(names, r.Name) {
			continue
		}
		if t, ok := r.Rules([]admissionv1.RuleWithOperations{rules[i].RuleWithOperations}, policy); ok {
			return t, true
		}
	}
	return Target{}, false
}

// Selector is a label selector, parsed once.
type Selector struct {
	labels.Selector
	Err error
}

// NewSelector parses; nil is everything.
func NewSelector(s *metav1.LabelSelector) Selector {
	if s == nil {
		return Selector{Selector: labels.Everything()}
	}
	parsed, err := metav1.LabelSelectorAsSelector(s)
	return Selector{parsed, err}
}

// InNamespace says whether the labels of the request's namespace (of the namespace itself,
// if it is one) match. Objects outside of namespaces always do.
func (r *Request) InNamespace(s Selector) (bool, error) {
	if s.Err != nil {
		return false, apierrors.NewInternalError(s.Err)
	}
	if s.Empty() || r.Namespace == "" && r.Kind.GroupResource() != namespaces {
		return true, nil
	}
	if r.Kind.GroupResource() == namespaces {
		for _, o := range []runtime.Object{r.Object, r.old()} {
			if m, ok := o.(metav1.Object); ok && r.Whole() {
				return s.Matches(labels.Set(m.GetLabels())), nil
			}
		}
		return s.Matches(labels.Set(nil)), nil
	}
	ns, ok := r.env.Reader.Get(namespaces, "", r.Namespace)
	if !ok {
		return false, apierrors.NewNotFound(namespaces, r.Namespace)
	}
	return s.Matches(labels.Set(ns.GetLabels())), nil
}

// Labelled says whether the object's labels match, before or after the change.
func (r *Request) Labelled(s Selector) (bool, error) {
	if s.Err != nil {
		return false, apierrors.NewInternalError(s.Err)
	}
	if s.Empty() {
		return true, nil
	}
	for _, o := range []runtime.Object{r.Object, r.old()} {
		if m, ok := o.(metav1.Object); ok && s.Matches(labels.Set(m.GetLabels())) {
			return true, nil
		}
	}
	return false, nil
}

// Request is one write with its objects in each version that was asked for. Not safe for
// concurrent use.
type Request struct {
	*admission.Attributes
	ctx    context.Context //nolint:containedctx // the request's own
	env    *Env
	asked  bool
	others []*api.Kind
}

// NewRequest looks at a write.
func NewRequest(ctx context.Context, env *Env, a *admission.Attributes) *Request {
	return &Request{Attributes: a, ctx: ctx, env: env}
}

func (r *Request) old() runtime.Object {
	if r.Old == nil {
		return nil
	}
	return r.Old
}

// In gives the objects as the target wants them; nil where there is none. They are
// read-only.
func (r *Request) In(t Target) (obj, old runtime.Object, err error) {
	if obj, err = r.convert(r.Object, r.Kind, t.Kind); err != nil {
		return nil, nil, err
	}
	old, err = r.convert(r.old(), r.Kind, t.Kind)
	return kinded(obj, t.GVK), kinded(old, t.GVK), err
}

// kinded makes sure that an object says what it is; stored ones do.
func kinded(obj runtime.Object, gvk schema.GroupVersionKind) runtime.Object {
	if obj == nil || obj.GetObjectKind().GroupVersionKind() == gvk {
		return obj
	}
	obj = obj.DeepCopyObject()
	obj.GetObjectKind().SetGroupVersionKind(gvk)
	return obj
}

// convert takes an object from one served version to another, by way of the stored one.
func (r *Request) convert(obj runtime.Object, from, to *api.Kind) (runtime.Object, error) {
	if obj == nil || from == to || !r.Whole() {
		return obj, nil
	}
	o, ok := obj.(api.Object)
	if !ok {
		return nil, fmt.Errorf("failed to convert object version: %T is no object", obj)
	}
	o, err := r.env.Kinds.Convert(r.ctx, o.DeepCopyObject().(api.Object), from, to)
	if err != nil {
		return nil, fmt.Errorf("failed to convert object version: %w", err)
	}
	o.GetObjectKind().SetGroupVersionKind(to.GroupVersionKind)
	return o, nil
}
