// Package volumes makes the volumes of this node's pods and keeps them live.
//
// The one idea: a volume is a folder below Root/pods/<uid>/volumes/<plugin>/<name>, made by an
// idempotent step from the pod's spec and what it references; when a reference changes the same
// step runs again and swaps the content at once. Nothing is remembered that cannot be read back
// from the folders and /proc/self/mountinfo, so clean-up works after kill -9.
//
// Called by the kubelet: Mount before containers start, Update when the pod changed, Unmount after they ended.
package volumes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"

	"github.com/proa-dev/proa/host"
	"github.com/proa-dev/proa/kubelet/objects"
)

// Config of a Manager.
type Config struct {
	Root        string // the kubelet's folder; everything is made below Root/pods
	Local       string // optional: the folder whose direct children are local volumes that are made and removed here
	Client      kubernetes.Interface
	NodeName    string
	HostIPs     []string                   // of the node, primary first
	Allocatable func() corev1.ResourceList // the node's; what a missing limit means in the downward API; nil: zero
	Changed     func(pod types.UID)        // optional: something the pod references changed (a failed Mount may now work); must not block
	Recorder    record.EventRecorder       // optional
	Host        host.Recorder              // optional; told once of the mounts below Root/pods
	Log         *slog.Logger               // optional
	Objects     *objects.Cache             // optional; else made, and run, here
}

// Manager makes and removes volumes. Its methods may be called at the same time.
type Manager struct {
	cfg     Config
	objects *objects.Cache
	own     bool // objects is ours to run
	tokens  *tokens
	queue   workqueue.TypedRateLimitingInterface[types.UID]

	certificates *certificates
	requests     onDemand // PodCertificateRequests of this node
	bundles      onDemand // ClusterTrustBundles
	ctx          context.Context
	end          context.CancelFunc // ends ctx, and with it the watches
	watches      sync.WaitGroup

	mu   sync.Mutex
	pods map[types.UID]*mounted
}

// mounted is a pod whose volumes are or are being made.
type mounted struct {
	uid    types.UID
	mu     sync.Mutex // one step per pod at a time
	pod    *corev1.Pod
	gone   bool
	trusts atomic.Bool // has trust bundles
}

// refreshers is how many pods are refreshed at the same time.
const refreshers = 4

// mountBusy is the wait before a pod is refreshed that is being mounted.
const mountBusy = 100 * time.Millisecond

// New starts nothing.
func New(cfg Config) (*Manager, error) {
	if cfg.Root == "" || !filepath.IsAbs(cfg.Root) {
		return nil, fmt.Errorf("volumes: root %q is not an absolute path", cfg.Root)
	}
	if cfg.Client == nil {
		return nil, errors.New("volumes: no client")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Host == nil {
		cfg.Host = host.Discard
	}
	m := &Manager{cfg: cfg, objects: cfg.Objects, pods: map[types.UID]*mounted{}, tokens: newTokens(cfg.Client)}
	m.ctx, m.end = context.WithCancel(context.Background())
	m.certificates = newCertificates(cfg.Client, cfg.NodeName)
	m.certificates.requests = m.request
	m.requests.make = requestsOf(cfg.Client, cfg.NodeName, m.requestChanged)
	m.bundles.make = bundlesOf(cfg.Client, m.bundlesChanged)
	limit := workqueue.NewTypedItemExponentialFailureRateLimiter[types.UID](500*time.Millisecond, 2*time.Minute)
	m.queue = workqueue.NewTypedRateLimitingQueue(limit)
	if m.objects == nil {
		var err error
		if m.objects, err = objects.New(objects.Config{Client: cfg.Client, Changed: m.ObjectsChanged, Log: cfg.Log}); err != nil {
			return nil, err
		}
		m.own = true
	}
	return m, nil
}

// Objects is the cache of what pods reference, for env and envFrom.
func (m *Manager) Objects() *objects.Cache { return m.objects }

// ObjectsChanged is told by the cache which pods reference an object that changed.
func (m *Manager) ObjectsChanged(pods []types.UID) {
	for _, uid := range pods {
		m.queue.Add(uid)
		if m.cfg.Changed != nil {
			m.cfg.Changed(uid)
		}
	}
}

// Run keeps volumes live until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	var all sync.WaitGroup
	if m.own {
		all.Go(func() {
			if err := m.objects.Run(ctx); err != nil {
				m.cfg.Log.Error("watch referenced objects", "err", err)
			}
		})
	}
	for range refreshers {
		all.Go(func() {
			for m.refreshNext(ctx) {
			}
		})
	}
	<-ctx.Done()
	m.queue.ShutDown()
	m.end()
	all.Wait()
	m.watches.Wait()
	return nil
}

func (m *Manager) refreshNext(ctx context.Context) bool {
	uid, stop := m.queue.Get()
	if stop {
		return false
	}
	defer m.queue.Done(uid)
	m.mu.Lock()
	p := m.pods[uid]
	m.mu.Unlock()
	if p == nil {
		m.queue.Forget(uid)
		return true
	}
	if err := m.refresh(ctx, p); err != nil && ctx.Err() == nil {
		m.cfg.Log.Warn("refresh volumes", "pod", uid, "err", err)
		m.queue.AddRateLimited(uid)
		return true
	}
	m.queue.Forget(uid)
	return true
}

// refresh brings the content of the pod's volumes up to date.
func (m *Manager) refresh(ctx context.Context, p *mounted) error {
	if !p.mu.TryLock() { // a mount may wait for a signer: others are not held up by it
		m.queue.AddAfter(p.uid, mountBusy)
		return nil
	}
	defer p.mu.Unlock()
	if p.gone || p.pod == nil {
		return nil
	}
	var errs []error
	for i := range p.pod.Spec.Volumes {
		v := &p.pod.Spec.Volumes[i]
		if !live(v) {
			continue
		}
		if _, err := m.setUp(ctx, p.pod, v); err != nil {
			m.report(p.pod, v.Name, err)
			errs = append(errs, fmt.Errorf("volume %q: %w", v.Name, err))
		}
	}
	return errors.Join(errs...)
}

// Mount makes the pod's volumes and returns the path of each on this machine. It may be called
// again at any time, and is after a restart: what is there is kept. An error names every volume
// that failed, of which the pod got a FailedMount event; IsPermanent tells those that no retry mends.
func (m *Manager) Mount(ctx context.Context, pod *corev1.Pod) (map[string]string, error) {
	if err := safeElement(string(pod.UID)); err != nil {
		return nil, fmt.Errorf("pod uid: %w", err)
	}
	if err := m.cfg.Host.Record(host.Change{Kind: host.Mounts, Name: filepath.Join(m.cfg.Root, "pods")}); err != nil {
		return nil, fmt.Errorf("record mounts: %w", err)
	}
	m.objects.Register(pod)
	m.mu.Lock()
	p := m.pods[pod.UID]
	if p == nil {
		p = &mounted{uid: pod.UID}
		m.pods[pod.UID] = p
	}
	m.mu.Unlock()

	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return nil, fmt.Errorf("pod %s/%s is being unmounted", pod.Namespace, pod.Name)
	}
	p.pod = pod
	paths := make(map[string]string, len(pod.Spec.Volumes))
	var errs []error
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Image != nil {
			continue // the runtime mounts it
		}
		path, err := m.setUp(ctx, pod, v)
		if err != nil {
			m.report(pod, v.Name, err)
			errs = append(errs, fmt.Errorf("MountVolume.SetUp failed for volume %q : %w", v.Name, err))
			continue
		}
		paths[v.Name] = path
	}
	return paths, errors.Join(errs...)
}

// Update tells of a newer version of a mounted pod (labels, annotations); its files follow soon.
func (m *Manager) Update(pod *corev1.Pod) {
	m.mu.Lock()
	p := m.pods[pod.UID]
	m.mu.Unlock()
	if p == nil {
		return
	}
	p.mu.Lock()
	p.pod = pod
	gone := p.gone
	p.mu.Unlock()
	if gone {
		return
	}
	m.objects.Register(pod)
	m.queue.Add(pod.UID)
}

// Unmount removes the pod's volumes, also of a pod that this process never mounted.
func (m *Manager) Unmount(ctx context.Context, uid types.UID) error {
	if err := safeElement(string(uid)); err != nil {
		return fmt.Errorf("pod uid: %w", err)
	}
	m.mu.Lock()
	p := m.pods[uid]
	m.mu.Unlock()
	if p != nil {
		p.mu.Lock()
		p.gone = true
		defer p.mu.Unlock()
	}
	if err := m.tearDown(ctx, uid); err != nil {
		if p != nil {
			p.gone = false
		}
		return err
	}
	m.mu.Lock()
	delete(m.pods, uid)
	m.mu.Unlock()
	m.objects.Unregister(uid)
	m.tokens.forget(uid)
	m.certificates.forget(uid)
	return nil
}

// Pods lists the pods of which there are folders, for the clean-up of those that are gone.
func (m *Manager) Pods() ([]types.UID, error) {
	entries, err := os.ReadDir(filepath.Join(m.cfg.Root, "pods"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list pod folders: %w", err)
	}
	out := make([]types.UID, 0, len(entries))
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, types.UID(e.Name()))
		}
	}
	return out, nil
}

// report tells the pod's owner what keeps a volume from working.
func (m *Manager) report(pod *corev1.Pod, volume string, err error) {
	if m.cfg.Recorder == nil || errors.Is(err, context.Canceled) {
		return
	}
	m.cfg.Recorder.Eventf(pod, corev1.EventTypeWarning, "FailedMount", "MountVolume.SetUp failed for volume %q : %v", volume, err)
}

// notFound says it as kubectl users know it, without the API group and server's words.
func notFound(kind, name string, err error) error {
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("%s %q not found", kind, name)
	}
	return err
}

// safeElement refuses what cannot be the name of one folder.
func safeElement(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%q cannot be a folder name", name)
	}
	return nil
}
