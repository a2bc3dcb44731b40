package turnover

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// Requests on kept connections use a new one after the certificate changed; one that is
// under way is not interrupted.
func TestNewCertificateNewConnections(t *testing.T) {
	var made atomic.Int32
	hold, waiting := make(chan struct{}), make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			w.(http.Flusher).Flush()
			close(waiting)
			<-hold
			_, _ = io.WriteString(w, "whole")
		}
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			made.Add(1)
		}
	}
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	var cert atomic.Pointer[tls.Certificate]
	cert.Store(&tls.Certificate{})
	get := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert.Load(), nil }
	tr := New(get, func() *http.Transport {
		base := server.Client().Transport.(*http.Transport).TLSClientConfig
		return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: base.RootCAs}, ForceAttemptHTTP2: true}
	})
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr}
	ask := func() {
		t.Helper()
		answer, err := client.Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
	}
	slow, err := client.Get(server.URL + "/slow")
	if err != nil {
		t.Fatal(err)
	}
	<-waiting
	for range 3 {
		ask()
	}
	if n := made.Load(); n != 1 {
		t.Errorf("%d connections for one certificate", n)
	}
	cert.Store(&tls.Certificate{})
	for range 3 {
		ask()
	}
	if n := made.Load(); n != 2 {
		t.Errorf("%d connections for two certificates", n)
	}
	close(hold)
	if body, err := io.ReadAll(slow.Body); err != nil || string(body) != "whole" {
		t.Errorf("what was under way: %q, %v", body, err)
	}
	_ = slow.Body.Close()
}
