package server

import (
	"crypto/tls"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"k8s.io/client-go/kubernetes/fake"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Nothing is served to who is not known, whatever is asked for.
func TestNobody(t *testing.T) {
	type noRuntime struct {
		runtimeapi.RuntimeServiceClient
	}
	s, err := New(Config{Addr: "127.0.0.1:0", TLS: &tls.Config{}, NodeName: "n", Client: fake.NewClientset(),
		Runtime: noRuntime{}, Pods: unused{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/", "/healthz", "/pods", "/metrics", "/exec/a/b/c", "/containerLogs/a/b/c", "/portForward/a/b", "/run/a/b/c"} {
		w := httptest.NewRecorder()
		s.mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != http.StatusUnauthorized {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

type kubelet = Pods

// unused stands for a kubelet that must not be asked.
type unused struct{ kubelet }
