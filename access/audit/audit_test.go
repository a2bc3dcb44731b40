package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/apis/api"
)

// kept is a sink that keeps lines.
type kept struct {
	mu    sync.Mutex
	lines [][]byte
}

func (k *kept) Write(line []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lines = append(k.lines, bytes.Clone(line))
}

func (k *kept) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// events decodes strictly: nothing is in a line that upstream's type does not have.
func (k *kept) events(t *testing.T) []auditv1.Event {
	t.Helper()
	var all []auditv1.Event
	for _, line := range k.lines {
		var e auditv1.Event
		d := json.NewDecoder(bytes.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(&e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		all = append(all, e)
	}
	return all
}

var discard = slog.New(slog.DiscardHandler)

func policy(t testing.TB, rules string) *Policy {
	t.Helper()
	p, err := ParsePolicy([]byte("apiVersion: audit.k8s.io/v1\nkind: Policy\n" + rules))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newLog(t testing.TB, rules string) (*Log, *kept) {
	k := &kept{}
	l, err := New(Config{Policy: policy(t, rules), Sinks: []Sink{k}, Log: discard, Now: func() time.Time { return arrival.Add(2 * time.Second) }})
	if err != nil {
		t.Fatal(err)
	}
	return l, k
}

var arrival = time.Date(2026, 11, 21, 9, 0, 0, 123456789, time.UTC)

func asked(a access.Attributes) Request {
	r := httptest.NewRequest("POST", "https://x/api/v1/namespaces/a/pods?fieldManager=%22x%22", nil)
	r.RemoteAddr = "10.0.0.9:4711"
	r.Header.Set("User-Agent", "kubectl/v1 \"quoted\" \u00e4")
	r.Header.Set("X-Forwarded-For", "1.2.3.4, nonsense, ::1")
	r.Header.Set("Authorization", "Bearer a-token")
	return Request{ID: "an-id", HTTP: r, Attributes: &a, Received: arrival}
}

var alice = &api.User{Name: "alice", UID: "7", Groups: []string{"dev", "system:authenticated"}, Extra: map[string][]string{"k/b": {"1", "2"}, "a": {"\n"}}}

func createPod() access.Attributes {
	return access.Attributes{User: alice, Verb: "create", Resource: true, Version: "v1", Plural: "pods", Namespace: "a"}
}

func TestEvents(t *testing.T) {
	l, k := newLog(t, "omitManagedFields: true\nrules: [{level: RequestResponse}]")
	r := l.Begin(asked(createPod()))
	r.Impersonated(&api.User{Name: "bob"})
	r.Annotate("authorization.k8s.io/decision", "allow")
	r.Annotate("authorization.k8s.io/decision", "forbid") // the first stays
	r.Annotate("a.example.com/b", "c\td")
	pod := &corev1.Pod{TypeMeta: metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"}, ObjectMeta: metav1.ObjectMeta{Name: "x", ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "m"}}}}
	r.Sent(pod)
	r.AnsweredWith([]byte(`{"kind":"Pod","metadata":{"name":"x","managedFields":[]}}`))
	r.Started(http.StatusCreated)
	r.End()
	got := k.events(t)
	if len(got) != 2 || got[0].Stage != auditv1.StageRequestReceived || got[0].ResponseStatus != nil || !got[0].StageTimestamp.Equal(&got[0].RequestReceivedTimestamp) {
		t.Fatalf("%+v", got)
	}
	e := got[1]
	if e.StageTimestamp.IsZero() {
		t.Error("no time")
	}
	e.StageTimestamp = metav1.MicroTime{}
	want := auditv1.Event{
		TypeMeta: metav1.TypeMeta{Kind: "Event", APIVersion: "audit.k8s.io/v1"}, Level: "RequestResponse", AuditID: "an-id", Stage: "ResponseComplete",
		RequestURI: "/api/v1/namespaces/a/pods?fieldManager=%22x%22", Verb: "create",
		User: authenticationv1.UserInfo{Username: "alice", UID: "7", Groups: []string{"dev", "system:authenticated"},
			Extra: map[string]authenticationv1.ExtraValue{"k/b": {"1", "2"}, "a": {"\n"}}},
		ImpersonatedUser: &authenticationv1.UserInfo{Username: "bob"},
		SourceIPs:        []string{"1.2.3.4", "::1", "10.0.0.9"}, UserAgent: "kubectl/v1 \"quoted\" \u00e4",
		ObjectRef:      &auditv1.ObjectReference{Resource: "pods", Namespace: "a", Name: "x", APIVersion: "v1"},
		ResponseStatus: &metav1.Status{Code: 201}, RequestReceivedTimestamp: e.RequestReceivedTimestamp,
		Annotations: map[string]string{"authorization.k8s.io/decision": "allow", "a.example.com/b": "c\td", "apiserver.latency.k8s.io/total": "2s"},
	}
	request, response := e.RequestObject, e.ResponseObject
	e.RequestObject, e.ResponseObject = nil, nil
	if !reflect.DeepEqual(e, want) {
		t.Errorf("got  %+v\nwant %+v", e, want)
	}
	for _, o := range []string{string(request.Raw), string(response.Raw)} {
		if !strings.Contains(o, `"name":"x"`) || strings.Contains(o, "managedFields") {
			t.Errorf("object %s", o)
		}
	}
	if strings.Contains(string(k.lines[1]), "a-token") {
		t.Error("a bearer token is in the log")
	}
	if at := e.RequestReceivedTimestamp.UTC(); at.Nanosecond() != 123456000 {
		t.Errorf("received at %v", at)
	}
}

func TestStages(t *testing.T) {
	watch := createPod()
	watch.Verb = "watch"
	run := func(rules string, long bool, do func(*Record)) (out []string) {
		l, k := newLog(t, rules)
		q := asked(watch)
		q.Long = long
		r := l.Begin(q)
		do(r)
		r.End()
		for _, e := range k.events(t) {
			s := string(e.Stage)
			if e.ResponseStatus != nil {
				s += " " + e.ResponseStatus.Message
			}
			out = append(out, s)
		}
		return out
	}
	ok := func(r *Record) { r.Started(200) }
	for what, c := range map[string]struct{ got, want []string }{
		"short":       {run("rules: [{level: Metadata}]", false, ok), []string{"RequestReceived", "ResponseComplete "}},
		"long":        {run("rules: [{level: Metadata}]", true, ok), []string{"RequestReceived", "ResponseStarted ", "ResponseComplete "}},
		"nothing":     {run("rules: [{level: Metadata}]", true, func(*Record) {}), []string{"RequestReceived", "ResponseStarted Connection closed early", "ResponseComplete Connection closed early"}},
		"panic":       {run("rules: [{level: Metadata}]", false, func(r *Record) { r.Panicked("oh"); r.Started(500) }), []string{"RequestReceived", "Panic APIServer panic'd: oh"}},
		"omitted":     {run("omitStages: [RequestReceived]\nrules: [{level: Metadata, omitStages: [ResponseComplete]}]", true, ok), []string{"ResponseStarted "}},
		"no level":    {run("rules: [{level: None}]", true, ok), nil},
		"no rule":     {run("rules: [{level: Metadata, users: [bob]}]", true, ok), nil},
		"off":         {run("rules: [{level: Metadata, verbs: [get]}]", true, func(r *Record) { r.Sent(nil); r.Annotate("a", "b"); r.Panicked(1) }), nil},
		"with status": {run("omitStages: [RequestReceived]\nrules: [{level: Metadata}]", false, func(r *Record) { r.Answered(&metav1.Status{Message: "no"}); r.Started(404) }), []string{"ResponseComplete no"}},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s: %q, want %q", what, c.got, c.want)
		}
	}
}

func TestTokensAreNeverKept(t *testing.T) {
	l, k := newLog(t, "rules: [{level: RequestResponse}]")
	review := access.Attributes{User: alice, Verb: "create", Resource: true, Group: "authentication.k8s.io", Version: "v1", Plural: "tokenreviews"}
	r := l.Begin(asked(review))
	r.Sent(&authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: "hush"}})
	r.Started(201)
	r.End()
	made := access.Attributes{User: alice, Verb: "create", Resource: true, Version: "v1", Plural: "serviceaccounts", Subresource: "token"}
	r = l.Begin(asked(made))
	r.Sent(&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{"someone"}}})
	r.Answered(&authenticationv1.TokenRequest{Status: authenticationv1.TokenRequestStatus{Token: "hush"}})
	r.Started(201)
	r.End()
	all := string(bytes.Join(k.lines, nil))
	if strings.Contains(all, "hush") || !strings.Contains(all, "someone") {
		t.Errorf("kept: %s", all)
	}
}

func TestPolicy(t *testing.T) {
	res := func(group, plural, sub, ns, name, verb string) access.Attributes {
		return access.Attributes{User: alice, Resource: true, Group: group, Plural: plural, Subresource: sub, Namespace: ns, Name: name, Verb: verb}
	}
	pods, logs := res("", "pods", "", "a", "x", "get"), res("", "pods", "log", "a", "x", "get")
	scale, node := res("apps", "deployments", "scale", "b", "x", "update"), res("", "nodes", "", "", "n", "get")
	path := access.Attributes{User: alice, Verb: "get", Path: "/healthz/etcd"}
	nobody := access.Attributes{Verb: "get", Path: "/x"}
	for rule, want := range map[string][]access.Attributes{
		`users: [alice]`:                                          {pods, logs, scale, node, path},
		`userGroups: [ops, dev]`:                                  {pods, logs, scale, node, path},
		`userGroups: [ops]`:                                       nil,
		`verbs: [update]`:                                         {scale},
		`namespaces: [a]`:                                         {pods, logs},
		`namespaces: ['']`:                                        {node},
		`resources: [{group: ''}]`:                                {pods, logs, node},
		`resources: [{resources: [pods]}]`:                        {pods},
		`resources: [{resources: [pods/log]}]`:                    {logs},
		`resources: [{resources: [pods/*]}]`:                      {pods, logs},
		`resources: [{resources: ['*']}]`:                         {pods, logs, node},
		`resources: [{group: '*', resources: ['*/scale']}]`:       {scale},
		`resources: [{group: apps}]`:                              {scale},
		`resources: [{resources: [pods], resourceNames: [y]}]`:    nil,
		`resources: [{resources: [pods], resourceNames: [y, x]}]`: {pods},
		`nonResourceURLs: ['/healthz*']`:                          {path},
		`nonResourceURLs: ['/healthz']`:                           nil,
		`nonResourceURLs: ['*']`:                                  {path, nobody},
		`verbs: [get]`:                                            {pods, logs, node, path, nobody},
		`resources: [{resources: [configmaps]}, {group: '*', resources: [deployments/scale]}]`: {scale},
	} {
		p := policy(t, "rules: [{level: Metadata, "+rule+"}]")
		for _, a := range []access.Attributes{pods, logs, scale, node, path, nobody} {
			wanted := false
			for i := range want {
				wanted = wanted || reflect.DeepEqual(want[i], a)
			}
			if got := p.find(&a).level == metadata; got != wanted {
				t.Errorf("%s: %+v: %v", rule, a, got)
			}
		}
	}
	if p := DefaultPolicy(); len(p.rules) < 5 || p.find(&pods).level != metadata {
		t.Error("the default policy does not read")
	}
}

func TestInvalidPolicies(t *testing.T) {
	for rules, want := range map[string]string{
		"rules: []":             "no rules",
		"rules: [{}]":           "rules[0].level: Required value",
		"rules: [{level: All}]": `rules[0].level: Unsupported value: "All": supported values: "None", "Metadata", "Request", "RequestResponse"`,
		"rules: [{level: None, nonResourceURLs: [x]}]":                     "non-resource URL rules must begin with a '/' character",
		"rules: [{level: None, nonResourceURLs: ['/a*b']}]":                "non-resource URL wildcards '*' must be the final character of the rule",
		"rules: [{level: None, nonResourceURLs: ['/a'], namespaces: [x]}]": "rules cannot apply to both regular resources and non-resource URLs",
		"rules: [{level: None, resources: [{group: a/v1}]}]":               "rules[0].resources.group: Invalid value",
		"rules: [{level: None, resources: [{resourceNames: [a]}]}]":        "using resourceNames requires at least one resource",
		"rules: [{level: None, omitStages: [x]}]":                          "rules[0].omitStages[0]: Invalid value: \"x\": allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic",
		"rules: [{level: None, resource: [x]}]":                            `unknown field`,
	} {
		_, err := ParsePolicy([]byte("apiVersion: audit.k8s.io/v1\nkind: Policy\n" + rules))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", rules, err)
		}
	}
	if _, err := ParsePolicy([]byte("apiVersion: audit.k8s.io/v1beta1\nkind: Policy\nrules: [{level: None}]")); err == nil {
		t.Error("an old version is taken")
	}
}

func TestFileRotates(t *testing.T) {
	dir := t.TempDir()
	now := time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)
	path := filepath.Join(dir, "audit.log")
	if err := os.WriteFile(filepath.Join(dir, "audit-2026-11-01T00-00-00.000.log"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "audit-notes.log") // not ours
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := NewFile(FileConfig{Path: path, MaxSize: 1, MaxAge: 2, MaxBackups: 3, Log: discard, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	line := append(bytes.Repeat([]byte("x"), 400<<10), '\n')
	for range 20 {
		f.Write(line)
	}
	names, err := filepath.Glob(filepath.Join(dir, "audit-2*.log"))
	if err != nil || len(names) != 3 || f.Errors() != 0 {
		t.Errorf("%q, %v, %d errors", names, err, f.Errors())
	}
	for _, n := range append(names, path) {
		info, err := os.Stat(n)
		if err != nil || info.Mode().Perm() != 0o600 || info.Size() != int64(2*len(line)) {
			t.Errorf("%s: %v, %v", n, info, err)
		}
	}
	if _, err := os.Stat(other); err != nil {
		t.Error(err)
	}
}

func TestWebhook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var sizes []int
		refuse := 2
		client := &http.Client{Transport: trip(func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			raw, _ := io.ReadAll(r.Body)
			var list auditv1.EventList
			if err := json.Unmarshal(raw, &list); err != nil || list.Kind != "EventList" {
				t.Errorf("%v: %.100s", err, raw)
			}
			code := http.StatusOK
			if refuse != 0 {
				refuse--
				code = http.StatusServiceUnavailable
			} else {
				sizes = append(sizes, len(list.Items))
			}
			return &http.Response{StatusCode: code, Status: http.StatusText(code), Body: http.NoBody}, nil
		})}
		w := newWebhook(WebhookConfig{Buffer: 10, MaxBatch: 4, Log: discard}, "http://x/audit", client)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); _ = w.Run(ctx) }()
		line := []byte(`{"kind":"Event"}` + "\n")
		for range 5 {
			w.Write(line)
		}
		time.Sleep(time.Minute) // two refusals, then 4; the fifth after its wait
		synctest.Wait()
		time.Sleep(time.Minute)
		synctest.Wait()
		for range 3 {
			w.Write(line)
		}
		synctest.Wait()
		cancel() // what waits is sent at the end
		<-ended
		if !reflect.DeepEqual(sizes, []int{4, 1, 3}) || w.Errors() != 0 {
			t.Errorf("sent %v, dropped %d", sizes, w.Errors())
		}
		for range 12 { // nobody takes them any more
			w.Write(line)
		}
		if w.Errors() != 2 {
			t.Errorf("dropped %d", w.Errors())
		}
	})
}

type trip func(*http.Request) (*http.Response, error)

func (f trip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func BenchmarkMetadata(b *testing.B) {
	f, err := NewFile(FileConfig{Path: filepath.Join(b.TempDir(), "audit.log"), MaxBackups: 1, Log: discard})
	if err != nil {
		b.Fatal(err)
	}
	l, err := New(Config{Policy: policy(b, "omitStages: [RequestReceived]\nrules: [{level: None, users: [x]}, {level: None, resources: [{group: b, resources: [c]}]}, {level: Metadata}]"), Sinks: []Sink{f}, Log: discard})
	if err != nil {
		b.Fatal(err)
	}
	q := asked(createPod())
	q.HTTP.Header.Set("User-Agent", "kubectl/v1.37")
	q.HTTP.Header.Del("X-Forwarded-For")
	q.Attributes.User = &api.User{Name: "alice", Groups: alice.Groups, Extra: map[string][]string{"authentication.kubernetes.io/credential-id": {"X509SHA256=45d204135c0a13afc501c4cb5e648fd29c4dfa367382dcff5c395666afedb849"}}}
	q.Received = time.Now().Add(time.Hour)
	b.ReportAllocs()
	for b.Loop() {
		r := l.Begin(q)
		r.Annotate("authorization.k8s.io/decision", "allow")
		r.Annotate("authorization.k8s.io/reason", "RBAC: allowed by RoleBinding \"x/y\"")
		r.Started(200)
		r.End()
	}
}

func BenchmarkOff(b *testing.B) {
	var l *Log
	q := asked(createPod())
	for b.Loop() {
		r := l.Begin(q)
		r.Annotate("authorization.k8s.io/decision", "allow")
		r.Started(200)
		r.End()
	}
}
