package kubelet

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

// A status that is overtaken is not written; one that stays is, after its wait.
func TestPassingStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p", UID: "u"}}
		client := fake.NewClientset(pod)
		s := newStatusWriter(client, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.run(ctx) }()
		expect := func(when string, writes int) {
			t.Helper()
			synctest.Wait()
			if got := len(client.Actions()); got != writes {
				t.Errorf("%s: %d writes, want %d", when, got, writes)
			}
		}
		s.passing(pod, &corev1.PodStatus{Phase: corev1.PodPending, Message: "1"})
		expect("held", 0)
		s.put(pod, &corev1.PodStatus{Phase: corev1.PodRunning})
		expect("overtaken", 1)
		time.Sleep(2 * statusHold)
		expect("nothing new", 1)
		s.passing(pod, &corev1.PodStatus{Phase: corev1.PodRunning, Message: "2"})
		time.Sleep(statusHold + time.Millisecond)
		expect("its time is over", 2)
		s.passing(pod, &corev1.PodStatus{Phase: corev1.PodRunning, Message: "3"})
		s.put(pod, &corev1.PodStatus{Phase: corev1.PodRunning, Message: "3"})
		expect("the same, at once", 3)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
