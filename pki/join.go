package pki

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strings"
	"time"
)

// The parts of a join token: prefix.pin.id.secret.
const (
	joinPrefix    = "proa1"
	pinLength     = 64
	tokenIDLength = 6
	secretLength  = 16
	tokenAlphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
	maxCA         = 64 << 10
	fetchTimeout  = 15 * time.Second
)

// ErrPin says that a server is not the one the join token was made for.
var ErrPin = errors.New("the server's certificate authority is not the one in the join token")

// JoinToken lets a machine join: it says how to recognize the cluster, and carries a
// bootstrap token (Secret kube-system/bootstrap-token-<ID>).
type JoinToken struct {
	Pin        string // hex SHA-256 of the CA's public key, see Pin
	ID, Secret string
}

// NewJoinToken draws a token for the cluster of ca.
func NewJoinToken(ca *x509.Certificate) (JoinToken, error) {
	id, err := draw(tokenIDLength)
	if err != nil {
		return JoinToken{}, err
	}
	secret, err := draw(secretLength)
	return JoinToken{Pin: Pin(ca), ID: id, Secret: secret}, err
}

// String is the form that users copy.
func (t JoinToken) String() string {
	return strings.Join([]string{joinPrefix, t.Pin, t.ID, t.Secret}, ".")
}

// Bearer is the bootstrap token inside, as it is sent to the API server.
func (t JoinToken) Bearer() string { return t.ID + "." + t.Secret }

// ParseJoinToken reads a token; surrounding white space is ignored. Errors never show the secret.
func ParseJoinToken(s string) (JoinToken, error) {
	parts := strings.Split(strings.TrimSpace(s), ".")
	if len(parts) != 4 || parts[0] != joinPrefix {
		return JoinToken{}, fmt.Errorf("join token: want %s.<pin>.<id>.<secret>", joinPrefix)
	}
	t := JoinToken{Pin: parts[1], ID: parts[2], Secret: parts[3]}
	if _, err := hex.DecodeString(t.Pin); err != nil || len(t.Pin) != pinLength || t.Pin != strings.ToLower(t.Pin) {
		return JoinToken{}, fmt.Errorf("join token: the pin must be %d lower-case hex digits", pinLength)
	}
	if !drawn(t.ID, tokenIDLength) {
		return JoinToken{}, fmt.Errorf("join token: the id must be %d characters of a-z and 0-9", tokenIDLength)
	}
	if !drawn(t.Secret, secretLength) {
		return JoinToken{}, fmt.Errorf("join token: the secret must be %d characters of a-z and 0-9", secretLength)
	}
	return t, nil
}

func drawn(s string, length int) bool {
	return len(s) == length && strings.Trim(s, tokenAlphabet) == ""
}

func draw(length int) (string, error) {
	out := make([]byte, length)
	for i := range out {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(tokenAlphabet))))
		if err != nil {
			return "", fmt.Errorf("draw token: %w", err)
		}
		out[i] = tokenAlphabet[n.Int64()]
	}
	return string(out), nil
}

// FetchCA gets the cluster's CA certificate (PEM) from GET /cacerts of a server that is
// not trusted yet. Nothing secret is sent: first the CA is compared with the token's pin,
// then it is proved that the server of this very connection holds a certificate of that CA.
// server is https://host:port.
func FetchCA(ctx context.Context, server string, token JoinToken) ([]byte, error) {
	return fetchCA(ctx, server, token.Pin)
}

func fetchCA(ctx context.Context, server, pin string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}, // verified below, by pin
		DisableKeepAlives: true,
	}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return errors.New("redirects are not followed")
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(server, "/")+"/cacerts", nil)
	if err != nil {
		return nil, fmt.Errorf("join %s: %w", server, err)
	}
	if req.URL.Scheme != "https" {
		return nil, fmt.Errorf("join %s: want https://host:port", server)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("get cluster CA: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxCA))
	if err != nil {
		return nil, fmt.Errorf("get cluster CA: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get cluster CA: server answers %s", resp.Status)
	}
	return pinned(body, pin, resp.TLS)
}

// RefreshCA gets the present certificate of an authority that is known by another of the same
// key: like FetchCA, with that key for the pin. server is https://host:port.
func RefreshCA(ctx context.Context, server string, known *x509.Certificate) ([]byte, error) {
	return fetchCA(ctx, server, Pin(known))
}

// pinned picks the certificate that has the pin, and checks the connection's against it.
func pinned(body []byte, pin string, state *tls.ConnectionState) ([]byte, error) {
	ca, err := DecodeCert(body)
	if err != nil {
		return nil, fmt.Errorf("get cluster CA: %w", err)
	}
	if Pin(ca) != pin {
		return nil, ErrPin
	}
	if state == nil || len(state.PeerCertificates) == 0 {
		return nil, errors.New("get cluster CA: server shows no certificate")
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	if _, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots}); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPin, err)
	}
	return EncodeCert(ca.Raw), nil
}
