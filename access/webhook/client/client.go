// Package client calls webhooks: it finds the server that a configuration names, speaks
// TLS with it under the name and the CA the configuration gives, and keeps connections.
//
// The one idea: a service is reached at one of its ready endpoints, without the detour
// over its cluster address, and a connection is used only as long as its endpoint is one.
//
// Used by access/webhook; conversions of custom resources and aggregated APIs have the
// same need.
package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/internal/endpoints"
)

const (
	maxAnswer  = 8 << 20 // bytes: an object's patch, in base64, with room
	maxTries   = 10      // of a server that asks to come again later
	maxClients = 512     // configurations whose connections are kept
	idle       = 90 * time.Second
)

// Config of Clients.
type Config struct {
	Reader api.Reader // services and endpoint slices
	Log    *slog.Logger
}

// Clients are the clients of all webhooks; safe for concurrent use.
type Clients struct {
	reader api.Reader
	log    *slog.Logger
	mu     sync.Mutex
	kept   map[key]*Client
}

// key is what makes two configurations the same client.
type key struct {
	base string
	ca   [sha256.Size]byte
}

// New makes clients; nothing is connected.
func New(cfg Config) *Clients {
	return &Clients{reader: cfg.Reader, log: cfg.Log, kept: map[key]*Client{}}
}

// Client calls one webhook; safe for concurrent use.
type Client struct {
	clients *Clients
	base    string // https://host:port/path
	service *service
	tls     *tls.Config

	mu        sync.Mutex
	transport *http.Transport
	address   string // of the endpoint that transport is connected to; "" for a URL
}

type service struct {
	namespace, name string
	port            int32
}

// For gives the client of a configuration; the same one for the same configuration.
func (c *Clients) For(cc admissionv1.WebhookClientConfig) (*Client, error) {
	made := &Client{clients: c}
	switch {
	case cc.Service != nil:
		s := &service{namespace: cc.Service.Namespace, name: cc.Service.Name, port: 443}
		if cc.Service.Port != nil {
			s.port = *cc.Service.Port
		}
		host := s.name + "." + s.namespace + ".svc"
		u := url.URL{Scheme: "https", Host: net.JoinHostPort(host, strconv.Itoa(int(s.port)))}
		if cc.Service.Path != nil {
			u.Path = *cc.Service.Path
		}
		made.base, made.service = clean(&u), s
		made.tls = &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	case cc.URL != nil:
		u, err := url.Parse(*cc.URL)
		if err != nil {
			return nil, fmt.Errorf("webhook URL: %w", err)
		}
		made.base, made.tls = clean(u), &tls.Config{MinVersion: tls.VersionTLS12}
	default:
		return nil, errors.New("webhook configuration must have either service or URL")
	}
	if len(cc.CABundle) > 0 {
		made.tls.RootCAs = x509.NewCertPool()
		if !made.tls.RootCAs.AppendCertsFromPEM(cc.CABundle) {
			return nil, errors.New("unable to load root certificates: unable to parse bytes as PEM block")
		}
	}
	return c.keep(key{made.base, sha256.Sum256(cc.CABundle)}, made), nil
}

// clean is a URL with each slash of its path once, none at the end: controller-runtime's test environment registers
// https://host//path, which its own server would answer by a redirect.
func clean(u *url.URL) string {
	u.Path, u.RawPath = path.Join("/", u.Path), ""
	return u.String()
}

// keep finds the client that is there already.
func (c *Clients) keep(k key, made *Client) *Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	if have, ok := c.kept[k]; ok {
		return have
	}
	if len(c.kept) >= maxClients {
		for other, one := range c.kept { // any: it is made again when it is needed
			one.close()
			delete(c.kept, other)
			break
		}
	}
	c.kept[k] = made
	return made
}

func (c *Client) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.transport != nil {
		c.transport.CloseIdleConnections()
	}
}

// Call posts in as JSON and decodes the answer into out. The time that ctx leaves goes
// along as ?timeout=, in whole seconds. Errors are *url.Error of net/http, or what the
// answer's HTTP status means as *apierrors.StatusError.
func (c *Client) Call(ctx context.Context, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode the request: %w", err)
	}
	at := c.url(ctx)
	for try := 0; ; try++ {
		wait, err := c.once(ctx, at, body, out)
		if wait <= 0 || try == maxTries {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return &url.Error{Op: "Post", URL: at, Err: ctx.Err()}
		}
	}
}

// once calls once. A wait says when a server that is busy wants to be asked again.
func (c *Client) once(ctx context.Context, at string, body []byte, out any) (wait time.Duration, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, at, bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("make the request: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, */*")
	r.Header.Set("User-Agent", "kube-apiserver-admission")
	transport, err := c.connect()
	if err != nil {
		return 0, &url.Error{Op: "Post", URL: r.URL.String(), Err: err}
	}
	answer, err := (&http.Client{Transport: transport, CheckRedirect: stay}).Do(r)
	if err != nil {
		return 0, err
	}
	defer func() { _ = answer.Body.Close() }() // it has been read
	raw, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	switch code := answer.StatusCode; {
	case err != nil:
		return 0, &url.Error{Op: "Post", URL: r.URL.String(), Err: err}
	case len(raw) > maxAnswer:
		return 0, fmt.Errorf("the answer is larger than %d bytes", maxAnswer)
	case code == http.StatusTooManyRequests || code >= http.StatusInternalServerError:
		seconds, _ := strconv.Atoi(answer.Header.Get("Retry-After")) // what is no number asks for nothing
		return time.Duration(seconds) * time.Second, refused(code, raw)
	case code < 200 || code > 206:
		return 0, refused(code, raw)
	case len(raw) == 0:
		return 0, fmt.Errorf("0-length response with status code: %d and content type: %s", code, answer.Header.Get("Content-Type"))
	}
	return 0, json.Unmarshal(raw, out)
}

// stay: a redirect is an answer, and not one that is understood.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// refused is the error that an HTTP status stands for.
func refused(code int, body []byte) error {
	var s metav1.Status
	if json.Unmarshal(body, &s) == nil && s.Kind == "Status" && s.Status == metav1.StatusFailure {
		return &apierrors.StatusError{ErrStatus: s}
	}
	const most = 2048
	text := strings.TrimSpace(string(body[:min(len(body), most)]))
	return apierrors.NewGenericServerResponse(code, http.MethodPost, schema.GroupResource{}, "", text, 0, true)
}

// url is the address with the time that is left.
func (c *Client) url(ctx context.Context) string {
	deadline, ok := ctx.Deadline()
	if !ok {
		return c.base
	}
	left := time.Until(deadline)
	if left <= 0 {
		return c.base
	}
	seconds := (left + time.Second - 1).Truncate(time.Second)
	return c.base + "?timeout=" + seconds.String()
}

// connect gives the transport to an endpoint that is one now.
func (c *Client) connect() (*http.Transport, error) {
	var addresses []string
	if c.service != nil {
		var err error
		if addresses, err = c.clients.addresses(*c.service); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.transport != nil && (c.service == nil || slices.Contains(addresses, c.address)) {
		return c.transport, nil
	}
	if c.transport != nil { // the endpoint is gone
		c.transport.CloseIdleConnections()
	}
	c.transport = &http.Transport{
		TLSClientConfig: c.tls, TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true,
		MaxIdleConnsPerHost: 16, IdleConnTimeout: idle,
		HTTP2: &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second},
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	if c.service == nil {
		c.transport.DialContext, c.transport.Proxy = dialer.DialContext, http.ProxyFromEnvironment
		return c.transport, nil
	}
	address := endpoints.Pick(addresses)
	c.address = address
	c.transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, address)
	}
	return c.transport, nil
}
