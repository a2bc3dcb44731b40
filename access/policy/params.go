package policy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/access/admission/match"
	"github.com/proa-dev/proa/apis/api"
)

// paramKind finds the kind of a policy's parameters; nil when it has none.
func (p *Policies) paramKind(of *policy) (*api.Kind, error) {
	if of.params == nil {
		return nil, nil
	}
	gv, err := schema.ParseGroupVersion(of.params.APIVersion)
	if err != nil {
		return nil, err
	}
	gvk := gv.WithKind(of.params.Kind)
	k := p.env.Kinds.Find(gvk)
	if k == nil || k.Virtual != nil {
		return nil, fmt.Errorf("failed to find resource referenced by paramKind: '%v'", gvk)
	}
	return k, nil
}

// paramsOf gives the parameters with which a policy is evaluated, once with each; one nil
// for a policy or binding that has none.
func (p *Policies) paramsOf(ctx context.Context, k *api.Kind, b *binding, r *match.Request) ([]runtime.Object, error) {
	ref := b.params
	if k == nil || ref == nil {
		return []runtime.Object{nil}, nil
	}
	namespace := ""
	switch {
	case !k.Namespaced && ref.Namespace != "":
		return nil, errors.New("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
	case k.Namespaced && ref.Namespace != "":
		namespace = ref.Namespace
	case k.Namespaced && r.Namespace == "":
		return nil, errors.New("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources")
	case k.Namespaced:
		namespace = r.Namespace
	}
	found, err := p.find(ctx, k, b, namespace)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 && ref.ParameterNotFoundAction != nil && *ref.ParameterNotFoundAction == admissionv1.DenyAction {
		return nil, errors.New("no params found for policy binding with `Deny` parameterNotFoundAction")
	}
	return found, nil
}

func (p *Policies) find(ctx context.Context, k *api.Kind, b *binding, namespace string) ([]runtime.Object, error) {
	stored := k.GroupResource()
	if k.Stored != nil {
		stored.Group = k.Stored.Group
	}
	var all []api.Object
	switch {
	case b.params.Name != "":
		if o, ok := p.env.Reader.Get(stored, namespace, b.params.Name); ok {
			all = append(all, o)
		}
	case b.selector.Err != nil:
		return nil, b.selector.Err
	default:
		for _, o := range p.env.Reader.List(stored, namespace) {
			if b.selector.Matches(labels.Set(o.GetLabels())) {
				all = append(all, o)
			}
		}
		slices.SortFunc(all, func(a, b api.Object) int {
			return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
		})
	}
	out := make([]runtime.Object, 0, len(all))
	for _, o := range all {
		o, err := p.env.Kinds.View(ctx, k, o)
		if err != nil {
			return nil, err
		}
		if o.GetObjectKind().GroupVersionKind() != k.GroupVersionKind {
			o = o.DeepCopyObject().(api.Object)
			o.GetObjectKind().SetGroupVersionKind(k.GroupVersionKind)
		}
		out = append(out, o)
	}
	return out, nil
}
