// Package remote asks other servers who a token belongs to, and whether a request is
// allowed: the webhooks of authentication and authorization.
//
// The one idea: an answer is kept for a while, bounded, under everything that was asked, so
// that a webhook sees a question once; what happens when it does not answer is configured,
// never guessed.
//
// Used by cluster, which puts them into the chains of package access.
package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	maxAnswer = 1 << 20
	cacheSize = 8192
	tries     = 3
	backoff   = 200 * time.Millisecond // before the second try; then doubled
)

// client posts reviews to the server of a kubeconfig.
type client struct {
	url  string
	http *http.Client
	wait time.Duration // for all tries of one question
}

func newClient(kubeconfig string, wait time.Duration) (*client, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read webhook kubeconfig: %w", err)
	}
	return newClientFor(cfg, wait)
}

func newClientFor(cfg *rest.Config, wait time.Duration) (*client, error) {
	h, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("make client of webhook: %w", err)
	}
	return &client{url: cfg.Host, http: h, wait: wait}, nil
}

// ask posts a review and reads the answer into out. It tries again where the server cannot
// be reached or says that it is overloaded.
func (c *client) ask(ctx context.Context, review, out any) error {
	body, err := json.Marshal(review)
	if err != nil {
		return fmt.Errorf("encode review: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.wait)
	defer cancel()
	pause := backoff
	for left := tries; ; left-- {
		again, err := c.once(ctx, body, out)
		if err == nil {
			return nil
		}
		if !again || left <= 1 {
			return fmt.Errorf("ask webhook: %w", err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("ask webhook: %w", err)
		}
		pause *= 2
	}
}

func (c *client) once(ctx context.Context, body []byte, out any) (again bool, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	answer, err := c.http.Do(r)
	if err != nil {
		return true, err
	}
	defer func() { _ = answer.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	switch {
	case err != nil:
		return true, err
	case answer.StatusCode >= 500 || answer.StatusCode == http.StatusTooManyRequests:
		return true, fmt.Errorf("it answers %s", answer.Status)
	case answer.StatusCode < 200 || answer.StatusCode >= 300:
		return false, fmt.Errorf("it answers %s", answer.Status)
	case len(data) > maxAnswer:
		return false, fmt.Errorf("it answers more than %d bytes", maxAnswer)
	}
	if err := json.Unmarshal(data, out); err != nil {
		return false, fmt.Errorf("parse answer: %w", err)
	}
	return false, nil
}
