package oidc

import (
	"crypto/x509"
	"net/url"

	"k8s.io/apimachinery/pkg/util/validation/field"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
)

func validateIssuer(i *apiserverv1.Issuer, own string, p *field.Path) field.ErrorList {
	errs := validateURL(i.URL, p.Child("url"))
	if i.URL == own && own != "" {
		errs = append(errs, field.Invalid(p.Child("url"), i.URL, "URL must not overlap with disallowed issuers: ["+own+"]"))
	}
	if d := i.DiscoveryURL; d != nil && *d != "" {
		if *d == i.URL || *d == i.URL+"/" || *d+"/" == i.URL {
			errs = append(errs, field.Invalid(p.Child("discoveryURL"), *d, "discoveryURL must be different from URL"))
		}
		errs = append(errs, validateURL(*d, p.Child("discoveryURL"))...)
	}
	errs = append(errs, validateAudiences(i, p)...)
	if i.CertificateAuthority != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(i.CertificateAuthority)) {
		errs = append(errs, field.Invalid(p.Child("certificateAuthority"), "<omitted>", "data does not contain any valid RSA or ECDSA certificates"))
	}
	if i.EgressSelectorType != "" {
		errs = append(errs, field.Invalid(p.Child("egressSelectorType"), i.EgressSelectorType, "egress selectors are not supported: the server connects directly"))
	}
	return errs
}

func validateURL(text string, p *field.Path) field.ErrorList {
	if text == "" {
		return field.ErrorList{field.Required(p, "")}
	}
	u, err := url.Parse(text)
	if err != nil {
		return field.ErrorList{field.Invalid(p, text, err.Error())}
	}
	var errs field.ErrorList
	if u.Scheme != "https" || u.Host == "" {
		errs = append(errs, field.Invalid(p, text, "URL scheme must be https"))
	}
	if u.User != nil {
		errs = append(errs, field.Invalid(p, text, "URL must not contain a username or password"))
	}
	if u.RawQuery != "" {
		errs = append(errs, field.Invalid(p, text, "URL must not contain a query"))
	}
	if u.Fragment != "" {
		errs = append(errs, field.Invalid(p, text, "URL must not contain a fragment"))
	}
	return errs
}

func validateAudiences(i *apiserverv1.Issuer, p *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(i.Audiences) == 0 {
		errs = append(errs, field.Required(p.Child("audiences"), "at least one "+p.Child("audiences").String()+" is required"))
	}
	seen := map[string]bool{}
	for n, a := range i.Audiences {
		switch at := p.Child("audiences").Index(n); {
		case a == "":
			errs = append(errs, field.Required(at, ""))
		case seen[a]:
			errs = append(errs, field.Duplicate(at, a))
		}
		seen[a] = true
	}
	policy := i.AudienceMatchPolicy
	if len(i.Audiences) > 1 && policy != apiserverv1.AudienceMatchPolicyMatchAny {
		errs = append(errs, field.Invalid(p.Child("audienceMatchPolicy"), policy, "audienceMatchPolicy must be MatchAny for multiple audiences"))
	}
	if len(i.Audiences) == 1 && policy != "" && policy != apiserverv1.AudienceMatchPolicyMatchAny {
		errs = append(errs, field.Invalid(p.Child("audienceMatchPolicy"), policy, "audienceMatchPolicy must be empty or MatchAny for single audience"))
	}
	return errs
}
