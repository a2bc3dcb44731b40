package pki

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
)

// Names of what the servers of a cluster use between each other, below the pki folder.
const (
	EtcdCAFile         = "etcd/ca"
	PeerFile           = "etcd/peer"
	etcdCACommonName   = "etcd-ca"
	etcdPeerCommonName = "proa-etcd-peer"
)

// shared are the files that all servers of a cluster have alike, keys before what belongs to them.
var shared = []string{
	EtcdCAFile + keySuffix, EtcdCAFile + certSuffix, FrontProxyCAFile + keySuffix, FrontProxyCAFile + certSuffix,
	ServiceAccountFile + keySuffix, ServiceAccountFile + publicSuffix, CAFile + keySuffix, CAFile + certSuffix,
}

// ErrShared says that what another server gave cannot be used.
var ErrShared = errors.New("the keys of the other server cannot be used")

// Etcd is the authority of the connections between servers. It is made when it is first asked
// for: a single server has none.
func (a *Authorities) Etcd() (*Authority, error) {
	if err := os.MkdirAll(filepath.Join(a.Dir, filepath.Dir(EtcdCAFile)), 0o700); err != nil {
		return nil, fmt.Errorf("make folder of certificates: %w", err)
	}
	ca, err := openAuthority(a.Dir, EtcdCAFile, etcdCACommonName, a.now, a.floor)
	if err != nil {
		return nil, err
	}
	ca.Life = a.CA.Life
	return ca, nil
}

// HasEtcd says whether there is such an authority already.
func (a *Authorities) HasEtcd() bool {
	_, err := os.Stat(filepath.Join(a.Dir, EtcdCAFile+certSuffix))
	return err == nil
}

// Peer is what a server's certificate towards other servers says: both sides of a connection
// show theirs.
func Peer(name string, ips ...net.IP) Leaf {
	return Leaf{CommonName: etcdPeerCommonName, Organizations: []string{name}, IPs: ips, Server: true, Client: true}
}

// PeerFiles are the paths of that certificate, its key and the authority that both sides trust.
func PeerFiles(dir string) (cert, key, ca string) {
	return filepath.Join(dir, PeerFile+certSuffix), filepath.Join(dir, PeerFile+keySuffix), filepath.Join(dir, EtcdCAFile+certSuffix)
}

// Shared reads what a further server must have: all secrets of the cluster. Etcd must have
// been called.
func (a *Authorities) Shared() (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, name := range shared {
		data, err := os.ReadFile(filepath.Join(a.Dir, name))
		if err != nil {
			return nil, fmt.Errorf("read what servers share: %w", err)
		}
		out[name] = data
	}
	return out, nil
}

// Import writes what Shared of another server gave into the folder of a new one, before Open.
// Files of other names, damaged ones and keys that do not fit are refused before anything is written.
func Import(dir string, files map[string][]byte) error {
	for name := range files {
		if !slices.Contains(shared, name) {
			return fmt.Errorf("%w: an unknown file %q", ErrShared, name)
		}
	}
	for _, name := range shared {
		if len(files[name]) == 0 || len(files[name]) > maxPEM {
			return fmt.Errorf("%w: %s is missing or too large", ErrShared, name)
		}
	}
	for _, name := range []string{EtcdCAFile, FrontProxyCAFile, CAFile} {
		if err := pair(files[name+certSuffix], files[name+keySuffix]); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrShared, name, err)
		}
	}
	if _, err := decodeKey(files[ServiceAccountFile+keySuffix]); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrShared, ServiceAccountFile, err)
	}
	if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(EtcdCAFile)), 0o700); err != nil {
		return fmt.Errorf("make folder of certificates: %w", err)
	}
	for _, name := range shared {
		mode := os.FileMode(0o600)
		if filepath.Ext(name) != keySuffix {
			mode = 0o644
		}
		if err := writeFile(filepath.Join(dir, name), files[name], mode); err != nil {
			return err
		}
	}
	return nil
}

// pair checks that a certificate is an authority's and the key its own.
func pair(certPEM, keyPEM []byte) error {
	cert, err := DecodeCert(certPEM)
	if err != nil {
		return err
	}
	key, err := decodeKey(keyPEM)
	if err != nil {
		return err
	}
	if !cert.IsCA {
		return errors.New("not a certificate authority")
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return ErrKeyDiffers
	}
	return nil
}
