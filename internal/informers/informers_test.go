package informers

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/cache"
)

// Asked for by kind, again, or by resource, it is the same informer, started once.
func TestShared(t *testing.T) {
	client := fake.NewClientset(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "x"}})
	f := New(client, nil)
	resource := corev1.SchemeGroupVersion.WithResource("pods")
	if f.ForResource(resource) != nil {
		t.Error("pods are known before they were asked for")
	}
	pods := f.Core().V1().Pods()
	ctx, cancel := context.WithCancel(t.Context())
	f.StartWithContext(ctx) // before the first: nothing to start
	if pods.Informer() != f.Core().V1().Pods().Informer() || f.ForResource(resource) != pods.Informer() {
		t.Fatal("not shared")
	}
	f.StartWithContext(ctx)
	f.StartWithContext(ctx)
	if !cache.WaitForCacheSync(ctx.Done(), pods.Informer().HasSynced) {
		t.Fatal("not synced")
	}
	if p, err := pods.Lister().Pods("a").Get("x"); err != nil || p.Name != "x" {
		t.Error(p, err)
	}
	cancel()
	f.Shutdown()
	f.StartWithContext(t.Context())
	if !pods.Informer().IsStopped() {
		t.Error("runs on")
	}
}
