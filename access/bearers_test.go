package access

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/proa-dev/proa/apis/api"
)

// others knows one token, and is broken for another.
type others struct{ asked []string }

func (o *others) AuthenticateToken(_ context.Context, token string) (*api.User, error) {
	o.asked = append(o.asked, token)
	switch token {
	case "theirs":
		return &api.User{Name: "oidc:ann", Groups: []string{"devs"}}, nil
	case "expired":
		return nil, errors.New("token of https://idp: token is expired")
	}
	return nil, nil
}

func TestOthersTokens(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	o := &others{}
	w := newWorld(t)
	w.id, err = New(Config{Reader: w.Reader, ClientCA: x509.NewCertPool(), Signer: key, Issuer: testIssuer, Bearers: []TokenAuthenticator{o},
		AnonymousPaths: []string{"/healthz"}, Now: func() time.Time { return w.now }})
	if err != nil {
		t.Fatal(err)
	}
	u, err := w.ask("theirs")
	if err != nil || u.Name != "oidc:ann" || !slices.Equal(u.Groups, []string{"devs", Authenticated}) {
		t.Errorf("%+v %v", u, err)
	}
	if _, err := w.ask("expired"); err == nil || !strings.Contains(err.Error(), "token is expired") {
		t.Errorf("%v", err)
	}
	if u, err := w.ask("nobody's"); err == nil {
		t.Errorf("%+v", u)
	}
	before := len(o.asked)
	if _, err := w.ask(w.issue(t, api.TokenClaims{Expires: time.Hour})); err != nil || len(o.asked) != before {
		t.Errorf("the cluster's own token: %v, shown to others: %v", err, len(o.asked) != before)
	}
	old := w.issue(t, api.TokenClaims{Expires: time.Minute})
	w.now = w.now.Add(time.Hour)
	if _, err := w.ask(old); err == nil || len(o.asked) != before {
		t.Errorf("an expired token of the cluster: %v, shown to others: %v", err, len(o.asked) != before)
	}
	s := w.id.Tokens.Review(t.Context(), authenticationv1.TokenReviewSpec{Token: "theirs"})
	if !s.Authenticated || s.User.Username != "oidc:ann" || !slices.Equal(s.Audiences, []string{testIssuer}) {
		t.Errorf("%+v", s)
	}
	if s := w.id.Tokens.Review(t.Context(), authenticationv1.TokenReviewSpec{Token: "theirs", Audiences: []string{"vault"}}); s.Authenticated {
		t.Errorf("for another audience: %+v", s)
	}
	for path, want := range map[string]bool{"/healthz": true, "/api": false, "/healthz/": false} {
		u, err := w.id.Authenticate(httptest.NewRequest(http.MethodGet, path, nil))
		if (u != nil) != want || err != nil {
			t.Errorf("anonymous on %s: %+v %v", path, u, err)
		}
	}
}
