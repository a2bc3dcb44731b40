package pki

import (
	"bytes"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// A second server with the first one's files has the same authorities, and each takes the
// other's certificate.
func TestServersShareKeys(t *testing.T) {
	first, err := Open(Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if first.HasEtcd() {
		t.Error("a single server has an authority for others")
	}
	ca, err := first.Etcd()
	if err != nil {
		t.Fatal(err)
	}
	files, err := first.Shared()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := Import(dir, files); err != nil {
		t.Fatal(err)
	}
	second, err := Open(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if !second.HasEtcd() || !bytes.Equal(second.CA.PEM, first.CA.PEM) || !second.ServiceAccounts.Equal(first.ServiceAccounts) || !second.FrontProxy.Key.Equal(first.FrontProxy.Key) {
		t.Error("the second server has other keys")
	}
	own, err := second.Etcd()
	if err != nil {
		t.Fatal(err)
	}
	pair, err := own.Certificate(Peer("two", net.IPv4(10, 0, 0, 2)))
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: ca.Trust(), KeyUsages: []x509.ExtKeyUsage{use}, CurrentTime: time.Now()}); err != nil {
			t.Error(err)
		}
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: first.CA.Trust(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err == nil {
		t.Error("the API's authority vouches for members of etcd")
	}
}

// What another server sends is judged before anything is written.
func TestImportRefuses(t *testing.T) {
	a, err := Open(Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Etcd(); err != nil {
		t.Fatal(err)
	}
	good, err := a.Shared()
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(map[string][]byte){
		"a file elsewhere":   func(m map[string][]byte) { m["../../etc/passwd"] = []byte("x") },
		"a missing key":      func(m map[string][]byte) { delete(m, "ca.key") },
		"an empty file":      func(m map[string][]byte) { m["sa.key"] = nil },
		"another's key":      func(m map[string][]byte) { m["ca.key"] = m["etcd/ca.key"] },
		"a damaged key":      func(m map[string][]byte) { m["front-proxy-ca.key"] = []byte("no key") },
		"a huge certificate": func(m map[string][]byte) { m["ca.crt"] = make([]byte, maxPEM+1) },
	} {
		files := map[string][]byte{}
		for k, v := range good {
			files[k] = v
		}
		change(files)
		dir := t.TempDir() + "/pki"
		if err := Import(dir, files); !errors.Is(err, ErrShared) {
			t.Errorf("%s: %v", name, err)
		}
		if ok, _ := hasFiles(dir); ok {
			t.Errorf("%s: something was written", name)
		}
	}
}

func hasFiles(dir string) (bool, error) {
	list, err := os.ReadDir(dir)
	return len(list) > 0, err
}
