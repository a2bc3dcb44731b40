package disruption

import (
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

func TestBudget(t *testing.T) {
	now := time.Now()
	number := func(n int) *intstr.IntOrString { return ptr.To(intstr.FromInt32(int32(n))) }
	share := func(s string) *intstr.IntOrString { return ptr.To(intstr.FromString(s)) }
	pods := func(ready, not int) (out []*corev1.Pod) {
		for i := range ready + not {
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: string(rune('a' + i)), OwnerReferences: []metav1.OwnerReference{{UID: "rs", Controller: ptr.To(true)}}}}
			if i < ready {
				p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
			}
			out = append(out, p)
		}
		return out
	}
	for _, c := range []struct {
		name                                string
		spec                                policyv1.PodDisruptionBudgetSpec
		evicted                             map[string]metav1.Time
		pods                                []*corev1.Pod
		expected, desired, healthy, allowed int32
		late                                int
	}{
		{"number at least", policyv1.PodDisruptionBudgetSpec{MinAvailable: number(2)}, nil, pods(3, 1), 4, 2, 3, 1, 0},
		{"number at most", policyv1.PodDisruptionBudgetSpec{MaxUnavailable: number(1)}, nil, pods(5, 0), 5, 4, 5, 1, 0},
		{"share at most, rounded up", policyv1.PodDisruptionBudgetSpec{MaxUnavailable: share("30%")}, nil, pods(5, 0), 5, 3, 5, 2, 0},
		{"share at least, rounded up", policyv1.PodDisruptionBudgetSpec{MinAvailable: share("50%")}, nil, pods(5, 0), 5, 3, 5, 2, 0},
		{"too few", policyv1.PodDisruptionBudgetSpec{MinAvailable: share("100%")}, nil, pods(3, 2), 5, 5, 3, 0, 0},
		{"no pods", policyv1.PodDisruptionBudgetSpec{MinAvailable: number(0)}, nil, nil, 0, 0, 0, 0, 0},
		{"one being evicted", policyv1.PodDisruptionBudgetSpec{MaxUnavailable: number(1)}, map[string]metav1.Time{"a": metav1.NewTime(now)}, pods(5, 0), 5, 4, 4, 0, 0},
		{"one not evicted in time", policyv1.PodDisruptionBudgetSpec{MaxUnavailable: number(1)}, map[string]metav1.Time{"a": metav1.NewTime(now.Add(-3 * time.Minute))}, pods(5, 0), 5, 4, 5, 1, 1},
	} {
		budget := &policyv1.PodDisruptionBudget{Spec: c.spec, Status: policyv1.PodDisruptionBudgetStatus{DisruptedPods: c.evicted}}
		w, _, err := expect(budget, c.pods, func(*corev1.Pod, *metav1.OwnerReference) (types.UID, int32, error) { return "d", 5, nil })
		if err != nil {
			t.Fatal(err)
		}
		s, late, next := judge(budget, c.pods, w, now)
		if s.ExpectedPods != c.expected || s.DesiredHealthy != c.desired || s.CurrentHealthy != c.healthy || s.DisruptionsAllowed != c.allowed || len(late) != c.late {
			t.Errorf("%s: %+v late %d", c.name, s, len(late))
		}
		if (next > 0) != (len(s.DisruptedPods) > 0) {
			t.Errorf("%s: looks again in %v", c.name, next)
		}
	}
	budget := &policyv1.PodDisruptionBudget{Spec: policyv1.PodDisruptionBudgetSpec{MaxUnavailable: number(1)}}
	broken := errors.New("no scale")
	if _, _, err := expect(budget, pods(1, 0), func(*corev1.Pod, *metav1.OwnerReference) (types.UID, int32, error) { return "", 0, broken }); !errors.Is(err, broken) {
		t.Errorf("unknown scale: %v", err)
	}
}
