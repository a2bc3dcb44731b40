package aggregate_test

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

const (
	wardle   = "v1alpha1.wardle.example.com"
	flunders = "/apis/wardle.example.com/v1alpha1/namespaces/default/flunders"
)

const resources = `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"wardle.example.com/v1alpha1","resources":[
 {"name":"flunders","singularName":"flunder","namespaced":true,"kind":"Flunder","verbs":["create","get","list"]},
 {"name":"flunders/status","namespaced":true,"kind":"Flunder","verbs":["get"]}]}`

const swagger = `{"swagger":"2.0","paths":{"/apis/wardle.example.com/v1alpha1/flunders":{"get":{"operationId":"listFlunders","responses":{"200":{"description":"OK","schema":{"$ref":"#/definitions/com.example.FlunderList"}}}}},
 "/apis/other/v1/x":{"get":{"responses":{"200":{"description":"OK","schema":{"$ref":"#/definitions/com.example.Other"}}}}}},
 "definitions":{"com.example.FlunderList":{"properties":{"items":{"type":"array","items":{"$ref":"#/definitions/com.example.Flunder"}}}},"com.example.Flunder":{"type":"object"},"com.example.Other":{"type":"object"}}}`

// other is a server that answers for a group version and says who asked.
func other(away *atomic.Bool) http.Handler {
	mux := http.NewServeMux()
	text := func(path, body string) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) })
	}
	mux.HandleFunc("/apis/wardle.example.com/v1alpha1", func(w http.ResponseWriter, _ *http.Request) {
		if away.Load() {
			http.Error(w, "going", http.StatusInternalServerError)
			return
		}
		_, _ = io.WriteString(w, resources)
	})
	text("/openapi/v3", `{"paths":{"apis/wardle.example.com/v1alpha1":{"serverRelativeURL":"/openapi/v3/apis/wardle.example.com/v1alpha1?hash=ABC"}}}`)
	text("/openapi/v3/apis/wardle.example.com/v1alpha1", `{"openapi":"3.0.0"}`)
	text("/openapi/v2", swagger)
	mux.HandleFunc(flunders, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("do") {
		case "redirect":
			http.Redirect(w, r, "https://169.254.169.254/", http.StatusFound)
			return
		case "upgrade":
			conn, buf, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			_, _ = buf.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			_ = buf.Flush()
			line, _ := buf.ReadString('\n')
			_, _ = buf.WriteString(r.Header.Get("X-Remote-User") + " " + line)
			_ = buf.Flush()
			return
		}
		w.WriteHeader(http.StatusTeapot)
		_ = json.NewEncoder(w).Encode(map[string]any{
			"header": r.Header, "proto": r.Proto, "query": r.URL.RawQuery, "audit": r.Header.Get("Audit-Id") != "", "host": r.Host,
		})
	})
	return mux
}

func (h *house) register(ca []byte) {
	h.t.Helper()
	body := fmt.Sprintf(`{"apiVersion":"apiregistration.k8s.io/v1","kind":"APIService","metadata":{"name":%q},"spec":{"group":"wardle.example.com","version":"v1alpha1",
		"groupPriorityMinimum":2000,"versionPriority":200,"service":{"namespace":"wardle","name":"sample"},"caBundle":%q}}`, wardle, base64.StdEncoding.EncodeToString(ca))
	if code, answer, _ := h.do("POST", "/apis/apiregistration.k8s.io/v1/apiservices", body); code != http.StatusCreated {
		h.t.Fatalf("create: %d %s", code, answer)
	}
}

func TestAnotherServer(t *testing.T) {
	h := newHouse(t)
	var away atomic.Bool
	_, ca := h.backend(other(&away))
	h.register(ca)
	h.condition(wardle, "True Passed: all checks passed")

	// Requests: who asks is said by this server alone.
	code, body, header := h.do("POST", flunders+"?a=b", "{}", "X-Remote-User", "root", "X-Remote-Extra-Evil", "y")
	if code != http.StatusTeapot {
		t.Fatalf("%d %s", code, body)
	}
	var got struct {
		Header             http.Header
		Proto, Query, Host string
		Audit              bool
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	want := http.Header{"X-Remote-User": {"alice"}, "X-Remote-Uid": {"7"}, "X-Remote-Group": {"dev", "system:authenticated"}, "X-Remote-Extra-A%2fb": {"x"}}
	for k, v := range want {
		if fmt.Sprint(got.Header[k]) != fmt.Sprint(v) {
			t.Errorf("%s is %q, want %q", k, got.Header[k], v)
		}
	}
	if len(got.Header["X-Remote-Extra-Evil"]) > 0 || len(got.Header["Authorization"]) > 0 {
		t.Errorf("the client's own headers went through: %v", got.Header)
	}
	if got.Proto != "HTTP/2.0" || got.Query != "a=b" || !got.Audit || !strings.HasPrefix(got.Host, "sample.wardle.svc") || len(header.Values("Audit-Id")) != 1 {
		t.Errorf("%+v, audit ids %v", got, header.Values("Audit-Id"))
	}
	if code, body, header = h.do("GET", flunders+"?do=redirect", ""); code != http.StatusBadGateway || header.Get("Location") != "" {
		t.Errorf("redirect: %d %s %v", code, body, header)
	}

	// Discovery in all forms, and schemas.
	for path, parts := range map[string][]string{
		"/apis":                             {`"name":"wardle.example.com"`},
		"/apis/wardle.example.com":          {`"preferredVersion":{"groupVersion":"wardle.example.com/v1alpha1"`},
		"/apis/wardle.example.com/v1alpha1": {`"flunders/status"`},
		"/openapi/v3":                       {`"apis/wardle.example.com/v1alpha1":{"serverRelativeURL":"/openapi/v3/apis/wardle.example.com/v1alpha1?hash=ABC"}`},
		"/openapi/v3/apis/wardle.example.com/v1alpha1?hash=ABC": {`"openapi":"3.0.0"`},
		"/openapi/v2": {`/apis/wardle.example.com/v1alpha1/flunders`, `com.example.FlunderList`, `com.example.Flunder"`, `io.k8s.api.core.v1.Pod"`},
	} {
		_, body, _ := h.do("GET", path, "")
		for _, part := range parts {
			if !strings.Contains(body, part) {
				t.Errorf("%s lacks %s: %.300s", path, part, body)
			}
		}
		if strings.Contains(body, "com.example.Other") {
			t.Errorf("%s has what nothing refers to", path)
		}
	}
	aggregated := func() string {
		_, body, _ := h.do("GET", "/apis", "", "Accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
		_, body, _ = strings.Cut(body, `"name":"wardle.example.com"`)
		return body
	}
	if body := aggregated(); !strings.Contains(body, `"resource":"flunders"`) || !strings.Contains(body, `"subresource":"status"`) || !strings.Contains(body, `"freshness":"Current"`) {
		t.Errorf("aggregated discovery: %.500s", body)
	}

	// It goes away: what it served stays known, and is not answered.
	slices, _ := h.store.Collection(discoveryv1.Resource("endpointslices"))
	if _, err := slices.Delete(t.Context(), "wardle", "sample-1", nil); err != nil {
		t.Fatal(err)
	}
	h.condition(wardle, `False EndpointsNotFound: cannot find endpointslices for service/sample in "wardle"`)
	if code, body, _ := h.do("GET", flunders, ""); code != http.StatusServiceUnavailable {
		t.Errorf("%d %s", code, body)
	}
	if code, _, _ := h.do("GET", "/apis/wardle.example.com/v1alpha1", ""); code != http.StatusServiceUnavailable {
		t.Errorf("discovery of what is away: %d", code)
	}
	if body := aggregated(); !strings.Contains(body, `"freshness":"Stale"`) || !strings.Contains(body, `"resource":"flunders"`) {
		t.Errorf("aggregated discovery: %.500s", body)
	}
	services, _ := h.store.Collection(corev1.Resource("services"))
	if _, err := services.Delete(t.Context(), "wardle", "sample", nil); err != nil {
		t.Fatal(err)
	}
	h.condition(wardle, `False ServiceNotFound: service/sample in "wardle" is not present`)
	if code, body, _ := h.do("DELETE", "/apis/apiregistration.k8s.io/v1/apiservices/"+wardle, ""); code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}
	for range 100 {
		if code, _, _ = h.do("GET", flunders, ""); code == http.StatusNotFound {
			break
		}
		wait(t, 10*time.Millisecond)
	}
	if code != http.StatusNotFound {
		t.Errorf("after the APIService: %d", code)
	}
}

// A backend whose certificate the bundle does not vouch for, or that answers nonsense, is not
// available, and comes back by itself.
func TestChecks(t *testing.T) {
	h := newHouse(t)
	var away atomic.Bool
	_, ca := h.backend(other(&away))
	h.register([]byte("none"))
	h.condition(wardle, "False FailedDiscoveryCheck: unable to load root certificates")
	trust := func(ca []byte) {
		t.Helper()
		patch := fmt.Sprintf(`{"spec":{"caBundle":%q}}`, base64.StdEncoding.EncodeToString(ca))
		if code, body, _ := h.do("PATCH", "/apis/apiregistration.k8s.io/v1/apiservices/"+wardle, patch, "Content-Type", "application/merge-patch+json"); code != http.StatusOK {
			t.Fatalf("%d %s", code, body)
		}
	}
	trust(h.pki.CA.PEM)
	h.condition(wardle, "False FailedDiscoveryCheck: failing or missing response from https://sample.wardle.svc:443/apis/wardle.example.com/v1alpha1: Get \"https://sample.wardle.svc:443/apis/wardle.example.com/v1alpha1\": tls: failed to verify certificate")
	if code, _, _ := h.do("GET", flunders, ""); code != http.StatusServiceUnavailable {
		t.Errorf("what was never reached answers %d", code)
	}
	if _, body, _ := h.do("GET", "/apis", ""); !strings.Contains(body, "wardle.example.com") {
		t.Error("what was never reached is not announced")
	}
	away.Store(true)
	trust(ca)
	h.condition(wardle, "False FailedDiscoveryCheck: failing or missing response from https://sample.wardle.svc:443/apis/wardle.example.com/v1alpha1: bad status from https://sample.wardle.svc:443/apis/wardle.example.com/v1alpha1: 500")
	away.Store(false)
	h.condition(wardle, "True Passed")
}

func TestTunnel(t *testing.T) {
	h := newHouse(t)
	var away atomic.Bool
	_, ca := h.backend(other(&away))
	h.register(ca)
	h.condition(wardle, "True Passed")
	ask := func(query, also string) (string, string) {
		conn, err := tls.Dial("tcp", h.front.Listener.Addr().String(), &tls.Config{RootCAs: poolOf(t, h.front), ServerName: "example.com", MinVersion: tls.VersionTLS12})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprintf(conn, "GET %s?do=%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer bob\r\nConnection: %sX-Remote-User, X-Remote-Group\r\nX-Remote-User: root\r\nUpgrade: echo\r\n\r\n", flunders, query, also)
		in := bufio.NewReader(conn)
		answer, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if answer.StatusCode != http.StatusSwitchingProtocols {
			rest, _ := io.ReadAll(io.LimitReader(answer.Body, 1000))
			return answer.Status, string(rest)
		}
		fmt.Fprint(conn, "hello\n")
		line, _ := in.ReadString('\n')
		return answer.Status, line
	}
	if status, line := ask("upgrade", "Upgrade, "); !strings.HasPrefix(status, "101") || line != "bob hello\n" {
		t.Errorf("%s: %q", status, line)
	}
	// Anything but 101 is no tunnel.
	if status, line := ask("redirect", "Upgrade, "); !strings.HasPrefix(status, "503") {
		t.Errorf("%s: %q", status, line)
	}
	// Nor does what the client's Connection header names remove the identity.
	if status, line := ask("say", ""); !strings.HasPrefix(status, "418") || !strings.Contains(line, `"X-Remote-User":["bob"]`) {
		t.Errorf("%s: %q", status, line)
	}
}

// What is answered here has APIServices, made once.
func TestLocal(t *testing.T) {
	h := newHouse(t)
	h.condition("v1.", "True Local: Local APIServices are always available")
	h.condition("v1.coordination.k8s.io", "True Local")
	h.condition("v1.discovery.k8s.io", "True Local")
	get := func() (list apiregistrationv1.APIServiceList) {
		_, body, _ := h.do("GET", "/apis/apiregistration.k8s.io/v1/apiservices", "")
		if err := json.Unmarshal([]byte(body), &list); err != nil {
			t.Fatal(err)
		}
		return list
	}
	list := get()
	if len(list.Items) != 3 {
		t.Errorf("%d APIServices, want those of core, coordination and discovery", len(list.Items))
	}
	for _, s := range list.Items {
		if s.Labels["kube-aggregator.kubernetes.io/automanaged"] != "onstart" || s.UID == "" || s.CreationTimestamp.IsZero() || s.Spec.GroupPriorityMinimum < 16000 {
			t.Errorf("%+v", s)
		}
	}
	// Remotes come and go: nothing is written for it.
	h.list.SetRemote(nil)
	wait(t, 50*time.Millisecond)
	if again := get(); again.ResourceVersion != list.ResourceVersion {
		t.Errorf("the list went from revision %s to %s", list.ResourceVersion, again.ResourceVersion)
	}
}
