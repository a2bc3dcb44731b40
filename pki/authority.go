package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Authority is a certificate authority: its certificate and the key that signs.
type Authority struct {
	Cert *x509.Certificate
	Key  *ecdsa.PrivateKey
	PEM  []byte        // Cert
	Life time.Duration // of leaves that name none
	now  func() time.Time

	floor time.Time // it is not earlier, whatever the clock says
}

// Leaf says what a certificate is for.
type Leaf struct {
	CommonName    string
	Organizations []string // groups of a client
	DNS           []string
	IPs           []net.IP
	Server        bool          // for TLS servers
	Client        bool          // for TLS clients
	Life          time.Duration // default the authority's Life; never beyond the authority's own end
}

func openAuthority(dir, name, commonName string, now func() time.Time, floor time.Time) (*Authority, error) {
	certPath, keyPath := filepath.Join(dir, name+certSuffix), filepath.Join(dir, name+keySuffix)
	pem, err := os.ReadFile(certPath)
	if errors.Is(err, os.ErrNotExist) {
		return makeAuthority(certPath, keyPath, commonName, now, floor)
	}
	if err != nil {
		return nil, fmt.Errorf("read authority: %w", err)
	}
	cert, err := DecodeCert(pem)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", certPath, err)
	}
	if now().After(cert.NotAfter) {
		return nil, fmt.Errorf("%s: %w on %s", certPath, ErrExpired, cert.NotAfter.Format(time.RFC3339))
	}
	if !cert.IsCA {
		return nil, fmt.Errorf("%s: not a certificate authority", certPath)
	}
	key, err := loadKey(keyPath)
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("%s: %w", certPath, ErrKeyDiffers)
	}
	return &Authority{Cert: cert, Key: key, PEM: pem, Life: LeafLife, now: now, floor: floor}, nil
}

// makeAuthority writes the key before the certificate: a key left alone by a crash is used again.
func makeAuthority(certPath, keyPath, commonName string, now func() time.Time, floor time.Time) (*Authority, error) {
	key, err := loadKey(keyPath)
	if errors.Is(err, os.ErrNotExist) {
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err == nil {
			err = saveKey(keyPath, key)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("make authority: %w", err)
	}
	serial, err := serialNumber()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: commonName}, DNSNames: []string{commonName},
		NotBefore: now().Add(-Backdate), NotAfter: later(now(), floor).Add(CALife),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("sign authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read back authority: %w", err)
	}
	pem := EncodeCert(der)
	return &Authority{Cert: cert, Key: key, PEM: pem, Life: LeafLife, now: now, floor: floor}, writeFile(certPath, pem, 0o644)
}

// Issue makes a new key and a certificate for it.
func (a *Authority) Issue(leaf Leaf) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	if certPEM, err = a.sign(leaf, &key.PublicKey); err != nil {
		return nil, nil, err
	}
	keyPEM, err = encodeKey(key)
	return certPEM, keyPEM, err
}

// Certificate issues a pair in the form that crypto/tls takes, kept in memory only.
func (a *Authority) Certificate(leaf Leaf) (*tls.Certificate, error) {
	cert, key, err := a.Issue(leaf)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("pair certificate with key: %w", err)
	}
	return &pair, nil
}

func (a *Authority) sign(leaf Leaf, public crypto.PublicKey) ([]byte, error) {
	serial, err := serialNumber()
	if err != nil {
		return nil, err
	}
	begin, end := a.Span(leaf.Life)
	var usage []x509.ExtKeyUsage
	if leaf.Server {
		usage = append(usage, x509.ExtKeyUsageServerAuth)
	}
	if leaf.Client {
		usage = append(usage, x509.ExtKeyUsageClientAuth)
	}
	return a.SignTemplate(&x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: leaf.CommonName, Organization: leaf.Organizations},
		DNSNames:     leaf.DNS, IPAddresses: leaf.IPs,
		NotBefore: begin, NotAfter: end,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: usage, BasicConstraintsValid: true,
	}, public)
}

// Span is when a certificate that is issued now is valid: for life (default the authority's,
// which is also the most), but not beyond the authority's own end. It begins in the past, for
// machines whose clocks are behind: an hour, less for short lives.
func (a *Authority) Span(life time.Duration) (begin, end time.Time) {
	if life <= 0 || life > a.Life {
		life = a.Life
	}
	now := a.now()
	end = later(now, a.floor).Add(life)
	if end.After(a.Cert.NotAfter) {
		end = a.Cert.NotAfter
	}
	return now.Add(-min(Backdate, life/8)), end
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// SignTemplate signs what the caller decided on, for certificate signing requests. A
// missing serial number is drawn.
func (a *Authority) SignTemplate(template *x509.Certificate, public crypto.PublicKey) ([]byte, error) {
	if template.SerialNumber == nil {
		serial, err := serialNumber()
		if err != nil {
			return nil, err
		}
		template.SerialNumber = serial
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.Cert, public, a.Key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate %q: %w", template.Subject.CommonName, err)
	}
	return EncodeCert(der), nil
}

// Pin is the hex SHA-256 of the certificate's public key (SubjectPublicKeyInfo), by which
// a joining node recognizes the cluster.
func Pin(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

func serialNumber() (*big.Int, error) {
	limit := new(big.Int).Lsh(big.NewInt(1), 127)
	n, err := rand.Int(rand.Reader, limit)
	if err != nil {
		return nil, fmt.Errorf("draw serial number: %w", err)
	}
	return n.Add(n, big.NewInt(1)), nil
}
