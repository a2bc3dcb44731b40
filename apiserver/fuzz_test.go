package apiserver_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/proa-dev/proa/apis/api"
)

// ask sends a request through the pipeline and fails on a 500: whatever comes in is the
// client's fault or is served. A watch is left after a moment.
func (h *house) ask(t *testing.T, method, path, query, accept, body string) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	r := (&http.Request{
		Method: method, URL: &url.URL{Scheme: "https", Host: "local", Path: path, RawQuery: query},
		Header: http.Header{"Accept": {accept}, "Content-Type": {"application/json"}, "User-Agent": {"fuzz/1"}},
		Body:   io.NopCloser(bytes.NewBufferString(body)),
	}).WithContext(ctx)
	resp, err := h.server.LocalTransport(api.User{Name: "root"}).RoundTrip(r)
	if err != nil {
		return // a watch, or a wait for the future, that was left
	}
	defer resp.Body.Close()
	raw, _ := io.ReadAll(resp.Body) // as above
	if resp.StatusCode == http.StatusInternalServerError && !strings.HasPrefix(path, "/readyz") {
		t.Errorf("%s %q ?%s (%s): %d %.300s", method, path, query, accept, resp.StatusCode, raw)
	}
}

func FuzzRoute(f *testing.F) {
	h := newHouse(f)
	for _, p := range []string{"", "/", "/api", "/api/v1", "/apis/apps/v1/deployments", "/api/v1/namespaces/default/pods/p/status", "/api/v1/watch/pods",
		"/api/v1/namespaces/default/pods/p/proxy/a/b", "/api/v1/namespaces//pods", "//", "/api/v1/namespaces/default/finalize", "/apis/authorization.k8s.io/v1/subjectaccessreviews",
		"/api/v1/namespaces/../pods", "/api/v1/nodes/\x00", "/healthz/etcd", "/api/v1/namespaces/default/services/a:b:c/proxy/"} {
		for _, m := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "TRACE"} {
			f.Add(m, p)
		}
	}
	f.Fuzz(func(t *testing.T, method, path string) { h.ask(t, method, path, "", "application/json", "{}") })
}

func FuzzQuery(f *testing.F) {
	h := newHouse(f)
	for _, q := range []string{"labelSelector=a in (b,c),!d,e>5", "labelSelector=((", "fieldSelector=metadata.name=a,spec.nodeName!=b", "fieldSelector==", "continue=abc&limit=1",
		"continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6NiwiZGVmYXVsdC9wMSI6IiJ9", "continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6OTIyMzM3MjAzNjg1NDc3NTgwNywic3RhcnQiOiJhIn0",
		"resourceVersion=18446744073709551616", "resourceVersion=9223372036854775807&resourceVersionMatch=Exact", "resourceVersion=-1", "limit=9223372036854775807", "limit=-1",
		"watch=1&timeoutSeconds=0&resourceVersion=1", "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=1", "timeoutSeconds=99999999999&watch=",
		"gracePeriodSeconds=-9223372036854775808", "gracePeriodSeconds=9223372036854775807", "propagationPolicy=Orphan&orphanDependents=true", "dryRun=All&dryRun=", "pretty=&%zz"} {
		for _, m := range []string{"GET", "DELETE"} {
			f.Add(m, q)
		}
	}
	f.Fuzz(func(t *testing.T, method, query string) {
		if method != "DELETE" {
			method = "GET"
		}
		h.ask(t, method, "/api/v1/namespaces/default/pods", query, "application/json", "")
		if method == "DELETE" {
			h.ask(t, "PUT", "/api/v1/namespaces/default/configmaps/a", "", "application/json", `{"metadata":{"name":"a"}}`)
			h.ask(t, method, "/api/v1/namespaces/default/configmaps/a", query, "application/json", "")
		}
	})
}

func FuzzNegotiate(f *testing.F) {
	h := newHouse(f)
	for _, a := range []string{"", "*/*", "application/json;as=Table;v=v1;g=meta.k8s.io", "application/vnd.kubernetes.protobuf;stream=watch", "text/html,*/*;q=0.1",
		"application/json;as=PartialObjectMetadataList;v=v1beta1;g=meta.k8s.io", ";;", "application/yaml", "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", `application/json;pretty=1;as="`} {
		f.Add(a)
	}
	f.Fuzz(func(t *testing.T, accept string) {
		h.ask(t, "GET", "/api/v1/namespaces", "", accept, "")
		h.ask(t, "GET", "/api/v1/namespaces/default", "", accept, "")
		h.ask(t, "DELETE", "/api/v1/namespaces/none", "", accept, "")
	})
}

func FuzzBody(f *testing.F) {
	h := newHouse(f)
	for _, b := range []string{`{}`, `null`, `[]`, `{"metadata":null}`, `{"metadata":{"name":"a"},"data":{"k":null}}`, `{"metadata":{"generateName":"a"},"spec":{"containers":[null]}}`,
		`[{"op":"move","from":"/metadata","path":"/data"}]`, `[{"op":"remove","path":"/metadata/name"}]`, `{"$patch":"delete"}`, `{"data":{"$retainKeys":["a"]}}`, `{"metadata":{"managedFields":[{}]}}`,
		`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[{"name":"x"},{"name":"x"}]}}`, "a: &a [*a]"} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, body string) {
		for _, media := range []string{"application/json", "application/yaml"} {
			h.send(t, "POST", "/api/v1/namespaces/default/pods", media, body)
		}
		h.ask(t, "PUT", "/api/v1/namespaces/default/configmaps/a", "", "application/json", `{"metadata":{"name":"a"},"data":{"x":"y"}}`)
		for _, media := range []string{"application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"} {
			h.send(t, "PATCH", "/api/v1/namespaces/default/configmaps/a", media, body)
		}
	})
}

// FuzzProtobuf sends messages as bodies: the envelope may be anything too.
func FuzzProtobuf(f *testing.F) {
	h := newHouse(f)
	pod := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: metav1.ObjectMeta{Name: "a"},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
	var whole bytes.Buffer
	if err := protobuf.NewSerializer(scheme.Scheme, scheme.Scheme).Encode(pod, &whole); err != nil {
		f.Fatal(err)
	}
	f.Add(whole.Bytes())
	f.Add(whole.Bytes()[:20])
	f.Add([]byte("k8s\x00"))
	f.Add([]byte("k8s\x00\x12\xff\xff\xff\xff\x0f"))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, path := range []string{"pods", "configmaps", "pods/a/binding"} {
			h.send(t, "POST", "/api/v1/namespaces/default/"+path, "application/vnd.kubernetes.protobuf", string(body))
		}
		h.send(t, "DELETE", "/api/v1/namespaces/default/pods/a", "application/vnd.kubernetes.protobuf", string(body))
	})
}

func (h *house) send(t *testing.T, method, path, media, body string) {
	r, err := http.NewRequestWithContext(t.Context(), method, "https://local"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", media)
	resp, err := h.server.LocalTransport(api.User{Name: "root"}).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if raw, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode == http.StatusInternalServerError {
		t.Errorf("%s %s %q: %d %v %.300s", method, media, body, resp.StatusCode, err, raw)
	}
}
