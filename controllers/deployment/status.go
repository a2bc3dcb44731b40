package deployment

import (
	"fmt"
	"math"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Reasons of the condition Progressing.
const (
	reasonCreated     = "NewReplicaSetCreated"
	reasonFound       = "FoundNewReplicaSet"
	reasonUpdated     = "ReplicaSetUpdated"
	reasonDone        = "NewReplicaSetAvailable"
	reasonTimedOut    = "ProgressDeadlineExceeded"
	reasonPaused      = "DeploymentPaused"
	reasonResumed     = "DeploymentResumed"
	reasonCreateError = "ReplicaSetCreateError"
)

// count is the status that the sets make, with the condition Available; the other
// conditions are those there were.
func count(d *appsv1.Deployment, sets []*appsv1.ReplicaSet, current *appsv1.ReplicaSet, now time.Time) appsv1.DeploymentStatus {
	s := *d.Status.DeepCopy()
	s.ObservedGeneration = d.Generation
	s.Replicas, s.AvailableReplicas = total(sets, running), total(sets, available)
	s.ReadyReplicas = total(sets, func(rs *appsv1.ReplicaSet) int32 { return rs.Status.ReadyReplicas })
	s.UpdatedReplicas = total([]*appsv1.ReplicaSet{current}, running)
	s.UnavailableReplicas = max(0, total(sets, wish)-s.AvailableReplicas)
	terminating := total(sets, func(rs *appsv1.ReplicaSet) int32 { return deref(rs.Status.TerminatingReplicas) })
	s.TerminatingReplicas = &terminating
	_, unavailable := room(d)
	if s.AvailableReplicas >= wanted(d)-unavailable {
		setCondition(&s, now, appsv1.DeploymentAvailable, corev1.ConditionTrue, "MinimumReplicasAvailable", "Deployment has minimum availability.")
	} else {
		setCondition(&s, now, appsv1.DeploymentAvailable, corev1.ConditionFalse, "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
	}
	return s
}

func condition(s *appsv1.DeploymentStatus, kind appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	for i := range s.Conditions {
		if s.Conditions[i].Type == kind {
			return &s.Conditions[i]
		}
	}
	return nil
}

// setCondition leaves a condition of the same status and reason as it is.
func setCondition(s *appsv1.DeploymentStatus, now time.Time, kind appsv1.DeploymentConditionType, status corev1.ConditionStatus, reason, message string) {
	was := condition(s, kind)
	if was != nil && was.Status == status && was.Reason == reason {
		return
	}
	c := appsv1.DeploymentCondition{Type: kind, Status: status, Reason: reason, Message: message,
		LastUpdateTime: metav1.NewTime(now), LastTransitionTime: metav1.NewTime(now)}
	if was != nil && was.Status == status {
		c.LastTransitionTime = was.LastTransitionTime
	}
	dropCondition(s, kind)
	s.Conditions = append(s.Conditions, c)
}

func dropCondition(s *appsv1.DeploymentStatus, kind appsv1.DeploymentConditionType) {
	s.Conditions = slices.DeleteFunc(s.Conditions, func(c appsv1.DeploymentCondition) bool { return c.Type == kind })
}

func hasDeadline(d *appsv1.Deployment) bool {
	return d.Spec.ProgressDeadlineSeconds != nil && *d.Spec.ProgressDeadlineSeconds != math.MaxInt32
}

func complete(d *appsv1.Deployment, s *appsv1.DeploymentStatus) bool {
	return s.UpdatedReplicas == wanted(d) && s.Replicas == wanted(d) && s.AvailableReplicas == wanted(d) && s.ObservedGeneration >= d.Generation
}

// moved says whether the roll-out came nearer to its end since the status written last.
func moved(was, s *appsv1.DeploymentStatus) bool {
	return s.UpdatedReplicas > was.UpdatedReplicas || s.Replicas-s.UpdatedReplicas < was.Replicas-was.UpdatedReplicas ||
		s.ReadyReplicas > was.ReadyReplicas || s.AvailableReplicas > was.AvailableReplicas
}

// progress sets the conditions Progressing and ReplicaFailure.
func progress(d *appsv1.Deployment, s *appsv1.DeploymentStatus, sets []*appsv1.ReplicaSet, current *appsv1.ReplicaSet, now time.Time) {
	const kind = appsv1.DeploymentProgressing
	if !hasDeadline(d) {
		dropCondition(s, kind)
	}
	was := condition(s, kind)
	done := s.Replicas == s.UpdatedReplicas && was != nil && was.Reason == reasonDone
	if hasDeadline(d) && !done {
		name := fmt.Sprintf("Deployment %q", d.Name)
		if current != nil {
			name = fmt.Sprintf("ReplicaSet %q", current.Name)
		}
		switch {
		case complete(d, s):
			setCondition(s, now, kind, corev1.ConditionTrue, reasonDone, name+" has successfully progressed.")
		case moved(&d.Status, s):
			since := metav1.NewTime(now)
			if was != nil && was.Status == corev1.ConditionTrue {
				since = was.LastTransitionTime
			}
			dropCondition(s, kind) // so that the time of the update is that of this step
			setCondition(s, now, kind, corev1.ConditionTrue, reasonUpdated, name+" is progressing.")
			condition(s, kind).LastTransitionTime = since
		case timedOut(d, s, now):
			setCondition(s, now, kind, corev1.ConditionFalse, reasonTimedOut, name+" has timed out progressing.")
		}
	}
	fail(s, sets, current)
}

// fail shows the first failure of a set to make pods, the new set's before others'.
func fail(s *appsv1.DeploymentStatus, sets []*appsv1.ReplicaSet, current *appsv1.ReplicaSet) {
	dropped := condition(s, appsv1.DeploymentReplicaFailure)
	for _, rs := range append([]*appsv1.ReplicaSet{current}, sets...) {
		if rs == nil {
			continue
		}
		for _, c := range rs.Status.Conditions {
			if c.Type != appsv1.ReplicaSetReplicaFailure {
				continue
			}
			if dropped != nil && dropped.Status == c.Status && dropped.Reason == c.Reason {
				return
			}
			dropCondition(s, appsv1.DeploymentReplicaFailure)
			s.Conditions = append(s.Conditions, appsv1.DeploymentCondition{
				Type: appsv1.DeploymentReplicaFailure, Status: c.Status, Reason: c.Reason, Message: c.Message,
				LastTransitionTime: c.LastTransitionTime, LastUpdateTime: c.LastTransitionTime,
			})
			return
		}
	}
	dropCondition(s, appsv1.DeploymentReplicaFailure)
}

// deadline is when a roll-out that does not move is given up.
func deadline(d *appsv1.Deployment, c *appsv1.DeploymentCondition) time.Time {
	return c.LastUpdateTime.Add(time.Duration(*d.Spec.ProgressDeadlineSeconds) * time.Second)
}

func timedOut(d *appsv1.Deployment, s *appsv1.DeploymentStatus, now time.Time) bool {
	c := condition(s, appsv1.DeploymentProgressing)
	if c == nil || c.Reason == reasonDone {
		return false
	}
	return c.Reason == reasonTimedOut || deadline(d, c).Before(now)
}

// untilDeadline is how long to wait before looking whether the roll-out is stuck; 0: no need.
func untilDeadline(d *appsv1.Deployment, s *appsv1.DeploymentStatus, now time.Time) time.Duration {
	c := condition(s, appsv1.DeploymentProgressing)
	if !hasDeadline(d) || c == nil || c.Reason == reasonDone || c.Reason == reasonTimedOut || d.Spec.Paused {
		return 0
	}
	return max(0, deadline(d, c).Sub(now)) + time.Second
}

// pause shows that a deployment was paused or resumed, which stops and restarts its deadline.
func pause(d *appsv1.Deployment, s *appsv1.DeploymentStatus, now time.Time) {
	c := condition(s, appsv1.DeploymentProgressing)
	if !hasDeadline(d) || c != nil && c.Reason == reasonTimedOut {
		return
	}
	paused := c != nil && c.Reason == reasonPaused
	if d.Spec.Paused && !paused {
		setCondition(s, now, appsv1.DeploymentProgressing, corev1.ConditionUnknown, reasonPaused, "Deployment is paused")
	} else if !d.Spec.Paused && paused {
		setCondition(s, now, appsv1.DeploymentProgressing, corev1.ConditionUnknown, reasonResumed, "Deployment is resumed")
	}
}
