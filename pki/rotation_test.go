package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a network of net.Pipe, which a synthetic clock can wait for.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	p.conns <- there
	return here, nil
}

// TestThreeYearsWithoutAFailedRequest: server and client certificates renew themselves
// while requests go on; each request is on a connection of its own, so each shows them.
func TestThreeYearsWithoutAFailedRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := slog.New(slog.DiscardHandler)
		all, err := Open(Config{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		server, err := all.RenewingFile(all.CA, "apiserver", Leaf{CommonName: "kube-apiserver", DNS: []string{"api"}, Server: true}, log)
		if err != nil {
			t.Fatal(err)
		}
		client, err := all.RenewingFile(all.CA, "client", Leaf{CommonName: "client", Client: true}, log)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var parts sync.WaitGroup
		for _, r := range []*Renewing{server, client} {
			parts.Go(func() { _ = r.Run(ctx) })
		}
		network := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
		srv := &http.Server{ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			opts := x509.VerifyOptions{Roots: all.CA.Trust(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
			if _, err := r.TLS.PeerCertificates[0].Verify(opts); err != nil {
				http.Error(w, err.Error(), http.StatusUnauthorized)
			}
		})}
		listener := tls.NewListener(network, &tls.Config{GetCertificate: server.GetCertificate, ClientAuth: tls.RequestClientCert})
		parts.Go(func() { _ = srv.Serve(listener) })
		web := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: network.dial,
			TLSClientConfig: &tls.Config{RootCAs: all.CA.Trust(), GetClientCertificate: client.GetClientCertificate, ServerName: "api"}}}
		seen := map[string]bool{}
		for day := range 3 * 365 {
			answer, err := web.Get("https://api/")
			if err != nil {
				t.Fatalf("day %d: %v", day, err)
			}
			body, _ := io.ReadAll(answer.Body)
			_ = answer.Body.Close()
			if answer.StatusCode != http.StatusOK {
				t.Fatalf("day %d: %s %s", day, answer.Status, body)
			}
			seen[answer.TLS.PeerCertificates[0].SerialNumber.String()] = true
			time.Sleep(24 * time.Hour)
			synctest.Wait()
		}
		if len(seen) < 4 {
			t.Errorf("only %d server certificates in three years", len(seen))
		}
		before := client.Current()
		client.Renew()
		synctest.Wait()
		if client.Current() == before {
			t.Error("asked to renew, it did not")
		}
		cancel()
		_ = srv.Close()
		parts.Wait()
	})
}
