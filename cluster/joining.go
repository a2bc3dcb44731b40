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
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/pki"
)

// Of joining as a server: one request, and the wait before the next while the cluster cannot take
// another member (one joins at a time).
const (
	joinRequestTime = 30 * time.Second
	joinAgain       = time.Second
)

// joinServers makes this machine a server of another's cluster, before anything of it is started:
// it gets the cluster's keys and settings. A server that has joined already comes back by itself.
func (c *ServerConfig) joinServers(ctx context.Context, log *slog.Logger, steps *Progress) error {
	joined, err := c.Place.readJoined()
	if err != nil {
		return err
	}
	switch {
	case joined != nil && (c.Place.hasData() || len(joined.Settings.EtcdServers) > 0 || c.Token == ""):
		return c.take(joined.Settings)
	case c.Join == "":
		return nil
	case joined == nil && c.Place.hasData():
		return fmt.Errorf("cluster %q has data of its own on this machine and cannot join %s; 'proa uninstall --name %s' removes it, another --name keeps it", c.Place.Name, c.Join, c.Place.Name)
	case c.Token == "":
		return errors.New("a token is needed to join: 'proa token create --server' on a server prints one; give it as PROA_TOKEN")
	}
	token, err := pki.ParseJoinToken(c.Token)
	if err != nil {
		return err
	}
	ca, err := pki.FetchCA(ctx, c.Join, token)
	if err != nil {
		return err
	}
	j, err := newJoining(c.Join, ca, token.Bearer())
	if err != nil {
		return err
	}
	defer j.client.CloseIdleConnections()
	var settings sharedSettings
	if err := j.do(ctx, http.MethodGet, nil, &settings); err != nil {
		return fmt.Errorf("join %s: %w", c.Join, err)
	}
	if err := sameMinor(ProaVersion, settings.Version); err != nil {
		return err
	}
	if err := c.take(settings); err != nil {
		return err
	}
	answer, err := j.letMeIn(ctx, c, log)
	if err != nil {
		return fmt.Errorf("join %s: %w", c.Join, err)
	}
	if err := c.keepAnswer(settings, answer); err != nil {
		return err
	}
	steps.Step("joined " + c.Join)
	return nil
}

// letMeIn asks until the cluster can take this server.
func (j *joining) letMeIn(ctx context.Context, c *ServerConfig, log *slog.Logger) (*joinAnswer, error) {
	raw, err := json.Marshal(joinRequest{Name: c.NodeConfig.Name, PeerURL: c.peerURL(), Version: ProaVersion})
	if err != nil {
		return nil, err
	}
	again := time.NewTicker(joinAgain)
	defer again.Stop()
	for said := false; ; {
		answer := &joinAnswer{}
		err := j.do(ctx, http.MethodPost, raw, answer)
		var refused *refusal
		if err == nil || !errors.As(err, &refused) || refused.code != http.StatusServiceUnavailable {
			return answer, err
		}
		if !said {
			log.Info("the cluster cannot take another server now, trying again", "err", err)
			said = true
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil, err
		}
	}
}

// keepAnswer writes what the other server gave: keys first, and last that this machine has joined.
func (c *ServerConfig) keepAnswer(settings sharedSettings, a *joinAnswer) error {
	if err := pki.Import(c.Place.PKI(), a.Files); err != nil {
		return err
	}
	if c.EncryptionConfig == "" {
		if len(a.Encryption) == 0 {
			return fmt.Errorf("%w: those that seal objects are missing", pki.ErrShared)
		}
		if err := WriteFile(c.ownKeys(), a.Encryption, 0o600); err != nil {
			return err
		}
	}
	return c.Place.writeJoined(&joinedCluster{Settings: settings, Members: a.Members})
}

// joining is the conversation with the server that lets another one in.
type joining struct {
	url, bearer string
	client      *http.Client
}

func newJoining(server string, ca []byte, bearer string) (*joining, error) {
	trust := x509.NewCertPool()
	if !trust.AppendCertsFromPEM(ca) {
		return nil, errors.New("the server gave no certificate")
	}
	return &joining{strings.TrimSuffix(server, "/") + joinPath, bearer, &http.Client{
		Timeout:       joinRequestTime,
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trust, MinVersion: tls.VersionTLS12}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("redirects are not followed") },
	}}, nil
}

// refusal is an answer of the server that is not the one wanted.
type refusal struct {
	code int
	text string
}

func (r *refusal) Error() string { return r.text }

func (j *joining) do(ctx context.Context, method string, body []byte, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, j.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+j.bearer)
	answer, err := j.client.Do(req)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(answer.Body, maxJoinAnswer))
	if err != nil {
		return err
	}
	switch {
	case answer.StatusCode == http.StatusUnauthorized:
		return errors.New("the token is not valid (any more); make a new one with 'proa token create --server'")
	case answer.StatusCode != http.StatusOK:
		var status metav1.Status
		if json.Unmarshal(raw, &status) != nil || status.Message == "" {
			status.Message = answer.Status
		}
		return &refusal{answer.StatusCode, status.Message}
	}
	return json.Unmarshal(raw, into)
}

// joinedBefore gives the members that this server joined with; nil for the first one.
func (c *ServerConfig) joinedBefore() (map[string]string, error) {
	joined, err := c.Place.readJoined()
	if joined == nil || err != nil {
		return nil, err
	}
	return joined.Members, nil
}

// hasPeers says whether this server was, or will be, one of several: it has the certificate for it.
func (c *ServerConfig) hasPeers() bool {
	_, _, ca := pki.PeerFiles(c.Place.PKI())
	_, err := os.Stat(ca)
	return err == nil
}
