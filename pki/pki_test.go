package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/tools/clientcmd"
)

func open(t *testing.T, dir string, now func() time.Time) *Authorities {
	t.Helper()
	a, err := Open(Config{Dir: dir, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestOpenAgainGivesTheSame(t *testing.T) {
	dir := t.TempDir()
	a, b := open(t, dir, nil), open(t, dir, nil)
	if !a.CA.Cert.Equal(b.CA.Cert) || !a.ServiceAccounts.Equal(b.ServiceAccounts) || len(b.Verifiers) != 1 {
		t.Error("opening a second time made new authorities")
	}
	for _, name := range []string{"ca.key", "front-proxy-ca.key", "sa.key"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v, want mode 0600", name, info, err)
		}
	}
}

func TestDamagedFilesAreNamed(t *testing.T) {
	for _, name := range []string{"ca.crt", "ca.key", "front-proxy-ca.crt", "sa.key", "sa.pub"} {
		dir := t.TempDir()
		open(t, dir, nil)
		if err := os.WriteFile(filepath.Join(dir, name), []byte("garbage"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s damaged: error %v does not name it", name, err)
		}
	}
}

func TestExpiredAndForeignAuthority(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	open(t, dir, nil)
	open(t, other, nil)
	late := func() time.Time { return time.Now().Add(CALife + time.Hour) }
	if _, err := Open(Config{Dir: dir, Now: late}); !errors.Is(err, ErrExpired) {
		t.Errorf("expired authority: %v", err)
	}
	key, err := os.ReadFile(filepath.Join(other, "ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: dir}); !errors.Is(err, ErrKeyDiffers) {
		t.Errorf("swapped key: %v", err)
	}
}

func TestRenewingSwapsAtTwoThirds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := open(t, t.TempDir(), nil)
		leaf := Leaf{CommonName: "x", Server: true, Life: 3 * time.Hour}
		first, err := a.CA.Certificate(leaf)
		if err != nil {
			t.Fatal(err)
		}
		issue := func(context.Context) (*tls.Certificate, error) { return a.CA.Certificate(leaf) }
		r, err := NewRenewing(first, issue, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		time.Sleep(time.Hour)
		synctest.Wait()
		if r.Current() != first {
			t.Error("renewed too early")
		}
		time.Sleep(time.Hour) // NotBefore lies an hour back: two thirds of four hours have gone
		synctest.Wait()
		if r.Current() == first {
			t.Error("not renewed")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestRenewingFileFollowsNames(t *testing.T) {
	a := open(t, t.TempDir(), nil)
	log := slog.New(slog.DiscardHandler)
	leaf := Leaf{CommonName: "kube-apiserver", DNS: []string{"localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}, Server: true}
	get := func(l Leaf) *x509.Certificate {
		r, err := a.RenewingFile(a.CA, "apiserver", l, log)
		if err != nil {
			t.Fatal(err)
		}
		return r.Current().Leaf
	}
	first := get(leaf)
	if !get(leaf).Equal(first) {
		t.Error("issued again without need")
	}
	leaf.IPs = append(leaf.IPs, net.IPv4(10, 0, 0, 1))
	if get(leaf).Equal(first) {
		t.Error("a new address did not lead to a new certificate")
	}
}

func TestFetchCA(t *testing.T) {
	a, evil := open(t, t.TempDir(), nil), open(t, t.TempDir(), nil)
	serve := func(by *Authorities, body []byte) string {
		pair, err := by.CA.Certificate(Leaf{CommonName: "s", IPs: []net.IP{net.IPv4(127, 0, 0, 1)}, Server: true})
		if err != nil {
			t.Fatal(err)
		}
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/cacerts" || r.Header.Get("Authorization") != "" {
				t.Errorf("asked for %s with %v", r.URL, r.Header)
			}
			_, _ = w.Write(body)
		}))
		s.TLS = &tls.Config{Certificates: []tls.Certificate{*pair}}
		s.StartTLS()
		t.Cleanup(s.Close)
		return s.URL
	}
	token, err := NewJoinToken(a.CA.Cert)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := FetchCA(t.Context(), serve(a, a.CA.PEM), token); err != nil || string(got) != string(a.CA.PEM) {
		t.Errorf("honest server: %v", err)
	}
	if _, err := FetchCA(t.Context(), serve(evil, evil.CA.PEM), token); !errors.Is(err, ErrPin) {
		t.Errorf("another authority: %v", err)
	}
	if _, err := FetchCA(t.Context(), serve(evil, a.CA.PEM), token); !errors.Is(err, ErrPin) {
		t.Errorf("the right CA shown by a server that is not of it: %v", err)
	}
}

func TestKubeconfig(t *testing.T) {
	a := open(t, t.TempDir(), nil)
	cert, key, err := a.CA.Issue(Leaf{CommonName: "admin", Organizations: []string{"system:masters"}, Client: true})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "admin.conf")
	if err := (Kubeconfig{Cluster: "proa", Server: "https://127.0.0.1:6443", CA: a.CA.PEM, User: "admin", Cert: cert, Key: key}).Write(path); err != nil {
		t.Fatal(err)
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil || cfg.Host != "https://127.0.0.1:6443" || len(cfg.CertData) == 0 {
		t.Errorf("%v %v", cfg, err)
	}
}

func FuzzParseJoinToken(f *testing.F) {
	f.Add("proa1." + strings.Repeat("a", 64) + ".abcdef.0123456789abcdef")
	f.Add("proa1..."[:])
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		token, err := ParseJoinToken(s)
		if err != nil {
			return
		}
		again, err := ParseJoinToken(token.String())
		if err != nil || again != token {
			t.Errorf("%q does not come back: %v", s, err)
		}
	})
}
