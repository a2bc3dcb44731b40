// Package kubelet is the node agent: it makes a container runtime (CRI) run the pods that
// are bound to its node, tells the API server how they are, and keeps the node's own record.
//
// The one idea: one worker per pod asks the runtime what is, lets the pure package plan
// decide what is next, performs that in the background, and is woken by events alone: of
// the API, of the runtime, of probes and of timers. Stopping the agent never stops a
// container; starting it again adopts what runs.
//
// cluster/ wires it; it meets the rest of the system only through the API.
package kubelet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/proa-dev/proa/host"
	"github.com/proa-dev/proa/internal/informers"
	"github.com/proa-dev/proa/kubelet/cgroups"
	"github.com/proa-dev/proa/kubelet/cri"
	"github.com/proa-dev/proa/kubelet/logs"
	"github.com/proa-dev/proa/kubelet/node"
	"github.com/proa-dev/proa/kubelet/podspec"
	"github.com/proa-dev/proa/kubelet/probe"
)

// Volumes makes a pod's volumes. Mount may be called again for the same pod, also after a
// change of its metadata and after a restart of the agent; it answers the same places.
type Volumes interface {
	Mount(ctx context.Context, pod *corev1.Pod) (map[string]string, error)
	Unmount(ctx context.Context, podUID types.UID) error
}

// Images gets images onto the node and sends their events. Its errors begin with the reason
// that a container's status shows and ": ", such as "ImagePullBackOff: ...". It may have a
// method RetryAfter(pod, container) time.Duration: when the next try makes sense.
type Images interface {
	Ensure(ctx context.Context, pod *corev1.Pod, c *corev1.Container, sandbox *runtimeapi.PodSandboxConfig) (string, error)
}

// Config of a node agent. Everything is required unless told otherwise.
type Config struct {
	Client    kubernetes.Interface
	Pods      informers.Pods                  // of this node only
	Informers *informers.Factory              // for services
	Runtime   runtimeapi.RuntimeServiceClient // or Socket
	Images    runtimeapi.ImageServiceClient   // or Socket
	Exits     Exits                           // optional
	Socket    string                          // of the runtime; used when Runtime or Images is nil

	NodeName       string
	NodeIPs        []string // the first is the primary
	Root           string   // the agent's folder
	LogRoot        string   // of container logs; default /var/log/pods
	CgroupRoot     string   // such as "/proa/default/node1"; empty: the runtime's own choice
	ClusterDNS     []string
	ClusterDomain  string // default cluster.local
	ResolvConf     string // default /etc/resolv.conf
	SandboxHandler string // runtime handler of pods without a runtime class; default the runtime's
	MaxPods        int64  // default 110
	Labels         map[string]string
	Annotations    map[string]string // of the node
	Taints         []corev1.Taint
	ProviderID     string
	Cloud          bool                // see node.Config
	Port           int32               // of the agent's HTTP API; default 10250
	Version        string              // shown as kubeletVersion; default v1.37.1
	Reserved       corev1.ResourceList // not offered to pods; default: memory 100Mi
	Eviction       node.Thresholds     // zero: upstream's defaults

	Volumes  Volumes         // nil: pods with volumes fail to start
	Puller   Images          // nil: the image's name is handed to the runtime as it is
	Objects  podspec.Objects // nil: asked from the API server each time
	Host     host.Recorder   // default host.Discard
	Recorder record.EventRecorder
	Log      *slog.Logger
}

func (c *Config) defaults() error {
	if c.Client == nil || !c.Pods.Given() || c.Informers == nil || c.NodeName == "" || c.Root == "" || c.Log == nil || c.Recorder == nil {
		return errors.New("kubelet: Client, Pods, Informers, NodeName, Root, Log and Recorder are required")
	}
	if c.Socket == "" && (c.Runtime == nil || c.Images == nil) {
		return errors.New("kubelet: a runtime is required: Socket, or Runtime and Images")
	}
	orText(&c.LogRoot, sharedLogs)
	orText(&c.ClusterDomain, "cluster.local")
	orText(&c.Version, "v1.37.1")
	if c.MaxPods == 0 {
		c.MaxPods = 110
	}
	if c.Port == 0 {
		c.Port = 10250
	}
	if c.Host == nil {
		c.Host = host.Discard
	}
	if c.Objects == nil {
		c.Objects = direct{c.Client}
	}
	return nil
}

func orText(s *string, or string) {
	if *s == "" {
		*s = or
	}
}

// Kubelet is a node agent.
type Kubelet struct {
	counted  atomic.Bool // the pods that were there at the start are all known
	cfg      Config
	log      *slog.Logger
	conn     *grpc.ClientConn
	reader   *cri.Reader
	groups   *cgroups.Groups
	prober   *probe.Prober
	statuses *statusWriter
	logs     *logs.Rotator
	node     *node.Node
	counters *counters
	place    podspec.Node
	services corelisters.ServiceLister
	synced   []cache.InformerSynced
	ready    chan struct{}

	allocation sync.Mutex // one promise of resources at a time; taken before any worker's mu

	mu       sync.Mutex
	workers  map[types.UID]*worker
	ctx      context.Context // of Run, for workers
	running  sync.WaitGroup
	slots    chan struct{} // bounds how many sandboxes are made at the same time
	ownsLogs bool          // LogRoot is this agent's alone
	runtime  string        // the runtime's name, prefix of container ids
}

// sharedLogs is where other agents of the machine may keep logs too; what is left there is not swept.
const sharedLogs = "/var/log/pods"

// bringUps is how many sandboxes are made at the same time; images and containers are not held up by it.
const bringUps = 32

// New registers the agent's informers and checks its configuration; it starts nothing.
func New(cfg Config) (*Kubelet, error) {
	if err := cfg.defaults(); err != nil {
		return nil, err
	}
	k := &Kubelet{cfg: cfg, log: cfg.Log, workers: map[types.UID]*worker{}, ready: make(chan struct{}),
		slots: make(chan struct{}, bringUps), runtime: "containerd", counters: newCounters()}
	if cfg.Runtime == nil || cfg.Images == nil {
		conn, err := cri.Dial(cfg.Socket)
		if err != nil {
			return nil, err
		}
		k.conn = conn
		k.cfg.Runtime, k.cfg.Images = runtimeapi.NewRuntimeServiceClient(conn), runtimeapi.NewImageServiceClient(conn)
	}
	if err := k.build(); err != nil {
		return nil, err
	}
	cfg.Informers.Core().V1().Nodes().Informer() // of the node's record
	services := cfg.Informers.Core().V1().Services()
	k.services = services.Lister()
	k.synced = []cache.InformerSynced{services.Informer().HasSynced, cfg.Pods.Informer().HasSynced}
	return k, nil
}

func (k *Kubelet) build() error {
	cfg := &k.cfg
	k.ownsLogs = cfg.LogRoot != sharedLogs
	if cfg.CgroupRoot != "" {
		g, err := cgroups.New(cgroups.Config{Root: cfg.CgroupRoot, Log: k.log})
		if err != nil {
			return fmt.Errorf("set up cgroups: %w", err)
		}
		k.groups = g
	}
	k.reader = &cri.Reader{Runtime: cfg.Runtime, Log: k.log, Lost: func() { k.node.Look() }}
	k.statuses = newStatusWriter(cfg.Client, k.log)
	k.prober = probe.New(probe.Config{Tester: &probe.Handlers{Runtime: cfg.Runtime}, Changed: k.poke, Log: k.log, Restart: true,
		Event: func(t *probe.Target, reason, message string) {
			k.event(t.Pod, t.Container.Name, corev1.EventTypeWarning, reason, message)
		}})
	rotator, err := k.rotator()
	if err != nil {
		return err
	}
	k.logs = rotator
	n, err := node.New(node.Config{Client: cfg.Client, Nodes: cfg.Informers.Core().V1().Nodes(), Runtime: cfg.Runtime, Images: cfg.Images, Name: cfg.NodeName, IPs: cfg.NodeIPs,
		Root: cfg.Root, MaxPods: cfg.MaxPods, Labels: cfg.Labels, Annotations: cfg.Annotations, Taints: cfg.Taints, ProviderID: cfg.ProviderID, Cloud: cfg.Cloud, Port: cfg.Port, Version: cfg.Version,
		Reserved: cfg.Reserved, Thresholds: cfg.Eviction, Recorder: cfg.Recorder, Log: k.log, Pressure: k.relieve})
	if err != nil {
		return err
	}
	k.node = n
	k.place = podspec.Node{Name: cfg.NodeName, IPs: cfg.NodeIPs, ClusterDNS: cfg.ClusterDNS, ClusterDomain: cfg.ClusterDomain,
		ResolvConf: cfg.ResolvConf, LogRoot: cfg.LogRoot, Capacity: n.Allocatable(), Memory: n.Memory()}
	return nil
}

// Ready is closed once the agent has adopted what runs and the API server knows the node as ready.
func (k *Kubelet) Ready() <-chan struct{} { return k.ready }

// Run works until ctx ends. It leaves every container running.
func (k *Kubelet) Run(ctx context.Context) error {
	if k.conn != nil {
		defer k.conn.Close()
	}
	group, ctx := errgroup.WithContext(ctx)
	k.ctx = ctx
	group.Go(func() error { return k.node.Run(ctx) }) // registers while informers fill
	if !cache.WaitForCacheSync(ctx.Done(), k.synced...) {
		return group.Wait()
	}
	group.Go(func() error { return k.prober.Run(ctx) })
	group.Go(func() error { return k.statuses.run(ctx) })
	if err := k.learnRuntime(ctx); err != nil {
		return errors.Join(err, group.Wait())
	}
	handle, err := k.cfg.Pods.Informer().AddEventHandler(k.handler())
	if err != nil {
		return fmt.Errorf("watch pods: %w", err)
	}
	if cache.WaitForCacheSync(ctx.Done(), handle.HasSynced) {
		k.counted.Store(true)
		k.retryResizes()
		k.adopt(ctx)
		group.Go(func() error { k.reader.Watch(ctx, k.look, func() { k.lookAll(); k.node.Look() }); return nil })
		group.Go(func() error { return k.announce(ctx) })
		if k.cfg.Exits != nil {
			group.Go(func() error { return k.watchExits(ctx) })
		}
		group.Go(func() error { return k.logs.Run(ctx) })
		group.Go(func() error { return k.limitStorage(ctx) })
	}
	err = group.Wait() // ends with ctx; workers follow it
	k.running.Wait()
	return errors.Join(err, k.cfg.Pods.Informer().RemoveEventHandler(handle))
}

func (k *Kubelet) announce(ctx context.Context) error {
	select {
	case <-k.node.Ready():
		close(k.ready)
	case <-ctx.Done():
	}
	return nil
}

// learnRuntime waits for the runtime to answer.
func (k *Kubelet) learnRuntime(ctx context.Context) error {
	const wait = 50 * time.Millisecond
	for ctx.Err() == nil {
		v, err := k.cfg.Runtime.Version(ctx, &runtimeapi.VersionRequest{}, grpc.WaitForReady(true))
		if err == nil {
			k.runtime = v.RuntimeName
			return nil
		}
		k.log.Warn("the runtime does not answer yet", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return nil
}

func (k *Kubelet) handler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { k.update(obj) },
		UpdateFunc: func(_, obj any) { k.update(obj) },
		DeleteFunc: func(obj any) {
			if unknown, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = unknown.Obj
			}
			if pod, ok := obj.(*corev1.Pod); ok {
				k.removed(pod)
			}
		},
	}
}

func (k *Kubelet) update(obj any) {
	pod, ok := obj.(*corev1.Pod)
	if !ok || pod.Spec.NodeName != k.cfg.NodeName {
		return
	}
	k.mu.Lock()
	w := k.workers[pod.UID]
	if w == nil {
		w = k.add(pod)
	}
	k.mu.Unlock()
	w.update(pod)
}

// add makes a worker; with mu held.
func (k *Kubelet) add(pod *corev1.Pod) *worker {
	w := newWorker(k, pod)
	k.start(w)
	return w
}

// start runs a worker until its pod is gone; with mu held.
func (k *Kubelet) start(w *worker) {
	k.workers[w.uid] = w
	k.running.Go(func() {
		w.run(k.ctx)
		if k.ctx.Err() != nil {
			return // the agent goes, and the pod keeps what it takes of the node
		}
		k.mu.Lock()
		delete(k.workers, w.uid)
		k.mu.Unlock()
		k.retryResizes()
	})
}

func (k *Kubelet) removed(pod *corev1.Pod) {
	if w := k.worker(pod.UID); w != nil {
		w.remove(pod)
	}
}

func (k *Kubelet) worker(uid types.UID) *worker {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.workers[uid]
}

// poke wakes a pod's worker: something that it remembers changed.
func (k *Kubelet) poke(uid types.UID) {
	if w := k.worker(uid); w != nil {
		w.poke()
	}
}

// look makes a pod's worker ask the runtime again.
func (k *Kubelet) look(uid types.UID) {
	if w := k.worker(uid); w != nil {
		w.look()
	}
}

func (k *Kubelet) lookAll() {
	for _, w := range k.all() {
		w.look()
	}
}

func (k *Kubelet) all() []*worker {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := make([]*worker, 0, len(k.workers))
	for _, w := range k.workers {
		out = append(out, w)
	}
	return out
}

// event reports something about a pod, or about one of its containers when it is named.
func (k *Kubelet) event(pod *corev1.Pod, container, kind, reason, message string) {
	ref := &corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name,
		UID: pod.UID, ResourceVersion: pod.ResourceVersion, FieldPath: fieldPath(pod, container)}
	k.cfg.Recorder.Event(ref, kind, reason, message)
}

func fieldPath(pod *corev1.Pod, container string) string {
	if container == "" {
		return ""
	}
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == container {
			return "spec.initContainers{" + container + "}"
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if pod.Spec.EphemeralContainers[i].Name == container {
			return "spec.ephemeralContainers{" + container + "}"
		}
	}
	return "spec.containers{" + container + "}"
}
