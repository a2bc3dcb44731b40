// Package objects keeps the ConfigMaps and Secrets that this node's pods reference.
//
// The one idea: one watch per object by name (all that a node may watch), shared by every pod
// that references it and counted by them; the first reference opens it, the last one closes it.
// Immutable objects are read once and need no watch. A change calls back with the pods concerned.
//
// Used by kubelet/volumes for files and by the kubelet for env and envFrom.
package objects

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// Config of a Cache.
type Config struct {
	Client  kubernetes.Interface
	Changed func(pods []types.UID) // called after an object changed, with the pods that reference it; must not block
	Log     *slog.Logger
}

// Cache holds what pods reference. Its methods may be called at the same time.
type Cache struct {
	cfg Config
	ctx context.Context // ends every watch
	end context.CancelFunc
	all sync.WaitGroup

	mu      sync.Mutex
	entries map[key]*entry
	pods    map[types.UID][]key
}

// New starts nothing: watches start with the first Register.
func New(cfg Config) (*Cache, error) {
	if cfg.Client == nil {
		return nil, fmt.Errorf("objects: no client")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	ctx, end := context.WithCancel(context.Background())
	return &Cache{cfg: cfg, ctx: ctx, end: end, entries: map[key]*entry{}, pods: map[types.UID][]key{}}, nil
}

// Run blocks until ctx ends, then until every watch has ended.
func (c *Cache) Run(ctx context.Context) error {
	<-ctx.Done()
	c.mu.Lock()
	c.end()
	c.mu.Unlock()
	c.all.Wait()
	return nil
}

// Register counts what the pod references, anew when its spec changed. It does no requests.
func (c *Cache) Register(pod *corev1.Pod) {
	want := references(pod)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return
	}
	old := c.pods[pod.UID]
	for _, k := range want {
		e := c.entries[k]
		if e == nil {
			e = c.open(k)
		}
		e.pods[pod.UID] = struct{}{}
	}
	c.pods[pod.UID] = want
	keep := map[key]bool{}
	for _, k := range want {
		keep[k] = true
	}
	for _, k := range old {
		if !keep[k] {
			c.release(k, pod.UID)
		}
	}
}

// Unregister drops the pod's references.
func (c *Cache) Unregister(pod types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.pods[pod] {
		c.release(k, pod)
	}
	delete(c.pods, pod)
}

// GetConfigMap returns the ConfigMap (read-only) or the API's error: the watched state when a
// registered pod references it, else one request.
func (c *Cache) GetConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	obj, watched, err := c.get(ctx, key{configMap, namespace, name})
	if err != nil {
		return nil, err
	}
	if watched {
		return obj.(*corev1.ConfigMap), nil
	}
	return c.cfg.Client.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
}

// GetSecret is GetConfigMap for Secrets.
func (c *Cache) GetSecret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	obj, watched, err := c.get(ctx, key{secret, namespace, name})
	if err != nil {
		return nil, err
	}
	if watched {
		return obj.(*corev1.Secret), nil
	}
	return c.cfg.Client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
}

func (c *Cache) get(ctx context.Context, k key) (obj metav1.Object, watched bool, err error) {
	c.mu.Lock()
	e := c.entries[k]
	c.mu.Unlock()
	if e == nil {
		return nil, false, nil
	}
	select {
	case <-e.synced:
	case <-ctx.Done():
		return nil, false, fmt.Errorf("wait for %s %s/%s: %w", k.resource, k.namespace, k.name, ctx.Err())
	case <-c.ctx.Done():
		return nil, false, c.ctx.Err()
	}
	e.mu.Lock()
	obj, refused := e.object, e.refused
	e.mu.Unlock()
	if refused != nil {
		return nil, false, refused
	}
	if obj == nil {
		return nil, false, apierrors.NewNotFound(corev1.Resource(string(k.resource)), k.name)
	}
	return obj, true, nil
}

// release must be called with c.mu held.
func (c *Cache) release(k key, pod types.UID) {
	e := c.entries[k]
	if e == nil {
		return
	}
	delete(e.pods, pod)
	if len(e.pods) == 0 {
		e.stop()
		delete(c.entries, k)
	}
}

func (c *Cache) changed(e *entry) {
	if c.cfg.Changed == nil {
		return
	}
	c.mu.Lock()
	pods := make([]types.UID, 0, len(e.pods))
	for uid := range e.pods {
		pods = append(pods, uid)
	}
	c.mu.Unlock()
	if len(pods) > 0 {
		c.cfg.Changed(pods)
	}
}
