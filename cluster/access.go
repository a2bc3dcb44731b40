package cluster

import (
	"context"
	"errors"
	"time"

	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/access/oidc"
	"github.com/proa-dev/proa/access/remote"
	"github.com/proa-dev/proa/apis/api"
)

// AccessConfig says who else vouches for users and decides on requests, as kube-apiserver's
// flags of the same names. The zero value: nobody.
type AccessConfig struct {
	AuthenticationConfig string // file: JWT issuers, anonymous requests
	AuthorizationConfig  string // file: the chain of authorizers
	OIDC                 oidc.Flags
	NoAnonymous          bool
	TokenWebhook         string        // kubeconfig
	TokenWebhookVersion  string        // v1 or v1beta1
	TokenWebhookTTL      time.Duration // how long its answers count
}

// DefaultTokenWebhookTTL is how long a token webhook's answers count.
const DefaultTokenWebhookTTL = 2 * time.Minute

// authenticators adds what was configured to cfg, the cluster's own mechanisms. follow is
// given what is to be read again when it changes.
func (a *AccessConfig) authenticators(cfg *access.Config, follow following) error {
	var issuers *apiserverv1.AuthenticationConfiguration
	var err error
	switch {
	case a.AuthenticationConfig != "" && a.OIDC.IssuerURL != "":
		return errors.New("--authentication-config and --oidc-issuer-url do not go together: write the issuer into the file")
	case a.AuthenticationConfig != "":
		if issuers, err = oidc.Load(a.AuthenticationConfig); err != nil {
			return err
		}
	case a.OIDC.IssuerURL != "" || a.OIDC.ClientID != "":
		if issuers, err = a.OIDC.Config(); err != nil {
			return err
		}
	}
	cfg.NoAnonymous = a.NoAnonymous
	if issuers != nil {
		given := oidc.Config{Issuers: issuers, Own: cfg.Issuer}
		if a.AuthenticationConfig == "" {
			given.SigningAlgs = a.OIDC.SigningAlgs // a file accepts all that are safe
		}
		o, err := newIssuers(given)
		if err != nil {
			return err
		}
		cfg.Bearers = append(cfg.Bearers, o)
		anonymous(issuers.Anonymous, cfg)
		if err := follow("authentication", a.AuthenticationConfig, func(context.Context) error { return o.reload(a.AuthenticationConfig) }); err != nil {
			return err
		}
	}
	if a.TokenWebhook == "" {
		return nil
	}
	version := a.TokenWebhookVersion
	if version == "" {
		version = "v1"
	}
	hook, err := remote.NewTokens(a.TokenWebhook, version, a.TokenWebhookTTL, time.Now)
	if err != nil {
		return err
	}
	cfg.Bearers = append(cfg.Bearers, hook)
	return nil
}

func anonymous(a *apiserverv1.AnonymousAuthConfig, cfg *access.Config) {
	if a == nil {
		return
	}
	cfg.NoAnonymous = !a.Enabled
	for _, c := range a.Conditions {
		cfg.AnonymousPaths = append(cfg.AnonymousPaths, c.Path)
	}
}

// authorizer makes the chain that decides on requests.
func (a *AccessConfig) authorizer(reader api.Reader, rbac *access.RBAC, follow following) (access.Authorizer, error) {
	if a.AuthorizationConfig == "" {
		return access.NewAuthorizer(reader, rbac), nil
	}
	d := &deciders{path: a.AuthorizationConfig, reader: reader, rbac: rbac}
	if err := d.load(); err != nil {
		return nil, err
	}
	return d, follow("authorization", a.AuthorizationConfig, func(context.Context) error { return d.load() })
}
