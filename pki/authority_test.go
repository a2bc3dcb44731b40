package pki

import (
	"crypto/x509"
	"testing"
	"time"
)

// An authority gets a new certificate of the same key in the last third of its life: what was
// signed before and after counts under either, and a join token stays good.
func TestAuthorityIsRenewed(t *testing.T) {
	dir, begun := t.TempDir(), time.Now()
	open := func(at time.Time) *Authority {
		t.Helper()
		a, err := Open(Config{Dir: dir, Now: func() time.Time { return at }})
		if err != nil {
			t.Fatal(err)
		}
		return a.CA
	}
	first := open(begun)
	if again := open(begun.Add(CALife / 2)); !again.Cert.Equal(first.Cert) {
		t.Error("renewed too early")
	}
	late := begun.Add(CALife * 3 / 4)
	second := open(late)
	if second.Cert.Equal(first.Cert) || !second.Cert.NotAfter.After(first.Cert.NotAfter) || Pin(second.Cert) != Pin(first.Cert) {
		t.Errorf("%v after %v", second.Cert.NotAfter, first.Cert.NotAfter)
	}
	if !open(late.Add(time.Hour)).Cert.Equal(second.Cert) {
		t.Error("the new certificate is not kept")
	}
	for _, c := range []struct {
		signer, root *Authority
		at           time.Time
	}{{first, first, begun}, {first, second, begun}, {second, first, late}, {second, second, late}} {
		pair, err := c.signer.Certificate(Leaf{CommonName: "x", Client: true})
		if err != nil {
			t.Fatal(err)
		}
		opts := x509.VerifyOptions{Roots: c.root.Trust(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, CurrentTime: c.at}
		if _, err := pair.Leaf.Verify(opts); err != nil {
			t.Errorf("signed under %v, looked at under %v: %v", c.signer.Cert.NotAfter, c.root.Cert.NotAfter, err)
		}
	}
}

// An authority that was brought along is its owner's to renew.
func TestForeignAuthorityIsLeftAlone(t *testing.T) {
	a, err := Open(Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if !ours(a.CA.Cert, defaultCommonName) || ours(a.CA.Cert, "another") {
		t.Error("its own is not told from others")
	}
	pem, err := a.FrontProxy.SignTemplate(&x509.Certificate{Subject: a.CA.Cert.Subject, IsCA: true, BasicConstraintsValid: true}, &a.CA.Key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	below, err := DecodeCert(pem)
	if err != nil {
		t.Fatal(err)
	}
	if ours(below, defaultCommonName) {
		t.Error("an intermediate authority counts as its own")
	}
}
