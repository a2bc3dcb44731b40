package access

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/internal/recent"
)

// Keys of a user's extra that Kubernetes defines.
const (
	extraCredential = "authentication.kubernetes.io/credential-id"
	extraPodName    = "authentication.kubernetes.io/pod-name"
	extraPodUID     = "authentication.kubernetes.io/pod-uid"
	extraNodeName   = "authentication.kubernetes.io/node-name"
	extraNodeUID    = "authentication.kubernetes.io/node-uid"
)

// uidAttribute is the part of a certificate's subject that holds the user's UID.
var uidAttribute = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57683, 2}

// certificates accepts client certificates of one pool: the common name is the user, the
// organizations are the groups. A certificate is verified once and remembered until it expires.
type certificates struct {
	pool *x509.CertPool
	now  func() time.Time
	list *revoked // nil: none are
	seen *recent.Map[[sha256.Size]byte, verifiedCert]
}

type verifiedCert struct {
	user  *api.User
	begin time.Time
	end   time.Time
}

func newCertificates(pool *x509.CertPool, now func() time.Time) *certificates {
	return &certificates{pool: pool, now: now, seen: recent.New[[sha256.Size]byte, verifiedCert](cacheSize)}
}

func (c *certificates) Authenticate(r *http.Request) (*api.User, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil, nil
	}
	chain := r.TLS.PeerCertificates
	key, now := sha256.Sum256(chain[0].Raw), c.now()
	if v, ok := c.seen.Get(key); ok && !now.Before(v.begin) && !now.After(v.end) {
		return c.unlessRevoked(v, key)
	}
	v, err := c.verify(chain, now)
	if err != nil {
		return nil, fmt.Errorf("client certificate of %q: %w", chain[0].Subject.CommonName, err)
	}
	if v.user.Name == "" {
		return nil, nil
	}
	v.user.Extra = map[string][]string{extraCredential: {"X509SHA256=" + hex.EncodeToString(key[:])}}
	v.user = authenticated(v.user)
	c.seen.Put(key, v)
	return c.unlessRevoked(v, key)
}

func (c *certificates) unlessRevoked(v verifiedCert, key [sha256.Size]byte) (*api.User, error) {
	if err := c.list.check(v.user.Name, v.begin, key); err != nil {
		return nil, fmt.Errorf("client certificate of %q: %w", v.user.Name, err)
	}
	return v.user, nil
}

func (c *certificates) verify(chain []*x509.Certificate, now time.Time) (verifiedCert, error) {
	opts := x509.VerifyOptions{
		Roots: c.pool, CurrentTime: now, Intermediates: x509.NewCertPool(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, cert := range chain[1:] {
		opts.Intermediates.AddCert(cert)
	}
	verified, err := chain[0].Verify(opts)
	if err != nil {
		return verifiedCert{}, err
	}
	uid, err := certUID(chain[0])
	if err != nil {
		return verifiedCert{}, err
	}
	v := verifiedCert{begin: chain[0].NotBefore, end: chain[0].NotAfter, user: &api.User{
		Name: chain[0].Subject.CommonName, UID: uid, Groups: chain[0].Subject.Organization,
	}}
	for _, cert := range verified[0] {
		if cert.NotAfter.Before(v.end) {
			v.end = cert.NotAfter
		}
	}
	return v, nil
}

func certUID(cert *x509.Certificate) (string, error) {
	uid := ""
	for _, n := range cert.Subject.Names {
		if !n.Type.Equal(uidAttribute) {
			continue
		}
		s, ok := n.Value.(string)
		if !ok || uid != "" || s == "" {
			return "", fmt.Errorf("the subject must hold at most one UID, a string that is not empty")
		}
		uid = s
	}
	return uid, nil
}

// frontProxy believes the headers of a proxy that shows a certificate of its own authority.
type frontProxy struct{ certs *certificates }

// The headers by which a proxy names the user.
const (
	remoteUser  = "X-Remote-User"
	remoteUID   = "X-Remote-Uid"
	remoteGroup = "X-Remote-Group"
	remoteExtra = "X-Remote-Extra-"
)

// Authenticate leaves certificates of other authorities to the next authenticator. The
// headers are removed in any case: behind this point nobody may believe them.
func (f *frontProxy) Authenticate(r *http.Request) (*api.User, error) {
	u := remote(r.Header)
	dropRemote(r.Header)
	if u == nil || r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil, nil
	}
	if _, err := f.certs.verify(r.TLS.PeerCertificates, f.certs.now()); err != nil {
		return nil, nil
	}
	return u, nil
}

func remote(h http.Header) *api.User {
	name := strings.TrimSpace(h.Get(remoteUser))
	if name == "" {
		return nil
	}
	u := &api.User{Name: name, UID: strings.TrimSpace(h.Get(remoteUID)), Groups: h.Values(remoteGroup)}
	for key, values := range h {
		if len(key) <= len(remoteExtra) || !strings.EqualFold(key[:len(remoteExtra)], remoteExtra) {
			continue
		}
		name := strings.ToLower(key[len(remoteExtra):])
		if unescaped, err := url.PathUnescape(name); err == nil {
			name = unescaped
		}
		if u.Extra == nil {
			u.Extra = map[string][]string{}
		}
		u.Extra[name] = append(u.Extra[name], values...)
	}
	return u
}

func dropRemote(h http.Header) {
	for key := range h {
		if strings.HasPrefix(key, "X-Remote-") && (key == remoteUser || key == remoteUID || key == remoteGroup || strings.HasPrefix(key, remoteExtra)) {
			h.Del(key)
		}
	}
}
