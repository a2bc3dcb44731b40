package job

import (
	"cmp"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/proa-dev/proa/controllers/loop"
)

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
