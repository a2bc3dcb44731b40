package oidc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	josejson "github.com/go-jose/go-jose/v4/json"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"

	"github.com/proa-dev/proa/apis/api"
)

// maxToken bounds what is parsed at all, in bytes.
const maxToken = 64 << 10

// early is how far a token's "not before" may lie ahead: clocks differ.
const early = 5 * time.Minute

// algorithms are those that a private key signs with: never none, never a shared secret.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512, jose.PS256, jose.PS384, jose.PS512,
}

// Config is what New needs.
type Config struct {
	Issuers     *apiserverv1.AuthenticationConfiguration
	Own         string           // issuer of the cluster's own tokens, which no other may claim to be
	SigningAlgs []string         // default: all that are safe
	Now         func() time.Time // default time.Now
	Former      *Authenticator   // whose keys are taken over for issuers that stay; may be nil
}

// Authenticator accepts the tokens of the configured issuers; safe for concurrent use.
type Authenticator struct {
	issuers map[string]*issuer
	algs    []jose.SignatureAlgorithm
	now     func() time.Time
}

type issuer struct {
	url       string
	audiences []string
	keys      *keySet
	rules     *rules
	groups    *sources // nil: groups are not of a claim
}

// New compiles the configuration; nothing is fetched yet. The error names each field that is wrong.
func New(cfg Config) (*Authenticator, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	a := &Authenticator{issuers: map[string]*issuer{}, algs: algorithms, now: cfg.Now}
	if len(cfg.SigningAlgs) > 0 {
		a.algs = nil
		for _, name := range cfg.SigningAlgs {
			if !slices.Contains(algorithms, jose.SignatureAlgorithm(name)) {
				return nil, fmt.Errorf("signing algorithm %q: must be one of %v", name, algorithms)
			}
			a.algs = append(a.algs, jose.SignatureAlgorithm(name))
		}
	}
	c, err := newCompiler()
	if err != nil {
		return nil, err
	}
	c.errs = validate(cfg.Issuers, cfg.Own)
	for i := range cfg.Issuers.JWT {
		j := &cfg.Issuers.JWT[i]
		discovery := ""
		if j.Issuer.DiscoveryURL != nil {
			discovery = *j.Issuer.DiscoveryURL
		}
		one := &issuer{
			url: j.Issuer.URL, audiences: j.Issuer.Audiences,
			rules: c.rules(j, field.NewPath("jwt").Index(i)),
			keys:  cfg.Former.keysOf(j.Issuer.URL, discovery, j.Issuer.CertificateAuthority, cfg.Now),
		}
		if claim := one.rules.groups.claim; claim != "" {
			one.groups = newSources(claim, one, a.algs)
		}
		a.issuers[j.Issuer.URL] = one
	}
	return a, c.errs.ToAggregate()
}

// keysOf gives those of an issuer that is reached as before, or a new set.
func (a *Authenticator) keysOf(url, discovery, ca string, now func() time.Time) *keySet {
	made := newKeySet(url, discovery, ca, now)
	if a != nil && a.issuers[url] != nil {
		if old := a.issuers[url].keys; old.discovery == made.discovery && old.ca == ca {
			return old
		}
	}
	return made
}

// registered is what decides who verifies a token, before anything in it is believed.
type registered struct {
	Issuer    string    `json:"iss"`
	Audience  audience  `json:"aud"`
	Expiry    *jsonTime `json:"exp"`
	NotBefore *jsonTime `json:"nbf"`
}

// AuthenticateToken gives the user of a token; nil, nil says that none of the issuers made it.
func (a *Authenticator) AuthenticateToken(ctx context.Context, token string) (*api.User, error) {
	if len(token) > maxToken {
		return nil, nil
	}
	signed, err := jose.ParseSignedCompact(token, a.algs)
	if err != nil || len(signed.Signatures) != 1 {
		return nil, nil
	}
	var said registered
	if josejson.Unmarshal(signed.UnsafePayloadWithoutVerification(), &said) != nil {
		return nil, nil
	}
	from, ok := a.issuers[said.Issuer]
	if !ok {
		return nil, nil
	}
	u, err := a.accept(ctx, from, signed)
	if err != nil {
		return nil, fmt.Errorf("token of %s: %w", from.url, err)
	}
	return u, nil
}

func (a *Authenticator) accept(ctx context.Context, from *issuer, signed *jose.JSONWebSignature) (*api.User, error) {
	keys, err := from.keys.find(ctx, signed.Signatures[0].Protected.KeyID)
	if err != nil {
		return nil, err
	}
	payload, err := verify(signed, keys)
	if err != nil {
		return nil, err
	}
	var said registered
	if err := josejson.Unmarshal(payload, &said); err != nil {
		return nil, fmt.Errorf("parse claims: %w", err)
	}
	var claims map[string]any
	if err := josejson.Unmarshal(payload, &claims); err != nil { // refuses claims that are there twice
		return nil, fmt.Errorf("parse claims: %w", err)
	}
	claims = nil
	if err := json.Unmarshal(payload, &claims); err != nil { // whole numbers stay whole
		return nil, fmt.Errorf("parse claims: %w", err)
	}
	if err := from.current(&said, a.now()); err != nil {
		return nil, err
	}
	if err := from.groups.expand(ctx, payload, claims); err != nil {
		return nil, err
	}
	return from.rules.person(ctx, claims)
}

func verify(signed *jose.JSONWebSignature, keys []jose.JSONWebKey) ([]byte, error) {
	alg := signed.Signatures[0].Protected.Algorithm
	for i := range keys {
		if keys[i].Algorithm != "" && keys[i].Algorithm != alg {
			continue
		}
		if payload, err := signed.Verify(keys[i].Key); err == nil {
			return payload, nil
		}
	}
	return nil, errors.New("failed to verify the signature")
}

// current checks issuer, audience and times.
func (i *issuer) current(said *registered, now time.Time) error {
	switch {
	case said.Issuer != i.url:
		return errors.New("another issuer's")
	case !slices.ContainsFunc(said.Audience, func(s string) bool { return slices.Contains(i.audiences, s) }):
		return fmt.Errorf("expected audience in %q got %q", i.audiences, []string(said.Audience))
	case said.Expiry == nil || said.Expiry.Before(now):
		return errors.New("token is expired")
	case said.NotBefore != nil && said.NotBefore.After(now.Add(early)):
		return errors.New("token is not valid yet")
	}
	return nil
}
