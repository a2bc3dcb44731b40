package access

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/proa-dev/proa/apis/api"
)

// Config is what authentication needs.
type Config struct {
	Reader   api.Reader
	ClientCA *x509.CertPool // of client certificates
	// FrontProxyCA is of proxies that vouch for their users by X-Remote-* headers; nil: none.
	FrontProxyCA *x509.CertPool
	Signer       *ecdsa.PrivateKey  // of service account tokens
	Verifiers    []*ecdsa.PublicKey // accepted for them; Signer's is added
	Issuer       string             // of service account tokens
	Audiences    []string           // the API server's own; default: Issuer
	JWKSURI      string             // in the discovery document; default: Issuer + /openid/v1/jwks
	Now          func() time.Time   // default time.Now
	Log          *slog.Logger
	NoAnonymous  bool
	// AnonymousPaths, when there are any, are the only ones that requests without credentials
	// may go to at all.
	AnonymousPaths []string
	Bearers        []TokenAuthenticator // of tokens that others made
}

// TokenAuthenticator accepts bearer tokens that are not the cluster's own: OpenID Connect, a
// webhook. Safe for concurrent use.
type TokenAuthenticator interface {
	// AuthenticateToken returns nil, nil for a token it does not know.
	AuthenticateToken(ctx context.Context, token string) (*api.User, error)
}

// ErrToken says that a bearer token is not one of this cluster, or no longer.
var ErrToken = errors.New("invalid bearer token")

// Identity tells users apart: the authenticators in their order.
type Identity struct {
	Tokens    *Tokens
	anonymous bool
	paths     []string // of anonymous; none: all
	chain     []Authenticator
	list      *revoked
}

var _ Authenticator = (*Identity)(nil)

// New makes the authenticators and the token service they share.
func New(cfg Config) (*Identity, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Reader == nil || cfg.ClientCA == nil || cfg.Signer == nil || cfg.Issuer == "" {
		return nil, errors.New("access: Config needs Reader, ClientCA, Signer and Issuer")
	}
	tokens, err := newTokens(cfg)
	if err != nil {
		return nil, err
	}
	id := &Identity{Tokens: tokens, anonymous: !cfg.NoAnonymous, paths: cfg.AnonymousPaths}
	if cfg.FrontProxyCA != nil {
		id.chain = append(id.chain, &frontProxy{certs: newCertificates(cfg.FrontProxyCA, cfg.Now)})
	}
	clients := newCertificates(cfg.ClientCA, cfg.Now)
	id.list = &revoked{reader: cfg.Reader}
	clients.list = id.list
	id.chain = append(id.chain, clients, &bearer{tokens})
	return id, nil
}

// Authenticate asks each authenticator; a request without credentials is anonymous's, one
// whose credentials nobody accepts is an error.
func (id *Identity) Authenticate(r *http.Request) (*api.User, error) {
	var problems []error
	for _, a := range id.chain {
		u, err := a.Authenticate(r)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if u != nil {
			r.Header.Del("Authorization")
			return authenticated(u), nil
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	if !id.anonymous || len(id.paths) > 0 && !slices.Contains(id.paths, r.URL.Path) {
		return nil, nil
	}
	return &api.User{Name: Anonymous, Groups: []string{Unauthenticated}}, nil
}

// authenticated adds the group that everyone known is in.
func authenticated(u *api.User) *api.User {
	if u.Name == Anonymous || slices.Contains(u.Groups, Authenticated) || slices.Contains(u.Groups, Unauthenticated) {
		return u
	}
	with := *u
	with.Groups = append(slices.Clip(u.Groups), Authenticated)
	return &with
}

// bearer finds the token of a request, also where browsers put it for web sockets.
type bearer struct{ tokens *Tokens }

// The web socket subprotocol that carries a token, base64url without padding.
const tokenProtocol = "base64url.bearer.authorization.k8s.io."

func (b *bearer) Authenticate(r *http.Request) (*api.User, error) {
	token, socket := bearerToken(r.Header.Get("Authorization")), false
	if token == "" {
		token = socketToken(r.Header)
		socket = token != ""
	}
	if token == "" {
		return nil, nil
	}
	u, _, err := b.tokens.authenticate(r.Context(), token, b.tokens.audiences)
	if err != nil {
		return nil, err
	}
	if socket {
		dropSocketToken(r.Header)
	}
	return u, nil
}

func bearerToken(header string) string {
	scheme, token, ok := strings.Cut(strings.TrimSpace(header), " ")
	if !ok || !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	token, _, _ = strings.Cut(strings.TrimLeft(token, " "), " ")
	return token
}
