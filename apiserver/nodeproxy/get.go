package nodeproxy

import (
	"context"
	"fmt"
	"io"
	"net/http"
)

// Get fetches a path of a node's kubelet for this server itself; at most so many bytes of the
// answer are read, and more are an error.
func (p *Proxy) Get(ctx context.Context, node, path string, most int64) ([]byte, error) {
	u, err := p.kubeletURL(node)
	if err != nil {
		return nil, err
	}
	u.Path = path
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("ask node %s: %w", node, err)
	}
	answer, err := p.toKubelet(node).RoundTrip(r)
	if err != nil {
		return nil, fmt.Errorf("ask node %s: %w", node, err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, most+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("ask node %s: %w", node, err)
	case answer.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("ask node %s for %s: %s: %.200s", node, path, answer.Status, body)
	case int64(len(body)) > most:
		return nil, fmt.Errorf("ask node %s for %s: the answer is longer than %d bytes", node, path, most)
	}
	return body, nil
}
