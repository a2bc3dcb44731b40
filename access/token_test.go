package access

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"crypto/x509"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/access/internal/memory"
	"github.com/proa-dev/proa/apis/api"
)

const testIssuer = "https://kubernetes.default.svc.cluster.local"

type world struct {
	*memory.Reader
	id  *Identity
	key *ecdsa.PrivateKey
	now time.Time
}

func newWorld(t testing.TB) *world {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Reader: memory.New(), key: key, now: time.Now()}
	w.id, err = New(Config{
		Reader: w.Reader, ClientCA: x509.NewCertPool(), Signer: key, Issuer: testIssuer, Now: func() time.Time { return w.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Put(serviceAccounts, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "sa", UID: "sa-uid"}})
	w.Put(pods, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "pod", UID: "pod-uid"}, Spec: corev1.PodSpec{NodeName: "n1"}})
	return w
}

func (w *world) issue(t testing.TB, c api.TokenClaims) string {
	c.Namespace, c.ServiceAccount, c.ServiceAccountUID = "ns", "sa", "sa-uid"
	token, _, err := w.id.Tokens.Issue(c)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func (w *world) ask(token string) (*api.User, error) {
	r := httptest.NewRequest(http.MethodGet, "/api", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	return w.id.Authenticate(r)
}

func TestServiceAccountToken(t *testing.T) {
	w := newWorld(t)
	u, err := w.ask(w.issue(t, api.TokenClaims{PodName: "pod", PodUID: "pod-uid", NodeName: "n1", NodeUID: "n-uid", Expires: time.Hour}))
	if err != nil {
		t.Fatal(err)
	}
	if u.Name != "system:serviceaccount:ns:sa" || u.UID != "sa-uid" ||
		!slices.Equal(u.Groups, []string{"system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"}) {
		t.Errorf("user %+v", u)
	}
	if u.Extra[extraPodName][0] != "pod" || u.Extra[extraNodeName][0] != "n1" || !strings.HasPrefix(u.Extra[extraCredential][0], "JTI=") {
		t.Errorf("extra %v", u.Extra)
	}
}

func TestClaimsAreKubernetes(t *testing.T) {
	w := newWorld(t)
	token := w.issue(t, api.TokenClaims{PodName: "pod", PodUID: "pod-uid", Expires: mountLife})
	body, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(body, &claims); err != nil {
		t.Fatal(err)
	}
	k := claims["kubernetes.io"].(map[string]any)
	if k["namespace"] != "ns" || k["pod"].(map[string]any)["uid"] != "pod-uid" || k["warnafter"] == nil {
		t.Errorf("claims %s", body)
	}
	if aud, ok := claims["aud"].([]any); !ok || len(aud) != 1 || aud[0] != testIssuer {
		t.Errorf("aud %v", claims["aud"])
	}
	if life := claims["exp"].(float64) - claims["iat"].(float64); life != extendedLife.Seconds() {
		t.Errorf("a mounted token lives %v s", life)
	}
}

func TestRevocationIsNoticed(t *testing.T) {
	w := newWorld(t)
	bound := w.issue(t, api.TokenClaims{PodName: "pod", PodUID: "pod-uid", Expires: time.Hour})
	plain := w.issue(t, api.TokenClaims{Expires: time.Hour})
	for _, token := range []string{bound, plain} {
		if _, err := w.ask(token); err != nil {
			t.Fatal(err)
		}
	}
	gone := metav1.NewTime(w.now.Add(-2 * time.Minute))
	w.Put(pods, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "pod", UID: "pod-uid", DeletionTimestamp: &gone}})
	if _, err := w.ask(bound); !errors.Is(err, ErrToken) {
		t.Errorf("pod deleted past its grace: %v", err)
	}
	w.Put(pods, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "pod", UID: "other"}})
	if _, err := w.ask(bound); !errors.Is(err, ErrToken) {
		t.Errorf("another pod of the name: %v", err)
	}
	if _, err := w.ask(plain); err != nil {
		t.Errorf("the account's own token: %v", err)
	}
	w.Put(serviceAccounts, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "sa", UID: "new"}})
	if _, err := w.ask(plain); !errors.Is(err, ErrToken) {
		t.Errorf("account made anew: %v", err)
	}
	w.Remove(serviceAccounts, "ns", "sa")
	if _, err := w.ask(plain); !errors.Is(err, ErrToken) {
		t.Errorf("account deleted: %v", err)
	}
}

// forge signs claims of any shape.
func forge(t *testing.T, key any, alg jose.SignatureAlgorithm, kid string, claims map[string]any) string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func otherID(t *testing.T, key *ecdsa.PrivateKey) string {
	id, err := keyID(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// rawToken signs a payload as it is, also one that no encoder would write.
func rawToken(t *testing.T, key any, kid string, payload []byte) string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, nil)
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

func TestForgedTokensAreRefused(t *testing.T) {
	w := newWorld(t)
	kid, err := keyID(&w.key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&w.key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	with := func(change func(map[string]any)) map[string]any {
		c := map[string]any{
			"iss": testIssuer, "aud": []string{testIssuer}, "sub": "system:serviceaccount:ns:sa",
			"exp": w.now.Add(time.Hour).Unix(), "iat": w.now.Unix(), "nbf": w.now.Unix(),
			"kubernetes.io": map[string]any{"namespace": "ns", "serviceaccount": map[string]any{"name": "sa", "uid": "sa-uid"}},
		}
		if change != nil {
			change(c)
		}
		return c
	}
	set := func(key string, value any) map[string]any { return with(func(c map[string]any) { c[key] = value }) }
	without := func(key string) map[string]any { return with(func(c map[string]any) { delete(c, key) }) }
	if _, err := w.ask(forge(t, w.key, jose.ES256, kid, with(nil))); err != nil {
		t.Fatalf("the honest token of this test: %v", err)
	}
	body, err := json.Marshal(with(nil))
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	honest := strings.Split(forge(t, w.key, jose.ES256, kid, with(nil)), ".")
	swapped := forge(t, other, jose.ES256, otherID(t, other), with(nil)) // another cluster's, with its own key ID
	cases := map[string]string{
		"alg none":        b64([]byte(`{"alg":"none","kid":"`+kid+`"}`)) + "." + b64(body) + ".",
		"alg none signed": b64([]byte(`{"alg":"none","kid":"`+kid+`"}`)) + "." + b64(body) + "." + honest[2],
		"public key hmac": forge(t, public, jose.HS256, kid, with(nil)),
		"another key":     forge(t, other, jose.ES256, kid, with(nil)),
		"swapped keys":    swapped,
		"claims twice":    rawToken(t, w.key, kid, []byte(strings.Replace(string(body), `"sub":`, `"sub":"system:serviceaccount:ns:sa","sub":`, 1))),
		"bound twice":     rawToken(t, w.key, kid, []byte(strings.Replace(string(body), `"kubernetes.io":`, `"kubernetes.io":{"namespace":"kube-system"},"kubernetes.io":`, 1))),
		"two signatures":  honest[0] + "." + honest[1] + "." + honest[2] + "." + honest[2],
		"negative expiry": forge(t, w.key, jose.ES256, kid, set("exp", -1)),
		"expiry as text":  forge(t, w.key, jose.ES256, kid, set("exp", "never")),
		"embedded key":    b64([]byte(`{"alg":"ES256","kid":"`+kid+`","jwk":{"kty":"EC"}}`)) + "." + honest[1] + "." + honest[2],
		"unknown kid":     forge(t, other, jose.ES256, "../../etc/passwd", with(nil)),
		"empty kid":       forge(t, w.key, jose.ES256, "", with(nil)),
		"issuer":          forge(t, w.key, jose.ES256, kid, set("iss", "https://evil")),
		"audience":        forge(t, w.key, jose.ES256, kid, set("aud", []string{"vault"})),
		"no audience":     forge(t, w.key, jose.ES256, kid, without("aud")),
		"expired":         forge(t, w.key, jose.ES256, kid, set("exp", w.now.Add(-2*time.Minute).Unix())),
		"no expiry":       forge(t, w.key, jose.ES256, kid, without("exp")),
		"not yet":         forge(t, w.key, jose.ES256, kid, set("nbf", w.now.Add(time.Hour).Unix())),
		"subject":         forge(t, w.key, jose.ES256, kid, set("sub", "system:serviceaccount:kube-system:admin")),
		"legacy": forge(t, w.key, jose.ES256, kid, map[string]any{"iss": "kubernetes/serviceaccount", "sub": "system:serviceaccount:ns:sa",
			"kubernetes.io/serviceaccount/namespace": "ns", "kubernetes.io/serviceaccount/secret.name": "sa-token", "kubernetes.io/serviceaccount/service-account.name": "sa", "kubernetes.io/serviceaccount/service-account.uid": "sa-uid"}),
		"legacy of this issuer": forge(t, w.key, jose.ES256, kid, with(func(c map[string]any) {
			delete(c, "exp")
			delete(c, "aud")
			delete(c, "kubernetes.io")
			c["kubernetes.io/serviceaccount/namespace"], c["kubernetes.io/serviceaccount/service-account.name"] = "ns", "sa"
		})),
		"swapped body": honest[0] + "." + b64([]byte(strings.Replace(string(body), "ns", "kx", 1))) + "." + honest[2],
		"huge":         strings.Repeat("a", maxToken+1),
		"no jwt":       "hello",
		"empty parts":  "..",
	}
	for name, token := range cases {
		if u, err := w.ask(token); err == nil {
			t.Errorf("%s: accepted as %+v", name, u)
		}
	}
}

func TestExpiryIsCheckedOnEachUse(t *testing.T) {
	w := newWorld(t)
	token := w.issue(t, api.TokenClaims{Expires: time.Hour})
	if _, err := w.ask(token); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(2 * time.Hour)
	if _, err := w.ask(token); !errors.Is(err, ErrToken) {
		t.Errorf("expired, remembered token: %v", err)
	}
}

func TestBootstrapToken(t *testing.T) {
	w := newWorld(t)
	put := func(change func(*corev1.Secret)) {
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "bootstrap-token-abcdef"}, Type: bootstrapType,
			Data: map[string][]byte{
				"token-id": []byte("abcdef"), "token-secret": []byte("0123456789abcdef"), "usage-bootstrap-authentication": []byte("true"),
				"expiration": []byte(w.now.Add(time.Hour).Format(time.RFC3339)), "auth-extra-groups": []byte(DefaultNodesGroup),
			}}
		if change != nil {
			change(s)
		}
		w.Put(secrets, s)
	}
	put(nil)
	u, err := w.ask("abcdef.0123456789abcdef")
	if err != nil || u.Name != "system:bootstrap:abcdef" || !slices.Equal(u.Groups, []string{Bootstrappers, DefaultNodesGroup, Authenticated}) {
		t.Errorf("%+v %v", u, err)
	}
	if _, err := w.ask("abcdef.0123456789abcdeg"); err == nil {
		t.Error("wrong secret accepted")
	}
	for name, change := range map[string]func(*corev1.Secret){
		"expired": func(s *corev1.Secret) { s.Data["expiration"] = []byte("2020-01-01T00:00:00Z") },
		"usage":   func(s *corev1.Secret) { delete(s.Data, "usage-bootstrap-authentication") },
		"group":   func(s *corev1.Secret) { s.Data["auth-extra-groups"] = []byte("system:masters") },
		"type":    func(s *corev1.Secret) { s.Type = "Opaque" },
	} {
		put(change)
		if u, err := w.ask("abcdef.0123456789abcdef"); err == nil {
			t.Errorf("%s: accepted as %+v", name, u)
		}
	}
}

func TestAnonymousAndReview(t *testing.T) {
	w := newWorld(t)
	u, err := w.id.Authenticate(httptest.NewRequest(http.MethodGet, "/api", nil))
	if err != nil || u.Name != Anonymous || !slices.Equal(u.Groups, []string{Unauthenticated}) {
		t.Errorf("%+v %v", u, err)
	}
	r := httptest.NewRequest(http.MethodGet, "/api", nil)
	r.Header.Set("X-Remote-User", "admin") // no certificate: nobody believes it
	if u, err := w.id.Authenticate(r); err != nil || u.Name != Anonymous {
		t.Errorf("%+v %v", u, err)
	}
	token := w.issue(t, api.TokenClaims{Audiences: []string{"vault"}, Expires: time.Hour})
	if s := w.id.Tokens.Review(t.Context(), authenticationv1.TokenReviewSpec{Token: token}); s.Authenticated {
		t.Error("a token for another audience was accepted")
	}
	s := w.id.Tokens.Review(t.Context(), authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{"vault", "x"}})
	if !s.Authenticated || !slices.Equal(s.Audiences, []string{"vault"}) || s.User.Username != "system:serviceaccount:ns:sa" {
		t.Errorf("%+v", s)
	}
}

func FuzzToken(f *testing.F) {
	w := newWorld(f)
	f.Add(w.issue(f, api.TokenClaims{Expires: time.Hour}))
	f.Add("abcdef.0123456789abcdef")
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Fuzz(func(t *testing.T, token string) {
		u, err := w.ask(token)
		if err == nil && u.Name != "system:serviceaccount:ns:sa" && u.Name != Anonymous {
			t.Errorf("%q became %+v", token, u)
		}
	})
}

func BenchmarkToken(b *testing.B) {
	w := newWorld(b)
	token := w.issue(b, api.TokenClaims{PodName: "pod", PodUID: "pod-uid", Expires: time.Hour})
	for b.Loop() {
		if _, err := w.ask(token); err != nil {
			b.Fatal(err)
		}
	}
}
