package job

import (
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/proa-dev/proa/controllers/loop"
)

// plan is what to do about a job: the status to write first; then, it being written, the
// pods to let go of (finalizer), to delete and to make.
type plan struct {
	status batchv1.JobStatus
	free   []*corev1.Pod // their end is in the status
	delete []*corev1.Pod
	create []newPod
	wait   time.Duration // look again after; 0: events suffice
	events []event
}

type newPod struct {
	index    int // -1: the job has no indexes
	failures int // of the index, before
}

type event struct{ kind, reason, message string }

// state is a job with its pods sorted by what they are to it.
type state struct {
	j            *batchv1.Job
	now          time.Time
	indexed      bool
	all          []*corev1.Pod
	active       []*corev1.Pod
	terminating  []*corev1.Pod
	done, failed indexes
	status       *batchv1.JobStatus
	failJob      string // why the failure policy ends the job
	p            plan
}

// decide is the pure core.
func decide(j *batchv1.Job, pods []*corev1.Pod, now time.Time) plan {
	s := &state{j: j, now: now, indexed: value(j.Spec.CompletionMode) == batchv1.IndexedCompletion, all: pods}
	s.p.status = *j.Status.DeepCopy()
	s.status = &s.p.status
	limit := int(value(j.Spec.Completions))
	s.done = parseIndexes(s.status.CompletedIndexes, limit)
	s.failed = indexes{}
	if f := s.status.FailedIndexes; f != nil {
		s.failed = parseIndexes(*f, limit)
	}
	s.sort()
	if s.condition(batchv1.JobComplete) || s.condition(batchv1.JobFailed) {
		s.over()
		return s.p
	}
	s.count()
	s.start()
	s.conclude()
	s.finish()
	if !s.ending() {
		s.scale()
	}
	s.numbers()
	return s.p
}

func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

func tracked(pod *corev1.Pod) bool {
	return slices.Contains(pod.Finalizers, batchv1.JobTrackingFinalizer)
}

func (s *state) sort() {
	for _, pod := range s.all {
		switch {
		case loop.Ended(pod):
		case pod.DeletionTimestamp != nil:
			s.terminating = append(s.terminating, pod)
		default:
			s.active = append(s.active, pod)
		}
	}
}

// over lets go of the pods of a finished job and waits for its time to live.
func (s *state) over() {
	for _, pod := range s.all {
		if tracked(pod) {
			s.p.free = append(s.p.free, pod)
		}
	}
}

// count moves ended pods into the numbers, each once: first its UID is written down, then
// it loses its finalizer, then, seen without, it is counted.
func (s *state) count() {
	u := s.status.UncountedTerminatedPods
	if u == nil {
		u = &batchv1.UncountedTerminatedPods{}
		s.status.UncountedTerminatedPods = u
	}
	held := map[types.UID]bool{}
	for _, pod := range s.all {
		held[pod.UID] = tracked(pod)
	}
	settle := func(list []types.UID, n *int32) []types.UID {
		return slices.DeleteFunc(list, func(uid types.UID) bool {
			if !held[uid] {
				*n++
			}
			return !held[uid]
		})
	}
	u.Succeeded, u.Failed = settle(u.Succeeded, &s.status.Succeeded), settle(u.Failed, &s.status.Failed)
	for _, pod := range s.all {
		if tracked(pod) {
			s.countPod(u, pod)
		}
	}
	if s.indexed {
		s.status.CompletedIndexes = s.done.String()
		s.status.Succeeded = int32(len(s.done))
		if s.j.Spec.BackoffLimitPerIndex != nil {
			text := s.failed.String()
			s.status.FailedIndexes = &text
		}
	}
}

func (s *state) countPod(u *batchv1.UncountedTerminatedPods, pod *corev1.Pod) {
	lost := pod.DeletionTimestamp != nil && !loop.Ended(pod) && value(s.j.Spec.PodReplacementPolicy) != batchv1.Failed
	index := indexOf(pod)
	switch {
	case pod.Status.Phase == corev1.PodSucceeded:
		if !s.indexed {
			u.Succeeded = add(u.Succeeded, pod.UID)
		} else if index >= 0 && index < int(value(s.j.Spec.Completions)) {
			s.done[index] = true
		}
	case pod.Status.Phase == corev1.PodFailed || lost:
		action, why := batchv1.PodFailurePolicyActionCount, ""
		if !lost {
			action, why = judge(s.j, pod)
		}
		if action == batchv1.PodFailurePolicyActionFailJob && s.failJob == "" {
			s.failJob = why
		}
		if limit := s.j.Spec.BackoffLimitPerIndex; limit != nil && index >= 0 && !s.done[index] && !s.failed[index] {
			if action == batchv1.PodFailurePolicyActionFailIndex || action != batchv1.PodFailurePolicyActionIgnore && failures(pod) >= int(*limit) {
				s.failed[index] = true
			} else if !s.replaced(pod, index) && !s.ending() {
				return // it carries the count of the index's failures until the next pod does
			}
		}
		if action != batchv1.PodFailurePolicyActionIgnore {
			u.Failed = add(u.Failed, pod.UID)
		}
	default:
		return
	}
	s.p.free = append(s.p.free, pod)
}

// replaced says whether a younger pod has taken over the index of a failed one.
func (s *state) replaced(pod *corev1.Pod, index int) bool {
	return slices.ContainsFunc(s.all, func(p *corev1.Pod) bool {
		return p.UID != pod.UID && indexOf(p) == index && (p.CreationTimestamp.After(pod.CreationTimestamp.Time) || failures(p) > failures(pod))
	})
}

func add(list []types.UID, uid types.UID) []types.UID {
	if slices.Contains(list, uid) {
		return list
	}
	return append(list, uid)
}

func indexOf(pod *corev1.Pod) int {
	n, err := strconv.Atoi(pod.Annotations[batchv1.JobCompletionIndexAnnotation])
	if err != nil {
		return -1
	}
	return n
}

func failures(pod *corev1.Pod) int {
	n, err := strconv.Atoi(pod.Annotations[batchv1.JobIndexFailureCountAnnotation])
	if err != nil {
		return 0
	}
	return n
}

// start notes when the job began, anew each time it is resumed.
func (s *state) start() {
	suspended := value(s.j.Spec.Suspend)
	now := metav1.NewTime(s.now)
	if s.status.StartTime == nil && !suspended {
		s.status.StartTime = &now
	}
	switch was := s.condition(batchv1.JobSuspended); {
	case s.ending():
	case suspended && !was:
		s.set(batchv1.JobSuspended, corev1.ConditionTrue, "JobSuspended", "Job suspended")
		s.event(corev1.EventTypeNormal, "Suspended", "Job suspended")
	case suspended:
		s.status.StartTime = nil
	case was:
		s.set(batchv1.JobSuspended, corev1.ConditionFalse, "JobResumed", "Job resumed")
		s.event(corev1.EventTypeNormal, "Resumed", "Job resumed")
		s.status.StartTime = &now
	}
	if suspended && !s.ending() && s.condition(batchv1.JobSuspended) {
		s.status.StartTime = nil
	}
}

func (s *state) event(kind, reason, message string) {
	s.p.events = append(s.p.events, event{kind, reason, message})
}

func (s *state) condition(t batchv1.JobConditionType) bool {
	return slices.ContainsFunc(s.p.status.Conditions, func(c batchv1.JobCondition) bool { return c.Type == t && c.Status == corev1.ConditionTrue })
}

func (s *state) set(t batchv1.JobConditionType, status corev1.ConditionStatus, reason, message string) {
	now := metav1.NewTime(s.now)
	next := batchv1.JobCondition{Type: t, Status: status, Reason: reason, Message: message, LastProbeTime: now, LastTransitionTime: now}
	for i, c := range s.status.Conditions {
		if c.Type == t {
			s.status.Conditions[i] = next
			return
		}
	}
	s.status.Conditions = append(s.status.Conditions, next)
}

func (s *state) numbers() {
	ready := int32(0)
	for _, pod := range s.active {
		if _, ok := loop.ReadySince(pod); ok {
			ready++
		}
	}
	// A pod about to go is no longer active: the numbers may not wait for its event.
	active, terminating := int32(len(s.active)-len(s.p.delete)), int32(len(s.terminating)+len(s.p.delete))
	s.status.Active, s.status.Ready, s.status.Terminating = active, &ready, &terminating
	ready = min(ready, active)
}
