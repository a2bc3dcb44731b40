package deployment

import (
	"fmt"
	"math/rand/v2"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func deployment(replicas int32, surge, unavailable string) *appsv1.Deployment {
	s, u := intstr.Parse(surge), intstr.Parse(unavailable)
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "d", Generation: 1},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}}},
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &s, MaxUnavailable: &u}},
		},
	}
}

func set(i int, wish, available int32) *appsv1.ReplicaSet {
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("web-%d", i), UID: types.UID(fmt.Sprint(i))},
		Spec:       appsv1.ReplicaSetSpec{Replicas: &wish},
		Status:     appsv1.ReplicaSetStatus{Replicas: wish, AvailableReplicas: available},
	}
}

// A roll-out never has more pods than the surge allows nor fewer available than may be
// missing, and it ends, whatever the amounts and however slowly pods become available.
func TestRollingStaysInBounds(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, amounts := range [][2]string{{"25%", "25%"}, {"1", "0"}, {"0", "1"}, {"100%", "0"}, {"0", "100%"}, {"0%", "1%"}} {
		for _, n := range []int32{1, 3, 10, 37} {
			d := deployment(n, amounts[0], amounts[1])
			surge, missing := room(d)
			old, current := set(1, n, n), set(2, 0, 0)
			all := []*appsv1.ReplicaSet{old, current}
			steps := 0
			for ; wish(old) > 0 || available(current) < n; steps++ {
				if steps > 1000 {
					t.Fatalf("%v of %d: no end: old %d, new %d", amounts, n, wish(old), wish(current))
				}
				if s, yes := rollNew(d, all, current); yes {
					s.set.Spec.Replicas = &s.to
				} else {
					for _, s := range rollOld(d, all, all[:1], current) {
						s.set.Spec.Replicas = &s.to
						s.set.Status.AvailableReplicas = min(s.set.Status.AvailableReplicas, s.to)
					}
				}
				if sum := wish(old) + wish(current); sum > n+surge {
					t.Fatalf("%v of %d: %d pods", amounts, n, sum)
				}
				if sum := available(old) + available(current); sum < n-missing {
					t.Fatalf("%v of %d: %d available", amounts, n, sum)
				}
				if available(current) < wish(current) && random.IntN(2) == 0 {
					current.Status.AvailableReplicas++
				}
			}
		}
	}
}

func TestProportional(t *testing.T) {
	// 10 wanted, surge 3, mid roll-out at 8 old and 5 new: scaled to 20, surge 6 (30%).
	d := deployment(20, "30%", "20%")
	old, current := set(1, 8, 8), set(2, 5, 0)
	for _, rs := range []*appsv1.ReplicaSet{old, current} {
		rs.Annotations = map[string]string{desiredReplicas: "10", maxReplicas: "13"}
	}
	sum := int32(0)
	steps := proportional(d, []*appsv1.ReplicaSet{old, current}, current)
	for _, s := range steps {
		sum += s.to
	}
	if sum != 26 || len(steps) != 2 || steps[0].to != 16 || steps[1].to != 10 {
		t.Errorf("got %v, sum %d", steps, sum)
	}
	d.Spec.Replicas = new(int32)
	for _, s := range proportional(d, []*appsv1.ReplicaSet{old, current}, current) {
		if s.to != 0 {
			t.Errorf("to zero: %s keeps %d", s.set.Name, s.to)
		}
	}
}

func TestHash(t *testing.T) {
	d := deployment(1, "1", "0")
	a := newSet(d, nil, 1)
	n := int32(1)
	d.Status.CollisionCount = &n
	b := newSet(d, nil, 1)
	if a.Name == b.Name || !sameTemplate(&a.Spec.Template, &d.Spec.Template) || a.Labels[appsv1.DefaultDeploymentUniqueLabelKey] == "" {
		t.Errorf("%s, %s", a.Name, b.Name)
	}
}
