package job

import (
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// judge applies the failure policy to a failed pod: what to do (Count when no rule
// matches) and, for FailJob, why.
func judge(j *batchv1.Job, pod *corev1.Pod) (batchv1.PodFailurePolicyAction, string) {
	if j.Spec.PodFailurePolicy == nil {
		return batchv1.PodFailurePolicyActionCount, ""
	}
	for i, rule := range j.Spec.PodFailurePolicy.Rules {
		if on := rule.OnExitCodes; on != nil {
			if name, code, found := exited(pod, on); found {
				return rule.Action, fmt.Sprintf("Container %s for pod %s/%s failed with exit code %d matching %s rule at index %d", name, pod.Namespace, pod.Name, code, rule.Action, i)
			}
		}
		for _, want := range rule.OnPodConditions {
			if slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == want.Type && c.Status == want.Status }) {
				return rule.Action, fmt.Sprintf("Pod %s/%s has condition %s matching %s rule at index %d", pod.Namespace, pod.Name, want.Type, rule.Action, i)
			}
		}
	}
	return batchv1.PodFailurePolicyActionCount, ""
}

// exited finds the container whose exit code meets the requirement.
func exited(pod *corev1.Pod, on *batchv1.PodFailurePolicyOnExitCodesRequirement) (name string, code int32, found bool) {
	for _, s := range append(slices.Clone(pod.Status.ContainerStatuses), pod.Status.InitContainerStatuses...) {
		end := s.State.Terminated
		if end == nil || end.ExitCode == 0 || on.ContainerName != nil && *on.ContainerName != s.Name {
			continue
		}
		if slices.Contains(on.Values, end.ExitCode) == (on.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn) {
			return s.Name, end.ExitCode, true
		}
	}
	return "", 0, false
}

// ended is when a pod came to its end, as its containers say.
func ended(pod *corev1.Pod) time.Time {
	var last time.Time
	for _, s := range pod.Status.ContainerStatuses {
		if t := s.State.Terminated; t != nil && t.FinishedAt.After(last) {
			last = t.FinishedAt.Time
		}
	}
	if last.IsZero() && pod.DeletionTimestamp != nil {
		last = pod.DeletionTimestamp.Time
	}
	if last.IsZero() {
		last = pod.CreationTimestamp.Time
	}
	return last
}

// Waits before a failed pod is replaced; each further failure in a row doubles them.
const (
	firstBackoff = 10 * time.Second
	mostBackoff  = 10 * time.Minute
)

// backoff is how long the next pod has to wait after failures with no success since.
func backoff(pods []*corev1.Pod, now time.Time) time.Duration {
	var success, last time.Time
	for _, p := range pods {
		if p.Status.Phase == corev1.PodSucceeded && ended(p).After(success) {
			success = ended(p)
		}
	}
	failures := 0
	for _, p := range pods {
		if at := ended(p); p.Status.Phase == corev1.PodFailed && at.After(success) {
			failures++
			if at.After(last) {
				last = at
			}
		}
	}
	if failures == 0 {
		return 0
	}
	wait := mostBackoff
	if failures < 8 {
		wait = min(firstBackoff<<(failures-1), mostBackoff)
	}
	return max(last.Add(wait).Sub(now), 0)
}

func restarts(pods []*corev1.Pod) (n int32) {
	for _, p := range pods {
		for _, s := range append(slices.Clone(p.Status.ContainerStatuses), p.Status.InitContainerStatuses...) {
			n += s.RestartCount
		}
	}
	return n
}
