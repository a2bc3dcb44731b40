package access

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/internal/recent"
)

// Limits of service account tokens.
const (
	// cacheSize bounds each generation of a cache of verified credentials.
	cacheSize = 4096
	// maxToken bounds what is parsed at all.
	maxToken = 16 << 10
	// mountLife is what the token volume of each pod asks for; such tokens live longer, for
	// programs that never read the file again, and are then warned about (KEP-1205).
	mountLife     = 3607 * time.Second
	extendedLife  = 365 * 24 * time.Hour
	defaultExpiry = time.Hour
)

// Tokens issues and verifies service account tokens, and verifies bootstrap tokens.
//
// The signature of a token is checked once and remembered, bounded; its times and the
// objects it is bound to are looked at again on each use, in the cache, so that a deleted
// pod's token ends with the pod.
type Tokens struct {
	reader    api.Reader
	issuer    string
	audiences []string
	jwksURI   string
	now       func() time.Time
	log       *slog.Logger
	signer    jose.Signer
	keys      map[string]*ecdsa.PublicKey // by key ID
	others    []TokenAuthenticator        // asked about tokens that are not the cluster's
	order     []string                    // of keys
	seen      *recent.Map[[sha256.Size]byte, *tokenClaims]
}

var _ api.Tokens = (*Tokens)(nil)

// tokenClaims are the claims of a token, exactly Kubernetes'.
type tokenClaims struct {
	jwt.Claims
	Kubernetes kubernetesClaims `json:"kubernetes.io"`

	user *api.User // whom they are of, made when they are verified; read-only
}

// issuedClaims writes the audience as a list also when it is one.
type issuedClaims struct {
	tokenClaims
	Audiences []string `json:"aud"`
}

type kubernetesClaims struct {
	Namespace      string           `json:"namespace,omitempty"`
	Node           *objectRef       `json:"node,omitempty"`
	Pod            *objectRef       `json:"pod,omitempty"`
	Secret         *objectRef       `json:"secret,omitempty"`
	ServiceAccount objectRef        `json:"serviceaccount,omitempty"`
	WarnAfter      *jwt.NumericDate `json:"warnafter,omitempty"`
}

type objectRef struct {
	Name string    `json:"name"`
	UID  types.UID `json:"uid,omitempty"`
}

func newTokens(cfg Config) (*Tokens, error) {
	t := &Tokens{
		reader: cfg.Reader, issuer: cfg.Issuer, audiences: cfg.Audiences, jwksURI: cfg.JWKSURI, now: cfg.Now, log: cfg.Log, others: cfg.Bearers,
		keys: map[string]*ecdsa.PublicKey{}, seen: recent.New[[sha256.Size]byte, *tokenClaims](cacheSize),
	}
	if len(t.audiences) == 0 {
		t.audiences = []string{cfg.Issuer}
	}
	if t.jwksURI == "" {
		t.jwksURI = cfg.Issuer + jwksPath
	}
	for _, key := range append([]*ecdsa.PublicKey{&cfg.Signer.PublicKey}, cfg.Verifiers...) {
		id, err := keyID(key)
		if err != nil {
			return nil, err
		}
		if _, known := t.keys[id]; !known {
			t.keys[id] = key
			t.order = append(t.order, id)
		}
	}
	var err error
	t.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{
		Key: cfg.Signer, KeyID: t.order[0], Algorithm: string(jose.ES256),
	}}, nil)
	if err != nil {
		return nil, fmt.Errorf("make token signer: %w", err)
	}
	return t, nil
}

// keyID is the base64url SHA-256 of the public key's DER form, as upstream's.
func keyID(key *ecdsa.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("encode service account key: %w", err)
	}
	sum := sha256.Sum256(der)
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}

// Issue signs a token. The time returned is when its holder should have a new one.
// Audiences are those of a token that asks for none.
func (t *Tokens) Audiences() []string { return slices.Clone(t.audiences) }

func (t *Tokens) Issue(c api.TokenClaims) (string, time.Time, error) {
	now := t.now()
	life := c.Expires
	if life <= 0 {
		life = defaultExpiry
	}
	expires := now.Add(life)
	claims := tokenClaims{
		Claims: jwt.Claims{
			Issuer: t.issuer, Subject: ServiceAccountUser(c.Namespace, c.ServiceAccount), Audience: c.Audiences,
			Expiry: jwt.NewNumericDate(expires), IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now),
			ID: string(uuid.NewUUID()),
		},
		Kubernetes: kubernetesClaims{
			Namespace:      c.Namespace,
			ServiceAccount: objectRef{Name: c.ServiceAccount, UID: types.UID(c.ServiceAccountUID)},
			Pod:            ref(c.PodName, c.PodUID), Secret: ref(c.SecretName, c.SecretUID), Node: ref(c.NodeName, c.NodeUID),
		},
	}
	if len(c.Audiences) == 0 {
		claims.Audience = t.audiences
	}
	if c.Expires == mountLife && c.PodName != "" && subset(claims.Audience, t.audiences) {
		claims.Expiry = jwt.NewNumericDate(now.Add(extendedLife))
		claims.Kubernetes.WarnAfter = jwt.NewNumericDate(expires)
	}
	token, err := jwt.Signed(t.signer).Claims(issuedClaims{claims, claims.Audience}).Serialize()
	if err != nil {
		return "", time.Time{}, fmt.Errorf("sign token: %w", err)
	}
	return token, expires, nil
}

func ref(name, uid string) *objectRef {
	if name == "" {
		return nil
	}
	return &objectRef{Name: name, UID: types.UID(uid)}
}

func subset(some, of []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(of, s) })
}

// authenticate finds a token's user, and which of the wanted audiences the token is for. A token
// that is not of this cluster is of whoever knows it; its audience is then the API server.
func (t *Tokens) authenticate(ctx context.Context, token string, audiences []string) (*api.User, []string, error) {
	u, matching, err := t.own(token, audiences)
	if err == nil || len(t.others) == 0 || t.saysOurs(token) {
		return u, matching, err
	}
	if matching = intersect(t.audiences, audiences); len(matching) == 0 {
		return nil, nil, err
	}
	problems := []error{err}
	for _, o := range t.others {
		u, err := o.AuthenticateToken(ctx, token)
		if u != nil && err == nil {
			return u, matching, nil
		}
		if err != nil {
			problems = append(problems, err)
		}
	}
	return nil, nil, errors.Join(problems...)
}

// saysOurs is true for tokens that name this cluster as their issuer, valid or not: they are
// nothing to show to others.
func (t *Tokens) saysOurs(token string) bool {
	parts := strings.SplitN(token, ".", 4)
	if len(parts) != 3 || len(token) > maxToken {
		return false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	var said struct {
		Issuer string `json:"iss"`
	}
	return err == nil && json.Unmarshal(payload, &said) == nil && said.Issuer == t.issuer
}

// own authenticates service account tokens and bootstrap tokens.
func (t *Tokens) own(token string, audiences []string) (*api.User, []string, error) {
	if len(token) > maxToken {
		return nil, nil, ErrToken
	}
	if id, secret, ok := splitBootstrap(token); ok {
		u, err := t.bootstrap(id, secret)
		return u, t.audiences, err
	}
	claims, err := t.verify(token)
	if err != nil {
		return nil, nil, err
	}
	if err := t.checkTimes(claims); err != nil {
		return nil, nil, err
	}
	matching := intersect(claims.Audience, audiences)
	if len(matching) == 0 {
		return nil, nil, fmt.Errorf("%w: token audiences %q is invalid for the target audiences %q", ErrToken, claims.Audience, audiences)
	}
	u, err := t.bound(claims)
	return u, matching, err
}

func intersect(have, want []string) []string {
	var out []string
	for _, a := range want {
		if slices.Contains(have, a) {
			out = append(out, a)
		}
	}
	return out
}

// verify checks what can never change: form, key, signature and issuer.
func (t *Tokens) verify(token string) (*tokenClaims, error) {
	key := sha256.Sum256([]byte(token))
	if c, ok := t.seen.Get(key); ok {
		return c, nil
	}
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil || len(parsed.Headers) != 1 {
		return nil, ErrToken
	}
	public, ok := t.keys[parsed.Headers[0].KeyID]
	if !ok {
		return nil, ErrToken
	}
	claims := &tokenClaims{}
	if err := parsed.Claims(public, claims); err != nil {
		return nil, ErrToken
	}
	k := claims.Kubernetes
	if claims.Issuer != t.issuer || k.Namespace == "" || k.ServiceAccount.Name == "" || claims.Expiry == nil {
		return nil, ErrToken
	}
	if claims.Subject != ServiceAccountUser(k.Namespace, k.ServiceAccount.Name) {
		return nil, ErrToken
	}
	claims.user = accountUser(claims)
	t.seen.Put(key, claims)
	return claims, nil
}

func (t *Tokens) checkTimes(c *tokenClaims) error {
	err := c.Validate(jwt.Expected{Time: t.now()})
	switch {
	case errors.Is(err, jwt.ErrExpired):
		return fmt.Errorf("%w: service account token has expired", ErrToken)
	case err != nil:
		return fmt.Errorf("%w: service account token claims could not be validated", ErrToken)
	}
	return nil
}
