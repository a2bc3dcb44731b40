package csr

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"
)

// A request with a key of a million bits is refused at once, not after it was computed with.
func TestAttackLongKey(t *testing.T) {
	n := new(big.Int).Lsh(big.NewInt(1), 1<<20)
	n.SetBit(n, 0, 1)
	r := &x509.CertificateRequest{
		SignatureAlgorithm: x509.SHA256WithRSA, PublicKeyAlgorithm: x509.RSA, PublicKey: &rsa.PublicKey{N: n, E: 1<<31 - 1},
		Signature: make([]byte, 1<<17), RawTBSCertificateRequest: []byte("x"),
	}
	begun := time.Now()
	if err := Verify(r); err == nil || !strings.Contains(err.Error(), "more than 8192") {
		t.Errorf("%v", err)
	}
	if took := time.Since(begun); took > time.Second {
		t.Errorf("refused after %s", took)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "a"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	honest, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(honest); err != nil {
		t.Errorf("an honest request: %v", err)
	}
	honest.Signature[8]++
	if Verify(honest) == nil {
		t.Error("a forged signature passes")
	}
}
