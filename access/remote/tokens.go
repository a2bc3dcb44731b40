package remote

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/internal/recent"
)

const tokenWait = 30 * time.Second

// Tokens asks a webhook whose a token is (--authentication-token-webhook-config-file).
type Tokens struct {
	client  *client
	version string
	keep    time.Duration
	now     func() time.Time
	answers *recent.Map[[sha256.Size]byte, tokenAnswer]
}

type tokenAnswer struct {
	user  *api.User
	until time.Time
}

// NewTokens reads the kubeconfig of the webhook. version is v1 or v1beta1 of TokenReview;
// keep is how long an answer counts (upstream's default is two minutes; 0: not at all).
func NewTokens(kubeconfig, version string, keep time.Duration, now func() time.Time) (*Tokens, error) {
	if version != "v1" && version != "v1beta1" {
		return nil, fmt.Errorf("TokenReview version %q: must be v1 or v1beta1", version)
	}
	c, err := newClient(kubeconfig, tokenWait)
	if err != nil {
		return nil, err
	}
	return &Tokens{client: c, version: version, keep: keep, now: now, answers: recent.New[[sha256.Size]byte, tokenAnswer](cacheSize)}, nil
}

// AuthenticateToken gives the user that the webhook names; nil, nil when it knows none. A
// webhook that cannot be asked is an error and is not remembered.
func (t *Tokens) AuthenticateToken(ctx context.Context, token string) (*api.User, error) {
	key := sha256.Sum256([]byte(token))
	if a, ok := t.answers.Get(key); ok && t.now().Before(a.until) {
		return a.user, nil
	}
	review := authenticationv1.TokenReview{
		TypeMeta: metav1.TypeMeta{APIVersion: authenticationv1.GroupName + "/" + t.version, Kind: "TokenReview"},
		Spec:     authenticationv1.TokenReviewSpec{Token: token},
	}
	var answer authenticationv1.TokenReview
	if err := t.client.ask(ctx, review, &answer); err != nil {
		return nil, err
	}
	u, err := named(&answer.Status)
	if err != nil {
		return nil, err
	}
	if t.keep > 0 {
		t.answers.Put(key, tokenAnswer{u, t.now().Add(t.keep)})
	}
	return u, nil
}

func named(s *authenticationv1.TokenReviewStatus) (*api.User, error) {
	if !s.Authenticated {
		if s.Error != "" {
			return nil, errors.New("token webhook: " + s.Error)
		}
		return nil, nil
	}
	if s.User.Username == "" {
		return nil, errors.New("token webhook: it accepts a token of nobody")
	}
	u := &api.User{Name: s.User.Username, UID: s.User.UID, Groups: s.User.Groups}
	for k, v := range s.User.Extra {
		if u.Extra == nil {
			u.Extra = map[string][]string{}
		}
		u.Extra[k] = v
	}
	return u, nil
}
