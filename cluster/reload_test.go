package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
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
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/proa-dev/proa/store"
)

// files are the configuration files of a server under test.
type files struct {
	t   *testing.T
	dir string
}

func (f files) path(name string) string { return filepath.Join(f.dir, name) }

// write replaces a file as a whole; text may be without its head.
func (f files) write(name, kind, text string) {
	f.t.Helper()
	group := "apiserver.config.k8s.io/v1"
	if kind == "Policy" {
		group = "audit.k8s.io/v1"
	}
	if err := WriteFile(f.path(name), fmt.Appendf(nil, "apiVersion: %s\nkind: %s\n%s\n", group, kind, text), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// provider is an OpenID Connect issuer; the token it gives is for an audience.
func provider(t *testing.T) (config func(audience string) string, token func(audience string) string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var s *httptest.Server
	s = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "openid-configuration") {
			_ = json.NewEncoder(w).Encode(map[string]string{"issuer": s.URL, "jwks_uri": s.URL + "/keys"})
			return
		}
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	}))
	t.Cleanup(s.Close)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := json.Marshal(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	if err != nil {
		t.Fatal(err)
	}
	config = func(audience string) string {
		return fmt.Sprintf(`jwt: [{issuer: {url: %q, audiences: [%s], certificateAuthority: %s}, claimMappings: {username: {claim: sub, prefix: ""}}}]`, s.URL, audience, ca)
	}
	token = func(audience string) string {
		raw, err := jwt.Signed(signer).Claims(jwt.Claims{Issuer: s.URL, Subject: "ann", Audience: jwt.Audience{audience}, Expiry: jwt.NewNumericDate(time.Now().Add(time.Hour))}).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	return config, token
}

// Each configuration file is read again when it changes; a bad one is counted and changes nothing.
func TestConfigurationFilesAreReloaded(t *testing.T) {
	f := files{t, t.TempDir()}
	issuer, token := provider(t)
	f.write("authentication", "AuthenticationConfiguration", issuer("one"))
	const builtin = "{type: Node, name: node}, {type: RBAC, name: rbac}"
	f.write("authorization", "AuthorizationConfiguration", "authorizers: ["+builtin+"]")
	f.write("audit", "Policy", "rules: [{level: None}]")
	f.write("encryption", "EncryptionConfiguration", "resources: [{resources: [secrets], providers: [{identity: {}}]}]")
	c := newHouse(t, func(cfg *ServerConfig) {
		cfg.Access.AuthenticationConfig, cfg.Access.AuthorizationConfig = f.path("authentication"), f.path("authorization")
		cfg.Audit = AuditConfig{Policy: f.path("audit"), Log: f.path("audit.log"), MaxSize: 1}
		cfg.EncryptionConfig = f.path("encryption")
	})
	c.bind(t, "ann", "reads", "User")
	as := func(audience string) error {
		client, err := kubernetes.NewForConfig(&rest.Config{Host: c.address(), BearerToken: token(audience), TLSClientConfig: rest.TLSClientConfig{CAData: c.pki.CA.PEM}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
		return err
	}
	const soon = 5 * time.Second
	counted := func(name, status string, n int) {
		t.Helper()
		eventually(t, soon, fmt.Sprintf("%d %s reloads: %s", n, name, status), func() bool { return c.reloads(t, name, status) == n })
	}

	if err := as("one"); err != nil {
		t.Fatal(err)
	}
	if err := as("two"); !apierrors.IsUnauthorized(err) {
		t.Fatal(err)
	}
	f.write("authentication", "AuthenticationConfiguration", issuer("two"))
	eventually(t, soon, "the new audience is accepted", func() bool { return as("two") == nil })
	if err := as("one"); !apierrors.IsUnauthorized(err) {
		t.Errorf("with the former audience: %v", err)
	}
	counted("authentication", "success", 1)
	for i, bad := range []string{"jwt: [{issuer: {}}]", "what is this", issuer("one") + "\nanonymous: {enabled: false}"} {
		f.write("authentication", "AuthenticationConfiguration", bad)
		counted("authentication", "failure", i+1)
	}
	if err := as("two"); err != nil {
		t.Errorf("a bad file was used: %v", err)
	}

	hook := fmt.Sprintf(`{type: Webhook, name: hook, webhook: {timeout: 1s, authorizedTTL: 1s, unauthorizedTTL: 1s, subjectAccessReviewVersion: v1, failurePolicy: Deny,
  matchConditionSubjectAccessReviewVersion: v1, matchConditions: [{expression: "request.user == 'ann'"}], connectionInfo: {type: KubeConfigFile, kubeConfigFile: %q}}}`, nowhere(t, f))
	f.write("authorization", "AuthorizationConfiguration", "authorizers: ["+hook+", "+builtin+"]")
	eventually(t, soon, "the webhook is asked", func() bool { return apierrors.IsForbidden(as("two")) })
	f.write("authorization", "AuthorizationConfiguration", "authorizers: [{type: RBAC, name: rbac}]")
	counted("authorization", "failure", 1)
	f.write("authorization", "AuthorizationConfiguration", "authorizers: ["+builtin+"]")
	eventually(t, soon, "the webhook is not asked any more", func() bool { return as("two") == nil })
	counted("authorization", "success", 2)

	if raw, err := os.ReadFile(f.path("audit.log")); err != nil || len(raw) > 0 {
		t.Errorf("audit log: %v, %.200s", err, raw)
	}
	f.write("audit", "Policy", "rules: [{level: Sometimes}]")
	counted("audit_policy", "failure", 1)
	f.write("audit", "Policy", "rules: [{level: Metadata, users: [ann]}]")
	counted("audit_policy", "success", 1)
	eventually(t, soon, "the audit log tells of ann", func() bool {
		_ = as("two") // what it answers is not the question
		raw, err := os.ReadFile(f.path("audit.log"))
		return err == nil && strings.Contains(string(raw), `"username":"ann"`)
	})

	secrets := c.client.CoreV1().Secrets("default")
	if _, err := secrets.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	key := func(n byte) string {
		return "secret: " + base64.StdEncoding.EncodeToString(slices.Repeat([]byte{n}, 32))
	}
	f.write("encryption", "EncryptionConfiguration", "resources: [{resources: [secrets], providers: [{aesgcm: {keys: [{name: a, secret: short}]}}]}]")
	counted("encryption", "failure", 1)
	f.write("encryption", "EncryptionConfiguration", "resources: [{resources: [secrets, configmaps], providers: [{aesgcm: {keys: [{name: a, "+key(1)+"}]}}, {identity: {}}]}]")
	for _, resource := range []string{"secrets", "configmaps"} {
		eventually(t, soon, resource+" are sealed", func() bool {
			all := c.store.Sealing()
			i := slices.IndexFunc(all, func(s store.Sealing) bool { return s.Resource == resource })
			return i >= 0 && all[i].With == `aesgcm key "a"` && all[i].Stale == 0 && all[i].Objects > 0
		})
	}
	if _, err := secrets.Get(t.Context(), "s", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
}

// nowhere is a kubeconfig of a server that does not answer.
func nowhere(t *testing.T, f files) string {
	t.Helper()
	text := "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\ncontexts: [{name: c, context: {cluster: c}}]\ncurrent-context: c\n"
	if err := os.WriteFile(f.path("hook"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return f.path("hook")
}

// reloads reads how often a file was reloaded from the server's metrics.
func (c *house) reloads(t *testing.T, name, status string) int {
	t.Helper()
	raw, err := c.client.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if strings.HasPrefix(line, "apiserver_"+name+"_config_controller_automatic_reloads_total{") && strings.Contains(line, `status="`+status+`"`) {
			var n int
			if _, err := fmt.Sscan(line[strings.LastIndex(line, " "):], &n); err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	return 0
}
