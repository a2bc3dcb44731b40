package replicaset

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"

	"github.com/proa-dev/proa/controllers/loop"
	"github.com/proa-dev/proa/internal/informers"
)

var now = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func pod(name string, edit func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", UID: types.UID(name), CreationTimestamp: metav1.NewTime(now.Add(-time.Hour))},
		Spec:       corev1.PodSpec{NodeName: "n"},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Add(-time.Hour))},
		}},
	}
	edit(p)
	return p
}

// Each pod costs less than the next: any prefix of the list is what scaling down deletes.
func TestVictims(t *testing.T) {
	order := []*corev1.Pod{
		pod("unassigned", func(p *corev1.Pod) { p.Spec.NodeName = "" }),
		pod("pending", func(p *corev1.Pod) { p.Status.Phase = corev1.PodPending }),
		pod("unready", func(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }),
		pod("cheap", func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.PodDeletionCost: "-5"} }),
		pod("crowded", func(p *corev1.Pod) { p.Spec.NodeName = "full" }),
		pod("just-ready", func(p *corev1.Pod) { p.Status.Conditions[0].LastTransitionTime = metav1.NewTime(now.Add(-time.Second)) }),
		pod("restarted", func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: 3}} }),
		pod("young", func(p *corev1.Pod) { p.CreationTimestamp = metav1.NewTime(now.Add(-time.Minute)) }),
		pod("old", func(*corev1.Pod) {}),
		pod("dear", func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.PodDeletionCost: "5"} }),
	}
	shuffled := make([]*corev1.Pod, len(order))
	for i, p := range order {
		shuffled[(i*7+3)%len(order)] = p
	}
	for n := range len(order) {
		got := victims(shuffled, map[string]int{"full": 4, "n": 1}, n, now)
		for i, p := range got {
			if p.Name != order[i].Name {
				t.Fatalf("victim %d of %d is %s, want %s", i, n, p.Name, order[i].Name)
			}
		}
	}
}

// A set makes its pods, replaces one that goes, shrinks, and never has too many.
func TestConverges(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	replicas := int32(3)
	rs := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: "rs", Namespace: "ns", UID: "rs"},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}}},
		},
	}
	client := fake.NewClientset(rs)
	serial := 0
	client.PrependReactor("create", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
		p := a.(clienttesting.CreateAction).GetObject().(*corev1.Pod)
		serial++
		p.Name = fmt.Sprintf("%s%d", p.GenerateName, serial)
		p.UID = types.UID(p.Name)
		return false, nil, nil // on to the tracker
	})
	factory := informers.New(client, nil)
	c, err := New(loop.Deps{
		Client: client, Informers: factory, Log: slog.New(slog.DiscardHandler), Clock: clock.RealClock{},
		Recorder: func(string) record.EventRecorder { return record.NewFakeRecorder(1000) },
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	factory.StartWithContext(ctx)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		factory.Shutdown()
	})
	pods := client.CoreV1().Pods("ns")
	settle := func(want int) []corev1.Pod {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			list, err := pods.List(ctx, metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			status, err := client.AppsV1().ReplicaSets("ns").Get(ctx, "rs", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if len(list.Items) > 3 {
				t.Fatalf("%d pods, never more than 3 were asked for", len(list.Items))
			}
			// The fake server's status writes carry the spec along, as it was when they began.
			if n := int32(want); *status.Spec.Replicas != n {
				status.Spec.Replicas = &n
				if _, err := client.AppsV1().ReplicaSets("ns").Update(ctx, status, metav1.UpdateOptions{}); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if len(list.Items) == want && int(status.Status.Replicas) == want {
				return list.Items
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d pods, status %d, want %d", len(list.Items), status.Status.Replicas, want)
			}
		}
	}
	first := settle(3)
	if err := pods.Delete(ctx, first[0].Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	settle(3)
	settle(1)
}
