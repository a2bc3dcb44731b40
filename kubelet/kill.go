package kubelet

import (
	"context"
	"errors"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/proa-dev/proa/kubelet/cri"
	"github.com/proa-dev/proa/kubelet/plan"
	"github.com/proa-dev/proa/kubelet/probe"
)

// minGrace is what a container gets to end at least, in seconds, when its own grace period is used up.
const minGrace = 2 * time.Second

// kill ends one container of a pod that lives on.
func (w *worker) kill(ctx context.Context, pod *corev1.Pod, k plan.Kill) {
	if w.killing[k.ID].running() {
		return
	}
	grace := podGrace(pod)
	if own := w.probeGrace(k); own != nil {
		grace = time.Duration(*own) * time.Second
	}
	w.killing[k.ID] = w.begin(ctx, func(ctx context.Context) {
		began := time.Now()
		w.endContainer(ctx, pod, k.Container, k.ID, k.Message, max(grace, minGrace))
		w.k.counters.kill.Observe(time.Since(began).Seconds())
		w.k.prober.Remove(k.ID)
	})
}

// probeGrace is the grace period of the probe that condemned a container, when it has its own.
func (w *worker) probeGrace(k plan.Kill) *int64 {
	if k.Container == nil {
		return nil
	}
	if p := k.Container.LivenessProbe; p != nil && w.k.prober.Verdict(k.ID, probe.Liveness) == probe.Failure {
		return p.TerminationGracePeriodSeconds
	}
	if p := k.Container.StartupProbe; p != nil && w.k.prober.Verdict(k.ID, probe.Startup) == probe.Failure {
		return p.TerminationGracePeriodSeconds
	}
	return nil
}

func podGrace(pod *corev1.Pod) time.Duration {
	if g := pod.Spec.TerminationGracePeriodSeconds; g != nil {
		return time.Duration(*g) * time.Second
	}
	return 30 * time.Second
}

// endContainer runs the pre-stop hook within the grace period and stops the container with what is left of it.
func (w *worker) endContainer(ctx context.Context, pod *corev1.Pod, c *corev1.Container, id, message string, grace time.Duration) {
	if c != nil {
		if message == "" {
			message = "Stopping container " + c.Name
		}
		w.k.event(pod, c.Name, corev1.EventTypeNormal, "Killing", message)
	}
	began := time.Now()
	if c != nil && c.Lifecycle != nil && c.Lifecycle.PreStop != nil && grace > 0 {
		w.preStop(ctx, pod, c, id, grace)
	}
	left := grace - time.Since(began)
	w.stop(ctx, id, max(left, min(grace, minGrace)))
}

func (w *worker) preStop(ctx context.Context, pod *corev1.Pod, c *corev1.Container, id string, grace time.Duration) {
	within, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	w.mu.Lock()
	ip := firstOf(podIPs(pod, w.observed, w.k.cfg.NodeIPs))
	w.mu.Unlock()
	err := w.hook(within, c.Lifecycle.PreStop, c, id, ip)
	if err != nil && ctx.Err() == nil && !errors.Is(within.Err(), context.DeadlineExceeded) {
		w.k.event(pod, c.Name, corev1.EventTypeWarning, "FailedPreStopHook", "PreStopHook failed")
	}
}

// stop stops a container within grace, rounded up to whole seconds.
func (w *worker) stop(ctx context.Context, id string, grace time.Duration) {
	secs := int64((grace + time.Second - 1) / time.Second)
	_, err := w.k.cfg.Runtime.StopContainer(ctx, &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: secs})
	if err != nil && !cri.IsNotFound(err) && ctx.Err() == nil {
		w.k.log.Warn("stop container", "pod", w.name(), "container", id, "error", err)
	}
}

// endAll ends every container of the pod: its own at the same time, then its sidecars, the
// last one first; then the sandboxes.
func (w *worker) endAll(ctx context.Context, pod *corev1.Pod, grace time.Duration) {
	w.mu.Lock()
	seen := w.observed
	w.mu.Unlock()
	until := time.Now().Add(grace)
	var all sync.WaitGroup
	for i := range seen.Containers {
		c := &seen.Containers[i]
		if ofSpec := specOf(pod, c.Name); live(c) && (ofSpec == nil || !plan.Sidecar(ofSpec)) {
			all.Go(func() { w.endContainer(ctx, pod, ofSpec, c.ID, "", grace) })
		}
	}
	all.Wait()
	for i := len(pod.Spec.InitContainers) - 1; i >= 0; i-- {
		c := &pod.Spec.InitContainers[i]
		if s := seen.Newest(c.Name); s != nil && live(s) && plan.Sidecar(c) {
			w.endContainer(ctx, pod, c, s.ID, "", max(time.Until(until), min(grace, minGrace)))
		}
	}
	for i := range seen.Sandboxes {
		s := &seen.Sandboxes[i]
		if _, err := w.k.cfg.Runtime.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: s.ID}); err != nil && !cri.IsNotFound(err) && ctx.Err() == nil {
			w.k.log.Warn("stop sandbox", "pod", w.name(), "sandbox", s.ID, "error", err)
		}
	}
}

func live(c *plan.Container) bool { return c.State == plan.Running || c.State == plan.Unknown }

// specOf finds a container of any sort in a pod's spec, nil when it has none of that name.
func specOf(pod *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if pod.Spec.EphemeralContainers[i].Name == name {
			c := corev1.Container(pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
			return &c
		}
	}
	return nil
}
