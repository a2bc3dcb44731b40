package oidc

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	josejson "github.com/go-jose/go-jose/v4/json"
	"golang.org/x/sync/singleflight"

	"k8s.io/apimachinery/pkg/util/json"

	"github.com/proa-dev/proa/internal/recent"
)

// Bounds of claims that are kept elsewhere (OpenID Connect Core 1.0, 5.6.2): a token of a user
// in many groups names an endpoint that knows them.
const (
	maxSources  = 16               // issuers of such claims, for each issuer of tokens
	maxAsking   = 16               // requests at the same time
	keepSources = 10 * time.Second // how long an answer counts: as long as Kubernetes keeps that a token is valid
	sourceCache = 1024
)

// sources resolves one claim of an issuer's tokens.
type sources struct {
	claim  string
	of     *issuer
	algs   []jose.SignatureAlgorithm
	flight singleflight.Group
	asking chan struct{}
	known  *recent.Map[[sha256.Size]byte, sourced]

	mu   sync.Mutex
	keys map[string]*keySet // by the issuer of the claim
}

type sourced struct {
	value any
	until time.Time
}

func newSources(claim string, of *issuer, algs []jose.SignatureAlgorithm) *sources {
	return &sources{
		claim: claim, of: of, algs: algs, asking: make(chan struct{}, maxAsking), keys: map[string]*keySet{},
		known: recent.New[[sha256.Size]byte, sourced](sourceCache),
	}
}

// endpoint is where a claim is, of a token whose signature was verified.
type endpoint struct {
	URL   string `json:"endpoint"`
	Token string `json:"access_token"`
}

// expand puts the claim into claims if it is not there but said to be elsewhere.
func (s *sources) expand(ctx context.Context, payload []byte, claims map[string]any) error {
	if s == nil || claims[s.claim] != nil || claims["_claim_names"] == nil {
		return nil
	}
	var said struct {
		Names   map[string]string   `json:"_claim_names"`
		Sources map[string]endpoint `json:"_claim_sources"`
	}
	if err := josejson.Unmarshal(payload, &said); err != nil {
		return fmt.Errorf("could not parse claim sources: %w", err)
	}
	source, ok := said.Names[s.claim]
	if !ok {
		return nil
	}
	from, ok := said.Sources[source]
	if !ok {
		return fmt.Errorf("id token _claim_names contained a source %s missing in _claims_sources", source)
	}
	if from.URL == "" {
		return nil // the claim may be in the token in another form, which Kubernetes does not read
	}
	value, err := s.ask(ctx, from)
	if err != nil {
		return fmt.Errorf("could not expand distributed claims: %w", err)
	}
	claims[s.claim] = value
	return nil
}

// ask gets a claim once for all who wait for it, and keeps it for a moment.
func (s *sources) ask(ctx context.Context, from endpoint) (any, error) {
	key := sha256.Sum256([]byte(from.URL + "\x00" + from.Token))
	if got, ok := s.known.Get(key); ok && s.of.keys.now().Before(got.until) {
		return got.value, nil
	}
	done := s.flight.DoChan(string(key[:]), func() (any, error) {
		background, cancel := context.WithTimeout(context.Background(), fetchTimeout)
		defer cancel()
		select {
		case s.asking <- struct{}{}:
			defer func() { <-s.asking }()
		case <-background.Done():
			return nil, fmt.Errorf("while getting distributed claim %q: too many others are being asked for", s.claim)
		}
		got, err := s.fetch(background, from)
		if err != nil {
			return nil, err
		}
		s.known.Put(key, got)
		return got.value, nil
	})
	select {
	case r := <-done:
		return r.Val, r.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fetch gets the token that holds the claim, and verifies it as any other.
func (s *sources) fetch(ctx context.Context, from endpoint) (sourced, error) {
	raw, err := s.get(ctx, from)
	if err != nil {
		return sourced{}, fmt.Errorf("while getting distributed claim %q: %w", s.claim, err)
	}
	signed, err := jose.ParseSignedCompact(string(raw), s.algs)
	if err != nil || len(signed.Signatures) != 1 {
		return sourced{}, fmt.Errorf("%s answers no signed token", from.URL)
	}
	var said registered
	if err := josejson.Unmarshal(signed.UnsafePayloadWithoutVerification(), &said); err != nil {
		return sourced{}, fmt.Errorf("parse claims: %w", err)
	}
	keys, err := s.keysOf(said.Issuer)
	if err != nil {
		return sourced{}, err
	}
	found, err := keys.find(ctx, signed.Signatures[0].Protected.KeyID)
	if err != nil {
		return sourced{}, err
	}
	payload, err := verify(signed, found)
	if err != nil {
		return sourced{}, fmt.Errorf("verify distributed claim token: %w", err)
	}
	now := s.of.keys.now()
	if err := (&issuer{url: said.Issuer, audiences: s.of.audiences}).current(&said, now); err != nil {
		return sourced{}, fmt.Errorf("verify distributed claim token: %w", err)
	}
	var claims map[string]any
	if err := josejson.Unmarshal(payload, &claims); err != nil { // refuses claims that are there twice
		return sourced{}, fmt.Errorf("parse claims: %w", err)
	}
	claims = nil
	if err := json.Unmarshal(payload, &claims); err != nil {
		return sourced{}, fmt.Errorf("parse claims: %w", err)
	}
	value, ok := claims[s.claim]
	if !ok {
		return sourced{}, fmt.Errorf("jwt returned by distributed claim endpoint %q did not contain claim: %s", from.URL, s.claim)
	}
	until := now.Add(keepSources)
	if said.Expiry.Before(until) {
		until = said.Expiry.Time
	}
	return sourced{value, until}, nil
}

// keysOf are those of an issuer of claims, reached with the CA of the tokens' issuer.
func (s *sources) keysOf(url string) (*keySet, error) {
	if url == s.of.url {
		return s.of.keys, nil
	}
	if errs := validateURL(url, nil); len(errs) > 0 {
		return nil, fmt.Errorf("issuer %q of a distributed claim is not an https URL", url)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys[url] == nil {
		if len(s.keys) >= maxSources {
			return nil, fmt.Errorf("distributed claims of more than %d issuers", maxSources)
		}
		s.keys[url] = newKeySet(url, "", s.of.keys.ca, s.of.keys.now)
	}
	return s.keys[url], nil
}

func (s *sources) get(ctx context.Context, from endpoint) ([]byte, error) {
	if u, err := url.Parse(from.URL); err != nil || u.Scheme != "https" {
		return nil, errors.New("its endpoint is not an https URL")
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, from.URL, http.NoBody)
	if err != nil {
		return nil, err
	}
	if from.Token != "" {
		r.Header.Set("Authorization", "Bearer "+from.Token)
	}
	answer, err := s.of.keys.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxDocument+1))
	switch {
	case err != nil:
		return nil, err
	case answer.StatusCode < 200 || answer.StatusCode > 299:
		return nil, fmt.Errorf("error while getting distributed claim JWT: %s", answer.Status)
	case len(body) > maxDocument:
		return nil, fmt.Errorf("more than %d bytes", maxDocument)
	}
	return body, nil
}
