package remote

import (
	"crypto/sha256"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/internal/recent"
)

// Limits and defaults of the configuration.
const (
	maxConditions  = 64
	maxTimeout     = 30 * time.Second
	defaultAllowed = 5 * time.Minute
	defaultRefused = 30 * time.Second
)

// Chain makes the authorizers of an AuthorizationConfiguration in their order. builtin are
// those by type: Node, RBAC, AlwaysAllow, AlwaysDeny. The error names each field that is wrong.
func Chain(c *apiserverv1.AuthorizationConfiguration, builtin map[string]access.Authorizer, now func() time.Time) (access.Authorizers, error) {
	var out access.Authorizers
	var errs field.ErrorList
	root := field.NewPath("authorizers")
	if len(c.Authorizers) == 0 {
		errs = append(errs, field.Required(root, "at least one authorization mode must be defined"))
	}
	types, names := map[string]bool{}, map[string]bool{}
	for i := range c.Authorizers {
		z, p := &c.Authorizers[i], root.Index(i)
		errs = append(errs, validateName(z, names, p)...)
		known, ok := builtin[z.Type]
		switch {
		case z.Type == "Webhook":
			w, problems := webhook(z, p.Child("webhook"), now)
			errs = append(errs, problems...)
			out = append(out, w)
			continue
		case z.Type == "":
			errs = append(errs, field.Required(p.Child("type"), ""))
		case !ok:
			errs = append(errs, field.NotSupported(p.Child("type"), z.Type, []string{"AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook"}))
		case types[z.Type]:
			errs = append(errs, field.Duplicate(p.Child("type"), z.Type))
		}
		if z.Webhook != nil {
			errs = append(errs, field.Invalid(p.Child("webhook"), "non-null", "may only be specified when type=Webhook"))
		}
		types[z.Type] = true
		out = append(out, known)
	}
	if err := errs.ToAggregate(); err != nil {
		return nil, err
	}
	return out, nil
}

func validateName(z *apiserverv1.AuthorizerConfiguration, names map[string]bool, p *field.Path) field.ErrorList {
	p = p.Child("name")
	switch {
	case z.Name == "":
		return field.ErrorList{field.Required(p, "")}
	case names[z.Name]:
		return field.ErrorList{field.Duplicate(p, z.Name)}
	}
	names[z.Name] = true
	var errs field.ErrorList
	for _, why := range validation.IsDNS1123Subdomain(z.Name) {
		errs = append(errs, field.Invalid(p, z.Name, why))
	}
	return errs
}

func webhook(z *apiserverv1.AuthorizerConfiguration, p *field.Path, now func() time.Time) (*Authorizer, field.ErrorList) {
	w := z.Webhook
	if w == nil {
		return nil, field.ErrorList{field.Required(p, "required when type=Webhook")}
	}
	errs := validateWebhook(w, p)
	out := &Authorizer{
		name: z.Name, version: w.SubjectAccessReviewVersion, deny: w.FailurePolicy == apiserverv1.FailurePolicyDeny, now: now,
		allowed: ttl(w.AuthorizedTTL.Duration, defaultAllowed, w.CacheAuthorizedRequests),
		refused: ttl(w.UnauthorizedTTL.Duration, defaultRefused, w.CacheUnauthorizedRequests),
		answers: recent.New[[sha256.Size]byte, decision](cacheSize),
	}
	var problems field.ErrorList
	out.conditions, problems = compile(w.MatchConditions, p.Child("matchConditions"))
	errs = append(errs, problems...)
	info, at := w.ConnectionInfo, p.Child("connectionInfo")
	switch {
	case info.Type != apiserverv1.AuthorizationWebhookConnectionInfoTypeKubeConfigFile:
		errs = append(errs, field.NotSupported(at.Child("type"), info.Type, []string{apiserverv1.AuthorizationWebhookConnectionInfoTypeKubeConfigFile}))
	case info.KubeConfigFile == nil || *info.KubeConfigFile == "":
		errs = append(errs, field.Required(at.Child("kubeConfigFile"), ""))
	default:
		var err error
		if out.client, err = newClient(*info.KubeConfigFile, w.Timeout.Duration); err != nil {
			errs = append(errs, field.Invalid(at.Child("kubeConfigFile"), *info.KubeConfigFile, err.Error()))
		}
	}
	return out, errs
}

func ttl(set, standard time.Duration, cache *bool) time.Duration {
	switch {
	case cache != nil && !*cache:
		return 0
	case set == 0:
		return standard
	}
	return set
}

func validateWebhook(w *apiserverv1.WebhookConfiguration, p *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch t := w.Timeout.Duration; {
	case t == 0:
		errs = append(errs, field.Required(p.Child("timeout"), ""))
	case t < 0 || t > maxTimeout:
		errs = append(errs, field.Invalid(p.Child("timeout"), t.String(), "must be > 0s and <= "+maxTimeout.String()))
	}
	for name, t := range map[string]time.Duration{"authorizedTTL": w.AuthorizedTTL.Duration, "unauthorizedTTL": w.UnauthorizedTTL.Duration} {
		if t < 0 {
			errs = append(errs, field.Invalid(p.Child(name), t.String(), "must be > 0s"))
		}
	}
	versions := []string{"v1", "v1beta1"}
	switch v := w.SubjectAccessReviewVersion; v {
	case "":
		errs = append(errs, field.Required(p.Child("subjectAccessReviewVersion"), ""))
	case "v1", "v1beta1":
	default:
		errs = append(errs, field.NotSupported(p.Child("subjectAccessReviewVersion"), v, versions))
	}
	switch v := w.MatchConditionSubjectAccessReviewVersion; {
	case v == "" && len(w.MatchConditions) > 0:
		errs = append(errs, field.Required(p.Child("matchConditionSubjectAccessReviewVersion"), "required if match conditions are specified"))
	case v != "" && v != "v1":
		errs = append(errs, field.NotSupported(p.Child("matchConditionSubjectAccessReviewVersion"), v, versions[:1]))
	}
	policies := []string{apiserverv1.FailurePolicyNoOpinion, apiserverv1.FailurePolicyDeny}
	switch v := w.FailurePolicy; v {
	case "":
		errs = append(errs, field.Required(p.Child("failurePolicy"), ""))
	case policies[0], policies[1]:
	default:
		errs = append(errs, field.NotSupported(p.Child("failurePolicy"), v, policies))
	}
	return errs
}
