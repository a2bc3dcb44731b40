package admissionregistration

import (
	"fmt"
	"slices"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

// MutatingWebhookConfigurations name webhooks that may change objects.
var MutatingWebhookConfigurations = api.Define(api.Resource[*admissionv1.MutatingWebhookConfiguration]{
	Group: group, Version: version, Kind: "MutatingWebhookConfiguration", Plural: "mutatingwebhookconfigurations",
	Alike:      []string{"v1beta1"},
	Categories: []string{"api-extensions"}, HasGeneration: true,
	Default: func(c *admissionv1.MutatingWebhookConfiguration) {
		for i := range c.Webhooks {
			defaultWebhook(&c.Webhooks[i])
			or(&c.Webhooks[i].ReinvocationPolicy, admissionv1.NeverReinvocationPolicy)
		}
	},
	Validate: func(c *admissionv1.MutatingWebhookConfiguration) field.ErrorList { return validateWebhooks(c.Webhooks) },
	Warnings: func(c, _ *admissionv1.MutatingWebhookConfiguration) []string { return warnExcluded(c.Webhooks) },
	Columns: []api.Column[*admissionv1.MutatingWebhookConfiguration]{
		{Name: "Webhooks", Type: "integer", Description: "Webhooks indicates the number of webhooks registered in this configuration", Value: func(c *admissionv1.MutatingWebhookConfiguration) any { return int64(len(c.Webhooks)) }},
		api.Age[*admissionv1.MutatingWebhookConfiguration](),
	},
})

// ValidatingWebhookConfigurations name webhooks that may refuse objects.
var ValidatingWebhookConfigurations = api.Define(api.Resource[*admissionv1.ValidatingWebhookConfiguration]{
	Group: group, Version: version, Kind: "ValidatingWebhookConfiguration", Plural: "validatingwebhookconfigurations",
	Alike:      []string{"v1beta1"},
	Categories: []string{"api-extensions"}, HasGeneration: true,
	Default: func(c *admissionv1.ValidatingWebhookConfiguration) {
		for i := range c.Webhooks {
			one := Webhook(&c.Webhooks[i])
			defaultWebhook(&one)
			w := &c.Webhooks[i]
			w.ClientConfig, w.Rules, w.FailurePolicy, w.MatchPolicy = one.ClientConfig, one.Rules, one.FailurePolicy, one.MatchPolicy
			w.NamespaceSelector, w.ObjectSelector, w.TimeoutSeconds = one.NamespaceSelector, one.ObjectSelector, one.TimeoutSeconds
		}
	},
	Validate: func(c *admissionv1.ValidatingWebhookConfiguration) field.ErrorList {
		return validateWebhooks(Webhooks(c.Webhooks))
	},
	Warnings: func(c, _ *admissionv1.ValidatingWebhookConfiguration) []string {
		return warnExcluded(Webhooks(c.Webhooks))
	},
	Columns: []api.Column[*admissionv1.ValidatingWebhookConfiguration]{
		{Name: "Webhooks", Type: "integer", Description: "Webhooks indicates the number of webhooks registered in this configuration", Value: func(c *admissionv1.ValidatingWebhookConfiguration) any { return int64(len(c.Webhooks)) }},
		api.Age[*admissionv1.ValidatingWebhookConfiguration](),
	},
})

// Webhook is a validating webhook seen as a mutating one, which has all its fields; it
// shares what they point to.
func Webhook(v *admissionv1.ValidatingWebhook) admissionv1.MutatingWebhook {
	return admissionv1.MutatingWebhook{
		Name: v.Name, ClientConfig: v.ClientConfig, Rules: v.Rules, FailurePolicy: v.FailurePolicy, MatchPolicy: v.MatchPolicy,
		NamespaceSelector: v.NamespaceSelector, ObjectSelector: v.ObjectSelector, SideEffects: v.SideEffects,
		TimeoutSeconds: v.TimeoutSeconds, AdmissionReviewVersions: v.AdmissionReviewVersions, MatchConditions: v.MatchConditions,
	}
}

// Webhooks is Webhook of each.
func Webhooks(all []admissionv1.ValidatingWebhook) []admissionv1.MutatingWebhook {
	out := make([]admissionv1.MutatingWebhook, 0, len(all))
	for i := range all {
		out = append(out, Webhook(&all[i]))
	}
	return out
}

func defaultWebhook(w *admissionv1.MutatingWebhook) {
	or(&w.FailurePolicy, admissionv1.Fail)
	or(&w.MatchPolicy, admissionv1.Equivalent)
	or(&w.NamespaceSelector, emptySelector)
	or(&w.ObjectSelector, emptySelector)
	or(&w.TimeoutSeconds, 10)
	defaultRules(w.Rules)
	if s := w.ClientConfig.Service; s != nil {
		or(&s.Port, 443)
	}
}

// warnExcluded tells of rules that name resources about which nobody is asked.
func warnExcluded(all []admissionv1.MutatingWebhook) []string {
	var warnings []string
	for i := range all {
		for j, r := range all[i].Rules {
			if slices.Contains(r.APIGroups, "*") || slices.Contains(r.Resources, "*") {
				continue
			}
			seen := map[string]bool{}
			for _, g := range r.APIGroups {
				for _, resource := range r.Resources {
					name := resource + "." + g
					if !slices.Contains(excluded[g], resource) || seen[name] {
						continue
					}
					seen[name] = true
					warnings = append(warnings, fmt.Sprintf("webhooks[%d].rules[%d]: %s is excluded from admission webhooks; this rule will have no effect", i, j, name))
				}
			}
		}
	}
	return warnings
}
