package apiserver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/proa-dev/proa/access/admission"
	"github.com/proa-dev/proa/access/audit"
	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apiserver/catalog"
	"github.com/proa-dev/proa/store"
)

// witness is an audit sink.
type witness struct {
	mu    sync.Mutex
	lines [][]byte
}

func (w *witness) Write(line []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, bytes.Clone(line))
}

func (w *witness) Run(context.Context) error { return nil }

// of gives the events with an id, once the last is there.
func (w *witness) of(t *testing.T, id string, last auditv1.Stage) []auditv1.Event {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		var out []auditv1.Event
		w.mu.Lock()
		for _, line := range w.lines {
			var e auditv1.Event
			if err := json.Unmarshal(line, &e); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			if string(e.AuditID) == id {
				out = append(out, e)
			}
		}
		w.mu.Unlock()
		if n := len(out); n > 0 && out[n-1].Stage == last {
			return out
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %+v", id, out)
		}
	}
}

// judge is an admission step that annotates, and panics when asked.
type judge struct{}

func (judge) Validate(_ context.Context, a *admission.Attributes) error {
	if a.Name == "panic" {
		panic("as asked")
	}
	if a.Name == "refused" {
		return apierrors.NewForbidden(a.Kind.GroupResource(), a.Name, nil)
	}
	if a.Annotate != nil {
		a.Annotate("judge.example.com/verdict", "fine")
	}
	return nil
}

func auditedHouse(t *testing.T, list string) (*house, *witness) {
	t.Helper()
	p, err := audit.ParsePolicy([]byte("apiVersion: audit.k8s.io/v1\nkind: Policy\n" + list))
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{}
	l, err := audit.New(audit.Config{Policy: p, Sinks: []audit.Sink{w}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return newHouseOn(t, store.Config{Dir: t.TempDir(), Events: historyLength}, l, func(api.Reader, *rules, *catalog.Catalog) []admission.Step {
		return []admission.Step{{Name: "Judge", Validator: judge{}}}
	}), w
}

func TestAuditOfRequests(t *testing.T) {
	h, w := auditedHouse(t, "omitStages: [RequestReceived]\nrules: [{level: RequestResponse}]")
	const maps = "/api/v1/namespaces/default/configmaps"
	one := func(id, method, path, body string, headers ...string) (auditv1.Event, answer) {
		t.Helper()
		got := h.do(method, path, body, append(headers, "Audit-Id", id)...)
		if got.header.Get("Audit-Id") != id {
			t.Errorf("%s: the answer has id %q", id, got.header.Get("Audit-Id"))
		}
		all := w.of(t, id, auditv1.StageResponseComplete)
		if len(all) != 1 {
			t.Errorf("%s: %d events", id, len(all))
		}
		return all[0], got
	}
	e, _ := one("create", "POST", maps, `{"metadata":{"name":"m"},"data":{"a":"b"}}`)
	switch {
	case e.Level != "RequestResponse" || e.Verb != "create" || e.User.Username != "root" || e.UserAgent != "test/1" || len(e.SourceIPs) != 1,
		e.ObjectRef == nil || e.ObjectRef.Name != "m" || e.ObjectRef.Namespace != "default" || e.ObjectRef.Resource != "configmaps" || e.ObjectRef.APIVersion != "v1",
		e.ResponseStatus == nil || e.ResponseStatus.Code != 201,
		e.Annotations["authorization.k8s.io/decision"] != "allow" || e.Annotations["judge.example.com/verdict"] != "fine",
		e.RequestObject == nil || strings.Contains(string(e.RequestObject.Raw), "uid") || !strings.Contains(string(e.RequestObject.Raw), `"a":"b"`),
		e.ResponseObject == nil || !strings.Contains(string(e.ResponseObject.Raw), `"uid":`):
		t.Errorf("create: %+v", e)
	}
	e, _ = one("patch", "PATCH", maps+"/m", "data:\n  c: d\napiVersion: v1\nkind: ConfigMap\n", "Content-Type", "application/apply-patch+yaml")
	if e.ResponseStatus.Code == 200 || e.ResponseStatus.Reason != "Invalid" { // it lacks the field manager
		t.Errorf("patch: %+v", e.ResponseStatus)
	}
	e, _ = one("apply", "PATCH", maps+"/m?fieldManager=me", "data:\n  c: d\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\n", "Content-Type", "application/apply-patch+yaml")
	if e.Verb != "patch" || e.RequestObject == nil || !strings.Contains(string(e.RequestObject.Raw), `"data":{"c":"d"}`) {
		t.Errorf("apply: %+v", e)
	}
	e, _ = one("list", "GET", maps, "", "Accept", "application/vnd.kubernetes.protobuf")
	if e.Verb != "list" || e.ResponseObject == nil || !strings.Contains(string(e.ResponseObject.Raw), `"kind":"ConfigMapList"`) {
		t.Errorf("list: %+v", e)
	}
	e, _ = one("refused", "POST", maps, `{"metadata":{"name":"refused"}}`)
	if e.ResponseStatus.Code != 403 || e.ResponseStatus.Reason != "Forbidden" || e.ResponseStatus.Status != "Failure" {
		t.Errorf("refused: %+v", e.ResponseStatus)
	}
	e, _ = one("forbidden", "GET", maps, "", "Authorization", "Bearer alice:dev")
	if e.Annotations["authorization.k8s.io/decision"] != "forbid" || e.ResponseStatus.Code != 403 || len(e.User.Groups) != 2 {
		t.Errorf("forbidden: %+v", e)
	}
	e, _ = one("as", "GET", maps+"/m", "", "Impersonate-User", "bob", "Impersonate-Group", "g")
	if e.User.Username != "root" || e.ImpersonatedUser == nil || e.ImpersonatedUser.Username != "bob" || e.Annotations["authorization.k8s.io/decision"] != "forbid" {
		t.Errorf("impersonated: %+v", e)
	}
	e, _ = one("delete", "DELETE", maps+"/m", `{"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":0}`)
	if e.RequestObject == nil || e.ResponseStatus.Status != "Success" {
		t.Errorf("delete: %+v", e)
	}
	e, _ = one("path", "GET", "/version", "")
	if e.ObjectRef != nil || e.Verb != "get" || e.RequestURI != "/version" || e.ResponseStatus.Code != 200 {
		t.Errorf("path: %+v", e)
	}
	if got := h.do("POST", maps, `{"metadata":{"name":"panic"}}`, "Audit-Id", "panic"); got.code != 500 {
		t.Errorf("panic: %d", got.code)
	}
	if e := w.of(t, "panic", auditv1.StagePanic)[0]; e.ResponseStatus.Code != 500 || !strings.Contains(e.ResponseStatus.Message, "as asked") {
		t.Errorf("panic: %+v", e.ResponseStatus)
	}
	h.do("GET", maps, "", "Authorization", "Bearer bad", "Audit-Id", "stranger")
	if e := w.of(t, "stranger", auditv1.StageResponseStarted)[0]; e.User.Username != "" || e.ResponseStatus.Code != 401 || e.ResponseStatus.Message != "Authentication failed, attempted: bearer" {
		t.Errorf("stranger: %+v", e)
	}
	h.do("GET", maps+"?watch=true&timeoutSeconds=1", "", "Audit-Id", "watch")
	if all := w.of(t, "watch", auditv1.StageResponseComplete); len(all) != 2 || all[0].Stage != auditv1.StageResponseStarted || all[0].ResponseStatus.Code != http.StatusOK {
		t.Errorf("watch: %+v", all)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if all := string(bytes.Join(w.lines, nil)); strings.Contains(all, "Bearer ") {
		t.Error("a bearer token is in the log")
	}
}
