package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/deprecation"
	genericrequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/warning"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
)

func judge(r request) (answer, error) {
	obj, gvk, err := decode(r.Object)
	if err != nil {
		return answer{}, err
	}
	rules, ok := kinds[gvk.GroupKind()]
	if !ok {
		return answer{}, fmt.Errorf("no rules for %s", gvk)
	}
	accessor, err := meta.Accessor(obj)
	if err != nil {
		return answer{}, err
	}
	var a answer
	if !r.DefaultsOnly {
		ctx := contextFor(gvk, accessor.GetNamespace(), r.Sub, &a)
		if err := rules.apply(ctx, r, obj); err != nil {
			var status *apierrors.StatusError
			if !errors.As(err, &status) {
				return answer{}, err
			}
			if !apierrors.IsInvalid(err) {
				return answer{Errors: []string{status.ErrStatus.Message}}, nil
			}
			for _, c := range status.ErrStatus.Details.Causes {
				a.Errors = append(a.Errors, c.Field+": "+c.Message)
			}
			return a, nil
		}
	}
	if versioned, err := legacyscheme.Scheme.New(gvk); err == nil && !r.DefaultsOnly && deprecation.IsDeprecated(versioned, 1, 37) {
		a.Warnings = append(a.Warnings, deprecation.WarningMessage(versioned))
	}
	if rules.check != nil { // what it answers is not judged
		return a, nil
	}
	text, err := encode(rules, gvk, obj)
	if err != nil {
		return answer{}, err
	}
	// A client is answered with what was read back from the store, once more with defaults.
	stored, _, err := decode(text)
	if err != nil {
		return answer{}, err
	}
	a.Object, err = encode(rules, gvk, stored)
	return a, err
}

func encode(k rules, gvk schema.GroupVersionKind, obj runtime.Object) (json.RawMessage, error) {
	var text bytes.Buffer
	err := k.codecs().LegacyCodec(gvk.GroupVersion()).Encode(obj, &text)
	return text.Bytes(), err
}

func (k rules) apply(ctx context.Context, r request, obj runtime.Object) error {
	if r.Old == nil {
		if k.create == nil {
			return k.review(obj)
		}
		if k.before != nil {
			k.before(obj)
		}
		return rest.BeforeCreate(k.create, ctx, obj)
	}
	strategy, ok := k.update[r.Sub]
	if !ok {
		return fmt.Errorf("no rules for subresource %q", r.Sub)
	}
	old, _, err := decode(r.Old)
	if err != nil {
		return err
	}
	return rest.BeforeUpdate(strategy, ctx, obj, old)
}

// decode gives the internal form with its defaults.
func decode(text json.RawMessage) (runtime.Object, schema.GroupVersionKind, error) {
	var head runtime.TypeMeta
	if err := json.Unmarshal(text, &head); err != nil {
		return nil, schema.GroupVersionKind{}, err
	}
	gvk := schema.FromAPIVersionAndKind(head.APIVersion, head.Kind)
	obj, _, err := kinds[gvk.GroupKind()].codecs().UniversalDecoder().Decode(text, nil, nil)
	return obj, gvk, err
}

// warnings keeps what a client would be warned of.
type warnings struct{ *answer }

func (w warnings) AddWarning(_, text string) { w.Warnings = append(w.Warnings, text) }

func contextFor(gvk schema.GroupVersionKind, namespace, sub string, a *answer) context.Context {
	ctx := genericrequest.WithNamespace(context.Background(), namespace)
	ctx = genericrequest.WithUser(ctx, &user.DefaultInfo{Name: "someone", Groups: []string{"system:authenticated"}})
	ctx = genericrequest.WithRequestInfo(ctx, &genericrequest.RequestInfo{
		APIGroup: gvk.Group, APIVersion: gvk.Version, Subresource: sub, IsResourceRequest: true,
	})
	return warning.WithWarningRecorder(ctx, warnings{a})
}
