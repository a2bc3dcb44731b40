package kubelet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/proa-dev/proa/host"
	"github.com/proa-dev/proa/kubelet/cgroups"
	"github.com/proa-dev/proa/kubelet/plan"
	"github.com/proa-dev/proa/kubelet/podspec"
)

// Keys in the table of failures beside container names.
const (
	sandboxKey = ""
	volumesKey = "/volumes"
)

// Waits before a failed start is tried again.
const (
	startRetry       = 10 * time.Second
	sandboxRetry     = time.Second
	sandboxRetryMost = 10 * time.Second
	volumeRetry      = 500 * time.Millisecond
	volumeRetryMost  = 2 * time.Minute
)

// bringUp makes what a plan asks for: images, volumes and sandbox at the same time, then
// the containers in order.
func (w *worker) bringUp(ctx context.Context, pod *corev1.Pod, p plan.Plan) {
	began := time.Now()
	defer func() { w.k.counters.create.Observe(time.Since(began).Seconds()) }()
	if p.CreateSandbox && p.Attempt > 0 {
		w.k.event(pod, "", corev1.EventTypeNormal, "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
	}
	if p.StopSandbox {
		w.dropSandboxes(ctx)
	}
	cfg, err := w.prepare(pod, p.Attempt)
	if err != nil {
		w.sandboxFailed(ctx, pod, err)
		return
	}
	images := w.pull(ctx, pod, p.Starts, cfg)
	defer images.Wait()
	mounted := make(chan *imageVolumes, 1)
	go func() { mounted <- w.pullVolumes(ctx, pod, p.CreateSandbox, cfg) }()
	mounts := make(chan error, 1)
	go func() { mounts <- w.mount(ctx, pod) }()
	id, ips, err := w.sandbox(ctx, pod, p.CreateSandbox, cfg)
	mountErr, volumes := <-mounts, <-mounted
	if err != nil {
		w.sandboxFailed(ctx, pod, err)
		return
	}
	if mountErr != nil {
		w.volumesFailed(ctx, pod, p.Starts, mountErr)
		return
	}
	w.succeeded(sandboxKey)
	w.succeeded(volumesKey)
	for i := range p.Starts {
		s, asked := &p.Starts[i], time.Now()
		err := images.image(ctx, i)
		w.waited(asked)
		if err == nil {
			err = volumes.missing(s.Container)
		}
		if err != nil {
			w.startFailed(ctx, pod, s, err)
			continue
		}
		err = w.start(ctx, &starting{Start: s, pod: pod, sandbox: id, config: cfg, ips: ips, image: images.ref(i)})
		w.k.counters.started(s, err)
		if err != nil {
			w.startFailed(ctx, pod, s, err)
			if s.Init {
				return
			}
			continue
		}
		w.succeeded(s.Container.Name)
	}
}

// enter waits for a place among the sandboxes that are made at the same time.
func (k *Kubelet) enter(ctx context.Context) bool {
	select {
	case k.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// networkReady waits for the node to be ready once: before, the runtime has no network for pods.
func (k *Kubelet) networkReady(ctx context.Context) bool {
	select {
	case <-k.node.Ready():
		return true
	case <-ctx.Done():
		return false
	}
}

func (k *Kubelet) leave() { <-k.slots }

// prepare makes what must be there before the sandbox: the pod's cgroup and folders.
func (w *worker) prepare(pod *corev1.Pod, attempt uint32) (*runtimeapi.PodSandboxConfig, error) {
	cgroup := ""
	if w.k.groups != nil {
		class := podspec.Class(pod)
		err := w.k.cfg.Host.Record(host.Change{Kind: host.Cgroup, Name: w.k.cfg.CgroupRoot})
		if err != nil {
			return nil, fmt.Errorf("record cgroup: %w", err)
		}
		limits := cgroups.ForPod(pod, class)
		began := time.Now()
		cgroup, err = w.k.groups.Ensure(pod.UID, class, limits)
		w.k.counters.groupMade.Observe(time.Since(began).Seconds())
		if err != nil {
			return nil, err
		}
		w.mu.Lock()
		w.applied = limits
		w.mu.Unlock()
	}
	for _, dir := range []string{podspec.LogDir(w.k.cfg.LogRoot, pod), w.dir()} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return nil, fmt.Errorf("make the pod's folder: %w", err)
		}
	}
	return podspec.Sandbox(pod, &w.k.place, cgroup, attempt)
}

// dir is the pod's folder on this node.
func (w *worker) dir() string { return filepath.Join(w.k.cfg.Root, "pods", string(w.uid)) }

// sandbox makes the sandbox, or finds the present one.
func (w *worker) sandbox(ctx context.Context, pod *corev1.Pod, create bool, cfg *runtimeapi.PodSandboxConfig) (string, []string, error) {
	if !create {
		w.mu.Lock()
		defer w.mu.Unlock()
		if s := w.observed.Sandbox(); s != nil {
			cfg.Metadata.Attempt = s.Attempt
			return s.ID, podIPs(pod, w.observed, w.k.cfg.NodeIPs), nil
		}
		return "", nil, errors.New("the sandbox is gone")
	}
	handler, err := w.handler(ctx, pod)
	if err != nil {
		return "", nil, err
	}
	if pod.Spec.HostUsers != nil && !*pod.Spec.HostUsers {
		return "", nil, fmt.Errorf("runtime handler %q does not support user namespaces", handler)
	}
	if !pod.Spec.HostNetwork && !w.k.networkReady(ctx) || !w.k.enter(ctx) {
		return "", nil, ctx.Err()
	}
	defer w.k.leave()
	made, err := w.k.cfg.Runtime.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: cfg, RuntimeHandler: handler})
	if err != nil {
		w.k.counters.podErrors.Inc()
		return "", nil, fmt.Errorf("failed to create sandbox for pod %q: %w", pod.Name+"_"+pod.Namespace+"("+string(pod.UID)+")", err)
	}
	w.k.counters.pods.Inc()
	seen, err := w.k.reader.Pod(ctx, w.uid, nil)
	if err != nil {
		return "", nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.observed = seen
	return made.PodSandboxId, podIPs(pod, seen, w.k.cfg.NodeIPs), nil
}

func (w *worker) handler(ctx context.Context, pod *corev1.Pod) (string, error) {
	if pod.Spec.RuntimeClassName == nil || *pod.Spec.RuntimeClassName == "" {
		return w.k.cfg.SandboxHandler, nil
	}
	class, err := w.k.cfg.Client.NodeV1().RuntimeClasses().Get(ctx, *pod.Spec.RuntimeClassName, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("find runtime class %s: %w", *pod.Spec.RuntimeClassName, err)
	}
	return class.Handler, nil
}

// dropSandboxes ends everything of sandboxes that are of no use any more.
func (w *worker) dropSandboxes(ctx context.Context) {
	w.mu.Lock()
	seen := w.observed
	w.mu.Unlock()
	for i := range seen.Containers {
		if c := &seen.Containers[i]; c.State == plan.Running {
			w.stop(ctx, c.ID, minGrace)
		}
	}
	for i := range seen.Sandboxes {
		if _, err := w.k.cfg.Runtime.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: seen.Sandboxes[i].ID}); err != nil {
			w.k.log.Warn("stop sandbox", "pod", w.name(), "error", err)
		}
	}
}

// mount makes the pod's volumes when they are not made, or may have changed.
func (w *worker) mount(ctx context.Context, pod *corev1.Pod) error {
	key := mountKey(pod)
	w.mu.Lock()
	have := w.mounted
	w.mu.Unlock()
	if have == key {
		return nil
	}
	var places map[string]string
	if len(pod.Spec.Volumes) > 0 {
		if w.k.cfg.Volumes == nil {
			return errors.New("this node has no volumes")
		}
		if err := w.k.cfg.Host.Record(host.Change{Kind: host.Mounts, Name: filepath.Join(w.k.cfg.Root, "pods")}); err != nil {
			return fmt.Errorf("record mounts: %w", err)
		}
		var err error
		began := time.Now()
		places, err = w.k.cfg.Volumes.Mount(ctx, pod)
		w.k.counters.mounted.since(began, err)
		if err != nil {
			return err
		}
	}
	w.mu.Lock()
	w.volumes, w.mounted = places, key
	w.mu.Unlock()
	return nil
}

// pulls are the images of containers about to start, gotten at the same time.
type pulls struct {
	sync.WaitGroup
	done []chan struct{}
	refs []string
	errs []error
}

func (w *worker) pull(ctx context.Context, pod *corev1.Pod, starts []plan.Start, cfg *runtimeapi.PodSandboxConfig) *pulls {
	p := &pulls{done: make([]chan struct{}, len(starts)), refs: make([]string, len(starts)), errs: make([]error, len(starts))}
	for i := range starts {
		p.done[i] = make(chan struct{})
		p.Go(func() {
			defer close(p.done[i])
			p.refs[i] = starts[i].Container.Image
			if w.k.cfg.Puller != nil {
				p.refs[i], p.errs[i] = w.k.cfg.Puller.Ensure(ctx, pod, starts[i].Container, cfg)
				w.k.node.ImagesChanged()
			}
		})
	}
	return p
}

func (p *pulls) image(ctx context.Context, i int) error {
	select {
	case <-p.done[i]:
		return p.errs[i]
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pulls) ref(i int) string { return p.refs[i] }

func (w *worker) succeeded(key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.failures, key)
	delete(w.tries, key)
}

// failed notes a failure and when it is tried again: first, doubling, up to most.
func (w *worker) failed(key string, f plan.Failure, first, most time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	wait := first << min(w.tries[key], 10)
	w.tries[key]++
	f.Retry = time.Now().Add(min(wait, most))
	w.failures[key] = f
}

func (w *worker) sandboxFailed(ctx context.Context, pod *corev1.Pod, err error) {
	if ctx.Err() != nil {
		return
	}
	w.k.event(pod, "", corev1.EventTypeWarning, "FailedCreatePodSandBox", "Failed to create pod sandbox: "+err.Error())
	w.k.log.Warn("create sandbox", "pod", w.name(), "error", err)
	w.failed(sandboxKey, plan.Failure{}, sandboxRetry, sandboxRetryMost)
}

func (w *worker) volumesFailed(ctx context.Context, pod *corev1.Pod, starts []plan.Start, err error) {
	if ctx.Err() != nil {
		return
	}
	w.k.log.Warn("mount volumes", "pod", w.name(), "error", err)
	w.failed(volumesKey, plan.Failure{}, volumeRetry, volumeRetryMost)
	for i := range starts {
		w.failed(starts[i].Container.Name, plan.Failure{}, volumeRetry, volumeRetryMost)
	}
}

// reasoned is an error that names the waiting reason which users know.
type reasoned struct {
	reason string
	error
}

func (r reasoned) Reason() string { return r.reason }
func (r reasoned) Unwrap() error  { return r.error }

func (w *worker) startFailed(ctx context.Context, pod *corev1.Pod, s *plan.Start, err error) {
	if ctx.Err() != nil {
		return
	}
	f := failure(err)
	wait := startRetry
	if again, ok := w.k.cfg.Puller.(interface {
		RetryAfter(*corev1.Pod, *corev1.Container) time.Duration
	}); ok && imageReasons[f.Reason] {
		if d := again.RetryAfter(pod, s.Container); d > 0 {
			wait = d
		}
	}
	text := "Error: " + err.Error()
	if imageReasons[f.Reason] {
		text = "Error: " + f.Reason // what happened, Images has told already
	}
	w.k.event(pod, s.Container.Name, corev1.EventTypeWarning, "Failed", text)
	w.k.log.Info("start container", "pod", w.name(), "container", s.Container.Name, "reason", f.Reason, "error", err)
	w.failed(s.Container.Name, f, wait, wait)
	w.poke()
}

// imageReasons are the failures that Images reports itself.
var imageReasons = map[string]bool{"ErrImagePull": true, "ImagePullBackOff": true, "ErrImageNeverPull": true,
	"InvalidImageName": true, "ImageInspectError": true, "RegistryUnavailable": true, "SignatureValidationFailed": true}

// failure reads why a start failed: by the error's Reason, or by the "Reason: message" that Images writes.
func failure(err error) plan.Failure {
	var r interface{ Reason() string }
	if errors.As(err, &r) {
		return plan.Failure{Reason: r.Reason(), Message: err.Error()}
	}
	if reason, message, ok := strings.Cut(err.Error(), ": "); ok && imageReasons[reason] {
		return plan.Failure{Reason: reason, Message: message}
	}
	return plan.Failure{Reason: "ErrImagePull", Message: err.Error()}
}
