package scheduler

import (
	"context"
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// bind writes a decision. When it cannot be written, the pod is counted out and tried again.
func (s *Scheduler) bind(ctx context.Context, pod *corev1.Pod, node string) {
	binding := &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node},
	}
	err := s.client.CoreV1().Pods(pod.Namespace).Bind(ctx, binding, metav1.CreateOptions{})
	if err == nil {
		s.recorder.Eventf(pod, corev1.EventTypeNormal, "Scheduled", "Successfully assigned %s/%s to %s", pod.Namespace, pod.Name, node)
		return
	}
	s.mu.Lock()
	s.forget(pod)
	s.mu.Unlock()
	if apierrors.IsNotFound(err) {
		s.queue.remove(pod.UID) // deleted meanwhile
		return
	}
	if ctx.Err() == nil {
		s.log.Warn("bind pod", "pod", pod.Namespace+"/"+pod.Name, "node", node, "err", err)
		s.queue.again(pod)
	}
}

// forget counts a pod out whose binding failed, unless another's binding came through.
func (s *Scheduler) forget(pod *corev1.Pod) {
	if now, err := s.pods.Pods(pod.Namespace).Get(pod.Name); err == nil && now.UID == pod.UID && now.Spec.NodeName != "" {
		s.state.addPod(now, now.Spec.NodeName)
		return
	}
	s.state.removePod(pod.UID)
}

// refused tells the pod's owner why it waits: an event, and the condition PodScheduled.
func (s *Scheduler) refused(ctx context.Context, pod *corev1.Pod, d decision) {
	text := d.message()
	s.recorder.Event(pod, corev1.EventTypeWarning, "FailedScheduling", text)
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable && c.Message == text {
			return // said already
		}
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": map[string]any{"conditions": []corev1.PodCondition{{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable,
		Message: text, LastTransitionTime: metav1.Now(), ObservedGeneration: pod.Generation,
	}}}})
	if err == nil {
		_, err = s.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	}
	if err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
		s.log.Warn("say why a pod waits", "pod", pod.Namespace+"/"+pod.Name, "err", err)
	}
}

// spreadSelector selects the pods that belong together with this one, by the services
// that select it and the ReplicaSet that owns it; nil for none.
func (s *Scheduler) spreadSelector(pod *corev1.Pod) labels.Selector {
	if len(pod.Spec.TopologySpreadConstraints) > 0 {
		return nil
	}
	merged := labels.Set{}
	services, err := s.services.Services(pod.Namespace).List(labels.Everything())
	if err != nil {
		services = nil // the cache answers; it has no errors to give
	}
	for _, svc := range services {
		if len(svc.Spec.Selector) > 0 && labels.SelectorFromSet(svc.Spec.Selector).Matches(labels.Set(pod.Labels)) {
			merged = labels.Merge(merged, svc.Spec.Selector)
		}
	}
	selector := labels.NewSelector()
	if len(merged) > 0 {
		selector = labels.SelectorFromSet(merged)
	}
	if owner := metav1.GetControllerOf(pod); owner != nil && owner.Kind == "ReplicaSet" {
		if rs, err := s.replicas.ReplicaSets(pod.Namespace).Get(owner.Name); err == nil {
			if own, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector); err == nil {
				if more, selectable := own.Requirements(); selectable {
					selector = selector.Add(more...)
				}
			}
		}
	}
	if selector.Empty() {
		return nil
	}
	return selector
}
