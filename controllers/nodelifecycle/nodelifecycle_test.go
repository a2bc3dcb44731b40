package nodelifecycle

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/proa-dev/proa/controllers/loop"
	"github.com/proa-dev/proa/internal/informers"
)

// world is a cluster of nodes whose leases are renewed every ten seconds while alive.
type world struct {
	t      *testing.T
	client *fake.Clientset
	alive  map[string]bool
	cancel func()
	done   chan error
}

func newWorld(t *testing.T, nodes int) *world {
	w := &world{t: t, client: fake.NewClientset(), alive: map[string]bool{}, done: make(chan error, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	w.cancel = cancel
	for i := range nodes {
		name := fmt.Sprintf("n%d", i)
		w.alive[name] = true
		must(t, w.client.Tracker().Add(&corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{
				{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.NewTime(time.Now())},
				{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionFalse},
			}},
		}))
		must(t, w.client.Tracker().Add(&coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: corev1.NamespaceNodeLease}}))
	}
	factory := informers.New(w.client, nil)
	c, err := New(loop.Deps{
		Client: w.client, Informers: factory, Log: slog.New(slog.DiscardHandler), Clock: clock.RealClock{},
		Recorder: func(string) record.EventRecorder { return &record.FakeRecorder{} }, NodeGracePeriod: 40 * time.Second,
	})
	must(t, err)
	factory.StartWithContext(ctx)
	go func() {
		err := c.Run(ctx)
		factory.Shutdown()
		w.done <- err
	}()
	synctest.Wait()
	return w
}

func (w *world) stop() {
	w.cancel()
	must(w.t, <-w.done)
}

// pass lets time pass, with a beat of the living nodes every ten seconds.
func (w *world) pass(d time.Duration) {
	for ; d > 0; d -= 10 * time.Second {
		for name, alive := range w.alive {
			if alive {
				now := metav1.NowMicro()
				lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: corev1.NamespaceNodeLease}, Spec: coordinationv1.LeaseSpec{RenewTime: &now}}
				_, err := w.client.CoordinationV1().Leases(lease.Namespace).Update(w.t.Context(), lease, metav1.UpdateOptions{})
				must(w.t, err)
			}
		}
		synctest.Wait()
		time.Sleep(min(d, 10*time.Second))
		synctest.Wait()
	}
}

// ready is what a kubelet that is back posts.
func (w *world) ready(name string) {
	node, err := w.client.CoreV1().Nodes().Get(w.t.Context(), name, metav1.GetOptions{})
	must(w.t, err)
	for i := range node.Status.Conditions {
		c := &node.Status.Conditions[i]
		c.LastHeartbeatTime = metav1.Now()
		c.Status = corev1.ConditionFalse
		if c.Type == corev1.NodeReady {
			c.Status = corev1.ConditionTrue
		}
	}
	_, err = w.client.CoreV1().Nodes().UpdateStatus(w.t.Context(), node, metav1.UpdateOptions{})
	must(w.t, err)
	w.alive[name] = true
}

func (w *world) state(name string) string {
	node, err := w.client.CoreV1().Nodes().Get(w.t.Context(), name, metav1.GetOptions{})
	must(w.t, err)
	out := []string{string(condition(node, corev1.NodeReady).Status)}
	for _, t := range node.Spec.Taints {
		out = append(out, strings.TrimPrefix(t.Key, "node.kubernetes.io/")+":"+string(t.Effect))
	}
	return strings.Join(out, " ")
}

func (w *world) want(name, state string) {
	w.t.Helper()
	if got := w.state(name); got != state {
		w.t.Fatalf("node %s: %q, want %q", name, got, state)
	}
}

func (w *world) pod(name, node string, tolerations ...corev1.Toleration) {
	_, err := w.client.CoreV1().Pods("default").Create(w.t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
		Spec:       corev1.PodSpec{NodeName: node, Tolerations: tolerations},
		Status:     corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
	}, metav1.CreateOptions{})
	must(w.t, err)
}

func (w *world) podThere(name string, want bool) {
	w.t.Helper()
	_, err := w.client.CoreV1().Pods("default").Get(w.t.Context(), name, metav1.GetOptions{})
	if want != (err == nil) || err != nil && !apierrors.IsNotFound(err) {
		w.t.Fatalf("pod %s there %v, want %v (%v)", name, err == nil, want, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestSilentNodeIsTaintedAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		defer w.stop()
		w.pod("short", "n0", corev1.Toleration{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, TolerationSeconds: ptr.To[int64](60)})
		w.pod("never", "n0", corev1.Toleration{Operator: corev1.TolerationOpExists})
		w.pod("none", "n0")
		w.pod("other", "n1")
		w.pass(2 * time.Minute)
		w.want("n0", "True")
		w.alive["n0"] = false
		w.pass(20 * time.Second)
		w.want("n0", "True")
		w.pass(30 * time.Second)
		w.want("n0", "Unknown unreachable:NoSchedule unreachable:NoExecute")
		pod, err := w.client.CoreV1().Pods("default").Get(t.Context(), "never", metav1.GetOptions{})
		must(t, err)
		if pod.Status.Conditions[0].Status != corev1.ConditionFalse {
			t.Fatal("a pod of an unreachable node is still ready")
		}
		w.podThere("none", false)
		w.podThere("short", true)
		w.pass(60 * time.Second)
		w.podThere("short", false)
		w.podThere("never", true)
		w.podThere("other", true)
		w.ready("n0")
		w.pass(10 * time.Second)
		w.want("n0", "True")
	})
}

func TestNobodyIsEvictedWhenAllFallSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		defer w.stop()
		w.pod("none", "n0")
		w.pass(30 * time.Second)
		for name := range w.alive {
			w.alive[name] = false
			time.Sleep(3 * time.Second) // they do not beat at once
		}
		w.pass(10 * time.Minute)
		for name := range w.alive {
			w.want(name, "Unknown unreachable:NoSchedule")
		}
		w.podThere("none", true)
		// Two come back; the third gets a grace period of its own again before it is given up.
		w.ready("n1")
		w.ready("n2")
		w.pass(20 * time.Second)
		w.want("n1", "True")
		w.want("n0", "Unknown unreachable:NoSchedule unreachable:NoExecute")
	})
}

func TestConditionTaints(t *testing.T) {
	node := &corev1.Node{Spec: corev1.NodeSpec{Unschedulable: true, Taints: []corev1.Taint{
		{Key: "mine", Effect: corev1.TaintEffectNoExecute}, {Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute},
	}}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{
		{Type: corev1.NodeReady, Status: corev1.ConditionFalse}, {Type: corev1.NodeDiskPressure, Status: corev1.ConditionTrue},
	}}}
	out, changed := mergeTaints(node.Spec.Taints, wantedTaints(node, true), time.Now())
	var got []string
	for _, t := range out {
		got = append(got, t.Key+":"+string(t.Effect))
	}
	want := "[mine:NoExecute node.kubernetes.io/not-ready:NoSchedule node.kubernetes.io/disk-pressure:NoSchedule " +
		"node.kubernetes.io/unschedulable:NoSchedule node.kubernetes.io/not-ready:NoExecute]"
	if fmt.Sprint(got) != want || !changed {
		t.Fatalf("got %v", got)
	}
	if _, changed := mergeTaints(out, wantedTaints(node, true), time.Now()); changed {
		t.Fatal("written again")
	}
}

func TestZoneRates(t *testing.T) {
	for _, c := range []struct {
		census census
		rate   float64
	}{
		{census{"a": {2, 1}}, normalRate},
		{census{"a": {0, 1}}, 0},
		{census{"a": {0, 1}, "b": {1, 0}}, normalRate},
		{census{"a": {1, 2}}, normalRate}, // two are never a disruption
		{census{"a": {2, 3}}, 0},
		{census{"a": {20, 40}}, partialRate},
	} {
		if got := c.census.rate("a"); got != c.rate {
			t.Errorf("%v: rate %v, want %v", c.census, got, c.rate)
		}
	}
}
