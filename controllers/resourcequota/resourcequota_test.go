package resourcequota

import (
	"context"
	"log/slog"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/clock"

	"github.com/proa-dev/proa/controllers/loop"
	"github.com/proa-dev/proa/internal/informers"
	"github.com/proa-dev/proa/internal/quota"
)

func pod(name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m")}},
	}}}}
}

// The status follows: at first, when a pod ends, when one is deleted, when the quota is changed.
func TestCounts(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	q := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "q", Namespace: "ns"}, Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{
		"pods": resource.MustParse("5"), "cpu": resource.MustParse("2"), "secrets": resource.MustParse("1"), "bogus": resource.MustParse("1"),
	}}}
	client := fake.NewClientset(q, pod("a"), pod("b"), pod("c"), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "other"}})
	factory := informers.New(client, nil)
	factory.Core().V1().Pods().Informer() // asked for, and so found by its resource
	factory.Core().V1().Secrets().Informer()
	c, err := New(loop.Deps{
		Client: client, Discovery: client.Discovery(), Informers: factory, Log: slog.New(slog.DiscardHandler), Clock: clock.RealClock{},
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
	expect := func(want string) {
		t.Helper()
		var got string
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
			now, err := client.CoreV1().ResourceQuotas("ns").Get(ctx, "q", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if got = quota.Text(now.Status.Used); got == want {
				return
			}
		}
		t.Fatalf("used is %s, want %s", got, want)
	}
	expect("cpu=1500m,pods=3,secrets=0")
	ended := pod("a")
	ended.Status.Phase = corev1.PodSucceeded
	if _, err := client.CoreV1().Pods("ns").UpdateStatus(ctx, ended, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	expect("cpu=1,pods=2,secrets=0")
	if err := client.CoreV1().Pods("ns").Delete(ctx, "b", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	expect("cpu=500m,pods=1,secrets=0")
	now, err := client.CoreV1().ResourceQuotas("ns").Get(ctx, "q", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	now.Spec.Hard = corev1.ResourceList{"count/pods": resource.MustParse("5")}
	if _, err := client.CoreV1().ResourceQuotas("ns").Update(ctx, now, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	expect("count/pods=2")
}
