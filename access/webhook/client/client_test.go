package client

import (
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
)

// As with client-go, whatever slashes a path has, it is called with each once.
func TestPath(t *testing.T) {
	var got string
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.URL.EscapedPath()
		_, _ = io.WriteString(w, "{}")
	}))
	defer server.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	clients := New(Config{})
	for path, want := range map[string]string{"": "/", "/": "/", "/a": "/a", "//a": "/a", "/a//b/": "/a/b", "/a%20b": "/a%20b"} {
		url := server.URL + path
		c, err := clients.For(admissionv1.WebhookClientConfig{URL: &url, CABundle: ca})
		if err != nil {
			t.Fatal(err)
		}
		var answer map[string]any
		if err := c.Call(t.Context(), map[string]any{}, &answer); err != nil || got != want {
			t.Errorf("%s calls %s (%v), want %s", path, got, err, want)
		}
	}
}
