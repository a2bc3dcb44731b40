package oidc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/sync/singleflight"
)

// Bounds of what is fetched of an issuer.
const (
	fetchTimeout = 10 * time.Second
	maxDocument  = 1 << 20
	maxKeys      = 256
	// pause is how long after a fetch no other is made, so that tokens with made-up key IDs
	// cost an issuer nothing.
	pause = 10 * time.Second
)

const wellKnown = "/.well-known/openid-configuration"

// keySet holds an issuer's public keys: fetched when the first token arrives, and again
// when a token names a key that is not known.
type keySet struct {
	issuer    string
	discovery string
	ca        string // PEM; empty: the host's
	client    *http.Client
	now       func() time.Time
	flight    singleflight.Group

	mu    sync.RWMutex
	keys  []jose.JSONWebKey
	tried time.Time // when the last fetch ended
	err   error     // of the last fetch
}

func newKeySet(issuer, discovery, ca string, now func() time.Time) *keySet {
	if discovery == "" {
		discovery = strings.TrimSuffix(issuer, "/") + wellKnown
	}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, Proxy: http.ProxyFromEnvironment,
		IdleConnTimeout: 30 * time.Second, MaxIdleConns: 2, TLSHandshakeTimeout: fetchTimeout, ForceAttemptHTTP2: true,
	}
	if ca != "" {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM([]byte(ca)) // validated with the configuration
		transport.TLSClientConfig.RootCAs = pool
	}
	return &keySet{issuer: issuer, discovery: discovery, ca: ca, now: now, client: &http.Client{
		Transport: transport, Timeout: fetchTimeout, CheckRedirect: onlyTLS,
	}}
}

// onlyTLS keeps an issuer from sending the server to a place that anyone can speak for.
func onlyTLS(r *http.Request, via []*http.Request) error {
	if r.URL.Scheme != "https" || len(via) >= 5 {
		return fmt.Errorf("redirected to %s: not https, or too often", r.URL.Redacted())
	}
	return nil
}

// find gives the keys that may have signed a token: that of its ID, or all when it has none.
func (k *keySet) find(ctx context.Context, id string) ([]jose.JSONWebKey, error) {
	if keys := k.known(id); len(keys) > 0 {
		return keys, nil
	}
	if err := k.refresh(ctx); err != nil {
		return nil, err
	}
	if keys := k.known(id); len(keys) > 0 {
		return keys, nil
	}
	return nil, fmt.Errorf("issuer %s has no key %q", k.issuer, id)
}

func (k *keySet) known(id string) []jose.JSONWebKey {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if id == "" {
		return k.keys
	}
	for i := range k.keys {
		if k.keys[i].KeyID == id {
			return k.keys[i : i+1]
		}
	}
	return nil
}

// refresh fetches the keys once for all who wait, and not again within the pause. The fetch
// outlives the request that asked for it.
func (k *keySet) refresh(ctx context.Context) error {
	done := k.flight.DoChan("", func() (any, error) {
		k.mu.RLock()
		tried, err := k.tried, k.err
		k.mu.RUnlock()
		if !tried.IsZero() && k.now().Sub(tried) < pause {
			return nil, err
		}
		background, cancel := context.WithTimeout(context.Background(), fetchTimeout)
		defer cancel()
		keys, err := k.fetch(background)
		if err != nil {
			err = fmt.Errorf("fetch the keys of %s: %w", k.issuer, err)
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		k.tried, k.err = k.now(), err
		if err == nil {
			k.keys = keys
		}
		return nil, err
	})
	select {
	case r := <-done:
		return r.Err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (k *keySet) fetch(ctx context.Context) ([]jose.JSONWebKey, error) {
	var document struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := k.get(ctx, k.discovery, &document); err != nil {
		return nil, err
	}
	if document.Issuer != k.issuer {
		return nil, fmt.Errorf("%s is of issuer %q, want %q", k.discovery, document.Issuer, k.issuer)
	}
	if u, err := url.Parse(document.Keys); err != nil || u.Scheme != "https" {
		return nil, fmt.Errorf("jwks_uri %q is not an https URL", document.Keys)
	}
	var set struct{ Keys []json.RawMessage }
	if err := k.get(ctx, document.Keys, &set); err != nil {
		return nil, err
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("%d keys, more than %d", len(set.Keys), maxKeys)
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys {
		var key jose.JSONWebKey // one of a kind not known here must not hide the others
		if json.Unmarshal(raw, &key) == nil && key.Valid() && key.IsPublic() && (key.Use == "" || key.Use == "sig") {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("no key for signatures is there")
	}
	return keys, nil
}

func (k *keySet) get(ctx context.Context, from string, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Accept", "application/json")
	answer, err := k.client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxDocument+1))
	switch {
	case err != nil:
		return err
	case answer.StatusCode != http.StatusOK:
		return fmt.Errorf("%s answers %s", from, answer.Status)
	case len(body) > maxDocument:
		return fmt.Errorf("%s answers more than %d bytes", from, maxDocument)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	return nil
}
