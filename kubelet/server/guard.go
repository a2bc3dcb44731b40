package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/client-go/kubernetes"
)

const (
	answersKept = 1024
	tokenTime   = time.Minute // how long a token is believed after a review
	allowTime   = time.Minute
	denyTime    = 10 * time.Second
	reviewTime  = 10 * time.Second // the longest wait for one review
	reviewsOpen = 32               // at the same time
	// masters may do everything by every API server's own rule; it is not asked about them.
	masters = "system:masters"
)

// guard says who asks and whether they may.
type guard struct {
	client  kubernetes.Interface
	node    string
	log     *slog.Logger
	tokens  *cache.LRUExpireCache // sha256 of the token -> authenticationv1.UserInfo
	answers *cache.LRUExpireCache // question -> bool
	slots   chan struct{}
}

func newGuard(client kubernetes.Interface, node string, log *slog.Logger) *guard {
	return &guard{client: client, node: node, log: log, slots: make(chan struct{}, reviewsOpen),
		tokens: cache.NewLRUExpireCache(answersKept), answers: cache.NewLRUExpireCache(answersKept)}
}

// need is what a route asks for: a verb on any one of the node's subresources.
type need struct {
	verb         string // empty: by the request's method
	subresources []string
}

// wrap lets only those through who may.
func (g *guard) wrap(n need, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		user, err := g.who(r)
		if err != nil {
			g.log.Debug("refused a request without a known user", "path", r.URL.Path, "remote", r.RemoteAddr, "error", err)
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		verb := n.verb
		if verb == "" {
			verb = verbOf(r.Method)
		}
		allowed, err := g.may(r.Context(), user, verb, n.subresources)
		if err != nil {
			g.log.Warn("ask whether a request is allowed", "user", user.Username, "path", r.URL.Path, "error", err)
			http.Error(w, fmt.Sprintf("Authorization error (user=%s, verb=%s, resource=nodes, subresource(s)=%v)", user.Username, verb, n.subresources), http.StatusInternalServerError)
			return
		}
		if !allowed {
			http.Error(w, fmt.Sprintf("Forbidden (user=%s, verb=%s, resource=nodes, subresource(s)=%v)", user.Username, verb, n.subresources), http.StatusForbidden)
			return
		}
		r.Header.Del("Authorization") // for this server alone
		next(w, r)
	}
}

func verbOf(method string) string {
	switch method {
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		return "delete"
	}
	return "get"
}

var errNobody = errors.New("neither a client certificate nor a bearer token")

// who reads the user from the connection's certificate, or else from the token.
func (g *guard) who(r *http.Request) (*authenticationv1.UserInfo, error) {
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		leaf := r.TLS.VerifiedChains[0][0]
		if time.Now().After(leaf.NotAfter) { // connections outlive certificates
			return nil, errors.New("the client certificate has expired")
		}
		if leaf.Subject.CommonName == "" {
			return nil, errors.New("the client certificate names no user")
		}
		groups := append(slices.Clone(leaf.Subject.Organization), "system:authenticated")
		return &authenticationv1.UserInfo{Username: leaf.Subject.CommonName, Groups: groups}, nil
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if token = strings.TrimSpace(token); !strings.EqualFold(scheme, "bearer") || token == "" {
		return nil, errNobody
	}
	return g.review(r.Context(), token)
}

func (g *guard) review(ctx context.Context, token string) (*authenticationv1.UserInfo, error) {
	key := sha256.Sum256([]byte(token))
	if known, ok := g.tokens.Get(key); ok {
		return known.(*authenticationv1.UserInfo), nil
	}
	var got *authenticationv1.TokenReview
	err := g.ask(ctx, func(ctx context.Context) (err error) {
		got, err = g.client.AuthenticationV1().TokenReviews().Create(ctx,
			&authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("review token: %w", err)
	}
	if !got.Status.Authenticated || got.Status.User.Username == "" {
		return nil, fmt.Errorf("the token is not valid: %s", got.Status.Error)
	}
	user := got.Status.User
	g.tokens.Add(key, &user, tokenTime)
	return &user, nil
}

// ask performs one review within the bounds of how many and how long.
func (g *guard) ask(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, reviewTime)
	defer cancel()
	select {
	case g.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-g.slots }()
	return do(ctx)
}

// may asks for each subresource until one is allowed.
func (g *guard) may(ctx context.Context, user *authenticationv1.UserInfo, verb string, subresources []string) (bool, error) {
	if slices.Contains(user.Groups, masters) {
		return true, nil
	}
	for _, sub := range subresources {
		allowed, err := g.allowed(ctx, user, verb, sub)
		if err != nil || allowed {
			return allowed, err
		}
	}
	return false, nil
}

func (g *guard) allowed(ctx context.Context, user *authenticationv1.UserInfo, verb, sub string) (bool, error) {
	spec := authorizationv1.SubjectAccessReviewSpec{User: user.Username, UID: user.UID, Groups: user.Groups,
		ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: verb, Version: "v1", Resource: "nodes", Subresource: sub, Name: g.node}}
	if len(user.Extra) > 0 {
		spec.Extra = make(map[string]authorizationv1.ExtraValue, len(user.Extra))
		for k, v := range user.Extra {
			spec.Extra[k] = authorizationv1.ExtraValue(v)
		}
	}
	raw, err := spec.Marshal() // maps are written in key order
	if err != nil {
		return false, fmt.Errorf("encode access review: %w", err)
	}
	key := sha256.Sum256(raw)
	if known, ok := g.answers.Get(key); ok {
		return known.(bool), nil
	}
	var got *authorizationv1.SubjectAccessReview
	err = g.ask(ctx, func(ctx context.Context) (err error) {
		got, err = g.client.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{Spec: spec}, metav1.CreateOptions{})
		return err
	})
	if err != nil {
		return false, fmt.Errorf("review access: %w", err)
	}
	keep := denyTime
	if got.Status.Allowed {
		keep = allowTime
	}
	g.answers.Add(key, got.Status.Allowed, keep)
	return got.Status.Allowed, nil
}
