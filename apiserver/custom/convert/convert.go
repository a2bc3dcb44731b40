// Package convert asks webhooks for custom resources in another version.
//
// The one idea: a webhook may change everything of an object but who it is. What comes back is
// checked against what was sent, and its metadata, but for labels and annotations, is put back.
//
// Used by apiserver/custom.
package convert

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsv1beta1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// Limits of a call.
const (
	timeout     = 30 * time.Second
	maxObjects  = 500      // in one call
	maxResponse = 64 << 20 // bytes
	idle        = 90 * time.Second
)

// Resolve finds where a port of a service is reached: host:port.
type Resolve func(namespace, name string, port int32) (address string, err error)

// Webhook is the conversion of one definition; safe for concurrent use.
type Webhook struct {
	client *http.Client
	url    string
	beta   bool // the webhook speaks v1beta1 alone
}

// New makes the client of a definition's webhook. Nothing is called yet.
func New(c *apiextensionsv1.WebhookConversion, resolve Resolve) (*Webhook, error) {
	if c == nil || c.ClientConfig == nil {
		return nil, errors.New("a conversion by webhook has no webhook")
	}
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	if bundle := c.ClientConfig.CABundle; len(bundle) > 0 {
		tlsConfig.RootCAs = x509.NewCertPool()
		if !tlsConfig.RootCAs.AppendCertsFromPEM(bundle) {
			return nil, errors.New("unable to load root certificates: the caBundle holds no certificate")
		}
	}
	transport := &http.Transport{TLSClientConfig: tlsConfig, ForceAttemptHTTP2: true, MaxIdleConns: 4, IdleConnTimeout: idle, TLSHandshakeTimeout: 10 * time.Second}
	w := &Webhook{client: &http.Client{Transport: transport, Timeout: timeout, CheckRedirect: noRedirect}}
	w.beta = slices.Contains(c.ConversionReviewVersions, "v1beta1") && !slices.Contains(c.ConversionReviewVersions, "v1")
	if c.ClientConfig.URL != nil {
		u, err := url.Parse(*c.ClientConfig.URL)
		if err != nil {
			return nil, fmt.Errorf("conversion webhook URL: %w", err)
		}
		w.url = clean(u)
		return w, nil
	}
	s := c.ClientConfig.Service
	if s == nil {
		return nil, errors.New("a conversion webhook has neither url nor service")
	}
	port := int32(443)
	if s.Port != nil {
		port = *s.Port
	}
	host := s.Name + "." + s.Namespace + ".svc"
	u := url.URL{Scheme: "https", Host: net.JoinHostPort(host, strconv.Itoa(int(port)))}
	if s.Path != nil {
		u.Path = *s.Path
	}
	w.url = clean(&u)
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		address, err := resolve(s.Namespace, s.Name, port)
		if err != nil {
			return nil, err
		}
		return dialer.DialContext(ctx, network, address)
	}
	return w, nil
}

// clean is a URL with each slash of its path once, none at the end, as client-go calls it.
func clean(u *url.URL) string {
	u.Path, u.RawPath = path.Join("/", u.Path), ""
	return u.String()
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Close gives back the connections that are idle.
func (w *Webhook) Close() { w.client.CloseIdleConnections() }

// Convert gives objects in a version; those that are in it already are given as they are. The
// objects are not changed.
func (w *Webhook) Convert(ctx context.Context, objects []*unstructured.Unstructured, to schema.GroupVersion) ([]*unstructured.Unstructured, error) {
	out := slices.Clone(objects)
	var places []int
	for i, u := range objects {
		if u.GetAPIVersion() != to.String() {
			places = append(places, i)
		}
	}
	for part := range slices.Chunk(places, maxObjects) {
		sent := make([]*unstructured.Unstructured, len(part))
		for n, i := range part {
			sent[n] = objects[i]
		}
		kind := sent[0].GroupVersionKind()
		answers, err := w.call(ctx, sent, to)
		if err != nil {
			return nil, fmt.Errorf("conversion webhook for %v failed: %w", kind, err)
		}
		if len(answers) != len(sent) {
			return nil, fmt.Errorf("conversion webhook for %v returned %d objects, expected %d", kind, len(answers), len(sent))
		}
		for n, i := range part {
			if out[i], err = accept(sent[n], answers[n], to); err != nil {
				return nil, fmt.Errorf("conversion webhook for %v returned %w", kind, placed(err, n, len(objects)))
			}
		}
	}
	return out, nil
}

// review is a ConversionReview; both versions of it are written alike.
type review struct {
	metav1.TypeMeta `json:",inline"`
	Request         *apiextensionsv1.ConversionRequest  `json:"request,omitempty"`
	Response        *apiextensionsv1.ConversionResponse `json:"response,omitempty"`
}

func (w *Webhook) call(ctx context.Context, objects []*unstructured.Unstructured, to schema.GroupVersion) ([]runtime.RawExtension, error) {
	ask := review{
		TypeMeta: metav1.TypeMeta{Kind: "ConversionReview", APIVersion: apiextensionsv1.SchemeGroupVersion.String()},
		Request:  &apiextensionsv1.ConversionRequest{UID: types.UID(uuid.NewString()), DesiredAPIVersion: to.String()},
	}
	if w.beta {
		ask.APIVersion = apiextensionsv1beta1.SchemeGroupVersion.String()
	}
	for _, u := range objects {
		ask.Request.Objects = append(ask.Request.Objects, runtime.RawExtension{Object: u})
	}
	body, err := json.Marshal(ask)
	if err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	raw, err := w.post(ctx, body)
	if err != nil {
		return nil, err
	}
	var answer review
	if err := json.Unmarshal(raw, &answer); err != nil {
		return nil, fmt.Errorf("decode the response: %w", err)
	}
	return w.judge(&ask, &answer)
}

func (w *Webhook) post(ctx context.Context, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url+"?timeout="+timeout.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json, */*")
	request.Header.Set("User-Agent", "kube-apiserver-admission") // as Kubernetes names itself to all webhooks
	response, err := w.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close() //nolint:errcheck // it was read
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxResponse+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the response: %w", err)
	case len(raw) > maxResponse:
		return nil, fmt.Errorf("the response has more than %d bytes", maxResponse)
	case response.StatusCode < 200 || response.StatusCode > 299:
		text := strings.TrimSpace(string(raw[:min(len(raw), 1024)]))
		// Its text alone: the code is not the one that the client of this server is to get.
		return nil, errors.New(apierrors.NewGenericServerResponse(response.StatusCode, http.MethodPost, schema.GroupResource{}, "", text, 0, true).Error())
	}
	return raw, nil
}

// judge takes the objects out of an answer that is one.
func (w *Webhook) judge(ask, answer *review) ([]runtime.RawExtension, error) {
	want := ask.GroupVersionKind()
	switch r := answer.Response; {
	case !w.beta && answer.GroupVersionKind() != want:
		return nil, fmt.Errorf("expected webhook response of %v, got %v", want, answer.GroupVersionKind())
	case r == nil:
		return nil, errors.New("no response provided")
	case !w.beta && r.UID != ask.Request.UID:
		return nil, fmt.Errorf("expected response.uid=%q, got %q", ask.Request.UID, r.UID)
	case r.Result.Status != metav1.StatusSuccess && r.Result.Message != "":
		return nil, errors.New(r.Result.Message)
	case r.Result.Status != metav1.StatusSuccess:
		return nil, fmt.Errorf("response.result.status was '%s', not 'Success'", r.Result.Status)
	}
	return answer.Response.ConvertedObjects, nil
}
