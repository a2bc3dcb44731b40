package apiserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/access"
)

const maps = "/api/v1/namespaces/default/configmaps"

func TestRefusals(t *testing.T) {
	h := newHouse(t)
	if a := h.do("POST", maps, `{"metadata":{"name":"a"},"data":{"k":"v"}}`); a.code != 201 {
		t.Fatalf("%d %s", a.code, a.body)
	}
	asJSON := []string{"Content-Type", "application/json"}
	for _, c := range []struct {
		name, method, path, body string
		headers                  []string
		code                     int
		reason                   metav1.StatusReason
		text                     string // the message contains it
	}{
		{"no credentials", "GET", maps, "", []string{"Authorization", ""}, 401, "Unauthorized", "Unauthorized"},
		{"bad credentials", "GET", maps, "", []string{"Authorization", "Bearer bad"}, 401, "Unauthorized", "Unauthorized"},
		{"not allowed", "GET", maps + "/a", "", []string{"Authorization", "Bearer eve"}, 403, "Forbidden",
			`configmaps "a" is forbidden: User "eve" cannot get resource "configmaps" in API group "" in the namespace "default"`},
		{"path not allowed", "GET", "/metrics", "", []string{"Authorization", "Bearer eve"}, 403, "Forbidden", `forbidden: User "eve" cannot get path "/metrics"`},
		{"no such object", "GET", maps + "/b", "", nil, 404, "NotFound", `configmaps "b" not found`},
		{"put on a collection", "PUT", maps, `{}`, nil, 405, "MethodNotAllowed", ""},
		{"post on an object", "POST", maps + "/a", `{}`, nil, 405, "MethodNotAllowed", ""},
		{"strange method", "PROPFIND", maps, "", nil, 405, "MethodNotAllowed", ""},
		{"not acceptable", "GET", maps, "", []string{"Accept", "image/png"}, 406, "NotAcceptable",
			"406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, application/vnd.kubernetes.protobuf"},
		{"a table of what has no metadata", "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", `{}`,
			[]string{"Accept", "application/json;as=Table;v=v1;g=meta.k8s.io"}, 406, "NotAcceptable", "only the following media types"},
		{"exists", "POST", maps, `{"metadata":{"name":"a"}}`, nil, 409, "AlreadyExists", `configmaps "a" already exists`},
		{"large", "POST", maps, `{"metadata":{"name":"l"},"data":{"k":"` + strings.Repeat("x", 4<<20) + `"}}`, nil, 413, "RequestEntityTooLarge", "limit is 3145728"},
		{"unknown body", "POST", maps, `a=b`, []string{"Content-Type", "text/plain"}, 415, "UnsupportedMediaType",
			"the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf"},
		{"unknown patch", "PATCH", maps + "/a", `{}`, asJSON, 415, "UnsupportedMediaType", "415: Unsupported Media Type"},
		{"invalid", "POST", maps, `{"metadata":{"name":"A_b"}}`, nil, 422, "Invalid", `ConfigMap "A_b" is invalid: metadata.name: Invalid value: "A_b": a lowercase RFC 1123 subdomain`},
		{"other kind", "POST", maps, `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"x"}}`, nil, 400, "BadRequest", "Secret"},
		{"other version", "POST", maps, `{"apiVersion":"v2","kind":"ConfigMap"}`, nil, 400, "BadRequest", `no kind "ConfigMap" is registered for version "v2"`},
		{"no JSON", "POST", maps, `{"metadata":`, nil, 400, "BadRequest", ""},
		{"deep", "POST", maps, strings.Repeat(`[`, 100_000), nil, 400, "BadRequest", ""},
		{"other namespace", "POST", maps, `{"metadata":{"name":"x","namespace":"other"}}`, nil, 400, "BadRequest", "the namespace of the provided object does not match the namespace sent on the request"},
		{"put another namespace", "PUT", maps + "/a", `{"metadata":{"name":"a","namespace":"other"}}`, nil, 400, "BadRequest", "the namespace of the provided object does not match the namespace sent on the request"},
		{"put another name", "PUT", maps + "/a", `{"metadata":{"name":"b"}}`, nil, 400, "BadRequest", "the name of the object (b) does not match the name on the URL (a)"},
		{"put no name", "PUT", maps + "/a", `{}`, nil, 400, "BadRequest", "the name of the object (a based on URL) was undeterminable: name must be provided"},
		{"version on create", "POST", maps, `{"metadata":{"name":"x","resourceVersion":"7"}}`, nil, 500, "", ""},
		{"strange name", "GET", maps + "/a%25b", "", nil, 400, "BadRequest", "Name parameter invalid: \"a%b\": may not contain '%'"},
		{"label selector", "GET", maps + "?labelSelector=a+b+c", "", nil, 400, "BadRequest", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"},
		{"field selector", "GET", maps + "?fieldSelector=data.x%3Dy", "", nil, 400, "BadRequest", `"data.x" is not a known field selector: only "metadata.name", "metadata.namespace"`},
		{"field of a pod", "GET", "/api/v1/pods?fieldSelector=spec.x%3Dy", "", nil, 400, "BadRequest", `field label not supported: spec.x`},
		{"limit", "GET", maps + "?limit=many", "", nil, 400, "BadRequest", `parsing "many": invalid syntax`},
		{"continue", "GET", maps + "?continue=abc", "", nil, 400, "BadRequest", "continue key is not valid"},
		{"match alone", "GET", maps + "?resourceVersionMatch=Exact", "", nil, 422, "Invalid", "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"},
		{"match unknown", "GET", maps + "?resourceVersionMatch=Foo&resourceVersion=1", "", nil, 422, "Invalid", `resourceVersionMatch: Unsupported value: "Foo": supported values: "Exact", "NotOlderThan", ""`},
		{"match of 0", "GET", maps + "?resourceVersionMatch=Exact&resourceVersion=0", "", nil, 422, "Invalid", `resourceVersionMatch "exact" is forbidden for resourceVersion "0"`},
		{"initial events", "GET", maps + "?watch=1&sendInitialEvents=true", "", nil, 422, "Invalid", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"},
		{"future", "GET", maps + "?resourceVersion=99999999", "", nil, 504, "Timeout", "Too large resource version: 99999999, current: "},
		{"dry run", "POST", maps + "?dryRun=Some", `{"metadata":{"name":"x"}}`, nil, 422, "Invalid", `dryRun: Unsupported value: ["Some"]`},
		{"strict", "POST", maps + "?fieldValidation=Strict", `{"metadata":{"name":"x"},"date":{}}`, nil, 400, "BadRequest", `strict decoding error: unknown field "date"`},
		{"validation", "POST", maps + "?fieldValidation=Foo", `{"metadata":{"name":"x"}}`, nil, 422, "Invalid", "fieldValidation"},
		{"manager", "POST", maps + "?fieldManager=" + strings.Repeat("m", 129), `{"metadata":{"name":"x"}}`, nil, 422, "Invalid", "fieldManager"},
		{"propagation", "DELETE", maps + "/a?propagationPolicy=Foo", "", nil, 422, "Invalid", "propagationPolicy"},
		{"group alone", "GET", maps, "", []string{"Impersonate-Group", "g"}, 400, "BadRequest", "without impersonating a user"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := h.do(c.method, c.path, c.body, c.headers...)
			if c.name == "version on create" { // upstream refuses it, in words of its own
				if s := a.status(t); !strings.Contains(s.Message, "resourceVersion should not be set on objects to be created") {
					t.Errorf("%d %s", a.code, a.body)
				}
				return
			}
			if a.code != c.code {
				t.Fatalf("%d, want %d: %.300s", a.code, c.code, a.body)
			}
			s := a.status(t)
			if s.Kind != "Status" || s.APIVersion != "v1" || s.Status != "Failure" || s.Reason != c.reason || s.Code != int32(c.code) || !strings.Contains(s.Message, c.text) {
				t.Errorf("%.400s\nwant %q", a.body, c.text)
			}
			if a.header.Get("Audit-Id") == "" || a.header.Get("Content-Type") != "application/json" {
				t.Errorf("headers %v", a.header)
			}
		})
	}
}

// TestCreationStays: a client can neither change when an object was made nor is it refused for saying so.
func TestCreationStays(t *testing.T) {
	h := newHouse(t)
	var made, put metav1.PartialObjectMetadata
	if err := json.Unmarshal(h.do("POST", maps, `{"metadata":{"name":"a"}}`).body, &made); err != nil {
		t.Fatal(err)
	}
	a := h.do("PUT", maps+"/a", `{"metadata":{"name":"a","creationTimestamp":"2001-01-01T00:00:00Z"}}`)
	if err := json.Unmarshal(a.body, &put); err != nil || a.code != 200 || made.CreationTimestamp.IsZero() || !put.CreationTimestamp.Equal(&made.CreationTimestamp) {
		t.Errorf("made %s, %v: %d %s", made.CreationTimestamp, err, a.code, a.body)
	}
}

func TestNothingThere(t *testing.T) {
	h := newHouse(t)
	for _, path := range []string{"/api/v1/nothings", maps + "/a/foo", "/api/v1/namespaces/default/nodes", "/api/v1//pods", maps + "/a/status/x"} {
		a := h.do("GET", path, "")
		if a.code != 404 || !strings.Contains(string(a.body), "the server could not find the requested resource") || a.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %q", path, a.code, a.body)
		}
	}
	for _, path := range []string{"/apis/none.example/v1/things", "/nothing", "//api/v1/pods"} {
		a := h.do("GET", path, "")
		if a.code != 404 || string(a.body) != "404 page not found\n" || !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") {
			t.Errorf("%s: %d %q", path, a.code, a.body)
		}
	}
	if a := h.do("GET", "/api/v1/namespaces/Not_A_Name/configmaps", ""); a.code != 200 || !strings.Contains(string(a.body), `"items":[]`) {
		t.Errorf("ill-formed namespace: %d %s", a.code, a.body)
	}
	if a := h.do("GET", "/open", "", "Authorization", ""); a.code != 200 {
		t.Errorf("open path: %d", a.code)
	}
}

func TestWarnings(t *testing.T) {
	h := newHouse(t)
	body := `{"metadata":{"name":"w"},"date":{},"data":{"a":"1","a":"2"}}`
	a := h.do("POST", maps, body)
	if w := a.header.Values("Warning"); a.code != 201 || len(w) != 2 || w[0] != `299 - "unknown field \"date\""` && w[1] != `299 - "unknown field \"date\""` {
		t.Errorf("%d %q", a.code, w)
	}
	a = h.do("POST", maps+"?fieldValidation=Ignore", strings.Replace(body, `"w"`, `"i"`, 1))
	if w := a.header.Values("Warning"); a.code != 201 || len(w) != 0 {
		t.Errorf("%d %q", a.code, w)
	}
}

func TestImpersonation(t *testing.T) {
	h := newHouse(t)
	h.do("GET", maps, "", "Impersonate-User", "bob", "Impersonate-Group", "system:authenticated", "Impersonate-Group", "dev",
		"Impersonate-Uid", "42", "Impersonate-Extra-Acme.com%2fproject", "blue")
	q := h.rules.questions()
	q = q[len(q)-6:]
	want := []string{"users/bob", "uids/42", "groups/system:authenticated", "groups/dev", "userextras/blue", "configmaps/"}
	for i, a := range q {
		if a.Plural+"/"+a.Name != want[i] {
			t.Errorf("question %d: %s/%s", i, a.Plural, a.Name)
		}
	}
	if q[4].Subresource != "acme.com/project" || q[4].Group != "authentication.k8s.io" {
		t.Errorf("extra: %+v", q[4])
	}
	u := q[5].User
	if u.Name != "bob" || u.UID != "42" || strings.Join(u.Groups, " ") != "system:authenticated dev" || u.Extra["acme.com/project"][0] != "blue" {
		t.Errorf("became %+v", u)
	}
	h.do("GET", maps, "", "Impersonate-User", "system:serviceaccount:default:robot")
	q = h.rules.questions()
	if u = q[len(q)-1].User; strings.Join(u.Groups, " ") != "system:serviceaccounts system:serviceaccounts:default system:authenticated" {
		t.Errorf("service account became %+v", u)
	}
	h.rules.set(func(a *access.Attributes) bool { return a.Plural == "users" })
	a := h.do("GET", maps, "", "Authorization", "Bearer eve", "Impersonate-User", "bob", "Impersonate-Group", "one", "Impersonate-Group", "two")
	if n := len(h.rules.questions()); a.code != 403 || n != 3 || !strings.Contains(string(a.body), `User \"eve\" cannot impersonate-on:user-info:list resource \"configmaps\"`) {
		t.Errorf("%d after %d questions: %s", a.code, n, a.body)
	}
}

func TestHealth(t *testing.T) {
	h := newHouse(t)
	for path, want := range map[string]string{"/healthz": "ok", "/livez": "ok", "/readyz": "ok", "/livez/ping": "ok", "/readyz/late": "ok"} {
		if a := h.do("GET", path, ""); a.code != 200 || string(a.body) != want {
			t.Errorf("%s: %d %q", path, a.code, a.body)
		}
	}
	if a := h.do("GET", "/readyz?verbose", ""); !strings.Contains(string(a.body), "[+]etcd ok\n") || !strings.HasSuffix(string(a.body), "readyz check passed\n") {
		t.Errorf("%q", a.body)
	}
	h.ready = func(context.Context) error { return errors.New("secret reason") }
	if a := h.do("GET", "/readyz", ""); a.code != 500 || strings.Contains(string(a.body), "secret") || !strings.Contains(string(a.body), "[-]late failed: reason withheld\n") {
		t.Errorf("%d %q", a.code, a.body)
	}
	if a := h.do("GET", "/livez", ""); a.code != 200 {
		t.Errorf("livez: %d", a.code)
	}
	if a := h.do("GET", "/readyz?exclude=late", ""); a.code != 200 {
		t.Errorf("excluded: %d", a.code)
	}
	if a := h.do(http.MethodGet, "/version", ""); !strings.Contains(string(a.body), `"gitVersion": "v1.37.1"`) {
		t.Errorf("%s", a.body)
	}
}
