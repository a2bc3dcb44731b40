package proxy

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// ask gives the code and the text of an answer, with the weight in its header.
func ask(t *testing.T, port int, path string) string {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d%s", port, path))
	if err != nil {
		return "nobody answers"
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(res.StatusCode, " ", res.Header.Get("X-Load-Balancing-Endpoint-Weight"), " ", strings.TrimSpace(string(raw)))
}

func TestHealthOfServices(t *testing.T) {
	ready := make(chan struct{})
	h := newHealth(slog.New(slog.DiscardHandler), ready)
	defer h.close()
	first, second := freePort(t), freePort(t)
	svc := &corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer,
		ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal, HealthCheckNodePort: int32(first)}}
	o := owner{"d", "web"}
	expect := func(port int, want string) {
		t.Helper()
		if got := ask(t, port, "/"); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	h.set(o, svc, 2)
	expect(first, `503 2 {"service":{"namespace":"d","name":"web"},"localEndpoints":2,"serviceProxyHealthy":false}`)
	close(ready)
	expect(first, `200 2 {"service":{"namespace":"d","name":"web"},"localEndpoints":2,"serviceProxyHealthy":true}`)
	h.set(o, svc, 0)
	expect(first, `503 0 {"service":{"namespace":"d","name":"web"},"localEndpoints":0,"serviceProxyHealthy":true}`)
	moved := svc.DeepCopy()
	moved.Spec.HealthCheckNodePort = int32(second)
	h.set(o, moved, 1)
	expect(first, "nobody answers")
	expect(second, `200 1 {"service":{"namespace":"d","name":"web"},"localEndpoints":1,"serviceProxyHealthy":true}`)
	h.set(owner{"d", "other"}, svc, 1)
	expect(first, `200 1 {"service":{"namespace":"d","name":"other"},"localEndpoints":1,"serviceProxyHealthy":true}`)
	h.set(o, nil, 0)
	expect(second, "nobody answers")
	moved.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyCluster
	h.set(o, moved, 1)
	expect(second, "nobody answers")
}

func TestHealthOfProxy(t *testing.T) {
	ready := make(chan struct{})
	h := newHealth(slog.New(slog.DiscardHandler), ready)
	port, eligible := freePort(t), true
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- h.run(ctx, port, func() bool { return eligible }) }()
	code := func(path string) string { return ask(t, port, path)[:3] }
	for code("/healthz") == "nob" { // until it listens
	}
	if got := code("/healthz"); got != "503" {
		t.Error(got)
	}
	close(ready)
	if got := ask(t, port, "/healthz"); !strings.HasPrefix(got, "200") || !strings.Contains(got, `"nodeEligible": true`) {
		t.Error(got)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}

	eligible = false
	ctx, stop = context.WithCancel(t.Context())
	go func() { ended <- h.run(ctx, port, func() bool { return eligible }) }()
	for code("/healthz") == "nob" {
	}
	if got := code("/healthz") + code("/livez") + code("/other"); got != "503200404" {
		t.Error(got)
	}
	stop()
	<-ended
}

func TestReadyHere(t *testing.T) {
	here, there, no := "n", "m", false
	all := []*discoveryv1.EndpointSlice{{Endpoints: []discoveryv1.Endpoint{
		{Addresses: []string{"10.0.0.1"}, NodeName: &here}, {Addresses: []string{"10.0.0.2"}, NodeName: &there},
		{Addresses: []string{"10.0.0.3"}, NodeName: &here, Conditions: discoveryv1.EndpointConditions{Ready: &no}}, {Addresses: []string{"10.0.0.4"}},
	}}, {Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}, NodeName: &here}, {Addresses: []string{"10.0.0.5"}, NodeName: &here}}}}
	if got := readyHere(all, "n"); got != 2 {
		t.Error(got)
	}
}
