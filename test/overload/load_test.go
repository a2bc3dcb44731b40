package overload

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// client makes plain requests as whoever is named.
type client struct {
	host string
	conn []*http.Client // each with connections of its own
}

func newClient(kubeconfig string, connections int) (*client, error) {
	c := &client{}
	for range connections {
		cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
		if err != nil {
			return nil, err
		}
		// Otherwise clients that are configured alike share one.
		cfg.Dial = nil
		cfg.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
		one, err := rest.HTTPClientFor(cfg)
		if err != nil {
			return nil, err
		}
		c.host, c.conn = cfg.Host, append(c.conn, one)
	}
	return c, nil
}

// do gives the code of the answer once all of it, or so many bytes, came.
func (c *client) do(ctx context.Context, who, group string, i int, method, path, body string, most int64) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.host+path, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	if who != "" {
		req.Header["Impersonate-User"], req.Header["Impersonate-Group"] = []string{who}, []string{group, "system:authenticated"}
	}
	res, err := c.conn[i%len(c.conn)].Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(res.Body, most))
	return res.StatusCode, err
}

// done counts what became of a load.
type done struct{ creates, lists, watches, refused, failed atomic.Int64 }

func (d *done) String() string {
	return fmt.Sprintf("%d creates, %d lists, %d watches, %d refused (429), %d failed",
		d.creates.Load(), d.lists.Load(), d.watches.Load(), d.refused.Load(), d.failed.Load())
}

const whole = 1 << 40

// load keeps so many requests in flight: of ten, seven creates, two lists of all that is in
// namespace big, and one watch that begins with it.
func (c *client) load(ctx context.Context, workers int, length time.Duration) *done {
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	var d done
	var all sync.WaitGroup
	var number atomic.Int64
	run := time.Now().UnixNano()
	for w := range workers {
		all.Go(func() {
			who := fmt.Sprintf("system:serviceaccount:default:load-%d", w%8)
			for ctx.Err() == nil {
				i := number.Add(1)
				method, path, body, most, count := http.MethodGet, "/api/v1/namespaces/big/configmaps", "", int64(whole), &d.lists
				switch i % 10 {
				case 0:
					path, most, count = path+"?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true", 256<<10, &d.watches
				case 3, 6:
				default:
					method, path, count = http.MethodPost, "/api/v1/namespaces/default/configmaps", &d.creates
					body = configMap(fmt.Sprintf("c-%d-%d", run, i))
				}
				code, err := c.do(ctx, who, "loaders", w, method, path, body, most)
				switch {
				case ctx.Err() != nil:
				case code == http.StatusTooManyRequests:
					d.refused.Add(1)
					pause(ctx, 50*time.Millisecond) // far less than it was told
				case err != nil || code >= 300:
					d.failed.Add(1)
				default:
					count.Add(1)
				}
			}
		})
	}
	all.Wait()
	return &d
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func configMap(name string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q},"data":{"v":%q}}`, name, strings.Repeat("x", 1024))
}

// beNodes renews the leases of 20 nodes five times a second each until it is told to end.
func beNodes() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	c, err := newClient(os.Getenv(dirKey), 4)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var took []float64
	var r renewals
	var all sync.WaitGroup
	for n := range nodeCount {
		all.Go(func() {
			name := fmt.Sprintf("n%d", n)
			for tick := time.Tick(200 * time.Millisecond); ; {
				select {
				case <-ctx.Done():
					return
				case <-tick:
				}
				start := time.Now()
				body := fmt.Sprintf(`{"spec":{"renewTime":%q}}`, start.UTC().Format("2006-01-02T15:04:05.000000Z"))
				code, err := c.do(context.Background(), "system:node:"+name, "system:nodes", n, http.MethodPatch, leases+"/"+name, body, whole)
				mu.Lock()
				took = append(took, float64(time.Since(start).Microseconds())/1000)
				if err != nil || code != http.StatusOK {
					if r.Failed++; r.First == "" {
						r.First = fmt.Sprint(code, err)
					}
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	slices.Sort(took)
	if r.N = len(took); r.N > 0 {
		r.P50, r.P99, r.Max = took[r.N/2], took[r.N*99/100], took[r.N-1]
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}
