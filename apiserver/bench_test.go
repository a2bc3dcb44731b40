package apiserver_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/proa-dev/proa/apis/api"
)

// BenchmarkRequests is what one request costs without network and TLS.
func BenchmarkRequests(b *testing.B) {
	const protobuf = "application/vnd.kubernetes.protobuf"
	h := newHouse(b)
	send := func(b *testing.B, method, path, media string, body []byte) {
		r, err := http.NewRequestWithContext(b.Context(), method, "https://local"+path, bytes.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		r.Header.Set("Content-Type", media)
		r.Header.Set("Accept", protobuf)
		r.Header.Set("User-Agent", "bench/1")
		resp, err := h.server.LocalTransport(api.User{Name: "root"}).RoundTrip(r)
		if err != nil {
			b.Fatal(err)
		}
		defer resp.Body.Close()
		if n, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode >= 300 || n == 0 {
			b.Fatalf("%s %s: %d %v", method, path, resp.StatusCode, err)
		}
	}
	n := 0
	b.Run("create-configmap", func(b *testing.B) {
		for b.Loop() {
			n++
			send(b, "POST", maps, protobuf, inProtobuf(b, configMap(fmt.Sprint("m", n), "k", "some text")))
		}
	})
	b.Run("create-pod", func(b *testing.B) {
		for b.Loop() {
			n++
			send(b, "POST", "/api/v1/namespaces/default/pods", protobuf, inProtobuf(b, pod(fmt.Sprint("p", n))))
		}
	})
	b.Run("update", func(b *testing.B) {
		for b.Loop() {
			n++
			send(b, "PUT", maps+"/m1", protobuf, inProtobuf(b, configMap("m1", "k", fmt.Sprint(n))))
		}
	})
	b.Run("patch", func(b *testing.B) {
		for b.Loop() {
			n++
			send(b, "PATCH", maps+"/m1", "application/merge-patch+json", fmt.Appendf(nil, `{"data":{"k":"%d"}}`, n))
		}
	})
	b.Run("get", func(b *testing.B) {
		for b.Loop() {
			send(b, "GET", maps+"/m1", protobuf, nil)
		}
	})
	b.Run("list", func(b *testing.B) {
		for b.Loop() {
			send(b, "GET", maps, protobuf, nil)
		}
	})
}

func inProtobuf(t testing.TB, obj interface {
	runtime.Object
	Marshal() ([]byte, error)
}) []byte {
	raw, err := obj.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	kind := map[bool]string{true: "Pod", false: "ConfigMap"}[fmt.Sprintf("%T", obj) == "*v1.Pod"]
	u := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: "v1", Kind: kind}, Raw: raw}
	out, err := u.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte("k8s\x00"), out...)
}
