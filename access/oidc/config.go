// Package oidc accepts JSON web tokens of issuers outside the cluster: people who sign in
// with an identity provider, robots of a CI system.
//
// The one idea: a configuration is compiled once into rules (CEL programs, claim names), so
// that what is wrong with it is said at the start; a token is then a pure walk through these
// rules, and only its key may have to be fetched.
//
// Used by cluster, which gives the authenticator to access.Config.
package oidc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	"sigs.k8s.io/yaml"
)

// Limits of a configuration.
const (
	maxConfig  = 1 << 20
	maxIssuers = 64
)

// apiGroup is the group of the configuration; its versions have the same form.
const apiGroup = "apiserver.config.k8s.io/"

// Load reads an AuthenticationConfiguration. Fields that are not known are an error.
func Load(path string) (*apiserverv1.AuthenticationConfiguration, error) {
	c := &apiserverv1.AuthenticationConfiguration{}
	if err := Decode(path, "AuthenticationConfiguration", c); err != nil {
		return nil, err
	}
	return c, nil
}

// Decode reads a configuration file of the API server's own group, strictly.
func Decode(path, kind string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read %s: %w", kind, err)
	}
	if len(data) > maxConfig {
		return fmt.Errorf("%s: larger than %d bytes", path, maxConfig)
	}
	var head struct{ APIVersion, Kind string }
	if err := yaml.Unmarshal(data, &head); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	version, ours := strings.CutPrefix(head.APIVersion, apiGroup)
	if !ours || head.Kind != kind || version != "v1" && version != "v1beta1" && version != "v1alpha1" {
		return fmt.Errorf("%s: apiVersion %q and kind %q: want %sv1 and %s", path, head.APIVersion, head.Kind, apiGroup, kind)
	}
	if err := yaml.UnmarshalStrict(bytes.TrimSpace(data), into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// Flags are the --oidc-* flags: one issuer, in the older form.
type Flags struct {
	IssuerURL      string
	ClientID       string
	CAFile         string
	UsernameClaim  string // default sub
	UsernamePrefix string // default "<issuer>#" unless the claim is email; "-": none
	GroupsClaim    string
	GroupsPrefix   string
	RequiredClaims map[string]string
	SigningAlgs    []string // default RS256
}

// Config turns the flags into the structured form.
func (f Flags) Config() (*apiserverv1.AuthenticationConfiguration, error) {
	if f.IssuerURL == "" || f.ClientID == "" {
		return nil, errors.New("--oidc-issuer-url and --oidc-client-id must be specified together")
	}
	j := apiserverv1.JWTAuthenticator{Issuer: apiserverv1.Issuer{URL: f.IssuerURL, Audiences: []string{f.ClientID}}}
	if f.CAFile != "" {
		pem, err := os.ReadFile(f.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read --oidc-ca-file: %w", err)
		}
		j.Issuer.CertificateAuthority = string(pem)
	}
	claim, prefix := f.UsernameClaim, f.UsernamePrefix
	if claim == "" {
		claim = "sub"
	}
	switch {
	case prefix == "-":
		prefix = ""
	case prefix == "" && claim != "email":
		prefix = f.IssuerURL + "#"
	}
	j.ClaimMappings.Username = apiserverv1.PrefixedClaimOrExpression{Claim: claim, Prefix: &prefix}
	if f.GroupsClaim != "" {
		j.ClaimMappings.Groups = apiserverv1.PrefixedClaimOrExpression{Claim: f.GroupsClaim, Prefix: &f.GroupsPrefix}
	}
	for name, value := range f.RequiredClaims {
		j.ClaimValidationRules = append(j.ClaimValidationRules, apiserverv1.ClaimValidationRule{Claim: name, RequiredValue: value})
	}
	return &apiserverv1.AuthenticationConfiguration{JWT: []apiserverv1.JWTAuthenticator{j}}, nil
}

func validate(c *apiserverv1.AuthenticationConfiguration, own string) field.ErrorList {
	var errs field.ErrorList
	root, seen, found := field.NewPath("jwt"), map[string]bool{}, map[string]bool{}
	if len(c.JWT) > maxIssuers {
		errs = append(errs, field.TooMany(root, len(c.JWT), maxIssuers))
	}
	for i := range c.JWT {
		issuer, p := &c.JWT[i].Issuer, root.Index(i).Child("issuer")
		errs = append(errs, validateIssuer(issuer, own, p)...)
		if seen[issuer.URL] {
			errs = append(errs, field.Duplicate(p.Child("url"), issuer.URL))
		}
		seen[issuer.URL] = true
		if d := issuer.DiscoveryURL; d != nil && *d != "" {
			if found[*d] {
				errs = append(errs, field.Duplicate(p.Child("discoveryURL"), *d))
			}
			found[*d] = true
		}
	}
	if a := c.Anonymous; a != nil && !a.Enabled && len(a.Conditions) > 0 {
		errs = append(errs, field.Invalid(field.NewPath("anonymous", "conditions"), a.Conditions, "enabled should be set to true when conditions are defined"))
	}
	return errs
}
