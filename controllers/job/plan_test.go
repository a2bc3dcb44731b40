package job

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func job(edit func(*batchv1.JobSpec)) *batchv1.Job {
	one, limit, mode, no := int32(1), int32(6), batchv1.NonIndexedCompletion, false
	j := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "work", UID: "j"},
		Spec:       batchv1.JobSpec{Parallelism: &one, Completions: &one, BackoffLimit: &limit, CompletionMode: &mode, Suspend: &no},
	}
	j.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
	edit(&j.Spec)
	return j
}

// world carries plans out, each write of which may be the last before a crash.
type world struct {
	j      *batchv1.Job
	pods   []*corev1.Pod
	now    time.Time
	random *rand.Rand
	serial int
}

func (w *world) crash() bool { return w.random.IntN(4) == 0 }

func (w *world) step() {
	p := decide(w.j, w.pods, w.now)
	w.now = w.now.Add(time.Second + p.wait)
	if w.crash() {
		return
	}
	w.j.Status = p.status
	for _, pod := range p.free {
		if w.crash() {
			return
		}
		pod.Finalizers = nil
	}
	for _, pod := range p.delete {
		if w.crash() {
			return
		}
		now := metav1.NewTime(w.now)
		pod.DeletionTimestamp = &now
	}
	for _, n := range p.create {
		if w.crash() {
			return
		}
		pod := podFor(w.j, n)
		w.serial++
		pod.Name, pod.UID = fmt.Sprint("p", w.serial), types.UID(fmt.Sprint(w.serial))
		pod.CreationTimestamp = metav1.NewTime(w.now)
		w.pods = append(w.pods, pod)
	}
}

// live moves pods on: each runs, ends, or goes.
func (w *world) live(outcome func(*corev1.Pod) corev1.PodPhase) {
	w.pods = slices.DeleteFunc(w.pods, func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil && len(p.Finalizers) == 0 })
	for _, pod := range w.pods {
		if pod.DeletionTimestamp != nil && pod.Status.Phase == "" {
			pod.Status.Phase = corev1.PodFailed
		}
		if pod.Status.Phase == "" && w.random.IntN(2) == 0 {
			pod.Status.Phase = outcome(pod)
			pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
				ExitCode: map[corev1.PodPhase]int32{corev1.PodFailed: 3}[pod.Status.Phase], FinishedAt: metav1.NewTime(w.now),
			}}}}
		}
	}
}

func (w *world) end(t *testing.T, outcome func(*corev1.Pod) corev1.PodPhase) string {
	t.Helper()
	for range 3000 {
		w.step()
		for _, c := range w.j.Status.Conditions {
			if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
				return string(c.Type) + " " + c.Reason
			}
		}
		w.live(outcome)
	}
	t.Fatalf("no end: %+v", w.j.Status)
	return ""
}

// Whatever the order of ends and wherever crashes fall, a job comes to the right end with
// each pod counted once.
func TestEnds(t *testing.T) {
	indexed := batchv1.IndexedCompletion
	number := func(n int32) *int32 { return &n }
	succeed := func(*corev1.Pod) corev1.PodPhase { return corev1.PodSucceeded }
	fail := func(*corev1.Pod) corev1.PodPhase { return corev1.PodFailed }
	odd := func(p *corev1.Pod) corev1.PodPhase {
		if indexOf(p)%2 == 1 {
			return corev1.PodFailed
		}
		return corev1.PodSucceeded
	}
	for _, c := range []struct {
		name              string
		edit              func(*batchv1.JobSpec)
		outcome           func(*corev1.Pod) corev1.PodPhase
		want              string
		succeeded, failed int32
	}{
		{"one", func(*batchv1.JobSpec) {}, succeed, "Complete CompletionsReached", 1, 0},
		{"many", func(s *batchv1.JobSpec) { s.Parallelism, s.Completions = number(3), number(10) }, succeed, "Complete CompletionsReached", 10, 0},
		{"indexed", func(s *batchv1.JobSpec) {
			s.Parallelism, s.Completions, s.CompletionMode = number(4), number(9), &indexed
		}, succeed, "Complete CompletionsReached", 9, 0},
		{"backoff", func(s *batchv1.JobSpec) { s.BackoffLimit = number(2) }, fail, "Failed BackoffLimitExceeded", 0, 3},
		{"per index", func(s *batchv1.JobSpec) {
			s.Parallelism, s.Completions, s.CompletionMode, s.BackoffLimitPerIndex = number(4), number(4), &indexed, number(1)
			s.BackoffLimit = number(1 << 30)
		}, odd, "Failed FailedIndexes", 2, 4},
		{"failure policy", func(s *batchv1.JobSpec) {
			s.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{Action: batchv1.PodFailurePolicyActionFailJob,
				OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{3}}}}}
		}, fail, "Failed PodFailurePolicy", 0, 1},
		{"success policy", func(s *batchv1.JobSpec) {
			s.Parallelism, s.Completions, s.CompletionMode = number(1), number(4), &indexed
			first := "0"
			s.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededIndexes: &first}}}
		}, succeed, "Complete SuccessPolicy", 1, 0},
	} {
		for seed := range uint64(30) {
			w := &world{j: job(c.edit), now: time.Unix(1e6, 0), random: rand.New(rand.NewPCG(seed, 1))}
			got := w.end(t, c.outcome)
			s := w.j.Status
			if got != c.want || s.Succeeded != c.succeeded || s.Failed != c.failed {
				t.Errorf("%s, seed %d: %s, %d succeeded, %d failed; want %s, %d, %d", c.name, seed, got, s.Succeeded, s.Failed, c.want, c.succeeded, c.failed)
				break
			}
		}
	}
}

func TestDeadlineAndSuspend(t *testing.T) {
	w := &world{j: job(func(s *batchv1.JobSpec) { n := int64(30); s.ActiveDeadlineSeconds = &n }), now: time.Unix(1e6, 0), random: rand.New(rand.NewPCG(1, 1))}
	if got := w.end(t, func(*corev1.Pod) corev1.PodPhase { return "" }); got != "Failed DeadlineExceeded" {
		t.Error(got)
	}
	yes := true
	j := job(func(s *batchv1.JobSpec) { s.Suspend = &yes })
	p := decide(j, nil, time.Unix(1e6, 0))
	if len(p.create) != 0 || p.status.StartTime != nil || p.status.Conditions[0].Type != batchv1.JobSuspended {
		t.Errorf("%+v", p)
	}
	j.Status, j.Spec.Suspend = p.status, new(bool)
	if p = decide(j, nil, time.Unix(1e6, 0)); len(p.create) != 1 || p.status.StartTime == nil || p.status.Conditions[0].Reason != "JobResumed" {
		t.Errorf("%+v", p)
	}
}

func FuzzIndexes(f *testing.F) {
	f.Add("1,3-5,7")
	f.Fuzz(func(t *testing.T, text string) {
		set := parseIndexes(text, 1000)
		if again := parseIndexes(set.String(), 1000); again.String() != set.String() {
			t.Errorf("%q: %s, %s", text, set, again)
		}
	})
}
