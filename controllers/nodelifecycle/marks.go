package nodelifecycle

import (
	"context"
	"encoding/json"
	"errors"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/proa-dev/proa/controllers/loop"
)

// markPods takes the pods of an unreachable node out of service: nobody else can say that
// they are not ready.
func (c *Controller) markPods(ctx context.Context, node *corev1.Node) error {
	ready := condition(node, corev1.NodeReady)
	if ready == nil || ready.Status != corev1.ConditionUnknown {
		delete(c.marked, node.Name)
		return nil
	}
	if c.marked[node.Name] {
		return nil
	}
	var problems []error
	for _, pod := range c.podsOf(node.Name) {
		problems = append(problems, c.markPod(ctx, pod))
	}
	err := errors.Join(problems...)
	if err == nil {
		c.marked[node.Name] = true
	}
	return err
}

func (c *Controller) markPod(ctx context.Context, pod *corev1.Pod) error {
	for i := range pod.Status.Conditions {
		was := pod.Status.Conditions[i]
		if was.Type != corev1.PodReady || was.Status != corev1.ConditionTrue {
			continue
		}
		was.Status, was.LastTransitionTime = corev1.ConditionFalse, metav1.NewTime(c.deps.Clock.Now())
		if err := patchPodConditions(ctx, c.deps, pod, was); err != nil {
			return loop.Gone(err)
		}
		c.recorder.Event(pod, corev1.EventTypeWarning, "NodeNotReady", "Node is not ready")
	}
	return nil
}

// patchPodConditions sets conditions of a pod, and leaves the others.
func patchPodConditions(ctx context.Context, deps loop.Deps, pod *corev1.Pod, conditions ...corev1.PodCondition) error {
	body, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID},
		"status":   map[string]any{"conditions": conditions},
	})
	if err != nil {
		return err
	}
	_, err = deps.Client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, body, metav1.PatchOptions{}, "status")
	return err
}
