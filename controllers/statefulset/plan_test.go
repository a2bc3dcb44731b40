package statefulset

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A set is made, rolled out and shrunk in order, one pod at a time, from any number to
// start with, though pods take their time.
func TestInOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	n, partition := int32(5), int32(0)
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "default", UID: "s"}}
	set.Spec.Replicas, set.Spec.Ordinals = &n, &appsv1.StatefulSetOrdinals{Start: 3}
	set.Spec.PodManagementPolicy = appsv1.OrderedReadyPodManagement
	set.Spec.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType, RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: &partition}}
	v := view{set: set, current: "a", update: "a", now: time.Unix(1000, 0)}
	run := func(done func() bool) (order []int) {
		for range 500 {
			p := decide(v)
			if len(p.create)+len(p.delete) > 1 {
				t.Fatalf("%v, %v at once", p.create, p.delete)
			}
			for _, o := range p.create {
				v.pods = append(v.pods, podFor(set, &set.Spec.Template, v.revisionFor(o), o))
			}
			for _, pod := range p.delete {
				now := metav1.Now()
				pod.DeletionTimestamp = &now
				order = append(order, ordinal("db", pod.Name))
			}
			set.Status, v.current = p.status, p.status.CurrentRevision
			v.pods = slices.DeleteFunc(v.pods, func(pod *corev1.Pod) bool { return pod.DeletionTimestamp != nil && random.IntN(2) == 0 })
			for _, pod := range v.pods {
				if random.IntN(2) == 0 {
					pod.Status.Phase, pod.Status.Conditions = corev1.PodRunning, []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
				}
			}
			if done() {
				return order
			}
		}
		t.Fatalf("no end: %+v", set.Status)
		return nil
	}
	ready := func() bool {
		return set.Status.ReadyReplicas == n && set.Status.CurrentRevision == v.update && set.Status.UpdatedReplicas == n
	}
	run(ready)
	v.update = "b"
	if order := run(ready); !slices.Equal(order, []int{7, 6, 5, 4, 3}) {
		t.Error("rolled out in order", order)
	}
	v.update, partition = "c", 3 // of the set's numbers from its start: 6 and 7 are new
	updated := func() bool { return set.Status.UpdatedReplicas == 2 && set.Status.ReadyReplicas == n }
	if order := run(updated); !slices.Equal(order, []int{7, 6}) {
		t.Error("beyond the partition", order)
	}
	n = 2
	if order := run(func() bool { return len(v.pods) == 2 }); !slices.Equal(order, []int{7, 6, 5}) {
		t.Error("shrunk in order", order)
	}
}

// Of pods that are all ill none is removed but the lowest; healthy ones above it go first.
func TestShrinkWaitsForIllPods(t *testing.T) {
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "db"}}
	set.Spec.Replicas, set.Spec.PodManagementPolicy = new(int32(0)), appsv1.OrderedReadyPodManagement
	for _, c := range []struct{ healthy, deleted []int }{
		{healthy: nil, deleted: nil},
		{healthy: []int{2}, deleted: []int{2}},
		{healthy: []int{0, 1}, deleted: []int{2}},
		{healthy: []int{1}, deleted: nil},
	} {
		v := view{set: set, now: time.Unix(1000, 0)}
		for o := range 3 {
			pod := podFor(set, &set.Spec.Template, "a", o)
			pod.Status.Phase = corev1.PodRunning
			if slices.Contains(c.healthy, o) {
				pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
			}
			v.pods = append(v.pods, pod)
		}
		var deleted []int
		for _, pod := range decide(v).delete {
			deleted = append(deleted, ordinal("db", pod.Name))
		}
		if !slices.Equal(deleted, c.deleted) {
			t.Errorf("healthy %v: deleted %v, want %v", c.healthy, deleted, c.deleted)
		}
	}
}

func TestOrdinal(t *testing.T) {
	for name, want := range map[string]int{"db-0": 0, "db-12": 12, "db-01": -1, "db-x": -1, "other-1": -1, "db-": -1, "db--1": -1} {
		if got := ordinal("db", name); got != want {
			t.Errorf("%s: %d", name, got)
		}
	}
}
