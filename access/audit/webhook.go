package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// WebhookConfig of a Webhook; the defaults are those of Kubernetes' flags.
type WebhookConfig struct {
	Kubeconfig string        // its current context names the URL and how to identify oneself there
	Buffer     int           // events that wait at most; default 10000
	MaxBatch   int           // events sent at once; default 400
	MaxWait    time.Duration // how long the first of a batch waits for more; default 30s
	Backoff    time.Duration // before the first retry; default 10s
	Log        *slog.Logger
}

// What cannot be configured.
const (
	webhookTries   = 5
	webhookTimeout = 30 * time.Second
	webhookRate    = 10 // batches a second
	webhookBurst   = 15
	webhookEnd     = 5 * time.Second // for what waits when the server ends
	maxBatchBytes  = 16 << 20
)

// Webhook sends events in batches. What comes faster than it can be sent is dropped and counted.
type Webhook struct {
	cfg     WebhookConfig
	url     string
	client  *http.Client
	queue   chan []byte
	dropped atomic.Int64
	faults  faults
}

var (
	_ Sink    = (*Webhook)(nil)
	_ counted = (*Webhook)(nil)
)

// NewWebhook reads the kubeconfig; nothing is sent before Run.
func NewWebhook(cfg WebhookConfig) (*Webhook, error) {
	rc, err := clientcmd.BuildConfigFromFlags("", cfg.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("audit webhook %s: %w", cfg.Kubeconfig, err)
	}
	rc.Timeout = webhookTimeout
	client, err := rest.HTTPClientFor(rc)
	if err != nil {
		return nil, fmt.Errorf("audit webhook %s: %w", cfg.Kubeconfig, err)
	}
	return newWebhook(cfg, rc.Host, client), nil
}

func newWebhook(cfg WebhookConfig, url string, client *http.Client) *Webhook {
	if cfg.Buffer <= 0 {
		cfg.Buffer = 10_000
	}
	if cfg.MaxBatch <= 0 {
		cfg.MaxBatch = 400
	}
	if cfg.MaxWait <= 0 {
		cfg.MaxWait = 30 * time.Second
	}
	if cfg.Backoff <= 0 {
		cfg.Backoff = 10 * time.Second
	}
	return &Webhook{cfg: cfg, url: url, client: client, queue: make(chan []byte, cfg.Buffer), faults: faults{log: cfg.Log, now: time.Now}}
}

// Write queues an event.
func (w *Webhook) Write(line []byte) {
	select {
	case w.queue <- bytes.Clone(line[:len(line)-1]):
	default:
		w.drop(1, errors.New("events come faster than the webhook takes them"))
	}
}

func (w *Webhook) drop(n int, err error) {
	w.dropped.Add(int64(n))
	w.faults.report("the audit webhook lacks events", err)
}

// Name is upstream's.
func (w *Webhook) Name() string { return "webhook" }

// Errors counts events that were dropped.
func (w *Webhook) Errors() int64 { return w.dropped.Load() }

// Run sends until ctx ends, and then for a moment what still waits.
func (w *Webhook) Run(ctx context.Context) error {
	limit := rate.NewLimiter(webhookRate, webhookBurst)
	for {
		batch := w.batch(ctx)
		if ctx.Err() != nil {
			return w.finish(ctx, batch)
		}
		if err := limit.Wait(ctx); err != nil {
			return w.finish(ctx, batch)
		}
		if !w.deliver(ctx, batch) {
			return w.finish(ctx, batch)
		}
	}
}

// batch waits for an event, and then for more until there are enough or the time is over.
func (w *Webhook) batch(ctx context.Context) [][]byte {
	var batch [][]byte
	select {
	case first := <-w.queue:
		batch = append(batch, first)
	case <-ctx.Done():
		return nil
	}
	enough := time.NewTimer(w.cfg.MaxWait)
	defer enough.Stop()
	for size := len(batch[0]); len(batch) < w.cfg.MaxBatch && size < maxBatchBytes; {
		select {
		case one := <-w.queue:
			batch = append(batch, one)
			size += len(one)
		case <-enough.C:
			return batch
		case <-ctx.Done():
			return batch
		}
	}
	return batch
}

// deliver sends a batch, again after growing pauses where that may help; false when ctx
// ended before it was known how it went.
func (w *Webhook) deliver(ctx context.Context, batch [][]byte) bool {
	pause := w.cfg.Backoff
	for try := 1; ; try++ {
		again, err := w.send(ctx, batch)
		switch {
		case err == nil:
			return true
		case ctx.Err() != nil:
			return false
		case !again || try == webhookTries:
			w.drop(len(batch), err)
			return true
		}
		timer := time.NewTimer(pause + rand.N(pause/5+1))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return false
		}
		pause += pause / 2
	}
}

// finish sends what is left, once.
func (w *Webhook) finish(ctx context.Context, batch [][]byte) error {
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), webhookEnd)
	defer cancel()
	for {
		for len(batch) < w.cfg.MaxBatch && len(w.queue) > 0 {
			batch = append(batch, <-w.queue)
		}
		if len(batch) == 0 {
			return nil
		}
		if _, err := w.send(end, batch); err != nil {
			w.drop(len(batch)+len(w.queue), err)
			return nil
		}
		batch = nil
	}
}

var (
	listStart = []byte(`{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[`)
	listEnd   = []byte(`]}`)
)

// send posts a batch; again says that another try may go better.
func (w *Webhook) send(ctx context.Context, batch [][]byte) (again bool, err error) {
	body := append(append(bytes.Clone(listStart), bytes.Join(batch, []byte{','})...), listEnd...)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := w.client.Do(r)
	if err != nil {
		return true, err
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
	if answer.StatusCode >= 200 && answer.StatusCode < 300 {
		return false, nil
	}
	if err != nil {
		said = nil
	}
	again = answer.StatusCode == http.StatusTooManyRequests || answer.StatusCode >= 500
	return again, fmt.Errorf("the webhook answers %s: %.200s", answer.Status, said)
}
