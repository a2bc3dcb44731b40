package job

import (
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func (s *state) ending() bool {
	return s.condition(batchv1.JobFailureTarget) || s.condition(batchv1.JobSuccessCriteriaMet)
}

func (s *state) succeeded() int32 {
	return s.status.Succeeded + int32(len(s.status.UncountedTerminatedPods.Succeeded))
}

func (s *state) failures() int32 {
	return s.status.Failed + int32(len(s.status.UncountedTerminatedPods.Failed))
}

// conclude decides whether the job has come to an end, and says so before its pods go.
func (s *state) conclude() {
	if s.ending() {
		return
	}
	fail := func(reason, message string) { s.set(batchv1.JobFailureTarget, corev1.ConditionTrue, reason, message) }
	met := func(reason, message string) {
		s.set(batchv1.JobSuccessCriteriaMet, corev1.ConditionTrue, reason, message)
	}
	spec := &s.j.Spec
	limit := value(spec.BackoffLimit)
	switch {
	case s.failJob != "":
		fail(batchv1.JobReasonPodFailurePolicy, s.failJob)
	case s.failures() > limit || s.restartedTooOften(limit):
		fail(batchv1.JobReasonBackoffLimitExceeded, "Job has reached the specified backoff limit")
	case s.deadline():
		fail(batchv1.JobReasonDeadlineExceeded, "Job was active longer than specified deadline")
	case spec.MaxFailedIndexes != nil && len(s.failed) > int(*spec.MaxFailedIndexes):
		fail(batchv1.JobReasonMaxFailedIndexesExceeded, "Job has exceeded the specified maximal number of failed indexes")
	case s.indexed && len(s.failed) > 0 && len(s.done)+len(s.failed) >= int(value(spec.Completions)):
		fail(batchv1.JobReasonFailedIndexes, "Job has failed indexes")
	case s.matched() >= 0:
		met(batchv1.JobReasonSuccessPolicy, fmt.Sprintf("Matched rules at index %d", s.matched()))
	case s.reached():
		met(batchv1.JobReasonCompletionsReached, "Reached expected number of succeeded pods")
	}
}

func (s *state) reached() bool {
	if n := s.j.Spec.Completions; n != nil {
		return s.succeeded() >= *n
	}
	return s.succeeded() > 0 && len(s.active) == 0 && len(s.terminating) == 0
}

func (s *state) restartedTooOften(limit int32) bool {
	if s.j.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyOnFailure {
		return false
	}
	n := restarts(s.active)
	return limit == 0 && n > 0 || limit > 0 && n >= limit
}

func (s *state) deadline() bool {
	if s.j.Spec.ActiveDeadlineSeconds == nil || s.status.StartTime == nil || value(s.j.Spec.Suspend) {
		return false
	}
	left := s.status.StartTime.Add(time.Duration(*s.j.Spec.ActiveDeadlineSeconds) * time.Second).Sub(s.now)
	if left > 0 {
		s.again(left)
	}
	return left <= 0
}

func (s *state) again(d time.Duration) {
	if s.p.wait == 0 || d < s.p.wait {
		s.p.wait = d
	}
}

// matched is the rule of the success policy that holds; -1: none.
func (s *state) matched() int {
	if s.j.Spec.SuccessPolicy == nil {
		return -1
	}
	for i, r := range s.j.Spec.SuccessPolicy.Rules {
		want := s.done
		n := len(s.done)
		if r.SucceededIndexes != nil {
			want = parseIndexes(*r.SucceededIndexes, int(value(s.j.Spec.Completions)))
			n = 0
			for k := range want {
				if s.done[k] {
					n++
				}
			}
		}
		if r.SucceededCount != nil && n >= int(*r.SucceededCount) || r.SucceededCount == nil && r.SucceededIndexes != nil && n == len(want) {
			return i
		}
	}
	return -1
}

// finish stops what still runs of a job at its end and, when nothing does and all is
// counted, makes the end final.
func (s *state) finish() {
	if !s.ending() {
		return
	}
	s.p.delete = s.active
	u := s.status.UncountedTerminatedPods
	if len(s.active)+len(s.terminating)+len(u.Failed)+len(u.Succeeded) > 0 || slices.ContainsFunc(s.all, tracked) {
		return
	}
	for _, c := range s.status.Conditions {
		switch {
		case c.Status != corev1.ConditionTrue:
		case c.Type == batchv1.JobFailureTarget:
			s.set(batchv1.JobFailed, corev1.ConditionTrue, c.Reason, c.Message)
			s.event(corev1.EventTypeWarning, c.Reason, c.Message)
		case c.Type == batchv1.JobSuccessCriteriaMet:
			s.set(batchv1.JobComplete, corev1.ConditionTrue, c.Reason, c.Message)
			s.event(corev1.EventTypeNormal, "Completed", "Job completed")
			now := metav1.NewTime(s.now)
			s.status.CompletionTime = &now
		}
	}
}
