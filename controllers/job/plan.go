package job

import (
	"cmp"
	"fmt"
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

// scale makes and deletes pods so that as many run as are wanted.
func (s *state) scale() {
	spec := &s.j.Spec
	if value(spec.Suspend) {
		s.p.delete = s.active
		return
	}
	occupied := int32(len(s.active))
	if value(spec.PodReplacementPolicy) == batchv1.Failed {
		occupied += int32(len(s.terminating))
	}
	want := value(spec.Parallelism)
	switch {
	case s.indexed:
		want = min(want, *spec.Completions-int32(len(s.done)+len(s.failed)))
	case spec.Completions != nil:
		want = min(want, *spec.Completions-s.succeeded())
	case s.succeeded() > 0:
		want = min(want, int32(len(s.active)))
	}
	want = max(want, 0)
	surplus := s.surplus(int(occupied - want))
	s.p.delete = surplus
	if missing := int(want - occupied + int32(len(surplus))); missing > 0 && occupied < want || s.indexed && len(surplus) > 0 {
		s.fill(min(max(missing, 0), burst))
	}
}

// surplus are the pods to delete: those whose index is taken or out of range, then those
// that have come least far.
func (s *state) surplus(n int) []*corev1.Pod {
	ranked := slices.Clone(s.active)
	slices.SortStableFunc(ranked, func(a, b *corev1.Pod) int {
		_, x := loop.ReadySince(a)
		_, y := loop.ReadySince(b)
		return cmp.Or(boolean(x, y), -indexOrder(a, b), b.CreationTimestamp.Compare(a.CreationTimestamp.Time))
	})
	var out []*corev1.Pod
	if s.indexed {
		taken := indexes{}
		for _, pod := range slices.Backward(ranked) {
			i := indexOf(pod)
			if i < 0 || i >= int(*s.j.Spec.Completions) || taken[i] || s.done[i] || s.failed[i] {
				out = append(out, pod)
			}
			taken[i] = true
		}
	}
	for _, pod := range ranked {
		if len(out) < n && !slices.Contains(out, pod) {
			out = append(out, pod)
		}
	}
	return out
}

func indexOrder(a, b *corev1.Pod) int { return cmp.Compare(indexOf(a), indexOf(b)) }

func boolean(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// fill asks for n more pods, once their time has come.
func (s *state) fill(n int) {
	if s.j.Spec.BackoffLimitPerIndex == nil {
		if wait := backoff(s.all, s.now); wait > 0 {
			s.again(wait)
			return
		}
	}
	if !s.indexed {
		for range n {
			s.p.create = append(s.p.create, newPod{index: -1})
		}
		return
	}
	of := map[int][]*corev1.Pod{}
	for _, pod := range s.all {
		of[indexOf(pod)] = append(of[indexOf(pod)], pod)
	}
	for i := 0; i < int(*s.j.Spec.Completions) && len(s.p.create) < n; i++ {
		if s.done[i] || s.failed[i] || s.busy(of[i]) {
			continue
		}
		next := newPod{index: i}
		if s.j.Spec.BackoffLimitPerIndex != nil {
			if wait := backoff(of[i], s.now); wait > 0 {
				s.again(wait)
				continue
			}
			for _, pod := range of[i] {
				if action, _ := judge(s.j, pod); action == batchv1.PodFailurePolicyActionIgnore {
					next.failures = max(next.failures, failures(pod))
				} else {
					next.failures = max(next.failures, failures(pod)+1)
				}
			}
		}
		s.p.create = append(s.p.create, next)
	}
}

func (s *state) busy(pods []*corev1.Pod) bool {
	return slices.ContainsFunc(pods, func(p *corev1.Pod) bool {
		return !loop.Ended(p) && (p.DeletionTimestamp == nil || value(s.j.Spec.PodReplacementPolicy) == batchv1.Failed)
	})
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
