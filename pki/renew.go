package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// Retry is how long Renewing waits after it could not renew; less for short lives.
const Retry = time.Minute

// retry leaves time for a dozen tries within the last third of a life.
func retry(cert *x509.Certificate) time.Duration {
	return min(Retry, max(cert.NotAfter.Sub(cert.NotBefore)/40, 50*time.Millisecond))
}

// lookAgain is the longest sleep: timers stand still while a machine is suspended.
const lookAgain = 12 * time.Hour

// Renewing holds one certificate and replaces it at two thirds of its life. Connections
// made later use the new one; open ones are left alone.
type Renewing struct {
	current atomic.Pointer[tls.Certificate]
	asked   chan struct{}
	look    chan struct{}
	issue   func(context.Context) (*tls.Certificate, error)
	now     func() time.Time
	log     *slog.Logger
}

// NewRenewing holds first, and asks issue for its successors. now may be nil.
func NewRenewing(first *tls.Certificate, issue func(context.Context) (*tls.Certificate, error), now func() time.Time, log *slog.Logger) (*Renewing, error) {
	if now == nil {
		now = time.Now
	}
	r := &Renewing{issue: issue, now: now, log: log, asked: make(chan struct{}, 1), look: make(chan struct{}, 1)}
	return r, r.set(first)
}

// RenewingFile serves <name>.crt and <name>.key of the folder, issued by the authority when
// they are missing, unreadable as leaf says, from another authority, or past two thirds of their life.
func (a *Authorities) RenewingFile(authority *Authority, name string, leaf Leaf, log *slog.Logger) (*Renewing, error) {
	certPath, keyPath := filepath.Join(a.Dir, name+certSuffix), filepath.Join(a.Dir, name+keySuffix)
	issue := func(context.Context) (*tls.Certificate, error) {
		cert, key, err := authority.Issue(leaf)
		if err != nil {
			return nil, err
		}
		if err := writeFile(keyPath, key, 0o600); err != nil {
			return nil, err
		}
		if err := writeFile(certPath, cert, 0o644); err != nil {
			return nil, err
		}
		pair, err := tls.X509KeyPair(cert, key)
		return &pair, err
	}
	pair, err := LoadPair(certPath, keyPath, a.now())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		log.Warn("issue certificate anew", "name", name, "reason", err)
	}
	if err != nil || !fits(pair.Leaf, authority, leaf) || a.now().After(renewAt(pair.Leaf)) {
		if pair, err = issue(context.Background()); err != nil {
			return nil, fmt.Errorf("issue %s: %w", name, err)
		}
	}
	return NewRenewing(pair, issue, a.now, log)
}

// fits says whether a stored certificate still is what leaf asks for.
func fits(cert *x509.Certificate, authority *Authority, leaf Leaf) bool {
	if cert.CheckSignatureFrom(authority.Cert) != nil || cert.Subject.CommonName != leaf.CommonName {
		return false
	}
	for _, name := range leaf.DNS {
		if cert.VerifyHostname(name) != nil {
			return false
		}
	}
	for _, ip := range leaf.IPs {
		if cert.VerifyHostname(ip.String()) != nil {
			return false
		}
	}
	return true
}

func renewAt(cert *x509.Certificate) time.Time {
	return cert.NotBefore.Add(cert.NotAfter.Sub(cert.NotBefore) * 2 / 3)
}

func (r *Renewing) set(pair *tls.Certificate) error {
	if pair == nil || len(pair.Certificate) == 0 {
		return errors.New("no certificate")
	}
	if pair.Leaf == nil {
		leaf, err := x509.ParseCertificate(pair.Certificate[0])
		if err != nil {
			return fmt.Errorf("read certificate: %w", err)
		}
		pair.Leaf = leaf
	}
	r.current.Store(pair)
	return nil
}

// Current is the certificate held now.
func (r *Renewing) Current() *tls.Certificate { return r.current.Load() }

// GetCertificate is for a server's tls.Config.
func (r *Renewing) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return r.Current(), nil
}

// GetClientCertificate is for a client's tls.Config.
func (r *Renewing) GetClientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return r.Current(), nil
}

// Renew asks Run for a new certificate now; it does not wait for it.
func (r *Renewing) Renew() {
	select {
	case r.asked <- struct{}{}:
	default: // it is asked already
	}
}

// Look has Run look at the clock, which was set: timers do not notice.
func (r *Renewing) Look() {
	select {
	case r.look <- struct{}{}:
	default: // it will look
	}
}

// Run renews until ctx ends.
func (r *Renewing) Run(ctx context.Context) error {
	wait := renewAt(r.Current().Leaf).Sub(r.now())
	for {
		timer := time.NewTimer(min(max(wait, 0), lookAgain))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-r.asked:
			timer.Stop()
			wait = r.renew(ctx)
			continue
		case <-r.look:
			timer.Stop()
		case <-timer.C:
		}
		if wait = renewAt(r.Current().Leaf).Sub(r.now()); wait > 0 {
			wait = max(wait, retry(r.Current().Leaf)) // not yet, or the clock was set back
			continue
		}
		wait = r.renew(ctx)
	}
}

func (r *Renewing) renew(ctx context.Context) time.Duration {
	pair, err := r.issue(ctx)
	if err == nil {
		err = r.set(pair)
	}
	if err != nil {
		r.log.Error("renew certificate", "subject", r.Current().Leaf.Subject, "expires", r.Current().Leaf.NotAfter, "error", err)
		return retry(r.Current().Leaf)
	}
	leaf := r.Current().Leaf
	r.log.Info("renewed certificate", "subject", leaf.Subject, "expires", leaf.NotAfter)
	return max(renewAt(leaf).Sub(r.now()), retry(leaf))
}
