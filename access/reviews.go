package access

import (
	"context"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/proa-dev/proa/apis/api"
)

// Review answers a TokenReview.
func (t *Tokens) Review(ctx context.Context, spec authenticationv1.TokenReviewSpec) authenticationv1.TokenReviewStatus {
	audiences := spec.Audiences
	if len(audiences) == 0 {
		audiences = t.audiences
	}
	u, matching, err := t.authenticate(ctx, spec.Token, audiences)
	if err != nil {
		return authenticationv1.TokenReviewStatus{Error: err.Error()}
	}
	matching = intersect(matching, audiences)
	if len(matching) == 0 {
		return authenticationv1.TokenReviewStatus{}
	}
	return authenticationv1.TokenReviewStatus{Authenticated: true, User: UserInfo(authenticated(u)), Audiences: matching}
}

// UserInfo is a user as the authentication API writes it.
func UserInfo(u *api.User) authenticationv1.UserInfo {
	info := authenticationv1.UserInfo{Username: u.Name, UID: u.UID, Groups: u.Groups}
	for key, values := range u.Extra {
		if info.Extra == nil {
			info.Extra = map[string]authenticationv1.ExtraValue{}
		}
		info.Extra[key] = values
	}
	return info
}

// Reviews answers questions about what others may do.
type Reviews struct {
	authorizer Authorizer
	rbac       *RBAC
}

var _ api.Reviews = (*Reviews)(nil)

// NewReviews decides with authorizer, the one requests are decided with; rules come from rbac.
func NewReviews(authorizer Authorizer, rbac *RBAC) *Reviews {
	return &Reviews{authorizer: authorizer, rbac: rbac}
}

// Access answers a SubjectAccessReview.
func (r *Reviews) Access(ctx context.Context, u api.User, res *authorizationv1.ResourceAttributes, path *authorizationv1.NonResourceAttributes) authorizationv1.SubjectAccessReviewStatus {
	a := &Attributes{User: &u}
	switch {
	case res != nil:
		a.Resource, a.Verb, a.Group, a.Version = true, res.Verb, res.Group, res.Version
		a.Plural, a.Subresource, a.Namespace, a.Name = res.Resource, res.Subresource, res.Namespace, res.Name
		a.FieldSelector, a.LabelSelector = selectors(res)
	case path != nil:
		a.Verb, a.Path = path.Verb, path.Path
	}
	d, reason := r.authorizer.Authorize(ctx, a)
	return authorizationv1.SubjectAccessReviewStatus{Allowed: d == Allow, Denied: d == Deny, Reason: reason}
}

// selectors gives the text forms; requirements that cannot be understood are left out,
// which only makes the request broader and so harder to allow.
func selectors(res *authorizationv1.ResourceAttributes) (field, label string) {
	if f := res.FieldSelector; f != nil {
		if field = f.RawSelector; field == "" {
			field = fieldText(f.Requirements)
		}
	}
	if l := res.LabelSelector; l != nil {
		if label = l.RawSelector; label == "" {
			s, err := metav1.LabelSelectorAsSelector(&metav1.LabelSelector{MatchExpressions: l.Requirements})
			if err == nil && !s.Empty() {
				label = s.String()
			}
		}
	}
	if _, err := labels.Parse(label); err != nil {
		label = ""
	}
	return field, label
}

func fieldText(requirements []metav1.FieldSelectorRequirement) string {
	var terms []fields.Selector
	for _, req := range requirements {
		if len(req.Values) != 1 {
			continue
		}
		switch selection.Operator(strings.ToLower(string(req.Operator))) {
		case selection.In:
			terms = append(terms, fields.OneTermEqualSelector(req.Key, req.Values[0]))
		case selection.NotIn:
			terms = append(terms, fields.OneTermNotEqualSelector(req.Key, req.Values[0]))
		}
	}
	if len(terms) == 0 {
		return ""
	}
	return fields.AndSelectors(terms...).String()
}

// Rules answers a SelfSubjectRulesReview. It is never complete where authorizers decide
// that know no rules; for nodes it says so.
func (r *Reviews) Rules(_ context.Context, u api.User, namespace string) authorizationv1.SubjectRulesReviewStatus {
	status := authorizationv1.SubjectRulesReviewStatus{
		ResourceRules: []authorizationv1.ResourceRule{}, NonResourceRules: []authorizationv1.NonResourceRule{},
	}
	rules, problems := r.rbac.RulesFor(&u, namespace)
	for _, rule := range rules {
		if len(rule.Resources) > 0 {
			status.ResourceRules = append(status.ResourceRules, resourceRule(rule))
		}
		if len(rule.NonResourceURLs) > 0 {
			status.NonResourceRules = append(status.NonResourceRules, authorizationv1.NonResourceRule{
				Verbs: slices.Clone(rule.Verbs), NonResourceURLs: slices.Clone(rule.NonResourceURLs),
			})
		}
	}
	if _, isNode := NodeOf(&u); isNode {
		problems = append(problems, "node authorizer does not support user rule resolution")
	}
	if len(problems) > 0 {
		status.Incomplete, status.EvaluationError = true, strings.Join(problems, ", ")
	}
	return status
}

func resourceRule(rule rbacv1.PolicyRule) authorizationv1.ResourceRule {
	return authorizationv1.ResourceRule{
		Verbs: slices.Clone(rule.Verbs), APIGroups: slices.Clone(rule.APIGroups),
		Resources: slices.Clone(rule.Resources), ResourceNames: slices.Clone(rule.ResourceNames),
	}
}
