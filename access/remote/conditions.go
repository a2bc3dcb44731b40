package remote

import (
	"context"

	"github.com/google/cel-go/cel"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	apicel "k8s.io/apiserver/pkg/cel"

	"github.com/proa-dev/proa/internal/expression"
)

// conditions say which requests a webhook is asked about: those for which all are true.
type conditions []*expression.Single

// match: one that is false decides, also when another failed.
func (c conditions) match(ctx context.Context, spec *authorizationv1.SubjectAccessReviewSpec) (bool, error) {
	if len(c) == 0 {
		return true, nil
	}
	request, failed := seen(spec), error(nil)
	for _, e := range c {
		ok, err := e.True(ctx, request)
		switch {
		case err != nil:
			failed = err
		case !ok:
			return false, nil
		}
	}
	return failed == nil, failed
}

func compile(list []apiserverv1.WebhookMatchCondition, p *field.Path) (conditions, field.ErrorList) {
	if len(list) == 0 {
		return nil, nil
	}
	env, err := expression.NewEnv("request", requestType())
	if err != nil {
		return nil, field.ErrorList{field.InternalError(p, err)}
	}
	var out conditions
	var errs field.ErrorList
	for i, m := range list {
		at := p.Index(i).Child("expression")
		if m.Expression == "" {
			errs = append(errs, field.Required(at, ""))
			continue
		}
		single, err := env.Compile(m.Expression, cel.BoolType)
		if err != nil {
			errs = append(errs, field.Invalid(at, m.Expression, err.Error()))
			continue
		}
		out = append(out, single)
	}
	if len(list) > maxConditions {
		errs = append(errs, field.TooMany(p, len(list), maxConditions))
	}
	return out, errs
}

// requestType is a SubjectAccessReviewSpec.
func requestType() *apicel.DeclType {
	text := apicel.StringType
	list := func(of *apicel.DeclType) *apicel.DeclType { return apicel.NewListType(of, -1) }
	object := func(name string, fields map[string]*apicel.DeclType) *apicel.DeclType {
		out := make(map[string]*apicel.DeclField, len(fields))
		for n, t := range fields {
			out[n] = apicel.NewDeclField(n, t, false, nil, nil)
		}
		return apicel.NewObjectType("kubernetes."+name, out)
	}
	term := object("SelectorRequirement", map[string]*apicel.DeclType{"key": text, "operator": text, "values": list(text)})
	selector := object("SelectorAttributes", map[string]*apicel.DeclType{"rawSelector": text, "requirements": list(term)})
	return object("SubjectAccessReviewSpec", map[string]*apicel.DeclType{
		"resourceAttributes": object("ResourceAttributes", map[string]*apicel.DeclType{
			"namespace": text, "verb": text, "group": text, "version": text, "resource": text, "subresource": text, "name": text,
			"fieldSelector": selector, "labelSelector": selector,
		}),
		"nonResourceAttributes": object("NonResourceAttributes", map[string]*apicel.DeclType{"path": text, "verb": text}),
		"user":                  text, "groups": list(text), "uid": text, "extra": apicel.NewMapType(text, list(text), -1),
	})
}

// seen is a review as expressions see it: what is empty is there, but for the attributes
// that the request does not have.
func seen(s *authorizationv1.SubjectAccessReviewSpec) map[string]any {
	extra := make(map[string][]string, len(s.Extra))
	for k, v := range s.Extra {
		extra[k] = v
	}
	out := map[string]any{"user": s.User, "uid": s.UID, "groups": append([]string{}, s.Groups...), "extra": extra}
	if p := s.NonResourceAttributes; p != nil {
		out["nonResourceAttributes"] = map[string]any{"path": p.Path, "verb": p.Verb}
	}
	if r := s.ResourceAttributes; r != nil {
		resource := map[string]any{"namespace": r.Namespace, "verb": r.Verb, "group": r.Group, "version": r.Version,
			"resource": r.Resource, "subresource": r.Subresource, "name": r.Name}
		if f := r.FieldSelector; f != nil {
			var terms []map[string]any
			for _, q := range f.Requirements {
				terms = append(terms, map[string]any{"key": q.Key, "operator": string(q.Operator), "values": q.Values})
			}
			resource["fieldSelector"] = map[string]any{"requirements": terms}
		}
		if l := r.LabelSelector; l != nil {
			var terms []map[string]any
			for _, q := range l.Requirements {
				terms = append(terms, map[string]any{"key": q.Key, "operator": string(q.Operator), "values": q.Values})
			}
			resource["labelSelector"] = map[string]any{"requirements": terms}
		}
		out["resourceAttributes"] = resource
	}
	return out
}
