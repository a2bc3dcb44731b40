package scheduler

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// bind writes a decision. When it cannot be written, the pod is counted out and tried again.
func (s *Scheduler) bind(ctx context.Context, e *queued, p *placement, node string) {
	if p.volumes != nil && p.volumes.chosen != nil {
		s.writers.Go(func() { s.bindVolumes(ctx, e, p, node) }) // may take minutes: holds no token
		return
	}
	s.bindPod(ctx, e, p, node)
}

func (s *Scheduler) bindPod(ctx context.Context, e *queued, p *placement, node string) {
	binding := &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.pod.Namespace, Name: p.pod.Name, UID: p.pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node},
	}
	err := s.client.CoreV1().Pods(p.pod.Namespace).Bind(ctx, binding, metav1.CreateOptions{})
	if err == nil {
		s.queue.remove(p.pod.UID)
		s.metrics.ended(scheduled, e.began)
		s.metrics.placed(e.attempts, s.now().Sub(e.since))
		s.recorder.Eventf(p.pod, corev1.EventTypeNormal, "Scheduled", "Successfully assigned %s/%s to %s", p.pod.Namespace, p.pod.Name, node)
		return
	}
	s.notBound(ctx, e, p, node, fmt.Errorf("bind pod: %w", err))
}

// notBound counts a pod out again and has it tried later.
func (s *Scheduler) notBound(ctx context.Context, e *queued, p *placement, node string, err error) {
	s.mu.Lock()
	s.forget(p)
	s.mu.Unlock()
	if _, gone := s.pods.Pods(p.pod.Namespace).Get(p.pod.Name); apierrors.IsNotFound(err) && gone != nil {
		s.queue.remove(p.pod.UID) // deleted meanwhile
	} else if ctx.Err() == nil {
		s.log.Warn("bind pod", "pod", p.pod.Namespace+"/"+p.pod.Name, "node", node, "err", err)
		s.recorder.Event(p.pod, corev1.EventTypeWarning, "FailedScheduling", clipped(err.Error()))
		s.metrics.ended(failed, e.began)
		s.queue.again(e)
	}
	s.left(node)
}

// forget counts a pod out whose binding failed, unless another's binding came through.
func (s *Scheduler) forget(p *placement) {
	s.state.volumes.release(p)
	if now, err := s.pods.Pods(p.pod.Namespace).Get(p.pod.Name); err == nil && now.UID == p.pod.UID && now.Spec.NodeName != "" {
		s.state.addPod(now, now.Spec.NodeName)
		return
	}
	s.state.removePod(p.pod.UID)
}

// outcome is what is to be written about a pod that no node takes.
type outcome struct {
	pod     *corev1.Pod
	text    string
	failure failure
	evict   *candidate
	nominee string // the node that the pod waits for
}

// refusal decides what becomes of a pod that no node takes. The state is locked.
func (s *Scheduler) refusal(p *placement, d decision) outcome {
	o := outcome{pod: p.pod, failure: failureOf(p, d.why), nominee: s.state.nominated.nodeFor(p.pod)}
	preemption := ""
	if d.total > 0 {
		var read []budget
		if s.state.mayPreempt(p, d.why) {
			read = readBudgets(s.allBudgets())
		}
		o.evict, preemption, o.nominee = s.state.preempt(p, d.why, read, s.rnd)
		if o.nominee != "" {
			s.state.nominate(p.pod, o.nominee)
			o.failure.wakes |= podLeft
		} else {
			s.state.unnominate(p.pod.UID)
		}
	}
	o.text = d.message(preemption)
	return o
}

// refuse tells the pod's owner why it waits, an event and the condition PodScheduled, and
// evicts others when that will help.
func (s *Scheduler) refuse(ctx context.Context, e *queued, o outcome) {
	s.recorder.Event(o.pod, corev1.EventTypeWarning, "FailedScheduling", clipped(o.text))
	err := s.tell(ctx, o)
	if err == nil && o.evict != nil {
		err = s.evict(ctx, o.pod, o.evict)
	}
	if err == nil || apierrors.IsNotFound(err) {
		s.metrics.ended(unschedulable, e.began)
		s.queue.failed(e, o.failure)
		return
	}
	if ctx.Err() != nil {
		return
	}
	s.log.Warn("say why a pod waits", "pod", o.pod.Namespace+"/"+o.pod.Name, "err", err)
	if o.evict != nil {
		s.unnominate(o.pod)
	}
	s.queue.again(e)
}

// tell writes the condition and the nomination, if they are not there already.
func (s *Scheduler) tell(ctx context.Context, o outcome) error {
	status := map[string]any{}
	said := false
	for _, c := range o.pod.Status.Conditions {
		said = said || c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse &&
			c.Reason == corev1.PodReasonUnschedulable && c.Message == o.text
	}
	if !said {
		status["conditions"] = []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable,
			Message: o.text, LastTransitionTime: metav1.NewTime(s.now()), ObservedGeneration: o.pod.Generation,
		}}
	}
	if o.nominee != o.pod.Status.NominatedNodeName {
		status["nominatedNodeName"] = o.nominee
	}
	if len(status) == 0 {
		return nil
	}
	return s.patchStatus(ctx, o.pod, status)
}

func (s *Scheduler) patchStatus(ctx context.Context, pod *corev1.Pod, status map[string]any) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": status})
	if err != nil {
		return fmt.Errorf("encode status patch: %w", err)
	}
	_, err = s.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return fmt.Errorf("patch pod status: %w", err)
	}
	return nil
}

// clipped keeps an event's text within what the API takes.
func clipped(text string) string {
	const most, rest = 1024, " ..."
	if len(text) <= most {
		return text
	}
	return text[:most-len(rest)] + rest
}
