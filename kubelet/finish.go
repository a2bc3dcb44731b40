package kubelet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/proa-dev/proa/kubelet/cri"
	"github.com/proa-dev/proa/kubelet/plan"
	"github.com/proa-dev/proa/kubelet/podspec"
	"github.com/proa-dev/proa/kubelet/probe"
)

// ending is a pod on its way out: first its containers, then what the node holds for it,
// then, once its deletion was asked for, every trace of it.
type ending struct {
	job     *job
	until   time.Time // end of the grace period that runs
	stopped bool
	freed   bool // volumes and cgroup are gone
	traces  bool // sandboxes and containers are removed
	asked   bool // the API server was asked to drop the pod
}

// finish takes one step towards the end of the pod; over: nothing of it is left.
func (w *worker) finish(ctx context.Context, pod *corev1.Pod, gone bool) (next time.Time, over bool) {
	if w.ending == nil {
		w.beginEnding(pod)
	}
	e := w.ending
	if !e.stopped {
		return w.stopAll(ctx, pod, gone)
	}
	if e.job.running() {
		return time.Time{}, false
	}
	w.show(pod, nil, true)
	doomed := gone || pod.DeletionTimestamp != nil
	if !e.freed || (doomed && !e.traces) {
		if err := w.free(ctx, pod, doomed); err != nil {
			w.k.log.Warn("clean up pod", "pod", w.name(), "error", err)
			return time.Now().Add(lookAgain), false
		}
		e.freed, e.traces = true, doomed
	}
	if gone {
		return w.forget(pod)
	}
	if doomed && !e.asked {
		w.k.statuses.drop(pod, w.status)
		e.asked = true
	}
	return time.Time{}, false
}

// beginEnding stops everything that would start something.
func (w *worker) beginEnding(pod *corev1.Pod) {
	w.ending = &ending{}
	for _, j := range w.jobs() {
		j.cancel()
		<-j.done
	}
	w.bringing, w.killing, w.size.job = nil, map[string]*job{}, nil
	w.mu.Lock()
	w.stale = true
	seen := w.observed
	w.mu.Unlock()
	for i := range seen.Containers {
		w.k.prober.Remove(seen.Containers[i].ID, probe.Liveness, probe.Startup)
	}
	w.poke()
}

// stopAll ends the containers within the grace period, and sooner when it is cut short.
func (w *worker) stopAll(ctx context.Context, pod *corev1.Pod, gone bool) (time.Time, bool) {
	e := w.ending
	grace := w.graceOf(pod, gone)
	switch {
	case e.job == nil:
		if err := w.refresh(ctx); err != nil {
			return time.Now().Add(lookAgain), false
		}
		w.beginStop(ctx, pod, grace)
	case e.job.running():
		if time.Now().Add(grace).Before(e.until) {
			e.job.cancel()
			<-e.job.done
			w.beginStop(ctx, pod, grace)
		}
	case w.live():
		w.k.log.Warn("containers still run after they were stopped", "pod", w.name())
		w.beginStop(ctx, pod, grace)
		return time.Now().Add(lookAgain), false
	default:
		e.stopped = true
		w.poke()
		return time.Time{}, false
	}
	// The end of a pod whose containers have ended is told before its sandbox is taken down.
	w.show(pod, nil, w.done && !w.containersLive())
	return time.Time{}, false
}

func (w *worker) containersLive() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.observed.Live()
}

func (w *worker) refresh(ctx context.Context) error {
	w.mu.Lock()
	w.stale = true
	w.mu.Unlock()
	return w.observe(ctx)
}

func (w *worker) live() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.observed.Live() || w.observed.Sandbox() != nil && anyReady(w.observed)
}

func anyReady(o *plan.Observed) bool {
	for i := range o.Sandboxes {
		if o.Sandboxes[i].Ready {
			return true
		}
	}
	return false
}

func (w *worker) beginStop(ctx context.Context, pod *corev1.Pod, grace time.Duration) {
	w.ending.until = time.Now().Add(grace)
	w.ending.job = w.begin(ctx, func(ctx context.Context) { w.endAll(ctx, pod, grace) })
}

// graceOf is how long the pod's containers get: at least a second.
func (w *worker) graceOf(pod *corev1.Pod, gone bool) time.Duration {
	w.mu.Lock()
	own, orphan := w.grace, w.orphan
	w.mu.Unlock()
	grace := podGrace(pod)
	switch {
	case pod.DeletionGracePeriodSeconds != nil:
		grace = time.Duration(*pod.DeletionGracePeriodSeconds) * time.Second
	case own != nil:
		grace = time.Duration(*own) * time.Second
	}
	if gone && !orphan {
		grace = min(grace, minGrace) // deleted by force: nobody waits for it
	}
	return max(grace, time.Second)
}

// free gives back what the node holds for a pod whose containers have ended; all: also the
// sandboxes and containers themselves, so that nothing tells of it any more.
func (w *worker) free(ctx context.Context, pod *corev1.Pod, all bool) error {
	w.mu.Lock()
	seen := w.observed
	w.mu.Unlock()
	for i := range seen.Containers {
		w.k.prober.Remove(seen.Containers[i].ID)
	}
	if all {
		for i := range seen.Sandboxes {
			_, err := w.k.cfg.Runtime.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: seen.Sandboxes[i].ID})
			if err != nil && !cri.IsNotFound(err) {
				return fmt.Errorf("remove sandbox: %w", err)
			}
		}
	}
	return w.k.release(ctx, pod)
}

// release unmounts a pod's volumes and removes its cgroup and folder.
func (k *Kubelet) release(ctx context.Context, pod *corev1.Pod) error {
	dir := (&worker{k: k, uid: pod.UID}).dir()
	err := dropSubPaths(dir)
	if k.cfg.Volumes != nil {
		began := time.Now()
		failed := k.cfg.Volumes.Unmount(ctx, pod.UID)
		if len(pod.Spec.Volumes) > 0 {
			k.counters.unmounted.since(began, failed)
		}
		err = errors.Join(err, failed)
	}
	if k.groups != nil {
		began := time.Now()
		err = errors.Join(err, k.groups.Remove(ctx, pod.UID))
		k.counters.groupRemoved.Observe(time.Since(began).Seconds())
	}
	if err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// forget removes the last traces of a pod that the API server does not have.
func (w *worker) forget(pod *corev1.Pod) (time.Time, bool) {
	w.k.statuses.forget(w.uid)
	if pod.Name == "" {
		return time.Time{}, true
	}
	if err := os.RemoveAll(podspec.LogDir(w.k.cfg.LogRoot, pod)); err != nil {
		w.k.log.Warn("remove logs", "pod", w.name(), "error", err)
	}
	return time.Time{}, true
}
