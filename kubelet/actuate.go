package kubelet

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/proa-dev/proa/kubelet/cgroups"
	"github.com/proa-dev/proa/kubelet/plan"
	"github.com/proa-dev/proa/kubelet/podspec"
	"github.com/proa-dev/proa/kubelet/resize"
)

// resizeRetry is the wait before a change of resources that did not work is tried again.
const resizeRetry = 10 * time.Second

// change is one container whose resources are to change while it runs.
type change struct {
	container *corev1.Container
	id        string
	have      corev1.ResourceRequirements
}

// actuate brings the containers that run to what the node has promised the pod, and answers
// when to try again after a failure. Only a pod of which something was resized costs anything.
func (w *worker) actuate(ctx context.Context, pod *corev1.Pod) time.Time {
	w.mu.Lock()
	begun, retry := w.size.progress != nil || w.size.saved, w.size.retry
	w.mu.Unlock()
	if !begun || w.size.job.running() {
		return time.Time{}
	}
	if time.Now().Before(retry) {
		return retry
	}
	updates, restarts := w.changes(pod)
	for _, r := range restarts {
		w.kill(ctx, pod, plan.Kill{Container: r.container, ID: r.id, Name: r.container.Name,
			Message: fmt.Sprintf("Container %s resize requires restart", r.container.Name)})
	}
	groupWrong := w.k.groups != nil && w.applied != w.limits(pod)
	switch {
	case len(updates) > 0 || groupWrong && len(restarts) == 0:
		w.size.job = w.begin(ctx, func(ctx context.Context) { w.resized(pod, w.change(ctx, pod, updates)) })
	case len(restarts) == 0 && len(w.killing) == 0 && w.allRun(pod):
		w.completed(pod)
	}
	return time.Time{}
}

// limits of the pod's cgroup.
func (w *worker) limits(pod *corev1.Pod) cgroups.Limits {
	return cgroups.ForPod(pod, podspec.Class(pod))
}

// changes lists the running containers that have not what was promised.
func (w *worker) changes(pod *corev1.Pod) (updates, restarts []change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			c := &list[i]
			seen := w.observed.Newest(c.Name)
			if seen == nil || seen.State != plan.Running {
				continue
			}
			have, known := w.size.record.Actuated[w.fullID(seen.ID)]
			if !known {
				have = c.Resources
				w.size.record.Actuated[w.fullID(seen.ID)] = have
			}
			switch resize.Compare(c, have, c.Resources) {
			case resize.Update:
				updates = append(updates, change{c, seen.ID, have})
			case resize.Restart:
				restarts = append(restarts, change{c, seen.ID, have})
				if _, dead := w.dead[seen.ID]; !dead {
					w.dead[seen.ID] = "resize"
				}
			}
		}
	}
	return updates, restarts
}

// allRun tells whether every container that is to run does, so that nothing waits for a restart.
func (w *worker) allRun(pod *corev1.Pod) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range pod.Spec.Containers {
		seen := w.observed.Newest(pod.Spec.Containers[i].Name)
		if seen == nil || seen.State == plan.Exited && w.dead[seen.ID] == "resize" || seen.State == plan.Created {
			return false
		}
	}
	return true
}

// change changes containers inside a pod's group that is wide enough for before and after,
// then the group to what it is to be.
func (w *worker) change(ctx context.Context, pod *corev1.Pod, list []change) error {
	limits := w.limits(pod)
	if err := w.roomFor(ctx, pod, list); err != nil {
		return err
	}
	if w.k.groups != nil {
		if err := w.group(pod, cgroups.Wider(w.applied, limits)); err != nil {
			return err
		}
	}
	for _, c := range list {
		_, err := w.k.cfg.Runtime.UpdateContainerResources(ctx, &runtimeapi.UpdateContainerResourcesRequest{
			ContainerId: c.id, Linux: podspec.Resources(pod, c.container, w.k.place.Memory)})
		if err != nil {
			return fmt.Errorf("failed to update container %s: %w", c.container.Name, err)
		}
		w.mu.Lock()
		w.size.record.Actuated[w.fullID(c.id)] = c.container.Resources
		w.mu.Unlock()
	}
	if w.k.groups != nil {
		return w.group(pod, limits)
	}
	return nil
}

func (w *worker) group(pod *corev1.Pod, l cgroups.Limits) error {
	if _, err := w.k.groups.Ensure(pod.UID, podspec.Class(pod), l); err != nil {
		return err
	}
	w.mu.Lock()
	w.applied = l
	w.mu.Unlock()
	return nil
}

// roomFor refuses a memory limit below what a container uses now: the kernel would kill it.
func (w *worker) roomFor(ctx context.Context, pod *corev1.Pod, list []change) error {
	for _, c := range list {
		want := c.container.Resources.Limits.Memory().Value()
		if had := c.have.Limits.Memory().Value(); want == 0 || had != 0 && want >= had {
			continue
		}
		got, err := w.k.cfg.Runtime.ContainerStats(ctx, &runtimeapi.ContainerStatsRequest{ContainerId: c.id})
		if err != nil {
			return fmt.Errorf("ask what container %s uses: %w", c.container.Name, err)
		}
		if used := got.GetStats().GetMemory().GetUsageBytes().GetValue(); used > uint64(want) {
			return fmt.Errorf("attempting to set container %q memory limit (%d) below current usage (%d)", c.container.Name, want, used)
		}
	}
	return nil
}

// resized notes how a change went.
func (w *worker) resized(pod *corev1.Pod, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if saveErr := w.saveRecord(); saveErr != nil {
		w.k.log.Warn("keep the pod's resources", "uid", w.uid, "error", saveErr)
	}
	if err == nil {
		w.size.retry = time.Time{}
		return
	}
	w.size.retry = time.Now().Add(resizeRetry)
	old := w.size.progress
	w.size.progress = resizeCondition(corev1.PodResizeInProgress, pod.Generation, corev1.PodReasonError, err.Error())
	if old == nil || old.Message != err.Error() {
		w.k.event(pod, "", corev1.EventTypeWarning, "ResizeError", resizeMessage(pod, "Pod resize error", err.Error()))
	}
}

// completed ends the progress of a resize: all that was promised is in force.
func (w *worker) completed(pod *corev1.Pod) {
	w.mu.Lock()
	was := w.size.progress
	w.size.progress = nil
	w.mu.Unlock()
	if was == nil {
		return
	}
	w.k.event(pod, "", corev1.EventTypeNormal, "ResizeCompleted", resizeMessage(pod, "Pod resize completed", ""))
	w.k.running.Go(w.k.retryResizes) // what it gave back others may have
}

// actuated are the resources in force for a container that runs, nil when they are those
// that were promised; with mu held.
func (w *worker) actuated(id string) *corev1.ResourceRequirements {
	if w.size.record == nil {
		return nil
	}
	if have, ok := w.size.record.Actuated[w.fullID(id)]; ok {
		return &have
	}
	return nil
}
