package remote

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/apis/api"
)

// hook is a webhook on loopback whose answer the test sets.
type hook struct {
	*httptest.Server
	asked  atomic.Int64
	answer func(question map[string]any) (int, string)
	config string // its kubeconfig
	now    time.Time
}

func newHook(t *testing.T) *hook {
	h := &hook{now: time.Now()}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.asked.Add(1)
		body, _ := io.ReadAll(r.Body)
		var question map[string]any
		if err := json.Unmarshal(body, &question); err != nil {
			t.Error(err)
		}
		code, answer := h.answer(question)
		w.WriteHeader(code)
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(h.Close)
	h.config = filepath.Join(t.TempDir(), "kubeconfig")
	text := "apiVersion: v1\nkind: Config\nclusters: [{name: a, cluster: {server: '" + h.URL + "/ask'}}]\ncontexts: [{name: a, context: {cluster: a}}]\ncurrent-context: a\n"
	if err := os.WriteFile(h.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *hook) chain(t *testing.T, body string) (access.Authorizers, error) {
	t.Helper()
	c := &apiserverv1.AuthorizationConfiguration{}
	if err := yaml.UnmarshalStrict([]byte(strings.ReplaceAll(body, "{FILE}", h.config)), c); err != nil {
		t.Fatal(err)
	}
	return Chain(c, access.Builtin(nil, nil), func() time.Time { return h.now })
}

const oneHook = `
authorizers:
- type: Webhook
  name: corp.example.com
  webhook:
    timeout: 2s
    authorizedTTL: 10s
    unauthorizedTTL: 5s
    subjectAccessReviewVersion: v1
    matchConditionSubjectAccessReviewVersion: v1
    failurePolicy: POLICY
    connectionInfo: {type: KubeConfigFile, kubeConfigFile: "{FILE}"}
    matchConditions:
    - expression: has(request.resourceAttributes) && request.resourceAttributes.namespace == 'prod'
    - expression: "!request.groups.exists(g, g == 'admins')"
`

func question(namespace string, groups ...string) *access.Attributes {
	return &access.Attributes{User: &api.User{Name: "ann", Groups: groups}, Resource: true, Verb: "get", Plural: "pods", Namespace: namespace, LabelSelector: "app=web"}
}

func TestWebhookDecides(t *testing.T) {
	h := newHook(t)
	z, err := h.chain(t, strings.Replace(oneHook, "POLICY", "Deny", 1))
	if err != nil {
		t.Fatal(err)
	}
	h.answer = func(q map[string]any) (int, string) {
		spec := q["spec"].(map[string]any)
		res := spec["resourceAttributes"].(map[string]any)
		if spec["user"] != "ann" || res["labelSelector"] == nil || q["apiVersion"] != "authorization.k8s.io/v1" {
			t.Errorf("question %v", q)
		}
		return 200, `{"status":{"allowed":true,"reason":"friend"}}`
	}
	ask := func(a *access.Attributes) (access.Decision, string) { return z.Authorize(t.Context(), a) }
	for range 3 {
		if d, reason := ask(question("prod")); d != access.Allow || reason != "friend" {
			t.Fatalf("%v %s", d, reason)
		}
	}
	if n := h.asked.Load(); n != 1 {
		t.Errorf("asked %d times within the TTL", n)
	}
	h.now = h.now.Add(11 * time.Second)
	h.answer = func(map[string]any) (int, string) {
		return 200, `{"status":{"allowed":false,"denied":true,"reason":"no"}}`
	}
	if d, _ := ask(question("prod")); d != access.Deny {
		t.Errorf("a denial became %v", d)
	}
	h.answer = func(map[string]any) (int, string) { return 200, `{"status":{"allowed":false}}` }
	if d, _ := ask(question("prod", "x")); d != access.NoOpinion {
		t.Errorf("no opinion became %v", d)
	}
	n := h.asked.Load()
	for _, a := range []*access.Attributes{question("dev"), question("prod", "admins"), {User: &api.User{Name: "ann"}, Verb: "get", Path: "/metrics"}} {
		if d, _ := ask(a); d != access.NoOpinion {
			t.Errorf("%+v: %v", a, d)
		}
	}
	if h.asked.Load() != n {
		t.Error("the webhook was asked about what it is not for")
	}
}

func TestFailurePolicy(t *testing.T) {
	h := newHook(t)
	for policy, want := range map[string]access.Decision{"Deny": access.Deny, "NoOpinion": access.NoOpinion} {
		z, err := h.chain(t, strings.Replace(oneHook, "POLICY", policy, 1))
		if err != nil {
			t.Fatal(err)
		}
		for name, answer := range map[string]string{"garbage": "{", "both": `{"status":{"allowed":true,"denied":true}}`} {
			h.answer = func(map[string]any) (int, string) { return 200, answer }
			if d, reason := z.Authorize(t.Context(), question("prod")); d != want || reason == "" {
				t.Errorf("%s %s: %v %s", policy, name, d, reason)
			}
		}
		fails := 0
		h.answer = func(map[string]any) (int, string) {
			if fails++; fails < 3 {
				return 503, ""
			}
			return 200, `{"status":{"allowed":true}}`
		}
		if d, reason := z.Authorize(t.Context(), question("prod", policy)); d != access.Allow {
			t.Errorf("%s: not asked again: %v %s", policy, d, reason)
		}
	}
}

func TestChainSaysWhatIsWrong(t *testing.T) {
	h := newHook(t)
	if z, err := h.chain(t, "authorizers: [{type: Node, name: node}, {type: RBAC, name: rbac}]"); err != nil || len(z) != 2 {
		t.Errorf("%v %v", z, err)
	}
	for body, want := range map[string]string{
		"authorizers: []":                                             "at least one authorization mode",
		"authorizers: [{type: Magic, name: x}]":                       "Unsupported value",
		"authorizers: [{type: Node}]":                                 "authorizers[0].name: Required",
		"authorizers: [{type: Webhook, name: x}]":                     "required when type=Webhook",
		"authorizers: [{type: RBAC, name: x}, {type: RBAC, name: y}]": "Duplicate",
		strings.Replace(oneHook, "POLICY", "Maybe", 1):                "failurePolicy",
		strings.Replace(strings.Replace(oneHook, "POLICY", "Deny", 1), "request.groups", "request.teams", 1): "undefined field 'teams'",
	} {
		if _, err := h.chain(t, body); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestTokenWebhook(t *testing.T) {
	h := newHook(t)
	tokens, err := NewTokens(h.config, "v1", time.Minute, func() time.Time { return h.now })
	if err != nil {
		t.Fatal(err)
	}
	h.answer = func(q map[string]any) (int, string) {
		if q["spec"].(map[string]any)["token"] == "good" {
			return 200, `{"status":{"authenticated":true,"user":{"username":"ann","groups":["devs"],"extra":{"a":["b"]}}}}`
		}
		return 200, `{"status":{"authenticated":false}}`
	}
	for range 2 {
		u, err := tokens.AuthenticateToken(t.Context(), "good")
		if err != nil || u.Name != "ann" || !slices.Equal(u.Groups, []string{"devs"}) || u.Extra["a"][0] != "b" {
			t.Fatalf("%+v %v", u, err)
		}
		if u, err := tokens.AuthenticateToken(t.Context(), "bad"); u != nil || err != nil {
			t.Fatalf("%+v %v", u, err)
		}
	}
	if n := h.asked.Load(); n != 2 {
		t.Errorf("asked %d times", n)
	}
	h.answer = func(map[string]any) (int, string) { return 401, "" }
	if u, err := tokens.AuthenticateToken(t.Context(), "other"); u != nil || err == nil {
		t.Errorf("%+v %v", u, err)
	}
}
