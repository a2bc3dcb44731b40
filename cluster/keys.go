package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/pki"
)

// The keys that seal objects are in a file of each server. A new one goes to all of them before
// any seals with it: what one writes the others must be able to read at once.

// serverName is whom a server's certificate towards another server names; it is made for one
// conversation.
const (
	serverName     = "system:apiserver"
	serverCertLife = 10 * time.Minute
	maxKeys        = 1 << 20 // bytes of a file of keys
	keysTime       = 10 * time.Second
)

// errAllServers says that a change needs all servers.
var errAllServers = errors.New("all servers must run to take a new key")

// rotateKeys has all servers seal with a new key.
func (c *controlPlane) rotateKeys(ctx context.Context) (string, error) {
	all, err := c.servers(ctx)
	if err != nil {
		return "", err
	}
	var others []ServerInfo
	for _, s := range all {
		switch {
		case s.Self:
		case s.API == "" || !s.Reachable:
			return "", fmt.Errorf("server %q cannot be reached: %w", s.Name, errAllServers)
		default:
			others = append(others, s)
		}
	}
	if len(others) == 0 {
		return c.keys.Rotate()
	}
	name, reads, writes, err := c.keys.Next()
	if err != nil {
		return "", err
	}
	client, err := c.serverClient()
	if err != nil {
		return "", err
	}
	defer client.CloseIdleConnections()
	for _, s := range others {
		if err := giveKeys(ctx, client, s.API, reads); err != nil {
			return "", fmt.Errorf("give the new key to server %s (%w): %w", s.Name, err, errAllServers)
		}
	}
	if err := c.keys.Take(writes); err != nil {
		return "", err
	}
	for _, s := range others {
		if err := giveKeys(ctx, client, s.API, writes); err != nil {
			c.log.Error("a server goes on with the former key until the next change; it can read the new one", "server", s.Name, "err", err)
		}
	}
	return name, nil
}

// serverClient speaks to other servers as one of them.
func (c *controlPlane) serverClient() (*http.Client, error) {
	pair, err := c.pki.CA.Certificate(pki.Leaf{CommonName: serverName, Organizations: []string{"system:masters"}, Client: true, Life: serverCertLife})
	if err != nil {
		return nil, err
	}
	return &http.Client{Timeout: keysTime, Transport: &http.Transport{TLSClientConfig: &tls.Config{
		RootCAs: c.pki.CA.Trust(), Certificates: []tls.Certificate{*pair}, ServerName: apiName, MinVersion: tls.VersionTLS12,
	}}}, nil
}

func giveKeys(ctx context.Context, client *http.Client, server string, raw []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+server+keysPath, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusOK {
		return nil
	}
	var status metav1.Status
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxJoinBody)).Decode(&status); err != nil || status.Message == "" {
		return errors.New(answer.Status)
	}
	return errors.New(status.Message)
}

// takeKeys takes over the keys of another server. A permission is not enough for that: the
// certificate must be a server's.
func (c *controlPlane) takeKeys(w http.ResponseWriter, r *http.Request) error {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return errors.New("keys come from servers only")
	}
	cert := r.TLS.PeerCertificates[0]
	if _, err := cert.Verify(x509.VerifyOptions{Roots: c.pki.CA.Trust(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil || cert.Subject.CommonName != serverName {
		return errors.New("keys come from servers only")
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxKeys))
	if err != nil {
		return err
	}
	if err := c.keys.Take(raw); err != nil {
		return err
	}
	c.log.Info("took over the keys that seal objects from another server")
	c.store.Reseal()
	return nil
}
