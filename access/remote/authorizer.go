package remote

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/internal/recent"
)

// Authorizer asks a webhook whether a request is allowed.
type Authorizer struct {
	name       string
	client     *client
	version    string
	conditions conditions
	deny       bool // when the webhook or a condition fails; else: no opinion
	allowed    time.Duration
	refused    time.Duration
	now        func() time.Time
	answers    *recent.Map[[sha256.Size]byte, decision]
}

type decision struct {
	decision access.Decision
	reason   string
	until    time.Time
}

var _ access.Authorizer = (*Authorizer)(nil)

// Authorize blocks for at most the webhook's timeout.
func (z *Authorizer) Authorize(ctx context.Context, a *access.Attributes) (access.Decision, string) {
	if a.User == nil {
		return access.NoOpinion, ""
	}
	spec := specOf(a)
	switch match, err := z.conditions.match(ctx, &spec); {
	case err != nil:
		return z.failed(err)
	case !match:
		return access.NoOpinion, ""
	}
	encoded, err := json.Marshal(spec)
	if err != nil {
		return z.failed(err)
	}
	key := sha256.Sum256(encoded)
	if d, ok := z.answers.Get(key); ok && z.now().Before(d.until) {
		return d.decision, d.reason
	}
	review := authorizationv1.SubjectAccessReview{
		TypeMeta: metav1.TypeMeta{APIVersion: authorizationv1.GroupName + "/" + z.version, Kind: "SubjectAccessReview"}, Spec: spec,
	}
	var answer authorizationv1.SubjectAccessReview
	if err := z.client.ask(ctx, older(z.version, review), &answer); err != nil {
		return z.failed(err)
	}
	d, err := z.read(&answer.Status)
	if err != nil {
		return z.failed(err)
	}
	if z.now().Before(d.until) {
		z.answers.Put(key, d)
	}
	return d.decision, d.reason
}

func (z *Authorizer) read(s *authorizationv1.SubjectAccessReviewStatus) (decision, error) {
	d := decision{reason: s.Reason, until: z.now().Add(z.refused)}
	switch {
	case s.Denied && s.Allowed:
		return d, fmt.Errorf("webhook %s both allows and denies", z.name)
	case s.Denied:
		d.decision = access.Deny
	case s.Allowed:
		d.decision, d.until = access.Allow, z.now().Add(z.allowed)
	case s.EvaluationError != "" && s.Reason == "":
		d.reason = s.EvaluationError
	}
	return d, nil
}

func (z *Authorizer) failed(err error) (access.Decision, string) {
	reason := fmt.Sprintf("webhook %s: %v", z.name, err)
	if z.deny {
		return access.Deny, reason
	}
	return access.NoOpinion, reason
}

func specOf(a *access.Attributes) authorizationv1.SubjectAccessReviewSpec {
	s := authorizationv1.SubjectAccessReviewSpec{User: a.User.Name, UID: a.User.UID, Groups: a.User.Groups}
	for k, v := range a.User.Extra {
		if s.Extra == nil {
			s.Extra = map[string]authorizationv1.ExtraValue{}
		}
		s.Extra[k] = v
	}
	if !a.Resource {
		s.NonResourceAttributes = &authorizationv1.NonResourceAttributes{Path: a.Path, Verb: a.Verb}
		return s
	}
	s.ResourceAttributes = &authorizationv1.ResourceAttributes{
		Namespace: a.Namespace, Verb: a.Verb, Group: a.Group, Version: a.Version, Resource: a.Plural, Subresource: a.Subresource, Name: a.Name,
	}
	if selector, err := fields.ParseSelector(a.FieldSelector); err == nil && !selector.Empty() {
		s.ResourceAttributes.FieldSelector = &authorizationv1.FieldSelectorAttributes{Requirements: fieldTerms(selector)}
	}
	if selector, err := metav1.ParseToLabelSelector(a.LabelSelector); err == nil && a.LabelSelector != "" {
		s.ResourceAttributes.LabelSelector = &authorizationv1.LabelSelectorAttributes{Requirements: labelTerms(selector)}
	}
	return s
}

func fieldTerms(s fields.Selector) []metav1.FieldSelectorRequirement {
	var out []metav1.FieldSelectorRequirement
	for _, r := range s.Requirements() {
		op := metav1.FieldSelectorOpIn
		if r.Operator == selection.NotEquals {
			op = metav1.FieldSelectorOpNotIn
		}
		out = append(out, metav1.FieldSelectorRequirement{Key: r.Field, Operator: op, Values: []string{r.Value}})
	}
	return out
}

func labelTerms(s *metav1.LabelSelector) []metav1.LabelSelectorRequirement {
	out := s.MatchExpressions
	keys, _ := labels.Set(s.MatchLabels).AsSelector().Requirements() // ordered, unlike the map
	for _, r := range keys {
		out = append(out, metav1.LabelSelectorRequirement{Key: r.Key(), Operator: metav1.LabelSelectorOpIn, Values: r.ValuesUnsorted()})
	}
	return out
}

// older is the review in the version that the webhook speaks: v1beta1 calls the groups "group".
func older(version string, review authorizationv1.SubjectAccessReview) any {
	if version == "v1" {
		return review
	}
	type spec struct {
		authorizationv1.SubjectAccessReviewSpec `json:",inline"`
		Groups                                  []string `json:"group,omitempty"`
	}
	return struct {
		metav1.TypeMeta `json:",inline"`
		Spec            spec `json:"spec"`
	}{review.TypeMeta, spec{review.Spec, review.Spec.Groups}}
}
