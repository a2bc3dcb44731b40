// Package pki makes and keeps a cluster's certificates: the certificate authorities, the
// service account key, leaf certificates and their renewal, kubeconfigs and join tokens.
//
// The one idea: everything is ECDSA P-256 and lives in files named as kubeadm names them,
// so an operator's tools and habits apply; a file that is damaged, expired or does not
// belong to its key is an error that names it, never replaced silently.
//
// Used by cluster (servers and nodes) and cmd/proa (join tokens, kubeconfigs).
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Lifetimes of what is issued, and how far NotBefore lies in the past for clocks that are wrong.
const (
	CALife   = 10 * 365 * 24 * time.Hour
	LeafLife = 365 * 24 * time.Hour
	Backdate = time.Hour // at most; see Authority.Span
)

// Names of the files in a cluster's pki folder.
const (
	CAFile               = "ca"
	FrontProxyCAFile     = "front-proxy-ca"
	ServiceAccountFile   = "sa"
	certSuffix           = ".crt"
	keySuffix            = ".key"
	publicSuffix         = ".pub"
	defaultCommonName    = "kubernetes"
	frontProxyCommonName = "front-proxy-ca"
)

// Errors that callers tell apart.
var (
	ErrExpired    = errors.New("certificate has expired")
	ErrKeyDiffers = errors.New("certificate does not belong to the key beside it")
)

// Authorities is the secret material of a cluster's servers.
type Authorities struct {
	Dir             string
	CA              *Authority
	FrontProxy      *Authority
	ServiceAccounts *ecdsa.PrivateKey  // signs service account tokens
	Verifiers       []*ecdsa.PublicKey // accepted for service account tokens, ServiceAccounts' first
	now             func() time.Time
	floor           time.Time // it is not earlier, whatever the clock says
}

// Config is what Open needs.
type Config struct {
	Dir  string           // folder of the files; made with mode 0700
	Life time.Duration    // of certificates that name none; default LeafLife
	Now  func() time.Time // default time.Now
	// Built is when this program was made: a clock that says less is wrong. Zero: not known.
	Built time.Time
}

// Open loads the authorities of a cluster, and makes those that do not exist yet.
func Open(cfg Config) (*Authorities, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Life <= 0 {
		cfg.Life = LeafLife
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make folder of certificates: %w", err)
	}
	a := &Authorities{Dir: cfg.Dir, now: cfg.Now}
	var err error
	if a.floor, err = lastSeen(cfg.Dir); err != nil {
		return nil, err
	}
	if cfg.Built.After(a.floor) {
		a.floor = cfg.Built
	}
	if a.CA, err = openAuthority(cfg.Dir, CAFile, defaultCommonName, cfg.Now, a.floor); err != nil {
		return nil, err
	}
	if a.FrontProxy, err = openAuthority(cfg.Dir, FrontProxyCAFile, frontProxyCommonName, cfg.Now, a.floor); err != nil {
		return nil, err
	}
	a.CA.Life, a.FrontProxy.Life = cfg.Life, cfg.Life
	if a.ServiceAccounts, err = openSigningKey(cfg.Dir); err != nil {
		return nil, err
	}
	a.Verifiers, err = verifiers(cfg.Dir, a.ServiceAccounts)
	return a, err
}

// verifiers reads sa.pub, which may hold the public keys of former signing keys too.
func verifiers(dir string, signer *ecdsa.PrivateKey) ([]*ecdsa.PublicKey, error) {
	keys := []*ecdsa.PublicKey{&signer.PublicKey}
	path := filepath.Join(dir, ServiceAccountFile+publicSuffix)
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		pub, err := encodePublic(&signer.PublicKey)
		if err != nil {
			return nil, err
		}
		return keys, writeFile(path, pub, 0o644)
	}
	if err != nil {
		return nil, fmt.Errorf("read service account public keys: %w", err)
	}
	stored, err := decodePublics(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, k := range stored {
		if !k.Equal(&signer.PublicKey) {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

func openSigningKey(dir string) (*ecdsa.PrivateKey, error) {
	path := filepath.Join(dir, ServiceAccountFile+keySuffix)
	key, err := loadKey(path)
	if !errors.Is(err, os.ErrNotExist) {
		return key, err
	}
	if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, fmt.Errorf("make service account key: %w", err)
	}
	return key, saveKey(path, key)
}

// Trust is a pool that holds only the given authority.
func (a *Authority) Trust() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.Cert)
	return pool
}
