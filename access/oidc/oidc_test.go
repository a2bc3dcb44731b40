package oidc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// provider is an identity provider on loopback.
type provider struct {
	*httptest.Server
	key     *ecdsa.PrivateKey
	kid     string
	fetches atomic.Int64
	now     time.Time
}

func newProvider(t testing.TB) *provider {
	p := &provider{kid: "k1", now: time.Now()}
	p.newKey(t, "k1")
	p.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.fetches.Add(1)
		switch r.URL.Path {
		case wellKnown, "/inside/discovery":
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, p.URL, p.URL+"/keys")
		case "/keys":
			public := jose.JSONWebKey{Key: p.key.Public(), KeyID: p.kid, Use: "sig"}
			one, _ := json.Marshal(public)
			fmt.Fprintf(w, `{"keys":[{"kty":"strange","kid":"x"},%s]}`, one)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *provider) newKey(t testing.TB, kid string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p.key, p.kid = key, kid
}

func (p *provider) ca() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw}))
}

// token signs claims; those given replace the usual ones, nil takes one away.
func (p *provider) token(t testing.TB, claims map[string]any) string {
	all := map[string]any{"iss": p.URL, "aud": "proa", "sub": "ann", "exp": p.now.Add(time.Hour).Unix(), "email": "ann@example.com", "email_verified": true, "roles": []string{"devs", "ops"}, "level": 7}
	for k, v := range claims {
		if all[k] = v; v == nil {
			delete(all, k)
		}
	}
	payload, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return p.sign(t, p.key, jose.ES256, payload)
}

func (p *provider) sign(t testing.TB, key any, alg jose.SignatureAlgorithm, payload []byte) string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: p.kid}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// configured writes a configuration and loads it; {URL} and {CA} are the provider's.
func configured(t testing.TB, p *provider, body string) (*Authenticator, error) {
	t.Helper()
	ca, err := json.Marshal(p.ca())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "auth.yaml")
	body = strings.NewReplacer("{URL}", p.URL, "{CA}", string(ca)).Replace(body)
	if err := os.WriteFile(path, []byte("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n"+body), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		return nil, err
	}
	return New(Config{Issuers: c, Own: "https://own", Now: func() time.Time { return p.now }})
}

const issuerYAML = `
jwt:
- issuer: {url: "{URL}", audiences: [proa], certificateAuthority: {CA}}
`

const byExpressions = issuerYAML + `
  claimMappings:
    username: {expression: "'oidc:' + claims.email.split('@')[0]"}
    groups: {expression: "claims.roles.map(r, 'corp:' + r)"}
    uid: {claim: sub}
    extra:
    - {key: example.com/level, valueExpression: "string(claims.level)"}
    - {key: example.com/none, valueExpression: "claims.?nothing.orValue('')"}
  claimValidationRules:
  - {expression: "claims.?email_verified.orValue(false) == true", message: "mail address not verified"}
  - {expression: "claims.level > 5"}
  userValidationRules:
  - {expression: "!user.username.startsWith('system:')", message: "reserved"}
  - {expression: "user.groups.all(g, !g.startsWith('system:'))"}
`

func TestExpressionsMakeAUser(t *testing.T) {
	p := newProvider(t)
	a, err := configured(t, p, byExpressions)
	if err != nil {
		t.Fatal(err)
	}
	u, err := a.AuthenticateToken(t.Context(), p.token(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	if u.Name != "oidc:ann" || u.UID != "ann" || !slices.Equal(u.Groups, []string{"corp:devs", "corp:ops"}) || len(u.Extra) != 1 || u.Extra["example.com/level"][0] != "7" {
		t.Errorf("%+v", u)
	}
	for name, c := range map[string]struct {
		claims map[string]any
		want   string
	}{
		"unverified": {map[string]any{"email_verified": false}, "mail address not verified"},
		"level":      {map[string]any{"level": 3}, "claims.level > 5"},
		"audience":   {map[string]any{"aud": []string{"vault"}}, "expected audience"},
		"expired":    {map[string]any{"exp": p.now.Add(-time.Second).Unix()}, "expired"},
		"no expiry":  {map[string]any{"exp": nil}, "expired"},
		"not yet":    {map[string]any{"nbf": p.now.Add(time.Hour).Unix()}, "not valid yet"},
		"no mail":    {map[string]any{"email": nil}, "no such key"},
		"odd groups": {map[string]any{"roles": []int{1}}, "groups"},
	} {
		if u, err := a.AuthenticateToken(t.Context(), p.token(t, c.claims)); err == nil || !strings.Contains(err.Error(), c.want) || u != nil {
			t.Errorf("%s: %+v %v", name, u, err)
		}
	}
}

func TestFlagsMakeAUser(t *testing.T) {
	p := newProvider(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, []byte(p.ca()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		flags  Flags
		name   string
		groups []string
	}{
		{Flags{}, p.URL + "#ann", nil},
		{Flags{UsernameClaim: "email"}, "ann@example.com", nil},
		{Flags{UsernameClaim: "sub", UsernamePrefix: "-", GroupsClaim: "roles", GroupsPrefix: "g:"}, "ann", []string{"g:devs", "g:ops"}},
		{Flags{RequiredClaims: map[string]string{"sub": "bob"}}, "", nil},
	} {
		c.flags.IssuerURL, c.flags.ClientID, c.flags.CAFile = p.URL, "proa", ca
		cfg, err := c.flags.Config()
		if err != nil {
			t.Fatal(err)
		}
		a, err := New(Config{Issuers: cfg, Now: func() time.Time { return p.now }})
		if err != nil {
			t.Fatal(err)
		}
		u, err := a.AuthenticateToken(t.Context(), p.token(t, nil))
		if (err == nil) != (c.name != "") || err == nil && (u.Name != c.name || !slices.Equal(u.Groups, c.groups)) {
			t.Errorf("%+v: %+v %v", c.flags, u, err)
		}
		if c.flags.UsernameClaim == "email" {
			if u, err := a.AuthenticateToken(t.Context(), p.token(t, map[string]any{"email_verified": false})); err == nil {
				t.Errorf("an address that is not verified became %+v", u)
			}
		}
	}
}

func TestForgedTokens(t *testing.T) {
	p := newProvider(t)
	a, err := configured(t, p, byExpressions)
	if err != nil {
		t.Fatal(err)
	}
	honest := strings.Split(p.token(t, nil), ".")
	payload, err := base64.RawURLEncoding.DecodeString(honest[1])
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	public, err := x509.MarshalPKIXPublicKey(p.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	twice := strings.Replace(string(payload), `"sub":"ann"`, `"sub":"ann","sub":"root"`, 1)
	embedded, err := json.Marshal(jose.JSONWebKey{Key: other.Public(), KeyID: "k1"})
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{
		"alg none":          b64([]byte(`{"alg":"none","kid":"k1"}`)) + "." + honest[1] + ".",
		"public key hmac":   p.sign(t, public, jose.HS256, payload),
		"another key":       p.sign(t, other, jose.ES256, payload),
		"own key inside":    b64([]byte(`{"alg":"ES256","jwk":`+string(embedded)+`}`)) + "." + honest[1] + "." + honest[2],
		"swapped body":      honest[0] + "." + b64([]byte(strings.Replace(string(payload), "ann", "bob", 1))) + "." + honest[2],
		"claims twice":      p.sign(t, p.key, jose.ES256, []byte(twice)),
		"ISS in capitals":   p.sign(t, p.key, jose.ES256, []byte(strings.Replace(string(payload), `"iss"`, `"ISS"`, 1))),
		"huge":              strings.Repeat("a", maxToken+1),
		"no signature":      honest[0] + "." + honest[1] + ".",
		"body is no object": p.sign(t, p.key, jose.ES256, []byte(`[]`)),
	} {
		if u, err := a.AuthenticateToken(t.Context(), token); u != nil {
			t.Errorf("%s: accepted as %+v, %v", name, u, err)
		}
	}
}

func TestUnknownKeysAreFetchedOnceAWhile(t *testing.T) {
	p := newProvider(t)
	a, err := configured(t, p, byExpressions)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.AuthenticateToken(t.Context(), p.token(t, nil)); err != nil {
		t.Fatal(err)
	}
	if n := p.fetches.Load(); n != 2 {
		t.Fatalf("%d fetches for the first token", n)
	}
	p.newKey(t, "k2")
	next := p.token(t, nil)
	for range 100 {
		if _, err := a.AuthenticateToken(t.Context(), next); err == nil {
			t.Fatal("a key that nobody fetched")
		}
	}
	if n := p.fetches.Load(); n != 2 {
		t.Fatalf("%d fetches: unknown keys are asked for without a pause", n)
	}
	p.now = p.now.Add(pause)
	if _, err := a.AuthenticateToken(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	p.Close()
	if _, err := a.AuthenticateToken(t.Context(), p.token(t, nil)); err != nil {
		t.Errorf("a known key with its issuer away: %v", err)
	}
}

func TestConfigurationSaysWhatIsWrong(t *testing.T) {
	p := newProvider(t)
	for body, want := range map[string]string{
		"jwt:\n- issuer: {url: http://x, audiences: [a]}\n  claimMappings: {username: {claim: sub, prefix: ''}}":                                                      "URL scheme must be https",
		"jwt:\n- issuer: {url: 'https://own', audiences: [a]}\n  claimMappings: {username: {claim: sub, prefix: ''}}":                                                 "disallowed issuers",
		"jwt:\n- issuer: {url: 'https://x', audiences: [a, b]}\n  claimMappings: {username: {claim: sub, prefix: ''}}":                                                "must be MatchAny for multiple audiences",
		"jwt:\n- issuer: {url: 'https://x', audiences: [a]}\n  claimMappings: {username: {claim: sub}}":                                                               "prefix is required when claim is set",
		"jwt:\n- issuer: {url: 'https://x', audiences: [a]}\n  claimMappings: {username: {expression: 'claims.email'}}":                                               "claims.email_verified must be used",
		"jwt:\n- issuer: {url: 'https://x', audiences: [a]}\n  claimMappings: {username: {expression: 'clams.sub'}}":                                                  "undeclared reference",
		"jwt:\n- issuer: {url: 'https://x', audiences: [a]}\n  claimMappings: {username: {expression: '1'}}":                                                          "must evaluate to one of",
		"jwt:\n- issuer: {url: 'https://x', audiences: [a]}\n  claimMappings: {username: {claim: a, prefix: ''}, extra: [{key: k8s.io/x, valueExpression: \"'a'\"}]}": "reserved for Kubernetes use",
		"jwt: []\nsurprise: 1": "unknown field",
		"anonymous: {enabled: false, conditions: [{path: /healthz}]}": "enabled should be set to true",
	} {
		if _, err := configured(t, p, body); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", body, err, want)
		}
	}
}

func FuzzToken(f *testing.F) {
	p := newProvider(f)
	a, err := configured(f, p, byExpressions)
	if err != nil {
		f.Fatal(err)
	}
	honest := p.token(f, nil)
	for _, seed := range []string{honest, "", "..", "eyJhbGciOiJub25lIn0.e30.", honest + "."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		if u, _ := a.AuthenticateToken(t.Context(), token); u != nil && token != honest {
			// Base64 has more than one spelling of the last bits; the content must be the same.
			if u.Name != "oidc:ann" {
				t.Errorf("%q became %+v", token, u)
			}
		}
	})
}
