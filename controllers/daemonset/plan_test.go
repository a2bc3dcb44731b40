package daemonset

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func set(below, above string) *appsv1.DaemonSet {
	b, a := intstr.Parse(below), intstr.Parse(above)
	return &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "agent", UID: "d", Generation: 1},
		Spec: appsv1.DaemonSetSpec{UpdateStrategy: appsv1.DaemonSetUpdateStrategy{
			Type: appsv1.RollingUpdateDaemonSetStrategyType, RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &b, MaxSurge: &a},
		}},
	}
}

func node(name string, taints ...corev1.Taint) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"name": name}}, Spec: corev1.NodeSpec{Taints: taints}}
}

func ready(pod *corev1.Pod) {
	pod.Status.Phase = corev1.PodRunning
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
}

// A roll-out ends with one new available pod on each node, and on the way keeps to the
// number that may be missing or too many, in whatever order pods get ready and go.
func TestRollOut(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, amounts := range [][2]string{{"1", "0"}, {"30%", "0"}, {"0", "1"}, {"0", "50%"}} {
		ds := set(amounts[0], amounts[1])
		v := view{ds: ds, hash: "old", pods: map[string][]*corev1.Pod{}, now: time.Unix(1000, 0)}
		for i := range 7 {
			v.nodes = append(v.nodes, node(fmt.Sprint("n", i)))
		}
		serial := 0
		step := func() plan {
			p := decide(v)
			for _, n := range p.create {
				pod := podFor(ds, v.hash, n)
				pod.Name = fmt.Sprint("p", serial)
				serial++
				v.pods[n] = append(v.pods[n], pod)
			}
			for _, pod := range p.delete {
				now := metav1.Now()
				pod.DeletionTimestamp = &now
			}
			for _, n := range v.nodes {
				v.pods[n.Name] = slices.DeleteFunc(v.pods[n.Name], func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil && random.IntN(2) == 0 })
				for _, pod := range v.pods[n.Name] {
					if pod.DeletionTimestamp == nil && random.IntN(2) == 0 {
						ready(pod)
					}
				}
			}
			return p
		}
		until := func(hash string, bound func()) {
			for i := 0; ; i++ {
				p := step()
				bound()
				if p.updated == 7 && p.available == 7 && len(p.create)+len(p.delete) == 0 {
					return
				}
				if i > 500 {
					t.Fatalf("%v: no end towards %s: %+v", amounts, hash, p)
				}
			}
		}
		until("old", func() {})
		surge, below := v.room()
		v.hash = "new"
		until("new", func() {
			missing, double := 0, 0
			for _, n := range v.nodes {
				available, live := 0, 0
				for _, pod := range v.pods[n.Name] {
					if ok, _ := v.available(pod); ok {
						available++
					}
					if pod.DeletionTimestamp == nil {
						live++
					}
				}
				if available == 0 {
					missing++
				}
				if live > 1 {
					double++
				}
			}
			if missing > below || double > surge {
				t.Fatalf("%v: %d missing, %d double", amounts, missing, double)
			}
		})
	}
}

func TestSuits(t *testing.T) {
	ds := set("1", "0")
	ds.Spec.Template.Spec.NodeSelector = map[string]string{"name": "a"}
	for _, c := range []struct {
		node         *corev1.Node
		should, stay bool
	}{
		{node("a"), true, true},
		{node("b"), false, false},
		{node("a", corev1.Taint{Key: "x", Effect: corev1.TaintEffectNoSchedule}), false, true},
		{node("a", corev1.Taint{Key: "x", Effect: corev1.TaintEffectNoExecute}), false, false},
		{node("a", corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}, corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoExecute}), true, true},
	} {
		if should, stay := suits(ds, c.node); should != c.should || stay != c.stay {
			t.Errorf("%s %v: %v, %v", c.node.Name, c.node.Spec.Taints, should, stay)
		}
	}
}

// What a crash between two writes left behind is put in order: too many pods, ended pods,
// pods for nodes that are gone.
func TestTidies(t *testing.T) {
	ds := set("1", "0")
	v := view{ds: ds, hash: "h", nodes: []*corev1.Node{node("a")}, pods: map[string][]*corev1.Pod{}}
	for i, n := range []string{"a", "a", "a", "gone"} {
		pod := podFor(ds, "h", n)
		pod.Name = fmt.Sprint("p", i)
		v.pods[n] = append(v.pods[n], pod)
	}
	v.pods["a"][0].Status.Phase = corev1.PodFailed
	p := decide(v)
	var names []string
	for _, pod := range p.delete {
		names = append(names, pod.Name)
	}
	if !slices.Equal(names, []string{"p0", "p2", "p3"}) || len(p.ended) != 1 || len(p.create) != 0 {
		t.Errorf("deletes %v, makes %v", names, p.create)
	}
}
