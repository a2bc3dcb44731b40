package replicaset

import (
	"errors"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/proa-dev/proa/controllers/loop"
)

func newStatus(rs *appsv1.ReplicaSet, pods []*corev1.Pod, terminating int32, failure error, now time.Time) appsv1.ReplicaSetStatus {
	status := *rs.Status.DeepCopy()
	status.Replicas, status.FullyLabeledReplicas, status.ReadyReplicas, status.AvailableReplicas = int32(len(pods)), 0, 0, 0
	status.TerminatingReplicas = &terminating
	template := labels.SelectorFromSet(rs.Spec.Template.Labels)
	for _, pod := range pods {
		if template.Matches(labels.Set(pod.Labels)) {
			status.FullyLabeledReplicas++
		}
		since, ready := loop.ReadySince(pod)
		if !ready {
			continue
		}
		status.ReadyReplicas++
		if !since.Add(time.Duration(rs.Spec.MinReadySeconds) * time.Second).After(now) {
			status.AvailableReplicas++
		}
	}
	status.ObservedGeneration = rs.Generation
	status.Conditions = withFailure(status.Conditions, failure, now)
	return status
}

// withFailure sets or clears the condition ReplicaFailure.
func withFailure(conditions []appsv1.ReplicaSetCondition, failure error, now time.Time) []appsv1.ReplicaSetCondition {
	var kept []appsv1.ReplicaSetCondition
	had := false
	for _, c := range conditions {
		if c.Type != appsv1.ReplicaSetReplicaFailure {
			kept = append(kept, c)
		} else if failure != nil {
			had = true
			kept = append(kept, c) // the first failure is kept until it is over
		}
	}
	if failure == nil || had {
		return kept
	}
	reason := "FailedCreate"
	var onDelete failedDelete
	if errors.As(failure, &onDelete) {
		reason = "FailedDelete"
	}
	return append(kept, appsv1.ReplicaSetCondition{
		Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue, Reason: reason,
		Message: failure.Error(), LastTransitionTime: metav1.NewTime(now),
	})
}
